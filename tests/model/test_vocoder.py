"""The source-filter vocoder, and Griffin-Lim."""

import math
from itertools import pairwise

import pytest
import torch
from conftest import TINY_VOCODER, cuts, noise, seeded, vowel
from hypothesis import given
from torch import Tensor

from vcae.model.config import PRESETS, MelConfig, VocoderConfig
from vcae.model.mel import LogMel
from vcae.model.prosody import energy_of
from vcae.model.vocoder import Vocoder, griffin_lim

MEL = MelConfig()
RATE, HOP = MEL.sample_rate, MEL.hop_length


def prosody_of(f0: float | Tensor, mel: Tensor, voicing: float = 1.0) -> Tensor:
    """Prosody (B, 3, T) of a mel, from its F0."""
    log_f0 = torch.as_tensor(f0, dtype=torch.float32).log().expand_as(mel[:, :1])
    return torch.cat([log_f0, torch.full_like(log_f0, voicing), energy_of(mel)], dim=1)


def autocorrelation(wav: Tensor) -> Tensor:
    """Normalised autocorrelation of (1, 1, N) without its ends, by lag."""
    x = wav.flatten()[2000:-1000].double()
    x = x - x.mean()
    r = torch.fft.irfft(torch.fft.rfft(x, 2 * len(x)).abs().square())[: RATE // 50]
    return r * len(x) / (len(x) - torch.arange(len(r))) / r[0]


def pitch(wav: Tensor) -> float:
    """F0 in Hz: the first high peak of the autocorrelation, to a fraction of a sample."""
    r = autocorrelation(wav)
    peaks = [i for i in range(RATE // 600, len(r) - 1) if r[i - 1] < r[i] >= r[i + 1]]
    lag = next(i for i in peaks if r[i] > 0.85 * max(r[p] for p in peaks))
    before, at, after = r[lag - 1 : lag + 2].tolist()
    return RATE / (lag + (before - after) / (2 * (before - 2 * at + after)))


@torch.no_grad()
def sound(vocoder: Vocoder, mel: Tensor, prosody: Tensor, borders: list[int] | None = None) -> Tensor:
    cache = {}
    borders = borders or [0, mel.shape[-1]]
    return torch.cat([vocoder(mel[..., a:b], prosody[..., a:b], cache) for a, b in pairwise(borders)], -1)


@pytest.mark.parametrize("frames", [1, 2, 50])
def test_a_hop_of_samples_for_every_frame(vocoder, frames):
    mel = noise(2, MEL.n_mels, frames)
    wav = vocoder(mel, prosody_of(150, mel))
    assert wav.shape == (2, 1, frames * HOP)
    assert wav.isfinite().all()


def test_the_delay_is_a_window_less_a_hop(vocoder):
    assert vocoder.delay == 480


def test_the_output_is_late_by_the_delay(vocoder):
    wav = torch.zeros(1, 1, 80 * HOP)
    wav[..., 40 * HOP :] = 0.1 * noise(40 * HOP)  # noise after silence
    mel = LogMel(MEL)(wav)
    out = sound(vocoder, mel, prosody_of(150, mel, voicing=0.0)).flatten()
    start = 40 * HOP + vocoder.delay
    assert out[: start - MEL.win_length // 2].abs().max() < 0.01
    before, after = out[start - 160 : start].square().mean(), out[start : start + 160].square().mean()
    settled = out[start + 960 :].square().mean()
    assert before < settled / 4 < after


@given(borders=cuts(100))
def test_block_by_block_equals_whole(borders):
    vocoder = seeded(Vocoder, TINY_VOCODER)
    mel = MEL.unstandardise(noise(2, MEL.n_mels, 100))
    prosody = prosody_of(120 + 40 * noise(1, 1, 100, seed=1).tanh(), mel)
    prosody[:, 1] = noise(2, 100, seed=2).sigmoid()
    whole = sound(vocoder, mel, prosody)
    torch.testing.assert_close(sound(vocoder, mel, prosody, borders), whole, atol=1e-4, rtol=0)


@pytest.mark.parametrize("f0", [80.0, 123.4, 200.0, 317.0])
def test_the_pitch_is_right_before_any_training(vocoder, f0):
    mel = LogMel(MEL)(vowel(f0))
    assert pitch(sound(vocoder, mel, prosody_of(f0, mel))) == pytest.approx(f0, rel=0.02)


@pytest.mark.parametrize("f0", [100.0, 250.0])
def test_the_pitch_is_that_of_the_prosody_whatever_the_mel(vocoder, f0):
    mel = torch.full((1, MEL.n_mels, 100), -1.0)
    assert pitch(sound(vocoder, mel, prosody_of(f0, mel))) == pytest.approx(f0, rel=0.02)


def test_without_voicing_there_are_no_harmonics(vocoder):
    mel = torch.full((1, MEL.n_mels, 200), -1.0)
    period = round(RATE / 125)
    voiced, unvoiced = (
        autocorrelation(sound(vocoder, mel, prosody_of(125.0, mel, voicing)))[period].item()
        for voicing in (1.0, 0.0)
    )
    assert voiced > 0.5
    assert abs(unvoiced) < 0.1


@pytest.mark.parametrize("voicing", [0.0, 1.0])
def test_a_source_can_be_loud_in_half_of_a_window_only(vocoder, voicing):
    mel = torch.zeros(1, MEL.n_mels, 20)
    points = vocoder.config.shape_points

    def share_of_first_half(quiet: slice) -> float:
        with torch.no_grad():
            vocoder.shapes.bias.zero_()
            vocoder.shapes.bias.unflatten(0, (2, points))[:, quiet] = -4
            windows = vocoder.windows(mel, prosody_of(120, mel, voicing), torch.linspace(0, 1, 20)[None])
        powers = windows.square().sum((0, 2))  # of each sample of a window
        return float(powers[: MEL.win_length // 2].sum() / powers.sum())

    first, second = slice((points + 1) // 2), slice(points // 2, points)
    assert share_of_first_half(quiet=first) < 0.2
    assert 0.3 < share_of_first_half(quiet=slice(0)) < 0.7
    assert share_of_first_half(quiet=second) > 0.8


@pytest.mark.parametrize("voicing", [0.0, 1.0])
def test_silence_stays_near_silence(vocoder, voicing):
    mel = torch.full((1, MEL.n_mels, 100), math.log(MEL.floor))
    out = sound(vocoder, mel, prosody_of(150.0, mel, voicing))
    assert out.square().mean().sqrt() < 1e-3


def test_an_untrained_vocoder_has_about_the_level_of_its_mel(vocoder):
    wav = vowel(140.0)
    mel = LogMel(MEL)(wav)
    out = sound(vocoder, mel, prosody_of(140.0, mel))
    decibels = 20 * torch.log10(out[..., 2000:-1000].std() / wav[..., 2000:-1000].std())
    assert abs(decibels) < 6


@pytest.mark.parametrize("f0", [90.0, 150.0, 260.0, 420.0])
def test_an_untrained_vocoder_reproduces_the_mel_of_a_vowel(f0):
    """Harmonics, which are in the mel and in the source, are not counted twice."""
    model = seeded(Vocoder, TINY_VOCODER)
    torch.nn.init.zeros_(model.filters.weight)
    mel = LogMel(MEL)(vowel(f0, 80 * HOP))
    with torch.no_grad():
        copy = LogMel(MEL)(model(mel, prosody_of(f0, mel))[..., model.delay :])
    loud = mel[0, :, 10:70] > mel.max() - 5  # below it, an untrained vocoder adds noise
    assert (copy[0, :, 10:70] - mel[0, :, 10:70])[loud].abs().mean() < 0.3


def test_the_noise_of_every_window_is_as_loud_in_every_band(vocoder):
    spectra = torch.fft.rfft(vocoder.noise)  # (windows, bins)
    loudness = (spectra.abs() @ vocoder.bands.T).log()
    assert loudness.std() < 0.2  # drawn at random it is 0.4
    assert len(loudness) == 997


def test_half_of_an_error_of_the_filters_is_corrected():
    vocoder = seeded(Vocoder, TINY_VOCODER).eval()
    mel = LogMel(MEL)(0.1 * noise(RATE)[None, None])
    unvoiced = prosody_of(150, mel, voicing=0.0)

    def level() -> float:
        return float(sound(vocoder, mel, unvoiced).square().mean().log() / 2)

    right = level()
    with torch.no_grad():
        vocoder.filters.bias += 1.0  # in neper; the phases do not matter for noise
    assert level() - right == pytest.approx(0.5, abs=0.05)


def test_a_batch_is_its_examples(vocoder):
    mel = noise(3, MEL.n_mels, 30)
    prosody = prosody_of(150, mel)
    alone = torch.cat([sound(vocoder, mel[i : i + 1], prosody[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(sound(vocoder, mel, prosody), alone, atol=1e-5, rtol=0)


def test_a_gradient_reaches_mel_and_weights(vocoder):
    mel = noise(1, MEL.n_mels, 20).requires_grad_()
    vocoder.train()(mel, prosody_of(150, mel)).square().sum().backward()
    assert mel.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in vocoder.parameters())


@pytest.mark.parametrize(
    "mel", [MelConfig(hop_length=80), MelConfig(hop_length=320)], ids=["short hop", "long hop"]
)
def test_a_hop_that_is_no_quarter_of_the_window_is_refused(mel):
    with pytest.raises(ValueError, match="hop"):
        Vocoder(VocoderConfig(mel=mel, width=16, hidden=32, blocks=1))


# Griffin-Lim


@pytest.mark.parametrize("preset", PRESETS)
def test_griffin_lim_reproduces_the_mel(speech_at, preset):
    config = PRESETS[preset]
    mel = LogMel(config)(speech_at(config.sample_rate))
    again = LogMel(config)(griffin_lim(mel, config, iterations=30))
    frames = min(mel.shape[-1], again.shape[-1])
    assert abs(mel.shape[-1] - frames) <= 1
    low = math.log(1e-3)  # below, a recording holds the rounding of its files
    difference = again[..., :frames].clamp(min=low) - mel[..., :frames].clamp(min=low)
    assert difference[..., 5:-5].abs().mean() < 0.3


def test_griffin_lim_is_aligned_with_the_mel(speech):
    config = PRESETS["16k"]
    wav = speech[..., : speech.shape[-1] // HOP * HOP]
    copy = griffin_lim(LogMel(config)(wav), config, iterations=30)
    assert copy.shape == wav.shape
    energy, again = (
        x.flatten().square().unfold(0, 320, 40).mean(-1).log1p() for x in (100 * wav, 100 * copy)
    )
    lags = range(-20, 21)  # of 40 samples
    products = [
        torch.corrcoef(torch.stack([energy[20:-20], again[20 + i : len(again) - 20 + i]]))[0, 1] for i in lags
    ]
    assert lags[int(torch.stack(products).argmax())] == 0


def test_a_shaped_spectrum_has_the_bands_of_the_mel(vocoder):
    mel = vocoder.config.mel
    config = LogMel(mel)
    window = torch.hann_window(mel.win_length)
    flat = noise(mel.win_length * 50).unfold(0, mel.win_length, mel.hop_length)
    spectrum = torch.fft.rfft(flat * window).mT[None]
    target = torch.linspace(1.0, -3.0, mel.n_mels)[None, :, None].expand(1, -1, spectrum.shape[-1])
    shaped = vocoder.shaped(spectrum, target)
    windows = torch.fft.irfft(shaped, n=mel.win_length, dim=1).mT / window.clamp(min=1e-3)
    found = config.from_windows(windows).mean(2)
    assert (found - target.mean(2)).abs()[:, 5:-5].mean() < 0.25


def test_a_limited_spectrum_has_no_more_than_the_bands_of_the_mel(vocoder):
    mel = vocoder.config.mel
    flat = noise(mel.win_length * 50).unfold(0, mel.win_length, mel.hop_length)
    spectrum = torch.fft.rfft(flat * torch.hann_window(mel.win_length)).mT[None]
    loud, soft = (torch.full((1, mel.n_mels, spectrum.shape[-1]), level) for level in (9.0, -9.0))
    torch.testing.assert_close(vocoder.shaped(spectrum, loud, most=0.0), spectrum)
    torch.testing.assert_close(
        vocoder.shaped(spectrum, soft, most=0.0), vocoder.shaped(spectrum, soft), atol=0, rtol=0
    )
