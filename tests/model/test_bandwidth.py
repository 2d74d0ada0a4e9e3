"""The bandwidth extender: its bands, what it leaves as it is, its delay and streaming."""

import numpy as np
import pytest
import torch
from conftest import cuts, noise, seeded, streamed
from hypothesis import given
from hypothesis import strategies as st

from vcae.model.bandwidth import BandwidthExtender, BandwidthExtenderConfig

SMALL = BandwidthExtenderConfig(width=16, hidden=32, dilations=(1, 2))


@pytest.fixture(scope="module")
def extender() -> BandwidthExtender:
    return seeded(BandwidthExtender, SMALL)


def extend(extender: BandwidthExtender, wav: torch.Tensor) -> torch.Tensor:
    """In step with the input: (B, 1, N) -> (B, 1, 3 N)."""
    late = 3 * extender.delay
    with torch.no_grad():
        return extender(torch.nn.functional.pad(wav, (0, extender.delay)))[..., late:]


def tone(hertz: float, rate: int, samples: int) -> torch.Tensor:
    return torch.sin(2 * torch.pi * hertz / rate * torch.arange(samples))[None, None] / 4


@pytest.mark.parametrize("hertz", [100, 1000, 4000, 6800])
def test_what_is_below_the_crossover_stays(extender, hertz):
    n = 100 * extender.step
    made = extend(extender, tone(hertz, 16_000, n))
    assert made.shape == (1, 1, 3 * n)
    spectrum = np.fft.rfft((made[0, 0] - tone(hertz, 48_000, 3 * n)[0, 0]).numpy() * np.hanning(3 * n))
    below = np.fft.rfftfreq(3 * n, 1 / 48_000) < SMALL.crossover - 100
    assert np.abs(spectrum[below]).max() < 1e-3 * 3 * n / 16


def test_the_energy_of_each_band_is_the_predicted_one(monkeypatch, extender):
    wav = 0.05 * noise(1, 1, 200 * extender.step)
    bands = len(extender.bands)
    wanted = torch.linspace(-4, -10, bands)[:, None]
    monkeypatch.setattr(extender, "predict", lambda spectrum, cache: wanted.expand(1, -1, spectrum.shape[-1]))
    found = extender.wide_energies(extend(extender, wav))[..., 10:-10].exp().mean(2).log()
    assert (found[0] - wanted[:, 0]).abs().max() < 1.0
    assert abs(float((found[0] - wanted[:, 0]).mean())) < 0.5


def test_nothing_is_generated_from_silence_or_above_the_top(extender):
    assert extend(extender, torch.zeros(1, 1, 20 * extender.step)).abs().max() == 0
    made = extend(extender, noise(1, 1, 100 * extender.step))[0, 0].numpy()
    power = np.abs(np.fft.rfft(made * np.hanning(len(made)))) ** 2
    hertz = np.fft.rfftfreq(len(made), 1 / extender.output_rate)
    assert power[hertz > SMALL.top + 200].max() < 1e-6 * power.max()


@given(st.data())
def test_blocks_give_what_the_whole_signal_gives(extender, data):
    wav = noise(1, 1, 40 * extender.step)
    with torch.no_grad():
        whole = extender(wav)
        parts = streamed(extender, wav, data.draw(cuts(40 * extender.step, extender.step)))
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-4)


def test_a_prediction_looks_as_far_ahead_as_it_says(extender):
    wav = noise(1, 1, 60 * extender.step)
    changed = wav.clone()
    changed[..., 30 * extender.step :] = 0
    with torch.no_grad():
        one, other = extender(wav), extender(changed)
    same = 3 * 30 * extender.step
    assert torch.equal(one[..., :same], other[..., :same])
    assert not torch.equal(one[..., same:], other[..., same:])
