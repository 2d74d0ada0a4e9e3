"""Speech at other sample rates: extended above that of the networks, in blocks of any size."""

import numpy as np
import pytest
from conftest import VOICES, seeded
from hypothesis import given, settings
from hypothesis import strategies as st

from vcae.audio import Audio, concatenate, read, resample
from vcae.inference import output
from vcae.inference.output import at_rate, extended, full_band
from vcae.model.bandwidth import BandwidthExtender, BandwidthExtenderConfig

SMALL = BandwidthExtenderConfig(width=16, hidden=32, dilations=(1, 2))
RATE = 16_000


@pytest.fixture(scope="module")
def speech() -> Audio:
    return Audio(read(VOICES / "vcc2016-SF1-200001.flac", RATE).samples[:20_011], RATE)


@settings(max_examples=10)
@given(sizes=st.lists(st.integers(0, 30_000), min_size=1, max_size=8))
def test_the_sizes_of_blocks_do_not_matter(speech, sizes):
    extender = seeded(BandwidthExtender, SMALL)
    whole = concatenate(extended([speech.samples], extender))
    assert len(whole) == 3 * len(speech.samples)
    ends = np.cumsum(sizes)
    parts = concatenate(extended(np.split(speech.samples, ends[ends < len(speech.samples)]), extender))
    np.testing.assert_allclose(parts, whole, atol=1e-5)


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 64 * 256, 64 * 256 + 1])
def test_any_length_is_tripled(length):
    samples = np.full(length, 0.1, dtype=np.float32)
    assert len(concatenate(extended([samples], seeded(BandwidthExtender, SMALL)))) == 3 * length


@pytest.mark.parametrize("rate", [22_050, 24_000, 44_100, 48_000, 96_000])
def test_a_higher_rate_has_a_fuller_band_and_the_same_band_below(speech, rate):
    made = full_band(speech, rate)
    plain = resample(speech.samples, RATE, rate)
    assert made.sample_rate == rate and abs(len(made.samples) - len(plain)) <= 1
    n = min(len(made.samples), len(plain))
    hertz = np.fft.rfftfreq(n, 1 / rate)
    power, before = (np.abs(np.fft.rfft(x[:n])) ** 2 for x in (made.samples, plain))
    above, below = (hertz > 8600) & (hertz < min(0.45 * rate, 16_000)), hertz < 6500
    assert power[above].mean() > 100 * before[above].mean()
    assert abs(power[below].sum() / before[below].sum() - 1) < 0.02


@pytest.mark.parametrize(("rate", "wanted"), [(16_000, 8_000), (16_000, 16_000), (24_000, 48_000)])
def test_other_rates_are_resampled(monkeypatch, speech, rate, wanted):
    monkeypatch.setattr(output, "extended", None)
    made = concatenate(at_rate([speech.samples], rate, wanted))
    np.testing.assert_array_equal(made, resample(speech.samples, rate, wanted))
