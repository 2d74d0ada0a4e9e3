"""Discriminators: networks that score natural mels and waveforms high and generated ones low."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from vcae.model.mel import magnitude
from vcae.training.losses import Scores


def _convolutions(layers: Sequence[tuple[int, int, tuple[int, int], tuple[int, int]]]) -> nn.ModuleList:
    """2-D convolutions, each (in, out, kernel, stride), padded by half a kernel."""
    return nn.ModuleList(
        weight_norm(nn.Conv2d(i, o, k, s, padding=(k[0] // 2, k[1] // 2))) for i, o, k, s in layers
    )


def _features(layers: nn.ModuleList, x: Tensor) -> list[Tensor]:
    """The output of each layer, activated."""
    found: list[Tensor] = []
    for layer in layers:
        x = F.leaky_relu(layer(x), 0.1)
        found.append(x)
    return found


class MelDiscriminator(nn.Module):
    """Scores patches of a mel, given the speaker (projection discriminator, Miyato and Koyama, 2018).

    mel (B, n_mels, T) standardised, speaker (B, E) -> one score map (B, patches).
    """

    def __init__(self, speaker_dim: int, channels: int = 32) -> None:
        super().__init__()
        c = channels
        self.layers = _convolutions(
            [
                (1, c, (5, 3), (2, 1)),
                (c, 2 * c, (5, 3), (2, 2)),
                (2 * c, 4 * c, (5, 3), (2, 2)),
                (4 * c, 4 * c, (3, 3), (2, 1)),
            ]
        )
        self.score = nn.Conv2d(4 * c, 1, (3, 3), padding=1)
        self.speaker = nn.Linear(speaker_dim, 4 * c, bias=False)

    def forward(self, mel: Tensor, speaker: Tensor) -> Scores:
        """(B, n_mels, T), (B, E) -> scores and features."""
        features = _features(self.layers, mel.unsqueeze(1))
        x = features[-1]  # (B, 4 channels, bands, frames)
        projection = (x * self.speaker(speaker)[:, :, None, None]).sum(1, keepdim=True) / x.shape[1] ** 0.5
        return [(self.score(x) + projection).flatten(1)], features


class SpectrumDiscriminator(nn.Module):
    """Scores complex STFTs of several resolutions (as EnCodec, Defossez et al., 2022).

    wav (B, 1, N) -> one score map (B, patches) for each resolution. sizes: windows in samples.
    """

    def __init__(self, sizes: Sequence[int] = (320, 640, 1280), channels: int = 32) -> None:
        super().__init__()
        c = channels
        self.sizes = tuple(sizes)
        self.stacks = nn.ModuleList(
            _convolutions(
                [
                    (2, c, (7, 5), (2, 1)),
                    (c, c, (5, 3), (2, 1)),
                    (c, c, (5, 3), (2, 2)),
                    (c, c, (5, 3), (2, 1)),
                ]
            )
            for _ in sizes
        )
        self.scores = nn.ModuleList(nn.Conv2d(c, 1, (3, 3), padding=1) for _ in sizes)

    def forward(self, wav: Tensor) -> Scores:
        """(B, 1, N) -> scores and features."""
        scores: list[Tensor] = []
        features: list[Tensor] = []
        for size, layers, score in zip(self.sizes, self.stacks, self.scores, strict=True):
            window = torch.hann_window(size, device=wav.device)
            with torch.autocast(wav.device.type, enabled=False):
                spectrum = torch.stft(
                    wav.squeeze(1).float(), size, size // 4, window=window, return_complex=True
                )
            # Compressed magnitudes, so that loud vowels do not hide the rest.
            spectrum = spectrum * (magnitude(spectrum) + 1e-3) ** -0.6
            x = torch.stack([spectrum.real, spectrum.imag], dim=1)  # (B, 2, bins, frames)
            features += _features(layers, x)  # type: ignore[arg-type]
            scores.append(score(features[-1]).flatten(1))
        return scores, features


class PeriodDiscriminator(nn.Module):
    """Scores waveforms folded at several periods (HiFi-GAN, Kong et al., 2020).

    wav (B, 1, N) -> one score map (B, patches) for each period. periods: in samples.
    """

    def __init__(self, periods: Sequence[int] = (2, 3, 5, 7, 11), channels: int = 16) -> None:
        super().__init__()
        c = channels
        self.periods = tuple(periods)
        self.stacks = nn.ModuleList(
            _convolutions(
                [
                    (1, c, (5, 1), (3, 1)),
                    (c, 2 * c, (5, 1), (3, 1)),
                    (2 * c, 4 * c, (5, 1), (3, 1)),
                    (4 * c, 8 * c, (5, 1), (3, 1)),
                    (8 * c, 8 * c, (5, 1), (1, 1)),
                ]
            )
            for _ in periods
        )
        self.scores = nn.ModuleList(nn.Conv2d(8 * c, 1, (3, 1), padding=(1, 0)) for _ in periods)

    def forward(self, wav: Tensor) -> Scores:
        """(B, 1, N) -> scores and features."""
        scores: list[Tensor] = []
        features: list[Tensor] = []
        for period, layers, score in zip(self.periods, self.stacks, self.scores, strict=True):
            whole = wav.shape[-1] // period * period
            x = wav[..., :whole].unflatten(-1, (-1, period))  # (B, 1, N / period, period)
            features += _features(layers, x)  # type: ignore[arg-type]
            scores.append(score(features[-1]).flatten(1))
        return scores, features


class WaveDiscriminator(nn.Module):
    """A `SpectrumDiscriminator` and a `PeriodDiscriminator` side by side."""

    def __init__(
        self, sizes: Sequence[int], channels: int, periods: Sequence[int], period_channels: int
    ) -> None:
        super().__init__()
        self.spectrum = SpectrumDiscriminator(sizes, channels)
        self.period = PeriodDiscriminator(periods, period_channels)

    def forward(self, wav: Tensor) -> Scores:
        """(B, 1, N) -> scores and features of both."""
        (scores, features), (more_scores, more_features) = self.spectrum(wav), self.period(wav)
        return [*scores, *more_scores], [*features, *more_features]
