"""Mel and pitch to sound: a source-filter inverse-STFT vocoder, and Griffin-Lim as a yardstick.

The head follows Vocos (Siuzdak, 2023): a network at the mel's frame rate and an inverse STFT, no
upsampling. What it predicts are two complex filters, one for a harmonic source at the given F0 and one for
noise (the source-filter model; as a network in Wang et al., 2019), on top of the envelope that the mel
itself tells, and how loud each source is in the course of a window. So pitch is right from the first step,
and the network is left to refine the rest. What no network can know, how the noise at hand turns out and
how sources add up, is made good by comparing each window with the mel.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from vcae.model.config import MelConfig, VocoderConfig
from vcae.model.harmonics import HarmonicTemplate, pulses
from vcae.model.layers import ChannelNorm, Conv1d, Pointwise, Stack
from vcae.model.mel import LogMel, cosines, magnitude
from vcae.model.prosody import features
from vcae.model.state import Cache, with_past


class Vocoder(nn.Module):
    """mel (B, n_mels, T), prosody (B, 3, T) -> wav (B, 1, T * hop_length), `delay` samples late.

    Causal, whole or in blocks. The mel's hop must be a quarter of its window.
    """

    noise: Tensor
    window: Tensor
    analysis: Tensor
    steps: Tensor
    envelope: Tensor
    level: Tensor
    lines: Tensor
    bands: Tensor
    correction: Tensor

    def __init__(self, config: VocoderConfig) -> None:
        super().__init__()
        mel = config.mel
        if mel.win_length != 4 * mel.hop_length:
            raise ValueError("the vocoder needs a mel whose hop_length is a quarter of its win_length")
        self.config = config
        self.delay = mel.win_length - mel.hop_length
        bins = mel.win_length // 2 + 1
        self.input = Conv1d(mel.n_mels + 3, config.width, 3)
        self.blocks = Stack(config.width, config.hidden, [1] * config.blocks)
        self.norm = ChannelNorm(config.width)
        self.filters = Pointwise(config.width, 4 * bins)
        nn.init.normal_(self.filters.weight, std=0.01)
        nn.init.zeros_(self.filters.bias)
        # A filter cannot say when in a window a burst is.
        self.shapes = Pointwise(config.width, 2 * config.shape_points)
        nn.init.zeros_(self.shapes.weight)
        nn.init.zeros_(self.shapes.bias)

        window, hop = torch.hann_window(mel.win_length), mel.hop_length
        self.register_buffer("window", window / 1.5, persistent=False)  # what squared Hann windows sum to
        # Scaled so that a source of unit variance has a spectrum of about unit magnitude.
        self.register_buffer("analysis", window / window.norm(), persistent=False)
        steps = torch.arange(mel.win_length) - mel.win_length / 2
        self.register_buffer("steps", steps, persistent=False)  # (win_length,), samples from the middle on
        envelope, level = _envelope(mel, bins)
        self.register_buffer("envelope", envelope, persistent=False)  # (bins, n_mels)
        self.register_buffer("level", level, persistent=False)  # (n_mels, 1)
        self.register_buffer("bands", _bands(mel, bins), persistent=False)  # (n_mels, bins)
        # Half of an error, since windows overlap; and what is smooth of it: harmonics are for F0 to place.
        smooth = cosines(mel.n_mels, 3 * mel.n_mels // 10, envelope.device)
        correction = envelope @ (smooth.T @ smooth) / 2
        self.register_buffer("correction", correction, persistent=False)  # (bins, n_mels)
        # About ten seconds of noise, so that a stream and a whole file are given the same; in every window
        # each band as loud as the others.
        noise = torch.randn(997 * hop, generator=torch.Generator().manual_seed(0))
        windows = torch.cat([noise[-3 * hop :], noise]).unfold(0, mel.win_length, hop) * self.analysis
        spectra = torch.fft.rfft(windows).T  # (bins, 997)
        spectra = spectra * (self.envelope @ -self._loudness(spectra).clamp(min=-3)).exp()
        windows = torch.fft.irfft(spectra.T, n=mel.win_length)
        self.register_buffer("noise", windows, persistent=False)  # (997, win_length)
        self.harmonics = HarmonicTemplate(mel)
        position = torch.linspace(0, config.shape_points - 1, mel.win_length)  # of each sample, in points
        lines = _between(position, config.shape_points).T.contiguous()
        self.register_buffer("lines", lines, persistent=False)  # (points, win_length)

    def forward(self, mel: Tensor, prosody: Tensor, cache: Cache | None = None) -> Tensor:
        """(B, n_mels, T), (B, 3, T) -> (B, 1, T * hop_length)."""
        return self._overlap_add(self.windows(mel, prosody, self.phase(prosody, cache), cache), cache)

    def windows(self, mel: Tensor, prosody: Tensor, phase: Tensor, cache: Cache | None = None) -> Tensor:
        """What is to be overlapped and added: (B, n_mels, T), (B, 3, T), (B, T) -> (B, win_length, T).

        `phase` is where F0 is in its cycle in the middle of each frame, as `phase` gives it.
        """
        x = torch.cat([self.config.mel.standardise(mel), features(prosody)], dim=1)
        x = self.norm(self.blocks(self.input(x, cache), cache))
        filters, shapes = self.filters(x), self.shapes(x)  # (B, 4 bins, T), (B, 2 points, T)
        with torch.autocast(x.device.type, enabled=False):
            gain_h, phase_h, gain_n, phase_n = filters.float().chunk(4, dim=1)  # (B, bins, T) each
            level = mel.float() - self.level
            # What a source brings along, its filter must not add again. Log-magnitudes, (B, bins, T) each.
            envelope_h, envelope_n = (self.envelope @ x for x in (level - self.harmonics(prosody), level))
            sources = self.source(prosody.float(), phase, cache)  # (B, T, win_length) each
            shapes_of = shapes.float().mT.chunk(2, dim=2)  # (B, T, points) each
            harmonics, noise = (
                torch.fft.rfft(source * (points @ self.lines).clamp(-5, 5).exp()).mT
                for source, points in zip(sources, shapes_of, strict=True)
            )  # (B, bins, T) each, complex
            spectrum = harmonics * torch.polar((envelope_h + gain_h).clamp(max=7).exp(), phase_h)
            spectrum = spectrum + noise * torch.polar((envelope_n + gain_n - 1).clamp(max=7).exp(), phase_n)
            missing = (level - self._loudness(spectrum)).clamp(-3, 3)  # (B, n_mels, T)
            spectrum = spectrum * (self.correction @ missing).exp()
            frames = torch.fft.irfft(spectrum, n=self.config.mel.win_length, dim=1)  # (B, win_length, T)
            return frames * self.window[:, None]

    @torch.no_grad()
    def source(self, prosody: Tensor, phase: Tensor, cache: Cache | None = None) -> tuple[Tensor, Tensor]:
        """Windows of the voiced and of the noise source, the spectra of both about flat with magnitude 1.

        (B, 3, T), (B, T) -> 2 x (B, T, win_length). Within a frame F0 stays.
        """
        f0 = self._f0(prosody).float().unsqueeze(-1)  # (B, T, 1)
        cycles = phase.unsqueeze(-1) + f0 * self.steps  # (B, T, win_length)
        voiced = pulses(cycles, f0) * prosody[:, 1].unsqueeze(-1)
        return voiced * self.analysis, self._noise(voiced, cache)

    def _loudness(self, spectrum: Tensor) -> Tensor:
        """Log of the mean magnitude in each band of the mel: (..., bins, T) -> (..., n_mels, T)."""
        return (self.bands @ magnitude(spectrum)).clamp(min=1e-5).log()

    def _f0(self, prosody: Tensor) -> Tensor:
        """F0 in cycles a sample, float64: (B, 3, T) -> (B, T)."""
        return prosody[:, 0].double().exp() / self.config.mel.sample_rate

    @torch.no_grad()
    def phase(self, prosody: Tensor, cache: Cache | None = None) -> Tensor:
        """Where F0 is in its cycle in the middle of each frame, from 0 to 1: (B, 3, T) -> (B, T).

        It goes on from frame to frame, added up in float64. Where there is no voice it is forgotten little by
        little, so that it stays small and the rounding errors of a stream do not add up for ever. The
        recurrence is solved for ever longer steps, log2(T) of them (Hillis and Steele, 1986).
        """
        keep = (2 * prosody[:, 1].double()).clamp(max=1)
        phase = self._f0(prosody) * self.config.mel.hop_length
        if cache is not None:
            phase[:, 0] += keep[:, 0] * cache.get((self, "phase"), phase.new_zeros(()))
        step = 1
        while step < phase.shape[1]:
            phase[:, step:] += keep[:, step:] * phase[:, :-step]
            keep[:, step:] = keep[:, step:] * keep[:, :-step]
            step *= 2
        if cache is not None:
            cache[self, "phase"] = phase[:, -1]
        return phase.frac().float()

    def _noise(self, like: Tensor, cache: Cache | None) -> Tensor:
        """The noise of every window: like (B, T, win_length) -> (B, T, win_length)."""
        batch, frames, _ = like.shape
        start = torch.zeros(1, 1, dtype=torch.long, device=like.device)
        if self.training:  # elsewhere in the noise for every example
            start = torch.randint(len(self.noise), (batch, 1), device=like.device)
        if cache is not None:
            start = cache.get((self, "noise"), start)
            cache[self, "noise"] = (start + frames) % len(self.noise)
        index = (start + torch.arange(frames, device=like.device)) % len(self.noise)  # (B or 1, T)
        return self.noise[index].expand(batch, -1, -1)

    def _overlap_add(self, frames: Tensor, cache: Cache | None) -> Tensor:
        """(B, win_length, T) -> (B, 1, T * hop_length): quarter q of a frame waits q frames."""
        count = frames.shape[-1]
        quarters = with_past(frames, 3, cache, self).unflatten(1, (4, -1))  # (B, 4, hop_length, 3 + T)
        hops = sum(quarters[:, q, :, 3 - q : 3 - q + count] for q in range(4))  # (B, hop_length, T)
        return hops.mT.flatten(1).unsqueeze(1)


def _envelope(mel: MelConfig, bins: int) -> tuple[Tensor, Tensor]:
    """How to read log-magnitudes at `bins` frequencies off a log-mel.

    The log of what a flat spectrum of magnitude 1 gives in each band, (n_mels, 1), is to be subtracted;
    then a matrix (bins, n_mels) interpolates between the bands' centres.
    """
    level = LogMel(mel).flat.log().unsqueeze(1)

    def to_mel(hertz: Tensor) -> Tensor:
        return 2595 * torch.log10(1 + hertz / 700)

    top = mel.sample_rate / 2
    spacing = float(to_mel(torch.tensor(top))) / (mel.n_mels + 1)
    position = to_mel(torch.linspace(0, top, bins)) / spacing - 1  # in bands
    position = position.clamp(0, mel.n_mels - 1)
    return _between(position, mel.n_mels), level


def _bands(mel: MelConfig, bins: int) -> Tensor:
    """Mean over each band of a mel, of what is given at `bins` frequencies: (n_mels, bins)."""
    weights = LogMel(replace(mel, n_fft=2 * (bins - 1))).filterbank.T
    return weights / weights.sum(1, keepdim=True)


def _between(position: Tensor, points: int) -> Tensor:
    """Linear interpolation between points 0, 1, 2, ... as a matrix: positions (N,) -> (N, points)."""
    return (1 - (position[:, None] - torch.arange(points)).abs()).clamp(min=0)


def griffin_lim(mel: Tensor, config: MelConfig, iterations: int = 60) -> Tensor:
    """Sound from a log-mel without any network: (B, n_mels, T) -> (B, 1, N) (Griffin and Lim, 1984).

    A fallback and a sanity check: N = T * hop_length, in step with the samples that the mel describes.
    """
    from torchaudio.functional import griffinlim

    filterbank = LogMel(config).filterbank.to(mel)
    magnitude = (mel.exp().transpose(1, 2) @ torch.linalg.pinv(filterbank)).clamp(min=0)  # (B, T, bins)
    wav = griffinlim(
        magnitude.transpose(1, 2),
        window=torch.hann_window(config.win_length, device=mel.device),
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        win_length=config.win_length,
        power=1.0,
        n_iter=iterations,
        momentum=0.99,
        length=None,
        rand_init=False,
    ).unsqueeze(1)
    # There, frame t is centred on sample hop * t; here, on hop * (t + 1) - win / 2.
    late = config.win_length // 2 - config.hop_length
    return nn.functional.pad(wav[..., late:], (0, late + config.hop_length))
