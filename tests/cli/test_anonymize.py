"""Anonymisation on the command line: who is one speaker, secrets, messages and exit status."""

import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
from conftest import VOICES

import vcae
from vcae import Audio, audio
from vcae.cli import main as cli

RATE = 16_000
WORDS = "a secret of the tests"


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run a conversion in a temporary folder: -> status, lines on stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VCAE_SECRET", WORDS)

    def run(*words):
        code = 0
        try:
            cli.main(["convert", *map(str, words)])
        except SystemExit as end:
            code = end.code
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err and captured.out == "" and WORDS not in captured.err
        return code, captured.err.splitlines()

    return run


@pytest.fixture(scope="module")
def short():
    """A second and a half of speech."""
    return Audio(audio.read(VOICES / "vcc2016-SF1-200001.flac", RATE).samples[16_000:40_000], RATE)


@pytest.fixture
def folder(tmp_path, short):
    """The same recording as anna's twice and as bob's."""
    for name in ("anna/1.wav", "anna/2.wav", "bob/1.wav"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        short.write(path)
    return tmp_path / "in"


def equal(*paths):
    first, *others = (audio.read(Path(path)).samples for path in paths)
    return all(np.array_equal(first, other) for other in others)


def test_a_folder_is_a_speaker(run, folder):
    assert run(folder, "--anonymize", "--out", "out/") == (0, [])
    assert equal("out/anna/1.wav", "out/anna/2.wav")
    assert not equal("out/anna/1.wav", "out/bob/1.wav")


def test_a_file_by_itself_is_a_speaker_called_like_it(run, folder):
    shutil.copy(folder / "bob" / "1.wav", "anna.wav")
    sources = ["anna.wav", folder / "bob" / "1.wav", folder / "anna"]
    assert run(*sources, "--anonymize", "--out", "out/") == (0, [])
    names = sorted(str(path) for path in Path("out").rglob("*.wav"))
    assert len(names) == 4
    alone, other = Path("out").rglob("anna.wav"), Path("out").rglob("bob/1.wav")
    assert equal(next(alone), next(Path("out").rglob("anna/1.wav")))
    assert not equal(next(Path("out").rglob("anna.wav")), next(other))


def test_all_sources_can_be_of_one_speaker(run, folder):
    assert run(folder, "--anonymize", "--speaker", "x", "--out", "out/") == (0, [])
    assert equal("out/anna/1.wav", "out/bob/1.wav")


def test_the_voice_is_that_of_the_python_api(run, folder, short):
    assert run(folder / "anna", "--anonymize", "--out", "out/") == (0, [])
    vc = vcae.load()
    voice = vcae.Anonymizer(vc, WORDS).voice("anna", [folder / "anna" / "1.wav", folder / "anna" / "2.wav"])
    wanted = vc.convert(folder / "anna" / "1.wav", voice)
    assert np.abs(audio.read("out/1.wav").samples - wanted.samples).max() < 1e-3


def test_a_secret_file_is_made_kept_and_used(run, folder, monkeypatch):
    command = [folder / "anna" / "1.wav", "--anonymize", "--secret", "key"]
    code, (line,) = run(*command, "--out", "a.wav")
    assert code == 0 and line.startswith("vcae: key: a new secret; keep it")
    assert stat.S_IMODE(Path("key").stat().st_mode) == 0o600
    assert Path("key").read_text().strip() not in line
    assert run(*command, "--out", "b.wav") == (0, [])
    assert equal("a.wav", "b.wav")
    assert run(*command, "--out", "b.wav") == (0, ["vcae: 1 of 1 were converted before, and are kept"])


def test_a_secret_that_is_forgotten_is_told(run, folder, monkeypatch):
    monkeypatch.delenv("VCAE_SECRET")
    command = [folder / "anna" / "1.wav", "--anonymize", "--out"]
    results = [run(*command, name) for name in ("a.wav", "b.wav")]
    for code, (line,) in results:
        assert code == 0 and "is forgotten; give --secret FILE" in line
    assert not equal("a.wav", "b.wav")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--anonymize", "--voice", "x.voice"], "or --anonymize"),
        ([], "or --anonymize"),
        (["--voice", "x.voice", "--secret", "key"], "are for --anonymize"),
        (["--voice", "x.voice", "--speaker", "anna"], "are for --anonymize"),
        (["--anonymize", "--strength", ".5"], "--strength keeps a part of the voice"),
        (["--anonymize", "--secret", "weak"], "weak: holds a secret of 5 characters"),
        (["--anonymize", "--secret", "."], "cannot be read"),
        (["--anonymize", "--secret", "no/folder/key"], "no/folder/key: cannot be created"),
        (["--anonymize", "--secret", "key.wav"], "key.wav: is an input, too"),
    ],
)
def test_options_that_do_not_fit_are_refused(run, folder, options, told):
    Path("weak").write_text("12345")
    out = "key.wav" if "key.wav" in options else "out.wav"
    code, (line,) = run(folder / "anna" / "1.wav", "--out", out, *options)
    assert code == 2
    assert line.startswith("vcae: ") and told in line
    assert not Path("out.wav").exists() and not Path("key").exists()


def test_a_secret_in_the_environment_that_can_be_guessed_is_refused(run, folder, monkeypatch):
    monkeypatch.setenv("VCAE_SECRET", "12345")
    code, (line,) = run(folder, "--anonymize", "--out", "out/")
    assert code == 2 and "environment variable VCAE_SECRET: holds a secret of 5 characters" in line
