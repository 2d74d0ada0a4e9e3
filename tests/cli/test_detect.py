"""The command that looks for the watermark: lines, JSON, messages and exit status."""

import json
import shutil

import pytest
from conftest import VOICES

import vcae
from vcae import audio
from vcae.cli import main as cli

SOURCE, TARGET = VOICES / "vcc2016-SF1-200001.flac", VOICES / "librispeech-78-368-0031.flac"


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run a command line in a temporary folder: -> status, lines on stdout, lines on stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        code = 0
        try:
            cli.main([*map(str, words)])
        except SystemExit as end:
            code = end.code
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out.splitlines(), captured.err.splitlines()

    return run


@pytest.fixture
def folder(tmp_path):
    """A marked recording, one that is not, and one that is none."""
    folder = tmp_path / "in"
    folder.mkdir()
    vcae.watermark(audio.read(SOURCE)).write(folder / "a.mp3")
    shutil.copy(SOURCE, folder / "b.flac")
    (folder / "c.wav").write_text("hello")
    return folder


def test_conversions_are_marked_on_request(run):
    for options, found in ([], "not marked"), (["--watermark"], "marked"):
        assert run("convert", SOURCE, "--voice", TARGET, "--out", "out.wav", *options)[0] == 0
        code, (line,), err = run("detect", "out.wav")
        assert line.split("\t")[:2] == ["out.wav", found]
        assert (code, err) == (int(found == "not marked"), [])


def test_an_output_without_the_mark_is_not_kept_for_one_with_it(run):
    command = ["convert", SOURCE, "--voice", TARGET, "--out", "out.wav"]
    assert run(*command) == (0, [], [])
    assert run(*command, "--watermark") == (0, [], [])
    assert run(*command, "--watermark")[2] == ["vcae: 1 of 1 were converted before, and are kept"]


def test_each_file_has_a_line(run, folder):
    code, out, err = run("detect", folder)
    assert code == 1
    assert [line.split("\t")[:2] for line in out] == [
        [str(folder / "a.mp3"), "marked"],
        [str(folder / "b.flac"), "not marked"],
    ]
    assert err[0].startswith(f"vcae: {folder / 'c.wav'}: not an audio file")
    assert "1 could not be used" in err[1] and len(err) == 2


def test_everything_is_json(run, folder):
    (folder / "c.wav").unlink()
    code, out, err = run("detect", folder, "--json")
    marked, plain = json.loads("".join(out))
    assert (code, err) == (1, [])
    assert marked["marked"] and marked["chance"] < 1e-6 and marked["file"].endswith("a.mp3")
    assert not plain["marked"] and plain["score"] < marked["score"]
    assert 0 <= marked["start"] < marked["end"] <= 5


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "no such file"), (b"hello", "not an audio file"), (b"", "empty"), ("short", "give 1 s or more")],
)
def test_what_cannot_be_examined_is_refused(run, tmp_path, content, told):
    path = tmp_path / "x.wav"
    if content == "short":
        vcae.Audio(audio.read(SOURCE, 16_000).samples[8_000:16_000], 16_000).write(path)
    elif content is not None:
        path.write_bytes(content)
    code, out, (line,) = run("detect", path)
    assert (code, out) == (2, [])
    assert line.startswith(f"vcae: {path}: ") and told in line
