"""Pulses, and the template that their harmonics leave in a log-mel."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vcae.model.config import PRESETS
from vcae.model.harmonics import HarmonicTemplate, pulses
from vcae.model.mel import LogMel

MEL = PRESETS["16k"]


@pytest.fixture(scope="module")
def template() -> HarmonicTemplate:
    return HarmonicTemplate(MEL)


def prosody(hertz: float, voicing: float = 1.0, frames: int = 1) -> torch.Tensor:
    return torch.tensor([math.log(hertz), voicing, 0.0])[None, :, None].expand(1, 3, frames)


def train(hertz: float, seconds: float = 0.5) -> torch.Tensor:
    """Pulses at a steady F0: (1, 1, N)."""
    f0 = torch.tensor([hertz / MEL.sample_rate])
    return pulses(torch.arange(int(seconds * MEL.sample_rate)) * f0, f0)[None, None]


@pytest.mark.parametrize("hertz", [50, 123, 220, 600])
def test_pulses_are_a_flat_harmonic_spectrum_of_unit_variance(hertz):
    wav = train(hertz, seconds=1.0)[0, 0]
    assert wav.var() == pytest.approx(1, rel=0.02)
    spectrum = torch.fft.rfft(wav).abs()  # one bin per hertz
    lines = spectrum[hertz::hertz][: 8000 // hertz - 1]
    assert lines.std() < 0.02 * lines.mean()
    assert lines.square().sum() > 0.9 * spectrum.square().sum()


@settings(max_examples=30, deadline=None)
@given(hertz=st.floats(60, 500), cycle=st.floats(-3, 3))
def test_pulses_are_continuous_in_pitch_and_phase(hertz, cycle):
    f0, cycles = torch.tensor([hertz / 16000]), torch.tensor([cycle])
    here = pulses(cycles, f0)
    assert (pulses(cycles, f0 * 1.00001) - here).abs() < 0.05
    assert (pulses(cycles + 1, f0) - here).abs() < 0.05


@pytest.mark.parametrize("hertz", [70, 110, 180, 300, 550])
def test_the_template_is_the_log_mel_of_pulses(template, hertz):
    """After removing the response of each band to a flat spectrum, and the gain of the window."""
    natural = LogMel(MEL)(0.05 * train(hertz))[..., 10:40].mean(2)[0]
    flat = LogMel(MEL).filterbank.sum(0).clamp(min=1e-3).log()
    level = math.log(0.05) + LogMel(MEL).window.norm().log()
    relative = ((natural - flat - level).exp() + 0.1).log() - math.log(1.1)
    assert (template(prosody(hertz))[0, :, 0] - relative)[2:].abs().mean() < 0.1


def test_the_template_peaks_at_the_harmonics(template):
    wave = template(prosody(400))[0, :, 0]
    top = 2595 * math.log10(1 + 8000 / 700)
    for k in (1, 2, 3):
        near = round(2595 * math.log10(1 + 400 * k / 700) / top * 81 - 1)
        assert wave[near - 1 : near + 2].max() > 0.3
        between = round(2595 * math.log10(1 + 400 * (k + 0.5) / 700) / top * 81 - 1)
        assert wave[between] < -1


def test_the_template_is_zero_in_unvoiced_frames(template):
    assert not template(prosody(200, voicing=0.0)).any()


@settings(max_examples=30, deadline=None)
@given(hertz=st.floats(1, 4000), voicing=st.floats(0, 1))
def test_the_template_is_finite_and_smooth_at_any_pitch(template, hertz, voicing):
    here, near = template(prosody(hertz, voicing)), template(prosody(hertz * 1.001, voicing))
    assert here.shape == (1, MEL.n_mels, 1) and here.isfinite().all()
    assert (here - near).abs().max() < 0.2
