"""The benchmark reports every figure. No test depends on the speed of the machine."""

import json
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import pytest
from conftest import save_weights

from vcae.audio import loudness
from vcae.cli import main as cli
from vcae.errors import VcaeError
from vcae.evaluation.bench import Bench, Blocks, Speed, measure_speed, run_script, signal
from vcae.inference.checkpoint import load_autoencoder, load_vocoder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_weights(tmp_path_factory.mktemp("weights") / "w")


@pytest.fixture(scope="module")
def found(weights) -> Bench:
    """The output of `vcae bench --json`."""
    with redirect_stdout(StringIO()) as out:
        cli.main(["bench", "--quick", "--json", "--model", str(weights)])
    report = json.loads(out.getvalue())
    report["speeds"] = [Speed(**speed) for speed in report["speeds"]]
    report["blocks"] = Blocks(**report["blocks"])
    report["memory"] = {int(seconds): mib for seconds, mib in report["memory"].items()}
    return Bench(**report)


def test_every_figure_is_there(found, weights):
    speeds = [s for speed in found.speeds for s in (speed.real_time_factor, speed.cpu)]
    assert all(0 < figure < 100 for figure in speeds)
    assert len({speed.what for speed in found.speeds}) == len(found.speeds) >= 2
    assert 0 < found.blocks.p50 <= found.blocks.p95 <= found.blocks.p99
    assert found.import_torch > 0 and found.convert_short > 0
    assert set(found.memory) == {10}
    assert all(50 < mib < 8000 for mib in found.memory.values())
    models = (
        load_autoencoder(weights / "autoencoder.safetensors"),
        load_vocoder(weights / "vocoder.safetensors"),
    )
    assert found.parameters == sum(p.numel() for model in models for p in model.parameters())
    assert 70 <= found.latency_ms <= 80


def test_there_is_a_row_for_each_figure(found):
    rows = found.rows()
    assert all(len(row) == 2 and all(row) for row in rows)
    assert len({row[0] for row in rows}) == len(rows)
    assert [row[1] for row in rows if "10 s of sound" in row[0]] == [f"{found.memory[10]:.0f} MiB"]


def test_slower_work_takes_longer():
    """The measured time is that of the work."""
    once, many = (
        measure_speed("x", lambda n=n: [np.fft.fft(np.ones(2**16)) for _ in range(n)], 1.0, 3, 1)
        for n in (1, 20)
    )
    assert many.cpu > 3 * once.cpu
    assert many.real_time_factor > 3 * once.real_time_factor


def test_the_signal_is_speech_like_and_always_the_same():
    wav = signal(3.0, 16_000)
    assert wav.shape == (48_000,) and wav.dtype == np.float32
    assert np.array_equal(wav, signal(3.0, 16_000))
    assert -35 < loudness(wav, 16_000) < -10 and abs(wav).max() < 1


def test_a_failed_process_is_reported():
    with pytest.raises(VcaeError, match="no such thing"):
        run_script("raise SystemExit('no such thing')")


def test_weights_that_are_not_there(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["bench", "--model", str(tmp_path)])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path) in line
