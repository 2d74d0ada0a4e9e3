"""Waveform to log-mel spectrogram."""

import math
from functools import cache
from importlib.metadata import version

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcae.errors import VcaeError
from vcae.model.config import MelConfig
from vcae.model.state import Cache, with_past


class LogMel(nn.Module):
    """Log-mel spectrogram: (B, 1, N) in [-1, 1] -> (B, n_mels, T), T = ceil(N / hop_length).

    Frame t is computed from samples up to hop_length * (t + 1). Raises ValueError for a block of a stream
    that is not a whole number of hops, VcaeError where torchaudio was built for another torch.
    """

    window: Tensor
    filterbank: Tensor

    def __init__(self, config: MelConfig) -> None:
        super().__init__()
        try:
            from torchaudio.functional import melscale_fbanks  # slow to import
        except OSError:  # pip installs pairs that do not load, since torchaudio names no torch
            raise VcaeError(
                f"torchaudio {version('torchaudio')} does not load with torch {version('torch')};"
                " install others: pip install --upgrade torch 'torchaudio!=2.11.1'"
            ) from None
        self.config = config
        filterbank = melscale_fbanks(
            config.n_fft // 2 + 1, 0.0, config.sample_rate / 2, config.n_mels, config.sample_rate
        )
        self.register_buffer("filterbank", filterbank, persistent=False)  # (n_fft / 2 + 1, n_mels)
        self.register_buffer("window", torch.hann_window(config.win_length), persistent=False)

    def forward(self, wav: Tensor, cache: Cache | None = None) -> Tensor:
        """(B, 1, N) -> (B, n_mels, T)."""
        c = self.config
        ragged = -wav.shape[-1] % c.hop_length
        if ragged and cache is not None:
            raise ValueError(f"a block must be a whole number of hops of {c.hop_length} samples")
        wav = with_past(F.pad(wav, (0, ragged)), c.win_length - c.hop_length, cache, self)
        return self.from_windows(wav.squeeze(1).unfold(-1, c.win_length, c.hop_length))

    @property
    def flat(self) -> Tensor:
        """Mel magnitudes, without log, of a flat spectrum of magnitude 1: (n_mels,)."""
        return self.filterbank.sum(0).clamp(min=1e-3)

    def from_windows(self, windows: Tensor) -> Tensor:
        """Log-mel of a signal already cut into windows: (B, T, win_length) -> (B, n_mels, T)."""
        c = self.config
        with torch.autocast(windows.device.type, enabled=False):
            spectrum = torch.fft.rfft(windows.to(self.window.dtype) * self.window, n=c.n_fft)
            mel = magnitude(spectrum) @ self.filterbank  # (B, T, n_mels)
        return mel.clamp(min=c.floor).log().transpose(1, 2).to(windows.dtype)  # (B, n_mels, T)


def magnitude(spectrum: Tensor) -> Tensor:
    """Absolute values of a complex tensor: a real tensor of the same shape.

    Eight times faster than `abs` on a CPU. The constant keeps the gradient finite at zero.
    """
    return (spectrum.real.square() + spectrum.imag.square() + 1e-20).sqrt()


def hertz_to_mel(hertz: Tensor) -> Tensor:
    """Frequencies in Hz on the mel scale of HTK (Young et al., 2006), of any shape."""
    return 2595 * torch.log10(1 + hertz / 700)


def band_position(hertz: Tensor, config: MelConfig) -> Tensor:
    """Frequencies in Hz as positions among the bands of a mel, of any shape: k is the centre of band k."""
    spacing = float(hertz_to_mel(torch.tensor(config.sample_rate / 2))) / (config.n_mels + 1)
    return hertz_to_mel(hertz) / spacing - 1


@cache
def band_centres(config: MelConfig, device: torch.device) -> Tensor:
    """Centre frequencies of the bands in Hz, (n_mels,)."""
    top = 2595 * math.log10(1 + config.sample_rate / 2 / 700)
    mels = torch.arange(1, config.n_mels + 1) * top / (config.n_mels + 1)
    return (700 * (10 ** (mels / 2595) - 1)).to(device)


@cache
def cosines(size: int, count: int, device: torch.device) -> Tensor:
    """The first rows of the orthonormal DCT-II, (count, size)."""
    k, n = torch.arange(count)[:, None], torch.arange(size)[None]
    rows = torch.cos(math.pi / size * (n + 0.5) * k) * (2 / size) ** 0.5
    rows[0] /= 2**0.5
    return rows.to(device)
