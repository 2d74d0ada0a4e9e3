"""What the doctor measures of one recording."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import VOICES
from scipy.signal import butter, sosfiltfilt

from vcae.audio import Audio, read, write
from vcae.audio.measures import bandwidth, clipped_share, hum, noise_level
from vcae.corpora.utterance import Utterance
from vcae.doctor import Measurement, measure
from vcae.doctor.containers import is_truncated

FILES = sorted(VOICES.glob("*.flac"))
RATE = 16_000


def of(path: Path, text: str | None = None) -> Measurement:
    return measure(Utterance(path, "x/a", path.stem, "x", text))


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    return read(VOICES / "vcc2016-SF1-200001.flac", RATE).samples


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_natural_speech_is_healthy(path):
    m = of(path)
    assert m.error is None
    assert not m.truncated and not m.silent
    assert 0.5 * m.seconds < m.speech <= m.seconds
    assert m.clipped < 1e-3
    assert m.snr > 15
    assert m.bandwidth > 5000
    assert abs(m.dc) < 0.005
    assert m.hum < 15
    assert np.linalg.norm(m.code.astype(float)) == pytest.approx(1, abs=0.01)
    assert np.linalg.norm(m.fingerprint.astype(float)) == pytest.approx(1, abs=0.01)


def test_what_is_planted_is_measured(voice):
    rng, times = np.random.default_rng(0), np.arange(len(voice)) / RATE
    narrow = sosfiltfilt(butter(10, 3400, fs=RATE, output="sos"), voice).astype(np.float32)
    assert 3000 < bandwidth(narrow, RATE) < 4000 < 7000 < bandwidth(voice, RATE)
    limit = np.quantile(np.abs(voice), 0.98)
    assert clipped_share(0.7 * voice.clip(-limit, limit)) == pytest.approx(0.02, abs=0.01)
    assert clipped_share(voice) < 1e-3
    noise = 0.01 * rng.standard_normal(len(voice)).astype(np.float32)
    assert noise_level(noise, RATE) == pytest.approx(-40, abs=1.5)
    for mains in (50, 60):
        tone = sum(np.sin(2 * np.pi * mains * k * times) for k in (1, 2, 3))
        assert hum(voice + (0.004 * tone).astype(np.float32), RATE) > 15
    assert hum(voice, RATE) < 12


def test_hum_is_not_heard_in_digital_silence():
    x = np.zeros(3 * RATE, np.float32)
    x[::320] = 1e-5  # 50 Hz, far below any microphone
    assert hum(x, RATE) == 0
    assert np.isnan(hum(x[: RATE // 2], RATE))


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 44_100, 48_000])
def test_any_rate_is_measured(tmp_path, voice, rate):
    from vcae.audio import resample

    write(tmp_path / "a.wav", Audio(resample(voice, RATE, rate), rate))
    m = of(tmp_path / "a.wav")
    assert m.rate == rate
    assert m.seconds == pytest.approx(len(voice) / RATE, abs=0.01)
    assert m.level == pytest.approx(of(VOICES / "vcc2016-SF1-200001.flac").level, abs=1)
    assert m.bandwidth == pytest.approx(min(rate / 2, 8000), rel=0.25)


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"", "is empty"), (b"not audio" * 99, "not an audio file"), (None, "no such file")],
)
def test_a_file_that_cannot_be_read_is_told(tmp_path, content, problem):
    if content is not None:
        (tmp_path / "a.wav").write_bytes(content)
    m = of(tmp_path / "a.wav")
    assert m.error and m.error.startswith(problem)
    assert m.seconds == 0


@pytest.mark.parametrize("samples", [0, 1, 100, 2000])
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_any_length_is_measured(tmp_path, samples, value):
    soundfile.write(tmp_path / "a.wav", np.full(samples, value, np.float32), RATE)
    m = of(tmp_path / "a.wav")
    assert bool(m.error) == (samples == 0)
    assert m.silent == (value == 0 and samples > 0)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus"])
def test_a_file_that_was_cut_off_is_told(tmp_path, voice, suffix):
    whole = tmp_path / f"whole{suffix}"
    write(whole, Audio(voice, RATE))
    assert not is_truncated(whole, len(voice) / RATE)
    assert not of(whole).truncated
    content = whole.read_bytes()
    for kept in (0.3, 0.7, 0.98):
        part = tmp_path / f"part{suffix}"
        part.write_bytes(content[: round(kept * len(content))])
        m = of(part)
        assert m.truncated  # also a FLAC, which may not be decoded at all


def test_lengths_that_containers_do_not_know_are_no_damage(tmp_path, voice):
    """A WAV that was written to a pipe holds no length, or the largest."""
    write(tmp_path / "a.wav", Audio(voice, RATE))
    content = bytearray((tmp_path / "a.wav").read_bytes())
    at = content.find(b"data") + 4
    for unknown in (b"\xff\xff\xff\xff", b"\0\0\0\0"):
        content[at : at + 4] = unknown
        (tmp_path / "b.wav").write_bytes(content)
        assert not is_truncated(tmp_path / "b.wav", 1.0)
    assert not is_truncated(VOICES / "voices.tsv", 0.0)


def test_text_is_compared_with_the_recording():
    path = VOICES / "vcc2016-SF1-200001.flac"
    right = dict(line.split("\t") for line in (VOICES / "voices.tsv").read_text().splitlines())[path.stem]
    wrong = "please leave the keys of the garden on the table in the kitchen"
    assert (of(path, right).text or -99) > -32 > (of(path, wrong).text or -99)
    assert of(path).text is None
    assert measure(Utterance(path, "x/a", "a", "x", "Guten Tag", "de")).text is None
    assert measure(Utterance(path, "x/a", "a", "x", right), texts=False).text is None
