"""Conversion and embedding by two workers of a local Ray cluster: results, resuming, deaths, errors."""

import os
import pickle
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, VOICES, save_weights

from vcae import Audio, audio
from vcae.cli import console
from vcae.cli import main as cli
from vcae.cli.cluster import Cluster, Loaded

RATE = 16_000
SPEECH, TARGET = VOICES / "vcc2016-SF1-200001.flac", VOICES / "librispeech-78-368-0031.flac"


@pytest.fixture(scope="module")
def address():
    """A cluster of two workers."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    pytest.importorskip("ray.data", reason="needs Ray Data: pip install 'vcae[ray]'")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 2, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    yield cluster.address
    cluster.shutdown()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_weights(tmp_path_factory.mktemp("weights") / "tiny", TINY)


@pytest.fixture
def run(monkeypatch, capsys, tmp_path, weights):
    """Run a command line in a temporary folder, with tiny weights or others: -> status, lines on stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vcae.inference.reference.SHORT", 0.0)  # tiny weights take little for speech

    def run(*words):
        code = 0
        try:
            cli.main([*map(str, words), *([] if "--model" in words else ["--model", str(weights)])])
        except SystemExit as end:
            code = end.code
        captured = capsys.readouterr()
        assert captured.out == "" and "Traceback" not in captured.err
        return code, captured.err.splitlines()

    return run


@pytest.fixture
def folder(tmp_path):
    """Six recordings in two folders, one that breaks off, and one that is none."""
    samples = audio.read(SPEECH, RATE).samples
    for k in range(6):
        path = tmp_path / "in" / "ab"[k % 2] / f"{k}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        Audio(samples[k * 4_000 :][:RATE], RATE).write(path)
    whole = SPEECH.read_bytes()
    (tmp_path / "in" / "a" / "cut.flac").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "in" / "b" / "bad.wav").write_text("hello")
    return tmp_path / "in"


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.mark.slow
def test_conversion_gives_the_same_files_and_messages_and_resumes(run, folder, address):
    words = ["convert", "in", "--voice", TARGET, "--format", "flac"]
    code, lines = run(*words, "--out", "here")
    assert run(*words, "--out", "there", "--ray", address) == (code, lines)
    assert code == 1 and len(lines) == 3
    assert len(contents("there")) == 7 and contents("there") == contents("here")
    before = {path: path.stat().st_mtime_ns for path in Path("there/a").iterdir()}
    Path("there/b/1.flac").unlink()
    code, lines = run(*words, "--out", "there", "--ray", address)
    # What was made from a part of a source is not finished.
    assert code == 1 and "vcae: 5 of 8 were converted before, and are kept" in lines
    assert contents("there") == contents("here")
    del before[Path("there/a/cut.flac")]
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())


@pytest.mark.slow
def test_invented_voices_are_the_same(run, folder, address, monkeypatch):
    monkeypatch.setenv("VCAE_SECRET", "a secret of the tests")
    words = ["convert", "in/a/0.wav", "in/b", "--anonymize", "--model", "studio"]
    assert run(*words, "--out", "here")[0] == 1
    assert run(*words, "--out", "there", "--ray", address, "--jobs", "1")[0] == 1
    assert contents("there") == contents("here")


@pytest.mark.slow
def test_embeddings_are_the_same(run, folder, address):
    expected = run("embed", "in", "--out", "here.npz", "--every", ".5")
    assert run("embed", "in", "--out", "there.npz", "--every", ".5", "--ray", address) == expected
    assert Path("here.npz").read_bytes() == Path("there.npz").read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_what_a_killed_worker_did_is_done_by_another(run, tmp_path, address):
    """The process that writes a file is killed; the name of the unfinished file tells its id."""
    samples = audio.read(SPEECH, RATE).samples
    (tmp_path / "in").mkdir()
    for k in range(8):
        Audio(np.tile(samples, 40 if k == 5 else 1), RATE).write(tmp_path / "in" / f"{k}.wav")
    run("convert", "in", "--voice", TARGET, "--out", "here")
    finished = {}

    def kill():
        while len(done := list(Path("there").glob("*.wav"))) < 3 or not list(Path("there").glob(".*.part")):
            time.sleep(0.02)
        time.sleep(0.2)
        (unfinished, *_) = Path("there").glob(".*.part")
        finished.update((path, path.stat().st_mtime_ns) for path in done)
        os.kill(int(unfinished.name.split("-")[1]), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    code, lines = run("convert", "in", "--voice", TARGET, "--out", "there", "--ray", address)
    killer.join()
    assert code == 0 and not [line for line in lines if "were converted before" not in line]
    assert contents("there") == contents("here")  # nothing unfinished is left, either
    assert len(finished) >= 3 and all(path.stat().st_mtime_ns == then for path, then in finished.items())


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_file_that_kills_its_workers_is_given_up(address, capsys):
    plan = [(Path(name), Path("out")) for name in ("a", "deadly", "b")]

    def process(source, path, progress):
        if source.name == "deadly":
            os.kill(os.getpid(), signal.SIGKILL)
        return source.name.upper()

    done = {}
    assert console.for_each(plan, process, workers=Cluster(address), take=done.__setitem__) == 1
    assert done == {Path("a"): "A", Path("b"): "B"}
    assert "vcae: deadly: its workers died time after time" in capsys.readouterr().err


def test_what_is_loaded_is_sent_as_the_call_that_loads_it():
    loaded = Loaded(bytes, 1_000_000)
    sent = pickle.dumps(loaded)
    assert len(sent) < 200
    assert pickle.loads(sent).it == loaded.it  # noqa: S301


@pytest.mark.parametrize("command", ["convert", "embed"])
def test_without_ray_a_line_says_how_to_install_it(run, command, monkeypatch):
    for name in ("ray", "ray.data"):
        monkeypatch.setitem(sys.modules, name, None)
    voice = ["--voice", TARGET] if command == "convert" else []
    code, lines = run(command, SPEECH, *voice, "--out", "out.npz", "--ray", "local")
    assert (code, lines) == (
        2,
        ["vcae: --ray needs Ray Data, which is not installed; pip install 'vcae[ray]'"],
    )
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "nowhere", "nowhere.invalid:6379", "ray://127.0.0.1:10001"]
)
def test_an_address_where_no_cluster_is(run, address):
    pytest.importorskip("ray.data", reason="needs Ray Data: pip install 'vcae[ray]'")
    code, lines = run("convert", SPEECH, "--voice", TARGET, "--out", "out.wav", "--ray", address)
    assert code == 2 and len(lines) == 1 and lines[0].startswith(f"vcae: --ray {address}: ")
    assert not list(Path().iterdir())
