"""The command that finds unusual recordings: files, messages and exit status."""

import csv
from pathlib import Path

import numpy as np
import pytest
from conftest import VOICES

from vcae import Audio, audio
from vcae.cli import main as cli

RATE = 16_000


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run a command line in a temporary folder: -> status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        code = 0
        try:
            cli.main(["anomaly", *map(str, words)])
        except SystemExit as end:
            code = end.code
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return run


@pytest.fixture
def folder(tmp_path):
    """Two recordings: speech and noise."""
    folder = tmp_path / "in"
    folder.mkdir()
    speech = audio.read(VOICES / "vcc2016-SF1-200001.flac", RATE).samples  # a part would end within a word
    noise = 0.1 * np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32)
    Audio(speech, RATE).write(folder / "speech.wav")
    Audio(noise, RATE).write(folder / "noise.wav")
    return folder


def table(path):
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_unusual_is_told_with_pictures(run, folder):
    (folder / "bad.wav").write_bytes(b"no sound")
    code, out, err = run("in", "--false-alarms", "0.05")
    assert code == 1
    assert "noise.wav" in out and "speech.wav" not in out
    assert "bad.wav: not an audio file" in err and "1 of 2 recordings are unusual" in err
    files, seconds = table("in-anomalies/files.csv"), table("in-anomalies/seconds.csv")
    assert [(Path(row["file"]).name, row["unusual"]) for row in files] == [
        ("noise.wav", "1"),
        ("speech.wav", "0"),
    ]
    assert [Path(row["file"]).name for row in seconds].count("noise.wav") == 2
    page = Path("in-anomalies/report.html").read_text(encoding="utf-8")
    assert page.count("<audio") == page.count("data:image/png") == 2
    assert "noise.wav, second 0" in page or "noise.wav, second 1" in page


def test_nothing_unusual_is_success(run, folder):
    (folder / "noise.wav").unlink()
    code, out, err = run("in/speech.wav", "--out", "made", "--false-alarms", "0.05")
    assert (code, out) == (0, "")
    assert err == f"vcae: 0 of 1 recordings are unusual; see {Path('made/report.html')}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing"], "missing: no such file"),
        (["in", "--one-speaker"], "--one-speaker needs recordings of this person"),
        (["in", "--false-alarms", "2"], "between 0 and 1"),
        (["in", "--device", "nowhere"], "device 'nowhere' is not available"),
        (["in", "--normal", "in"], "2 normal recordings are too few"),
    ],
)
def test_a_mistake_is_one_line(run, folder, words, message):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1 and message in err
