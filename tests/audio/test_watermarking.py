"""The watermark: what stays the same, what is found after which changes, what is not found."""

import json
from itertools import pairwise

import numpy as np
import pytest
from conftest import VOICES, cuts, noise
from hypothesis import given
from hypothesis import strategies as st

import vcae
from vcae import Audio, AudioError, audio
from vcae.audio.watermarking import FALSE_ALARMS, SHORTEST, Watermarker

RATE = 16_000
CLIPS = sorted(VOICES.glob("*.flac"))


@pytest.fixture(scope="module")
def plain():
    return audio.read(VOICES / "vcc2016-SM1-200001.flac", RATE)


@pytest.fixture(scope="module")
def marked(plain):
    return vcae.watermark(plain)


def piece(sound, start, seconds):
    """From any sample on."""
    begin = round(start * sound.sample_rate)
    return Audio(sound.samples[begin : begin + round(seconds * sound.sample_rate)], sound.sample_rate)


def test_the_mark_is_found_where_it_is(plain, marked):
    assert vcae.detect(marked).found
    assert not vcae.detect(plain).found
    assert vcae.detect(marked).chance < FALSE_ALARMS < vcae.detect(plain).chance


def test_the_mark_is_far_below_the_speech(plain, marked):
    assert len(marked.samples) == len(plain.samples)
    difference = marked.samples - plain.samples
    assert 10 * np.log10((plain.samples**2).sum() / (difference**2).sum()) > 18
    assert np.abs(marked.samples).max() <= 1


@pytest.mark.parametrize("clip", CLIPS, ids=lambda path: path.stem)
def test_unmarked_speech_is_not_called_marked(clip):
    assert not vcae.detect(clip).found


@given(start=st.floats(0, 0.8), gain=st.floats(-30, 0))
def test_a_piece_of_any_level_is_found(marked, start, gain):
    part = piece(marked, start, 3)
    assert vcae.detect(Audio(part.samples * np.float32(10 ** (gain / 20)), RATE)).found


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_resampling_is_withstood(marked, rate):
    there = audio.resample(marked.samples, RATE, rate)
    assert vcae.detect(Audio(there, rate)).found
    assert vcae.detect(Audio(audio.resample(there, rate, RATE), RATE)).found


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3", ".opus"])
def test_formats_are_withstood(marked, tmp_path, suffix):
    marked.write(tmp_path / f"x{suffix}")
    assert vcae.detect(tmp_path / f"x{suffix}").found


@pytest.mark.parametrize("rate", [22_050, 24_000, 48_000])
def test_any_sample_rate_is_marked(rate):
    sound = audio.read(CLIPS[0], rate)
    marked = vcae.watermark(sound)
    assert marked.sample_rate == rate
    assert vcae.detect(marked).found


@given(data=st.data())
def test_blocks_of_any_size_give_the_same(plain, data):
    samples = plain.samples[: data.draw(st.integers(2, 6_000))]
    borders = data.draw(cuts(len(samples)))
    whole = np.concatenate([*audio.watermarked([samples], RATE)])
    parts = [samples[a:b] for a, b in pairwise(borders)]
    blocks = np.concatenate([*audio.watermarked(parts, RATE)])
    assert len(blocks) == len(samples)
    np.testing.assert_allclose(blocks, whole, atol=1e-6)


@given(length=st.integers(0, 2_000))
def test_the_length_stays(length):
    out = np.concatenate([*audio.watermarked([np.ones(length, np.float32)], RATE)])
    assert len(out) == length


def test_a_long_recording_needs_little_memory_and_shows_where_the_mark_is(plain, marked):
    marker = Watermarker(RATE)
    returned = sum(len(marker.feed(plain.samples)) for _ in range(50))
    assert 50 * len(plain.samples) - returned < 1_024
    joined = np.concatenate(
        [np.tile(plain.samples, 6), np.tile(marked.samples, 2), np.tile(plain.samples, 6)]
    )
    found = vcae.detect(Audio(joined, RATE))
    assert found.found
    mark = 6 * plain.duration, 8 * plain.duration
    assert found.start < mark[1] and found.end > mark[0]
    assert found.end - found.start < 6 * plain.duration


def test_silence_stays_silent_and_has_no_mark():
    silence = Audio(np.zeros(3 * RATE, np.float32), RATE)
    assert not vcae.watermark(silence).samples.any()
    assert vcae.detect(silence) == (0, 1, 0, 3)


@pytest.mark.parametrize(
    "sound",
    [
        0.1 * noise(4 * RATE).numpy(),
        0.5 * np.sin(2 * np.pi * 440 * np.arange(4 * RATE) / RATE),
        np.sign(np.sin(2 * np.pi * 3 * np.arange(4 * RATE) / RATE)),
        np.eye(1, 4 * RATE, 1000)[0],
    ],
    ids=["noise", "tone", "steps", "click"],
)
def test_other_sounds_are_not_called_marked(sound):
    assert not vcae.detect(Audio(sound, RATE)).found


def test_what_is_too_short_is_refused(marked):
    assert vcae.detect(piece(marked, 1, SHORTEST)).score >= 0
    with pytest.raises(AudioError, match=r"too short to look for the watermark \(0\.9 s\); give 1 s"):
        vcae.detect(piece(marked, 1, 0.9))


def test_a_rate_without_bands_is_refused(plain):
    with pytest.raises(AudioError, match="2000 Hz or more"):
        vcae.watermark(Audio(plain.samples, 1_000))


def test_a_detection_is_plain_numbers(marked):
    assert json.loads(json.dumps(vcae.detect(marked)))
