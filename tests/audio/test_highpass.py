"""The filter against offset and rumble."""

import numpy as np
import pytest
from conftest import VOICES
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import butter, sosfilt

import vcae
from vcae import Audio, audio
from vcae.audio.highpass import CUTOFF, HighPass

CLIPS = sorted(VOICES.glob("*.flac"))


def noise(count, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(count)).astype(np.float32)


@given(rate=st.sampled_from([8_000, 16_000, 44_100, 48_000]), data=st.data())
def test_it_is_a_butterworth_filter_for_any_blocks(rate, data):
    samples = noise(5_000)
    samples[0] = 0
    borders = sorted(data.draw(st.lists(st.integers(0, len(samples)), max_size=8)))
    high_pass = HighPass(rate)
    out = np.concatenate([high_pass.feed(block) for block in np.split(samples, borders)])
    expected = sosfilt(butter(2, CUTOFF, "high", fs=rate, output="sos"), samples)
    np.testing.assert_allclose(out, expected, atol=1e-6)


@given(offset=st.floats(-0.5, 0.5))
def test_an_offset_changes_nothing(offset):
    samples = noise(3_000)
    out = HighPass(16_000).feed(samples + np.float32(offset))
    np.testing.assert_allclose(out, HighPass(16_000).feed(samples), atol=1e-6)


@pytest.mark.parametrize("rate", [1, 50, 300])
def test_low_rates_stay_finite(rate):
    assert np.abs(HighPass(rate).feed(noise(2_000))).max() < 1


def test_codes_do_not_depend_on_an_offset():
    vc = vcae.load()
    clip = audio.read(CLIPS[0])
    dirty = Audio(0.8 * clip.samples + np.float32(0.03), clip.sample_rate)
    clean = Audio(0.8 * clip.samples, clip.sample_rate)
    assert vc.embed(dirty) @ vc.embed(clean) > 0.9999
    assert audio.Recording(dirty, 16_000).level == pytest.approx(
        audio.Recording(clean, 16_000).level, abs=0.01
    )
    assert audio.loudness(dirty.samples, 16_000) == pytest.approx(
        audio.loudness(clean.samples, 16_000), abs=0.01
    )


def test_an_offset_alone_is_silence():
    assert audio.Recording(Audio(np.full(8_000, 0.3), 16_000), 16_000).silent


def test_a_stream_takes_offsets_away_too(speech):
    vc = vcae.load()
    voice, samples = vc.voice(CLIPS[-1]), 0.8 * speech[0, 0].numpy()
    outs = [vc.stream(voice, level=-25.0).feed(samples + np.float32(offset)) for offset in (0, 0.1)]
    np.testing.assert_allclose(outs[0], outs[1], atol=1e-3)
