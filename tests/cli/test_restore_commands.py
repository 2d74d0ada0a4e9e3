"""The commands that restore recordings: files, folders, messages and exit status."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import TINY, TINY_VOCODER, VOICES, seeded

from vcae import audio
from vcae.cli import main as cli
from vcae.inference.checkpoint import save
from vcae.model.restorer import TASKS, Restorer, RestorerConfig
from vcae.model.vocoder import Vocoder

SMALL = RestorerConfig(TINY.mel, delay=3, width=16, hidden=32, dilations=(1,), pitches=24)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    save(folder / "restorer.safetensors", seeded(Restorer, SMALL))
    save(folder / "vocoder.safetensors", seeded(Vocoder, TINY_VOCODER))
    return folder


@pytest.fixture
def sound(tmp_path, monkeypatch) -> Path:
    """A second of speech at 8 kHz in a file, which is in the current folder."""
    monkeypatch.chdir(tmp_path)
    samples = audio.read(VOICES / "vcc2016-SF1-200001.flac", 8000).samples[8000:16_000]
    soundfile.write(tmp_path / "sound.wav", samples, 8000)
    return Path("sound.wav")


@pytest.fixture
def run(monkeypatch, capsys, weights):
    """Run a command line in this process: exit status and lines on stderr."""

    def run(*words: object) -> tuple[int, list[str]]:
        monkeypatch.setattr(sys, "argv", ["vcae", *map(str, words), "--model", str(weights)])
        code: object = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err and captured.out == ""
        return int(str(code)), captured.err.splitlines()

    return run


def test_outputs_have_the_formats_of_conversions_and_are_kept(run, sound):
    command = ["denoise", sound, "--out", "new/", "--format", "opus", "--sample-rate", "48000", "--jobs", "2"]
    assert run(*command) == (0, [])
    assert soundfile.info("new/sound.opus").samplerate == 48_000
    assert "denoise" in audio.comment(Path("new/sound.opus"))
    assert run(*command) == (0, ["vcae: 1 of 1 were converted before, and are kept"])
    code, lines = run("denoise", sound, "--out", "x.wav", "--subtype", "PCM_99")
    assert code == 2 and "PCM_99" in lines[0]


@pytest.mark.parametrize("task", TASKS)
def test_a_file_is_restored(run, sound, task):
    assert run(task, sound, "--out", "out.flac") == (0, [])
    assert soundfile.info("out.flac").frames == 16_000 and soundfile.info("out.flac").samplerate == 16_000


@pytest.mark.parametrize("task", TASKS)
def test_a_folder_is_restored_and_a_bad_file_in_it_is_named(run, sound, task):
    Path("in/deep").mkdir(parents=True)
    sound.rename("in/deep/good.wav")
    Path("in/bad.wav").write_bytes(b"not a sound")
    soundfile.write("in/silent.wav", np.zeros(8000), 8000)
    code, lines = run(task, "in", "--out", "out")
    assert code == 1 and len(lines) == 3
    assert "in/bad.wav: not an audio file" in lines[0] and "in/silent.wav: is silent" in lines[1]
    assert [p.name for p in Path("out").rglob("*.*")] == ["good.wav"]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("missing.wav", "--out", "out.wav"), "missing.wav: no such file"),
        (("sound.wav", "--out", "sound.wav"), "sound.wav: is an input, too"),
        (("sound.wav", "--out", "out.xyz"), "out.xyz: has a suffix that cannot be written"),
        (("sound.wav", "--out", "out.wav", "--device", "nowhere"), "device 'nowhere' is not available"),
    ],
)
def test_a_mistake_is_one_line(run, sound, task, words, message):
    code, lines = run(task, *words)
    assert code == 2 and len(lines) == 1 and message in lines[0]
    assert [p.name for p in Path().iterdir()] == ["sound.wav"]


def test_a_pitch_moves_the_voice_and_must_be_one(run, sound):
    assert run("revoice", sound, "--out", "low.wav", "--pitch", "100") == (0, [])
    assert run("revoice", sound, "--out", "high.wav", "--pitch", "250") == (0, [])
    low, high = (audio.read(f"{name}.wav").samples for name in ("low", "high"))
    assert not np.allclose(low, high)
    code, lines = run("revoice", sound, "--out", "out.wav", "--pitch", "5")
    assert code == 2 and lines == ["vcae: the pitch must be from 50 to 600 Hz, not 5"]


def test_an_attenuation_limit_changes_the_output_and_must_be_one(run, sound):
    assert run("denoise", sound, "--out", "a.wav", "--attenuation-limit", "6") == (0, [])
    assert run("denoise", sound, "--out", "b.wav") == (0, [])
    some, none = (audio.read(f"{name}.wav").samples for name in "ab")
    assert not np.allclose(some, none)
    code, lines = run("denoise", sound, "--out", "c.wav", "--attenuation-limit", "-6")
    assert code == 2 and lines == ["vcae: the attenuation limit must be 0 dB or more, not -6"]


def test_a_recording_of_16_khz_is_extended_at_a_higher_rate_only(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wide = audio.read(VOICES / "vcc2016-SF1-200001.flac", 16_000)
    wide.write("wide.wav")
    code, lines = run("superres", "wide.wav", "--out", "out.wav")
    assert code == 2 and "wide.wav: holds sound above 4.4 kHz already" in lines[0]
    assert "--sample-rate 48000" in lines[0]
    assert run("superres", "wide.wav", "--out", "out.wav", "--sample-rate", "48000") == (0, [])
    made = audio.read("out.wav")
    assert made.sample_rate == 48_000 and len(made.samples) == 3 * len(wide.samples)
    power = np.abs(np.fft.rfft(made.samples)) ** 2
    assert power[round(len(power) * 9 / 24) :].sum() > 1e-5 * power.sum()
    code, lines = run("superres", "out.wav", "--out", "again.wav", "--sample-rate", "48000")
    assert code == 2 and lines == ["vcae: out.wav: holds sound above 8.8 kHz already; nothing is missing"]
