"""Short-time Fourier transform, forward and back, for whole signals and for blocks of a stream."""

import torch
from torch import Tensor

from vcae.model.state import Cache, overlap_add, with_past


def stft(wav: Tensor, window: Tensor, cache: Cache | None = None, owner: object = None) -> Tensor:
    """Spectra of windows of W samples that start a quarter apart: (B, 1, N) -> (B, W / 2 + 1, 4 N / W).

    window: (W,), which is put on the samples. Window t ends with sample (t + 1) W / 4. The spectra are
    complex, and of float32 under autocast, too.
    """
    with torch.autocast(wav.device.type, enabled=False):
        size = len(window)
        wav = with_past(wav.float(), size - size // 4, cache, owner)
        return torch.fft.rfft(wav.squeeze(1).unfold(-1, size, size // 4) * window).mT


def inverse_stft(spectrum: Tensor, window: Tensor, cache: Cache | None, owner: object) -> Tensor:
    """Sum of windows from their spectra: (B, W / 2 + 1, T) -> (B, 1, T * W / 4), 3 W / 4 samples late.

    window: (W,), a Hann window that is put on the samples once more, after that of `stft`.
    """
    with torch.autocast(spectrum.device.type, enabled=False):
        frames = torch.fft.irfft(spectrum, n=len(window), dim=1)
        # Squared Hann windows, a quarter apart, sum to 1.5.
        return overlap_add(frames * (window / 1.5)[:, None], cache, owner)
