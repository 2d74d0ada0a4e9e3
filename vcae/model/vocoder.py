"""Mel and prosody to waveform: a source-filter inverse-STFT vocoder, and Griffin-Lim for comparison.

As in Vocos (Siuzdak, 2023), a network runs at the mel's frame rate, followed by an inverse STFT, without
upsampling. The network predicts a complex filter for a harmonic source at the given F0, another for a noise
source (neural source-filter model, Wang et al., 2019), and a gain curve over the window for each source. The
filters are corrections to the spectral envelope that is interpolated from the mel. F0 is therefore correct
from the first training step. In the end the spectrum of each window is corrected towards the mel, since the
filters cannot account for the realisation of the noise and for interference of the two sources.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from vcae.model.config import MelConfig, VocoderConfig
from vcae.model.harmonics import HarmonicTemplate, pulses
from vcae.model.layers import ChannelNorm, Conv1d, Pointwise, Stack
from vcae.model.mel import LogMel, band_position, cosines, magnitude
from vcae.model.prosody import features
from vcae.model.state import Cache, overlap_add


class Vocoder(nn.Module):
    """mel (B, n_mels, T), prosody (B, 3, T) -> wav (B, 1, T * hop_length), delayed by `delay` samples.

    Causal, for whole signals or blocks. Raises ValueError unless hop_length is a quarter of win_length.
    """

    noise: Tensor
    window: Tensor
    analysis: Tensor
    offsets: Tensor
    envelope: Tensor
    level: Tensor
    interpolation: Tensor
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
        # Gain curves, because a smooth filter cannot place a burst in time within the window.
        self.shapes = Pointwise(config.width, 2 * config.shape_points)
        nn.init.zeros_(self.shapes.weight)
        nn.init.zeros_(self.shapes.bias)

        window, hop = torch.hann_window(mel.win_length), mel.hop_length
        self.register_buffer("window", window / 1.5, persistent=False)  # squared Hann windows sum to 1.5
        # Scaled so that a source of unit variance has a spectrum of about unit magnitude.
        self.register_buffer("analysis", window / window.norm(), persistent=False)
        offsets = torch.arange(mel.win_length) - mel.win_length / 2
        self.register_buffer("offsets", offsets, persistent=False)  # (win_length,), samples from the centre
        envelope, level = _envelope(mel, bins)
        self.register_buffer("envelope", envelope, persistent=False)  # (bins, n_mels)
        self.register_buffer("level", level, persistent=False)  # (n_mels, 1)
        self.register_buffer("bands", _bands(mel, bins), persistent=False)  # (n_mels, bins)
        # Corrects half of an error, since windows overlap, and only its smooth part (the low cepstrum), since
        # harmonics are placed by F0.
        smooth = cosines(mel.n_mels, 3 * mel.n_mels // 10, envelope.device)
        correction = envelope @ (smooth.T @ smooth) / 2
        self.register_buffer("correction", correction, persistent=False)  # (bins, n_mels)
        # About ten seconds of fixed noise, so that a stream and a whole file use the same. In each window the
        # levels of the bands are equalised.
        noise = torch.randn(997 * hop, generator=torch.Generator().manual_seed(0))
        windows = torch.cat([noise[-3 * hop :], noise]).unfold(0, mel.win_length, hop) * self.analysis
        spectra = torch.fft.rfft(windows).T  # (bins, 997)
        spectra = spectra * (self.envelope @ -self._loudness(spectra).clamp(min=-3)).exp()
        windows = torch.fft.irfft(spectra.T, n=mel.win_length)
        self.register_buffer("noise", windows, persistent=False)  # (997, win_length)
        self.harmonics = HarmonicTemplate(mel)
        position = torch.linspace(0, config.shape_points - 1, mel.win_length)  # of each sample, in points
        interpolation = _interpolation(position, config.shape_points).T.contiguous()
        self.register_buffer("interpolation", interpolation, persistent=False)  # (points, win_length)

    def forward(self, mel: Tensor, prosody: Tensor, cache: Cache | None = None) -> Tensor:
        """(B, n_mels, T), (B, 3, T) -> (B, 1, T * hop_length)."""
        return overlap_add(self.windows(mel, prosody, self.phase(prosody, cache), cache), cache, self)

    def windows(self, mel: Tensor, prosody: Tensor, phase: Tensor, cache: Cache | None = None) -> Tensor:
        """Windows for overlap-add: (B, n_mels, T), (B, 3, T), (B, T) -> (B, win_length, T).

        phase: of F0 at the centre of each window, in cycles, as the method `phase` returns it.
        """
        spectrum = self.spectra(mel, prosody, phase, cache)
        with torch.autocast(mel.device.type, enabled=False):
            frames = torch.fft.irfft(spectrum, n=self.config.mel.win_length, dim=1)  # (B, win_length, T)
            return frames * self.window[:, None]

    def spectra(self, mel: Tensor, prosody: Tensor, phase: Tensor, cache: Cache | None = None) -> Tensor:
        """Spectra of the windows before their last Hann window: as `windows` -> complex (B, bins, T)."""
        x = torch.cat([self.config.mel.standardise(mel), features(prosody)], dim=1)
        x = self.norm(self.blocks(self.input(x, cache), cache))
        filters, shapes = self.filters(x), self.shapes(x)  # (B, 4 bins, T), (B, 2 points, T)
        with torch.autocast(x.device.type, enabled=False):
            gain_h, phase_h, gain_n, phase_n = filters.float().chunk(4, dim=1)  # (B, bins, T) each
            level = mel.float() - self.level
            # The harmonic source contains the harmonics, so its envelope must not. Log-magnitudes, (B, bins,
            # T) each.
            envelope_h, envelope_n = (self.envelope @ x for x in (level - self.harmonics(prosody), level))
            sources = self.source(prosody.float(), phase, cache)  # (B, T, win_length) each
            log_gains = shapes.float().mT.chunk(2, dim=2)  # (B, T, points) each
            harmonics, noise = (
                torch.fft.rfft(source * (points @ self.interpolation).clamp(-5, 5).exp()).mT
                for source, points in zip(sources, log_gains, strict=True)
            )  # (B, bins, T) each, complex
            spectrum = harmonics * torch.polar((envelope_h + gain_h).clamp(max=7).exp(), phase_h)
            spectrum = spectrum + noise * torch.polar((envelope_n + gain_n - 1).clamp(max=7).exp(), phase_n)
            missing = (level - self._loudness(spectrum)).clamp(-3, 3)  # (B, n_mels, T)
            return spectrum * (self.correction @ missing).exp()

    def shaped(self, spectrum: Tensor, mel: Tensor, most: float = 7.0) -> Tensor:
        """A spectrum with the bands of a log-mel: complex (B, bins, T), (B, n_mels, T) -> (B, bins, T).

        most: largest gain in nepers; with 0, no band becomes louder.
        """
        missing = (mel - self.level - self._loudness(spectrum)).clamp(-7, most)
        return spectrum * (self.envelope @ missing).exp()

    @torch.no_grad()
    def source(self, prosody: Tensor, phase: Tensor, cache: Cache | None = None) -> tuple[Tensor, Tensor]:
        """Windows of the harmonic and of the noise source, with about flat spectra of magnitude 1.

        prosody (B, 3, T), phase (B, T) -> 2 x (B, T, win_length). F0 is constant within a window.
        """
        f0 = self._f0(prosody).float().unsqueeze(-1)  # (B, T, 1)
        cycles = phase.unsqueeze(-1) + f0 * self.offsets  # (B, T, win_length)
        voiced = pulses(cycles, f0) * prosody[:, 1].unsqueeze(-1)
        return voiced * self.analysis, self._noise(voiced, cache)

    def _loudness(self, spectrum: Tensor) -> Tensor:
        """Log of the mean magnitude in each band of the mel: (..., bins, T) -> (..., n_mels, T)."""
        return (self.bands @ magnitude(spectrum)).clamp(min=1e-5).log()

    def _f0(self, prosody: Tensor) -> Tensor:
        """F0 in cycles per sample, float64: (B, 3, T) -> (B, T)."""
        return prosody[:, 0].double().exp() / self.config.mel.sample_rate

    @torch.no_grad()
    def phase(self, prosody: Tensor, cache: Cache | None = None) -> Tensor:
        """Phase of F0 at the centre of each window, in cycles within [0, 1): (B, 3, T) -> (B, T).

        F0 is integrated over frames in float64. In unvoiced frames the phase decays, so that it stays small
        and rounding errors of a stream do not accumulate. The recurrence is solved by a parallel prefix sum
        in log2(T) steps (Hillis and Steele, 1986).
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
        """Noise windows of the shape and on the device of `like`, (B, T, win_length)."""
        batch, frames, _ = like.shape
        start = torch.zeros(1, 1, dtype=torch.long, device=like.device)
        if self.training:  # a random start for every example
            start = torch.randint(len(self.noise), (batch, 1), device=like.device)
        if cache is not None:
            start = cache.get((self, "noise"), start)
            cache[self, "noise"] = (start + frames) % len(self.noise)
        index = (start + torch.arange(frames, device=like.device)) % len(self.noise)  # (B or 1, T)
        return self.noise[index].expand(batch, -1, -1)


