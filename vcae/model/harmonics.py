"""What F0 alone makes of a voice: pulses, and the template that their harmonics leave in a log-mel."""

import math

import torch
from torch import Tensor, nn

from vcae.model.config import MelConfig
from vcae.model.mel import LogMel
from vcae.model.prosody import LOG_RANGE


def pulses(cycles: Tensor, f0: Tensor) -> Tensor:
    """A cosine at every harmonic below half the sample rate, unit variance in all.

    cycles (..., N), of the fundamental; f0 (..., 1) in cycles a sample. By Dirichlet's kernel; the highest
    harmonic fades in, so that it is continuous in both.
    """
    highest = 0.5 / f0
    x = (cycles - cycles.round()) * math.pi  # half the angle, within +-pi / 2
    whole = highest.floor()
    base = torch.where(x.abs() < 1e-4, 1e-4, x)
    dirichlet = torch.sin((2 * whole + 1) * base) / (2 * torch.sin(base)) - 0.5
    return 2 * f0.sqrt() * (dirichlet + (highest - whole) * torch.cos((2 * whole + 2) * base))


class HarmonicTemplate(nn.Module):
    """How harmonics stand out in a log-mel of flat envelope: prosody (B, 3, T) -> (B, n_mels, T).

    Natural log, relative to noise of the same power; zero where there is no voice, and about zero where the
    bands are too wide to tell harmonics apart. Read off a table over log-F0, as far as `shift` moves it.
    """

    table: Tensor

    def __init__(self, mel: MelConfig, pitches: int = 256, floor: float = 0.1) -> None:
        super().__init__()
        self.lowest, self.highest = LOG_RANGE
        self.per_pitch = (pitches - 1) / (self.highest - self.lowest)
        self.highest -= 1e-4  # just below the last of the table
        f0 = torch.linspace(*LOG_RANGE, pitches).exp().unsqueeze(1) / mel.sample_rate  # cycles a sample
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
