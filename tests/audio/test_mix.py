"""Channels, full scale and overload."""

import warnings

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from vcae import Audio, audio
from vcae.audio import AudioWarning, Mix

RATE = 16_000
A, B = (0.1 * np.random.default_rng(seed).standard_normal(RATE).astype(np.float32) for seed in (0, 1))
ZERO = np.zeros(RATE, np.float32)


def write(path, *channels, subtype="FLOAT"):
    soundfile.write(path, np.stack(channels, axis=1), RATE, subtype=subtype)
    return path


def level(samples):
    return audio.loudness(samples, RATE)


CHANNELS = {
    "equal": [A, A],
    "one silent": [A, ZERO],
    "five of six silent": [ZERO, ZERO, A, ZERO, ZERO, ZERO],
    "cancelling": [A, -A],
    "almost cancelling": [A, -0.98 * A],
    "independent": [A, B],
    "one quiet": [A, 0.1 * B],
    "in turns": [np.r_[A[:8000], ZERO[:8000]], np.r_[ZERO[:8000], B[:8000]]],
    "one with an offset": [A, ZERO + 0.2],
}


@pytest.mark.parametrize("kind", CHANNELS)
def test_a_mix_is_as_loud_as_its_loudest_channel(tmp_path, kind):
    channels = CHANNELS[kind]
    frames = np.stack(channels).reshape(len(channels), -1, 320).std(axis=2).argmax(axis=0)
    loudest = np.concatenate([channels[c][320 * t : 320 * t + 320] for t, c in enumerate(frames)])
    path = write(tmp_path / "a.wav", *channels)
    assert level(audio.read(path).samples) == pytest.approx(level(loudest), abs=0.5)
    given_as_array = Audio(np.stack(channels), RATE).samples
    np.testing.assert_allclose(given_as_array, audio.read(path).samples, atol=1e-6)


@given(channels=st.integers(1, 6))
def test_equal_channels_are_one(channels):
    np.testing.assert_allclose(Audio(np.stack(channels * [A]), RATE).samples, A, atol=1e-6)


@pytest.mark.parametrize("bits", [16, 24, 32])
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_floats_that_hold_integers_are_scaled(tmp_path, bits, whole, subtype):
    if bits > 16 and not whole:
        pytest.skip("cannot be told from garbage")
    numbers = A.astype(np.float64) * 2 ** (bits - 1) * 2
    path = write(tmp_path / "a.wav", np.rint(numbers) if whole else numbers, subtype=subtype)
    with pytest.warns(AudioWarning, match=rf"a\.wav: holds {bits}-bit numbers as floats"):
        scaled = audio.read(path).samples
    np.testing.assert_allclose(scaled, 2 * A, atol=1e-4)


def test_quiet_sixteen_bit_numbers_are_recognised(tmp_path):
    path = write(tmp_path / "a.wav", np.rint(200 * A))
    with pytest.warns(AudioWarning, match="16-bit"):
        assert np.abs(audio.read(path).samples).max() < 0.01


@pytest.mark.parametrize("gain", [1.0, 3.0, 30.0])
def test_an_overload_is_lowered_as_a_whole(tmp_path, gain):
    path = write(tmp_path / "a.wav", gain * A / np.abs(A).max())
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        samples = audio.read(path).samples
    np.testing.assert_allclose(samples, A / np.abs(A).max(), atol=1e-5)
    assert [str(w.message).split("; ")[0] for w in told] == [
        f"{path}: reaches {gain:g} times full scale" for _ in range(gain > 1)
    ]


def test_arrays_on_their_way_to_the_networks_are_scaled_too():
    with pytest.warns(AudioWarning, match="the recording: holds 16-bit"):
        recording = audio.Recording(Audio(np.rint(32768 * A), RATE), RATE)
    assert recording.level == pytest.approx(audio.Recording(Audio(A, RATE), RATE).level, abs=0.01)


def test_integer_files_are_left_alone(tmp_path):
    assert Mix.of([A[:, None]], RATE).weights == [1]
    path = write(tmp_path / "a.wav", A, subtype="PCM_16")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(audio.read(path).samples, A, atol=1e-4)