def _envelope(mel: MelConfig, bins: int) -> tuple[Tensor, Tensor]:
    """Constants that convert a log-mel to log-magnitudes at `bins` frequencies: matrix @ (log-mel - level).

    matrix (bins, n_mels) interpolates between the centres of the bands. level (n_mels, 1) is the log-mel of a
    flat spectrum of magnitude 1.
    """
    level = LogMel(mel).flat.log().unsqueeze(1)

    position = band_position(torch.linspace(0, mel.sample_rate / 2, bins), mel)
    return _interpolation(position.clamp(0, mel.n_mels - 1), mel.n_mels), level


def _bands(mel: MelConfig, bins: int) -> Tensor:
    """Matrix that averages magnitudes at `bins` frequencies over each mel band: (n_mels, bins)."""
    filterbank = LogMel(replace(mel, n_fft=2 * (bins - 1))).filterbank.T
    return filterbank / filterbank.sum(1, keepdim=True)


def _interpolation(position: Tensor, points: int) -> Tensor:
    """Matrix of linear interpolation between points 0, 1, 2, ...: positions (N,) -> (N, points)."""
    return (1 - (position[:, None] - torch.arange(points)).abs()).clamp(min=0)


def griffin_lim(mel: Tensor, config: MelConfig, iterations: int = 60) -> Tensor:
    """Waveform from a log-mel by phase reconstruction (Griffin and Lim, 1984): (B, n_mels, T) -> (B, 1, N).

    N = T * hop_length, without delay against the samples that the mel describes.
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
    # torchaudio centres frame t on sample hop * t, `LogMel` on hop * (t + 1) - win / 2.
    delay = config.win_length // 2 - config.hop_length
    return nn.functional.pad(wav[..., delay:], (0, delay + config.hop_length))
