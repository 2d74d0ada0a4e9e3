"""Prosody: log-F0, voicing and energy of each mel frame.

A prosody tensor is (B, 3, T): natural log of F0 in Hz (arbitrary in unvoiced frames), soft voicing in [0, 1],
and log-energy (natural log of the mean magnitude over the mel bands).
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from vcae.model.alignment import label_delay
from vcae.model.config import MelConfig
from vcae.model.layers import ChannelNorm, Conv1d, Pointwise, Stack
from vcae.model.state import Cache, delay

F0_FLOOR, F0_CEIL = 50.0, 600.0
"""Range of F0 labels and of predicted F0, in Hz."""
LOG_MIDDLE = math.log(F0_FLOOR * F0_CEIL) / 2
"""Middle of this range, as log-F0."""
LOG_RANGE = math.log(40), math.log(1000)
"""Range to which `shift` clips log-F0."""
_SHARPEN = 4.0
"""Exponent of the pitch probabilities. It keeps many unlikely pitches, as in noise, from biasing the mean."""


class ProsodyEncoder(nn.Module):
    """mel (B, n_mels, T) -> prosody (B, 3, T), delayed by `delay` frames.

    look_ahead: the part of the delay that the weights were trained for, so that they serve models of any
    longer delay; None: all of it. Raises ValueError for a look-ahead above the delay.

    F0 is the mean over `bins` log-spaced pitches from F0_FLOOR to F0_CEIL under their sharpened
    probabilities. After `double()` the module computes in float64, with float32 inputs and outputs. The
    vocoder integrates F0, and rounding errors of float32 would make a stream differ from a whole file.
    """

    pitches: Tensor

    def __init__(
        self,
        mel: MelConfig,
        delay: int = 2,
        width: int = 96,
        hidden: int = 256,
        bins: int = 128,
        look_ahead: int | None = None,
    ) -> None:
        super().__init__()
        self.mel = mel
        self.delay = delay
        self.look_ahead = delay if look_ahead is None else look_ahead
        if self.look_ahead > delay:
            raise ValueError(f"a look-ahead of {look_ahead} frames exceeds the delay, {delay}")
        self.input = Conv1d(mel.n_mels, width, 3)
        self.blocks = Stack(width, hidden, [1, 1, 2])
        self.norm = ChannelNorm(width)
        self.output = Pointwise(width, bins + 1)
        pitches = torch.linspace(math.log(F0_FLOOR), math.log(F0_CEIL), bins) - LOG_MIDDLE
        self.register_buffer("pitches", pitches, persistent=False)

    def logits(self, mel: Tensor, cache: Cache | None = None) -> tuple[Tensor, Tensor]:
        """Logits of the pitches (B, bins, T) and of voicing (B, 1, T), `look_ahead` frames late."""
        x = self.input(self.mel.standardise(mel), cache)
        y = self.output(self.norm(self.blocks(x, cache)))  # (B, bins + 1, T)
        return y[:, :-1], y[:, -1:]

    def forward(self, mel: Tensor, cache: Cache | None = None) -> Tensor:
        """(B, n_mels, T) -> (B, 3, T)."""
        exact = mel.to(self.output.weight.dtype)
        pitch, voicing = self.logits(exact, cache)
        pitch = (_SHARPEN * pitch.to(self.pitches.dtype)).softmax(1)
        log_f0 = (pitch * self.pitches[:, None]).sum(1, keepdim=True) + LOG_MIDDLE
        f0 = torch.cat([log_f0, voicing.sigmoid()], dim=1)  # (B, 2, T)
        f0 = delay(f0, self.delay - self.look_ahead, cache, (self, "f0"))
        energy = delay(energy_of(exact), self.delay, cache, (self, "energy"))
        return torch.cat([f0, energy], dim=1).to(mel.dtype)


@dataclass(frozen=True)
class ProsodyPredictorConfig:
    """Sizes of a `ProsodyPredictor`, and the model whose code it was trained on.

    content: hash of content encoder and bottleneck. dim: channels of the code.
    """

    mel: MelConfig = field(default_factory=MelConfig)
    content: str = ""
    dim: int = 64
    width: int = 128
    hidden: int = 384


class ProsodyPredictor(nn.Module):
    """Content code (B, D, T) -> the prosody to be expected, one frame for each of the code: (B, 3, T).

    It speaks discrete codes that come without prosody, as the pitch predictor of Kharitonov et al. (2022,
    "Text-free prosody-aware generative spoken language modeling"). Log-F0 is about `LOG_MIDDLE` on average,
    to be moved to a voice by `shift`. It sees some 0.2 s before and after each frame.
    """

    def __init__(self, config: ProsodyPredictorConfig) -> None:
        super().__init__()
        c = self.config = config
        self.input = Conv1d(c.dim, c.width, 3, causal=False)
        self.blocks = Stack(c.width, c.hidden, [1, 1, 2], causal=False)
        self.norm = ChannelNorm(c.width)
        self.output = Pointwise(c.width, 3)

    def logits(self, z: Tensor) -> Tensor:
        """Log-F0 over its mean in units of .4, logit of voicing, log-energy in units of 2: (B, 3, T)."""
        return self.output(self.norm(self.blocks(self.input(z))))

    def forward(self, z: Tensor) -> Tensor:
        """(B, D, T) -> (B, 3, T)."""
        log_f0, voicing, energy = self.logits(z).split(1, dim=1)
        return torch.cat([0.4 * log_f0 + LOG_MIDDLE, voicing.sigmoid(), 2 * energy], dim=1)


def energy_of(mel: Tensor) -> Tensor:
    """Log-energy, the log of the mean magnitude over the bands: (B, n_mels, T) -> (B, 1, T)."""
    return mel.logsumexp(1, keepdim=True) - math.log(mel.shape[1])


def features(prosody: Tensor) -> Tensor:
    """Prosody scaled for a network: about unit range, F0 weighted by voicing: (B, 3, T) -> (B, 3, T)."""
    log_f0, voicing, energy = prosody.split(1, dim=1)
    return torch.cat([(log_f0 - math.log(160)) / 0.4 * voicing, voicing, energy / 2], dim=1)


@dataclass(frozen=True)
class F0Statistics:
    """Mean and standard deviation of log-F0, stored as sums, so that statistics of segments can be added.

    frames: number of voiced frames (soft). total, squares: sums of log-F0 and of its square over these
    frames.
    """

    frames: float
    total: float
    squares: float

    @classmethod
    def of(cls, prosody: Tensor) -> "F0Statistics":
        """Statistics of (B, 3, T). The weight of a frame rises from 0 at voicing 0.5 to 1 at 0.75."""
        log_f0, voicing = prosody[:, 0].double(), (4 * prosody[:, 1].double() - 2).clamp(0, 1)
        sums = [voicing, voicing * log_f0, voicing * log_f0.square()]
        return cls(*(float(x.sum()) for x in sums))

    @classmethod
    def around(cls, mean: float, std: float, frames: float) -> "F0Statistics":
        """Statistics of `frames` voiced frames with this mean and standard deviation of log-F0."""
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
        """Mean of log-F0, `PRIOR` included."""
        with_prior = self + PRIOR
        return with_prior.total / with_prior.frames

    @property
    def std(self) -> float:
        """Standard deviation of log-F0, `PRIOR` included."""
        with_prior = self + PRIOR
        return math.sqrt(max(with_prior.squares / with_prior.frames - self.mean**2, 1e-4))


PRIOR = F0Statistics.around(mean=math.log(150), std=0.25, frames=10)
"""Prior of ten frames about 150 Hz, between the typical F0 of men and of women."""


def shift(prosody: Tensor, source: F0Statistics, target: F0Statistics, semitones: float = 0.0) -> Tensor:
    """Move F0 from the source's range to the target's, then by semitones: (B, 3, T) -> (B, 3, T).

    Log-F0 is scaled about its mean and clipped to LOG_RANGE. The ratio of the standard deviations is limited
    to 0.6 ... 1.6, because estimates from short recordings are unreliable.
    """
    ratio = min(max(target.std / source.std, 0.6), 1.6)
    moved = (prosody[:, :1] - source.mean) * ratio + target.mean + semitones * math.log(2) / 12
    return torch.cat([moved.clamp(*LOG_RANGE), prosody[:, 1:]], dim=1)


def from_labels(f0: Tensor, mel: Tensor, config: MelConfig) -> Tensor:
    """Prosody of a mel, without delay, from F0 labels: (B, T), (B, n_mels, T) -> (B, 3, T).

    f0 is in Hz, zero where unvoiced. Label t is measured at sample hop_length * t; `label_delay` moves it to
    the mel frame centred there. Voicing is smoothed over three frames, like that of `ProsodyEncoder`.
    """
    f0 = delay(f0.unsqueeze(1), label_delay(config), None, None)
    voicing = nn.functional.avg_pool1d((f0 > 0).float(), 3, stride=1, padding=1, count_include_pad=False)
    log_f0 = f0.where(f0 > 0, 150.0).log()
    return torch.cat([log_f0, voicing, energy_of(mel)], dim=1)
