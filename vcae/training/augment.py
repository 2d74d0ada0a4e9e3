"""Random perturbations of speech, which teach an encoder what to ignore.

`perturb_wav`, `reverberate`, `perturb_mel` and `mask` draw a parameter for each example; the other functions
take it.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from vcae.model.config import MelConfig
from vcae.model.mel import band_centres, band_position, cosines, magnitude
from vcae.training.config import MaskConfig, Ranges, RoomConfig


def perturb_wav(wav: Tensor, ranges: Ranges, config: MelConfig, rng: torch.Generator) -> Tensor:
    """Add coloured noise or mains hum to some examples: (B, 1, N) -> (B, 1, N)."""
    draws = torch.rand(3, len(wav), generator=rng, device=wav.device)
    flat, steep = ranges.noise_slope
    noise = colour(torch.randn(wav.shape, generator=rng, device=wav.device), flat + draws[2] * (steep - flat))
    mains = hum(noise, config.sample_rate, rng)
    noise = noise.where(draws[0, :, None, None] > ranges.share * ranges.hum, mains)
    low, high = ranges.snr_db
    snr = torch.where(draws[0] < ranges.share, low + draws[1] * (high - low), 60.0)  # inaudible
    return add_noise(wav, noise, snr)


def perturb_mel(mel: Tensor, ranges: Ranges, config: MelConfig, rng: torch.Generator) -> Tensor:
    """Warp, equalise and limit the band of a log-mel: (B, n_mels, T) -> (B, n_mels, T)."""
    batch = len(mel)
    draws = 2 * torch.rand(6, batch, generator=rng, device=mel.device) - 1  # -1 to 1
    pitch, envelope = (
        (b / a) ** (draw / 2) * (a * b) ** 0.5
        for (a, b), draw in zip((ranges.pitch, ranges.envelope), draws[:2], strict=True)
    )
    if ranges.pitch != (1.0, 1.0) or ranges.envelope != (1.0, 1.0):
        mel = warp(mel, pitch, envelope, config)
    high, low = (
        torch.where(chance < 2 * ranges.share - 1, a + (where + 1) / 2 * (b - a), nowhere)
        for (a, b), nowhere, chance, where in (
            (ranges.high_hz, config.sample_rate / 2, *draws[2:4]),
            (ranges.low_hz, 0.0, *draws[4:]),
        )
    )
    mel = mel + random_gain(mel, ranges.eq_db, rng)
    return band_limit(mel, low, high, config).clamp(min=math.log(config.floor))


def random_gain(mel: Tensor, eq_db: float, rng: torch.Generator) -> Tensor:
    """The gain of another microphone for (B, n_mels, T), the same in all frames: (B, n_mels, 1).

    A smooth curve between -eq_db and eq_db, as natural logarithm.
    """
    curve = 2 * torch.rand(len(mel), 6, generator=rng, device=mel.device) - 1
    return equaliser(eq_db * curve, mel.shape[1])


def add_noise(wav: Tensor, noise: Tensor, snr_db: Tensor) -> Tensor:
    """Add noise at a signal-to-noise ratio in dB: (B, 1, N), (B, 1, N), (B,) -> (B, 1, N)."""
    ratio = wav.square().mean(-1, keepdim=True) / noise.square().mean(-1, keepdim=True).clamp(min=1e-10)
    return wav + noise * (ratio * 10 ** (-snr_db[:, None, None] / 10)).sqrt()


def colour(noise: Tensor, slope: Tensor) -> Tensor:
    """Give white noise a spectrum of 1 / f ** slope in power: (B, 1, N), (B,) -> (B, 1, N)."""
    spectrum = torch.fft.rfft(noise)
    frequency = torch.arange(1, spectrum.shape[-1] + 1, device=noise.device)
    return torch.fft.irfft(spectrum * frequency ** (-slope[:, None, None] / 2), n=noise.shape[-1])


def hum(like: Tensor, sample_rate: int, rng: torch.Generator) -> Tensor:
    """Mains hum in the shape of (B, 1, N): 50 or 60 Hz and seven overtones of random level and phase.

    The mains deviate by up to 0.5 %. The overtones fall by up to 24 dB an octave, so that in some examples
    only the fundamental is heard, which may pass for F0.
    """
    draws = torch.rand(4, len(like), 8, 1, generator=rng, device=like.device)
    order = torch.arange(1, 9, device=like.device)[:, None]
    mains = torch.where(draws[0, :, :1] < 0.5, 50.0, 60.0) * (1 + 0.01 * (draws[3, :, :1] - 0.5))
    cycles = mains * order / sample_rate * torch.arange(like.shape[-1], device=like.device)  # (B, 8, N)
    level = draws[1] * order ** (-4 * draws[0, :, 1:2])
    return (level * (2 * math.pi * (cycles + draws[2])).sin()).sum(1, keepdim=True)


def reverberate(wav: Tensor, rooms: RoomConfig, sample_rate: int, rng: torch.Generator) -> Tensor:
    """Add the reverberation of a room to some examples: (B, 1, N) -> (B, 1, N).

    The direct sound keeps its position, and the whole its level.
    """
    draws = torch.rand(4, len(wav), generator=rng, device=wav.device)
    decay, ratio_db, delay = (
        low + x * (high - low)
        for x, (low, high) in zip(draws[1:], (rooms.decay, rooms.ratio_db, rooms.delay), strict=True)
    )
    length = min(wav.shape[-1], round(rooms.seconds * sample_rate))
    response = room_response(decay, ratio_db, delay, length, sample_rate, rng)
    size = wav.shape[-1] + length
    spectrum = torch.fft.rfft(wav, n=size) * torch.fft.rfft(response, n=size)
    wet = torch.fft.irfft(spectrum, n=size)[..., : wav.shape[-1]]
    level = wav.square().mean(-1, keepdim=True) / wet.square().mean(-1, keepdim=True).clamp(min=1e-10)
    return (wet * level.sqrt()).where(draws[0, :, None, None] < rooms.share, wav)


def room_response(
    decay: Tensor, ratio_db: Tensor, delay: Tensor, length: int, sample_rate: int, rng: torch.Generator
) -> Tensor:
    """Impulse responses of rooms, exponentially decaying noise (Polack, 1988): 3 x (B,) -> (B, 1, length).

    The first sample is the direct sound. decay: T60 in seconds. ratio_db: energy of the direct sound over
    that of the reverberation. delay: seconds to the first reflection.
    """
    t = torch.arange(length, device=decay.device) / sample_rate - delay[:, None]
    noise = torch.randn(len(decay), length, generator=rng, device=decay.device)
    tail = noise * torch.exp(-math.log(1e3) * t / decay[:, None]) * (t > 0)
    energy = tail.square().sum(1, keepdim=True).clamp(min=1e-10)
    tail = tail * (10 ** (-ratio_db[:, None] / 10) / energy).sqrt()
    return torch.cat([torch.ones_like(tail[:, :1]), tail[:, 1:]], dim=1).unsqueeze(1)


def scale_formants(wav: Tensor, factor: Tensor, sample_rate: int) -> Tensor:
    """Scale the frequencies of the spectral envelope of a waveform: (B, 1, N), (B,) -> (B, 1, N), N > 512.

    The envelope is the lowest part of the cepstrum (Oppenheim and Schafer, 1968). Harmonics, phases and the
    mean level stay. No magnitude changes by more than 30 dB.
    """
    size, hop, shortest_period = 1024, 256, 0.0016  # samples, samples, seconds
    window = torch.hann_window(size, device=wav.device)
    spectrum = torch.stft(wav.squeeze(1), size, hop, window=window, return_complex=True)  # (B, F, T)
    cepstrum = torch.fft.irfft((magnitude(spectrum) + 1e-4).log(), n=size, dim=1)  # (B, size, T)
    quefrency = torch.arange(size, device=wav.device)
    quefrency = torch.minimum(quefrency, size - quefrency)
    kept = (quefrency < shortest_period * sample_rate).to(cepstrum.dtype)
    envelope = torch.fft.rfft(cepstrum * kept[:, None], dim=1).real  # (B, F, T)
    bins = torch.arange(envelope.shape[1], device=wav.device)
    position = (bins / factor[:, None]).clamp(max=len(bins) - 1.001)  # (B, F)
    below = position.floor().long()
    t = (position - below).unsqueeze(-1)
    index = below.unsqueeze(-1).expand_as(envelope)
    scaled = envelope.gather(1, index) * (1 - t) + envelope.gather(1, index + 1) * t
    largest = math.log(10 ** (30 / 20))
    gain = (scaled - envelope).clamp(-largest, largest).exp()
    y = torch.istft(spectrum * gain, size, hop, window=window, length=wav.shape[-1]).unsqueeze(1)
    before, after = (x.square().mean(-1, keepdim=True) for x in (wav, y))
    return y * (before / after.clamp(min=1e-10)).sqrt()


def equaliser(curve_db: Tensor, bands: int) -> Tensor:
    """A smooth gain of a log-mel, interpolated from K evenly spaced values in dB: (B, K) -> (B, bands, 1)."""
    gain = F.interpolate(curve_db.unsqueeze(1), bands, mode="linear", align_corners=True)
    return gain.transpose(1, 2) * 0.1151  # dB to natural log of a magnitude


def band_limit(mel: Tensor, low_hz: Tensor, high_hz: Tensor, config: MelConfig) -> Tensor:
    """Attenuate outside two frequencies, by 6 dB a band: (B, n_mels, T), 2 x (B,) -> (B, n_mels, T)."""
    hertz = band_centres(config, mel.device)  # (n_mels,)
    band = torch.arange(len(hertz), device=mel.device)
    first, last = (torch.bucketize(x, hertz)[:, None] for x in (low_hz, high_hz))  # (B, 1)
    outside = (first - band).clamp(min=0) + (band - last).clamp(min=0)
    return mel - 0.69 * outside.unsqueeze(-1)


def mask(mel: Tensor, masks: MaskConfig, config: MelConfig, rng: torch.Generator) -> Tensor:
    """Set bands and frames to the mean of speech (SpecAugment, Park et al., 2019): (B, n_mels, T) -> same."""
    batch, bands, frames = mel.shape
    for axis, count, width in (
        (1, masks.bands, int(bands * masks.band_share)),
        (2, max(1, frames // masks.frames_each), masks.frames),
    ):
        size = mel.shape[axis]
        draws = torch.rand(2, batch, count, 1, generator=rng, device=mel.device)
        first = draws[0] * size
        at = torch.arange(size, device=mel.device)
        hidden = ((at >= first) & (at < first + draws[1] * width)).any(1)  # (B, size)
        mel = mel.masked_fill(hidden.unsqueeze(3 - axis), config.mean)
    return mel


QUEFRENCIES = 14
"""The spectral envelope is the lowest coefficients of a cepstrum, so many; harmonics are in the others."""


def warp(mel: Tensor, pitch: Tensor, envelope: Tensor, config: MelConfig) -> Tensor:
    """Scale the frequencies of harmonics and envelope: (B, n_mels, T), 2 x (B,) factors -> (B, n_mels, T)."""
    basis = cosines(mel.shape[1], QUEFRENCIES, mel.device)  # (QUEFRENCIES, n_mels)
    smooth = torch.einsum("qm,qn,bnt->bmt", basis, basis, mel)
    return _stretch(smooth, envelope, config) + _stretch(mel - smooth, pitch, config)


def _stretch(mel: Tensor, factor: Tensor, config: MelConfig) -> Tensor:
    """Move frequency f to factor * f: (B, n_mels, T), (B,) -> (B, n_mels, T)."""
    hertz = band_centres(config, mel.device) / factor[:, None]  # the source of each band, (B, n_mels)
    position = band_position(hertz, config).clamp(0, config.n_mels - 1.001)
    below = position.floor().long()
    t = (position - below).unsqueeze(-1)
    index = below.unsqueeze(-1).expand_as(mel)
    return mel.gather(1, index) * (1 - t) + mel.gather(1, index + 1) * t
