"""Corruptions that speech is restored from: noise and rooms, telephones, whispering and monotony.

Each draws a parameter for each example. Clean and corrupted speech are in step.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from vcae.model.harmonics import pulses
from vcae.model.mel import magnitude
from vcae.training.augment import add_noise, colour, hum, reverberate
from vcae.training.config import NoiseConfig, TelephoneConfig, VoicelessConfig


def noisy(
    wav: Tensor, recorded: Tensor, config: NoiseConfig, sample_rate: int, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Add a room and noise: speech and recorded noise (B, 1, N) -> corrupted, clean (B, 1, N) each.

    The clean speech has the level of the direct sound in the corrupted one.
    """
    draws = torch.rand(4, len(wav), generator=rng, device=wav.device)
    wet = reverberate(wav, config.rooms, sample_rate, rng)
    direct = (wet * wav).sum(-1, keepdim=True) / wav.square().sum(-1, keepdim=True).clamp(min=1e-10)
    both = recorded + recorded.roll(1, 0).where(draws[1, :, None, None] < config.mixed, 0.0)
    recorded = colour(both, config.tilt * (2 * draws[3] - 1))
    kinds = [
        recorded,
        coloured(wav, config, rng),
        periodic(wav, config, sample_rate, rng),
        babble(wav, rng),
        hum(wav, sample_rate, rng),
    ]
    shares = torch.tensor(config.shares, device=wav.device).cumsum(0)
    kind = torch.searchsorted(shares / shares[-1], draws[0]).clamp(max=len(kinds) - 1)
    noise = torch.stack(kinds)[kind, torch.arange(len(wav), device=wav.device)]  # (B, 1, N)
    low, high = config.snr_db
    return add_noise(wet, noise, low + draws[2] * (high - low)), wav * direct


def coloured(like: Tensor, config: NoiseConfig, rng: torch.Generator) -> Tensor:
    """Steady or amplitude-modulated noise with a sloping spectrum, in the shape of (B, 1, N)."""
    flat, steep = config.slope
    draws = torch.rand(len(like), generator=rng, device=like.device)
    white = torch.randn(like.shape, generator=rng, device=like.device)
    return modulated(colour(white, flat + draws * (steep - flat)), config, rng)


def periodic(like: Tensor, config: NoiseConfig, sample_rate: int, rng: torch.Generator) -> Tensor:
    """Engines, sirens and cries: pulses and noise under a sloping spectrum, in the shape of (B, 1, N).

    Log-F0 drifts as a random walk, faster in some examples.
    """
    draws = torch.rand(4, len(like), 1, 1, generator=rng, device=like.device)
    (low, high), (steady, wild) = map(math.log, config.periodic_hz), map(math.log, config.drift)
    size = like.shape[-1]
    steps = 2 + 20 * size // sample_rate
    walk = torch.randn(len(like), 1, steps, generator=rng, device=like.device).cumsum(-1)
    walk = walk * (steady + draws[1] * (wild - steady)).exp()
    log_f0 = low + draws[0] * (high - low) + F.interpolate(walk, size, mode="linear")
    f0 = log_f0.clamp(low, high).exp() / sample_rate  # cycles a sample, (B, 1, N)
    tone = pulses(f0.cumsum(-1), f0)
    white = torch.randn(like.shape, generator=rng, device=like.device)
    flat, steep = config.slope
    y = colour(tone + draws[2] * white, (flat + draws[3] * (steep - flat)).flatten())
    return modulated(y, config, rng)


def modulated(noise: Tensor, config: NoiseConfig, rng: torch.Generator) -> Tensor:
    """Modulate the amplitude of noise (B, 1, N) at random: a little in some examples, to bursts in others."""
    low, high = config.modulation_db
    deviation = low + (high - low) * torch.rand(len(noise), 1, 1, generator=rng, device=noise.device)
    points = int(torch.randint(*config.modulation_points, (1,), generator=rng, device=noise.device))
    level = torch.randn(len(noise), 1, points, generator=rng, device=noise.device)
    return noise * 10 ** (deviation * F.interpolate(level, noise.shape[-1], mode="linear") / 20)


def babble(wav: Tensor, rng: torch.Generator) -> Tensor:
    """Up to four of the other voices of a batch at once, time-shifted: (B, 1, N) -> (B, 1, N)."""
    shifts = torch.randint(wav.shape[-1], (4,), generator=rng, device=wav.device).tolist()
    others = [wav.roll((k, shift), (0, -1)) for k, shift in enumerate(shifts[: len(wav) - 1], 1)]
    return torch.stack([torch.zeros_like(wav), *others]).sum(0)


