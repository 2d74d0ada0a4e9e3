"""The melody of speech as a thin stream of its own: log-F0, voicing and energy, a frame each.

A prosody tensor is (B, 3, T): natural log of F0 in Hz (a guess where there is no voice), soft voicing in
[0, 1], and log-energy (natural log of the mean magnitude over the mel bands).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vcae.model.alignment import label_delay
from vcae.model.config import MelConfig
from vcae.model.layers import ChannelNorm, Conv1d, Pointwise, Stack
from vcae.model.state import Cache, delay

F0_FLOOR, F0_CEIL = 50.0, 600.0
"""The range of F0 in Hz, of labels and of what is predicted."""
LOG_MIDDLE = math.log(F0_FLOOR * F0_CEIL) / 2
"""The middle of that range, as log-F0."""
LOG_RANGE = math.log(40), math.log(1000)
"""As far as log-F0 is moved."""
_SHARPEN = 4.0
"""A pitch counts by its probability to this power, else many unlikely ones, in noise, bias their mean."""


class ProsodyEncoder(nn.Module):
    """Prosody from the mel, `delay` frames late: (B, n_mels, T) -> (B, 3, T).

    F0 is the mean of the likely ones among `bins` log-spaced pitches between F0_FLOOR and F0_CEIL. After
    `double()` it computes in float64 but still takes and gives float32: a vocoder adds up F0, and with it
    rounding errors, which differ between a stream and a whole file.
    """

    pitches: Tensor

    def __init__(
        self, mel: MelConfig, delay: int = 2, width: int = 96, hidden: int = 256, bins: int = 128
    ) -> None:
        super().__init__()
        self.mel = mel
        self.delay = delay
        self.input = Conv1d(mel.n_mels, width, 3)
        self.blocks = Stack(width, hidden, [1, 1, 2])
        self.norm = ChannelNorm(width)
        self.output = Pointwise(width, bins + 1)
        pitches = torch.linspace(math.log(F0_FLOOR), math.log(F0_CEIL), bins) - LOG_MIDDLE
        self.register_buffer("pitches", pitches, persistent=False)

    def logits(self, mel: Tensor, cache: Cache | None = None) -> tuple[Tensor, Tensor]:
        """Log-odds of every pitch (B, bins, T) and of voicing (B, 1, T): what is trained."""
        x = self.input(self.mel.standardise(mel), cache)
        y = self.output(self.norm(self.blocks(x, cache)))  # (B, bins + 1, T)
        return y[:, :-1], y[:, -1:]

    def forward(self, mel: Tensor, cache: Cache | None = None) -> Tensor:
        """(B, n_mels, T) -> (B, 3, T)."""
        exact = mel.to(self.output.weight.dtype)
        pitch, voicing = self.logits(exact, cache)
        pitch = (_SHARPEN * pitch.to(self.pitches.dtype)).softmax(1)
        log_f0 = (pitch * self.pitches[:, None]).sum(1, keepdim=True) + LOG_MIDDLE
        energy = delay(energy_of(exact), self.delay, cache, self)
        return torch.cat([log_f0, voicing.sigmoid(), energy], dim=1).to(mel.dtype)


def energy_of(mel: Tensor) -> Tensor:
    """Log of the mean magnitude over the bands: (B, n_mels, T) -> (B, 1, T)."""
    return mel.logsumexp(1, keepdim=True) - math.log(mel.shape[1])


def features(prosody: Tensor) -> Tensor:
    """Prosody as a network likes it, about unit range, no F0 where unvoiced: (B, 3, T) -> (B, 3, T)."""
    log_f0, voicing, energy = prosody.split(1, dim=1)
    return torch.cat([(log_f0 - math.log(160)) / 0.4 * voicing, voicing, energy / 2], dim=1)


@dataclass(frozen=True)
class F0Statistics:
    """Mean and spread of log-F0, as sums, so that pieces of speech add up.

    frames: how many voiced frames (soft). total, squares: sums of log-F0 and of its square over them.
    """

    frames: float
    total: float
    squares: float

    @classmethod
    def of(cls, prosody: Tensor) -> "F0Statistics":
        """Of a prosody tensor (B, 3, T); a frame counts from a voicing of one half on."""
        log_f0, voicing = prosody[:, 0].double(), (4 * prosody[:, 1].double() - 2).clamp(0, 1)
        sums = [voicing, voicing * log_f0, voicing * log_f0.square()]
        return cls(*(float(x.sum()) for x in sums))

    @classmethod
    def around(cls, mean: float, std: float, frames: float) -> "F0Statistics":
        """Those of `frames` voiced frames with this mean and standard deviation of log-F0."""
        return cls(frames, frames * mean, frames * (mean**2 + std**2))

    def __add__(self, other: "F0Statistics") -> "F0Statistics":
        return F0Statistics(
            self.frames + other.frames, self.total + other.total, self.squares + other.squares
        )

    def __sub__(self, other: "F0Statistics") -> "F0Statistics":
        return F0Statistics(
            self.frames - other.frames, self.total - other.total, self.squares - other.squares
        )

    @property
    def mean(self) -> float:
        """Mean of log-F0, with a prior of ten frames."""
        with_prior = self + PRIOR
        return with_prior.total / with_prior.frames

    @property
    def std(self) -> float:
        """Standard deviation of log-F0, with a prior of ten frames."""
        with_prior = self + PRIOR
        return math.sqrt(max(with_prior.squares / with_prior.frames - self.mean**2, 1e-4))


PRIOR = F0Statistics.around(mean=math.log(150), std=0.25, frames=10)
"""What is believed of a voice before it is heard: between a man's and a woman's."""


def shift(prosody: Tensor, source: F0Statistics, target: F0Statistics, semitones: float = 0.0) -> Tensor:
    """Move F0 from one voice's range to another's, then by semitones: (B, 3, T) -> (B, 3, T).

    Log-F0 is scaled about its mean; the ratio of the spreads is kept within 0.6 to 1.6, since a short
    reference tells little of it.
    """
    ratio = min(max(target.std / source.std, 0.6), 1.6)
    moved = (prosody[:, :1] - source.mean) * ratio + target.mean + semitones * math.log(2) / 12
    return torch.cat([moved.clamp(*LOG_RANGE), prosody[:, 1:]], dim=1)


def from_labels(f0: Tensor, mel: Tensor, config: MelConfig) -> Tensor:
    """The prosody of a mel from F0 labels, not delayed: (B, T), (B, n_mels, T) -> (B, 3, T).

    f0 is in Hz, zero where unvoiced; label t is measured at sample hop_length * t, the centre of a later mel
    frame (`vcae.model.alignment.label_delay`). Voicing is softened as a network would.
    """
    f0 = delay(f0.unsqueeze(1), label_delay(config), None, None)
    voicing = nn.functional.avg_pool1d((f0 > 0).float(), 3, stride=1, padding=1, count_include_pad=False)
    log_f0 = f0.where(f0 > 0, 150.0).log()
    return torch.cat([log_f0, voicing, energy_of(mel)], dim=1)
