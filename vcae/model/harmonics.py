"""Functions of F0 alone: the pulse source, and the template of its harmonics in a log-mel."""

import math

import torch
from torch import Tensor, nn

from vcae.model.config import MelConfig
from vcae.model.mel import LogMel
from vcae.model.prosody import LOG_RANGE


def pulses(cycles: Tensor, f0: Tensor) -> Tensor:
    """Sum of cosines at all harmonics below the Nyquist frequency, of unit variance: (..., N).

    cycles (..., N): phase of the fundamental, in cycles. f0 (..., 1): in cycles per sample. Computed in
    closed form by the Dirichlet kernel. The highest harmonic fades in, so that the sum is continuous in both
    inputs.
    """
    highest = 0.5 / f0
    x = (cycles - cycles.round()) * math.pi  # half the phase angle, within +-pi / 2
    whole = highest.floor()
    base = torch.where(x.abs() < 1e-4, 1e-4, x)
    dirichlet = torch.sin((2 * whole + 1) * base) / (2 * torch.sin(base)) - 0.5
    return 2 * f0.sqrt() * (dirichlet + (highest - whole) * torch.cos((2 * whole + 2) * base))


class HarmonicTemplate(nn.Module):
    """Log-mel of a voiced source with a flat envelope: prosody (B, 3, T) -> (B, n_mels, T).

    Natural log, relative to noise of the same power. Zero in unvoiced frames, about zero in bands too wide to
    resolve harmonics. Interpolated in a table over log-F0 within LOG_RANGE.
    """

    table: Tensor

    def __init__(self, mel: MelConfig, pitches: int = 256, floor: float = 0.1) -> None:
        super().__init__()
        self.lowest, self.highest = LOG_RANGE
        self.per_pitch = (pitches - 1) / (self.highest - self.lowest)
        self.highest -= 1e-4  # just below the last entry, so that index + 1 exists
        f0 = torch.linspace(*LOG_RANGE, pitches).exp().unsqueeze(1) / mel.sample_rate  # cycles per sample
        steps = torch.arange(mel.win_length) - mel.win_length / 2
        log_mel = LogMel(mel)
        windows = pulses(f0 * steps, f0) / log_mel.window.norm()
        magnitude = log_mel.from_windows(windows.unsqueeze(0))[0].T.exp() / log_mel.flat  # (pitches, n_mels)
        self.register_buffer("table", ((magnitude + floor) / (1 + floor)).log(), persistent=False)

    def forward(self, prosody: Tensor) -> Tensor:
        """(B, 3, T) -> (B, n_mels, T)."""
        log_f0 = prosody[:, 0].float().clamp(self.lowest, self.highest)
        position = (log_f0 - self.lowest) * self.per_pitch  # (B, T)
        below = position.floor()
        rest = (position - below).unsqueeze(2)
        index = below.long()
        template = self.table[index] * (1 - rest) + self.table[index + 1] * rest  # (B, T, n_mels)
        return template.mT * prosody[:, 1:2]