def telephone(wav: Tensor, config: TelephoneConfig, sample_rate: int, rng: torch.Generator) -> Tensor:
    """Limit the band, in part with companding at 8 kHz: (B, 1, N) -> (B, 1, N).

    Raises ValueError where N is not a multiple of the sample rate over 4 kHz.
    """
    draws = torch.rand(4, len(wav), 1, 1, generator=rng, device=wav.device)
    low, high = (a + draws[k] * (b - a) for k, (a, b) in enumerate((config.low_hz, config.high_hz)))
    low = low.where(draws[2] < config.share_low, 0.0)
    hertz = torch.linspace(0, sample_rate / 2, wav.shape[-1] // 2 + 1, device=wav.device)
    gain = ((high - hertz) / 100).clamp(0, 1) * ((hertz - low) / 50 + 1).clamp(0, 1)
    spectrum = torch.fft.rfft(wav) * gain
    size, ratio = wav.shape[-1], sample_rate // 8000
    if size % ratio:
        raise ValueError(f"{size} samples at {sample_rate} Hz are no whole number of samples at 8 kHz")
    narrow = size // ratio
    spoken = torch.fft.irfft(spectrum[..., : narrow // 2 + 1], n=narrow) / ratio
    companded = torch.fft.rfft(companding(spoken) * ratio)
    companded = F.pad(companded, (0, spectrum.shape[-1] - companded.shape[-1]))
    return torch.fft.irfft(companded.where(draws[3] < config.share_companded, spectrum), n=size)


def companding(wav: Tensor) -> Tensor:
    """Quantise by the mu-law of ITU-T G.711, 8 bits a sample: [-1, 1] of any shape -> same."""
    compressed = wav.sign() * (255 * wav.abs().clamp(max=1)).log1p() / math.log(256)
    steps = (compressed * 127).round() / 127
    return steps.sign() * ((steps.abs() * math.log(256)).expm1() / 255)


def voiceless(
    wav: Tensor, f0: Tensor, hop_length: int, config: VoicelessConfig, sample_rate: int, rng: torch.Generator
) -> Tensor:
    """Whisper some examples and flatten F0 of the others: (B, 1, N) -> (B, 1, N).

    f0: (B, N / hop_length) in Hz, zero where unvoiced. The spectral envelope, the lowest part of the
    cepstrum, filters noise, or pulses at the mean F0 where the speech is voiced.
    """
    draws = torch.rand(3, len(wav), 1, generator=rng, device=wav.device)
    whispered = draws[0] < config.whispered  # (B, 1)
    voiced = F.interpolate((f0 > 0).float().unsqueeze(1), wav.shape[-1], mode="linear").squeeze(1)  # (B, N)
    mean = mean_log_f0(f0).exp().nan_to_num(150.0)[:, None] / sample_rate  # cycles a sample
    cycles = mean * torch.arange(wav.shape[-1], device=wav.device)
    white = torch.randn(len(wav), wav.shape[-1], generator=rng, device=wav.device)
    source = torch.where(whispered, white, voiced * pulses(cycles, mean) + (1 - 0.9 * voiced) * white)

    size, hop, shortest_period = 1024, 256, 0.0016  # samples, samples, seconds
    window = torch.hann_window(size, device=wav.device)
    spoken, excited = (
        torch.stft(x, size, hop, window=window, return_complex=True) for x in (wav.squeeze(1), source)
    )  # (B, F, T) each
    cepstrum = torch.fft.irfft((magnitude(spoken) + 1e-4).log(), n=size, dim=1)  # (B, size, T)
    quefrency = torch.arange(size, device=wav.device)
    quefrency = torch.minimum(quefrency, size - quefrency)
    kept = (quefrency < shortest_period * sample_rate).to(cepstrum.dtype)
    envelope = torch.fft.rfft(cepstrum * kept[:, None], dim=1).real  # natural log, (B, F, T)
    in_frames = F.interpolate(voiced.unsqueeze(1), envelope.shape[-1], mode="linear")  # (B, 1, T)
    octaves = (torch.linspace(0, sample_rate / 2, size // 2 + 1, device=wav.device).clamp(100) / 1000).log2()
    weaker, tilt = (
        low + draw * (high - low)
        for draw, (low, high) in zip(draws[1:], (config.weaker_db, config.tilt_db), strict=True)
    )  # (B, 1) each
    gain_db = (tilt * octaves - weaker)[:, :, None] * in_frames * whispered[:, :, None]
    spectrum = excited * (envelope + 0.1151 * gain_db).exp()
    y = torch.istft(spectrum, size, hop, window=window, length=wav.shape[-1]).unsqueeze(1)
    before, after = (x.square().mean(-1, keepdim=True) for x in (wav, y))
    return y * (before / after.clamp(min=1e-10)).sqrt()


def mean_log_f0(f0: Tensor) -> Tensor:
    """Mean log-F0 over the voiced frames, NaN without any: F0 (B, T) in Hz -> (B,)."""
    voiced = f0 > 0
    return (f0.clamp(min=1).log() * voiced).sum(1) / voiced.sum(1)
