"""The content student: a content encoder with its bottleneck and a head, which a teacher trains."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from vcae.model.alignment import Alignment
from vcae.model.bottleneck import Code, bottleneck
from vcae.model.config import MelConfig
from vcae.model.content import ContentEncoder
from vcae.model.layers import Conv1d
from vcae.model.phones import PHONES
from vcae.model.state import Cache


@dataclass(frozen=True)
class ContentStudentConfig:
    """Sizes of a `ContentStudent`."""

    mel: MelConfig = field(default_factory=MelConfig)
    delay: int = 24
    """The look-ahead L in mel frames, as in `AutoencoderConfig`."""
    width: int = 256
    """Channels of the encoder."""
    hidden: int = 1024
    """Hidden channels of the encoder's blocks."""
    dim: int = 64
    """Channels of the code."""
    fine: tuple[int, ...] = (1,)
    """Dilations of the blocks before the encoder's stride."""
    coarse: tuple[int, ...] = (1, 1, 2, 2, 4, 1, 1, 1)
    """Dilations of the blocks after it."""
    bottleneck: dict[str, Any] = field(default_factory=lambda: {"kind": "continuous", "noise": 0.15})
    """"kind", a key of `vcae.model.bottleneck.BOTTLENECKS`, and the options of that class."""
    units: int = 512
    """Number of clusters to predict."""
    components: int = 64
    """Number of principal components to predict."""
    head_width: int = 256
    """Hidden channels of the network that predicts from the code."""

    def __post_init__(self) -> None:
        for name in ("fine", "coarse"):  # lists, when they come from JSON
            object.__setattr__(self, name, tuple(getattr(self, name)))


class ContentPrediction(NamedTuple):
    """What is predicted from a content code.

    units: logits (B, units, T / 2). features: principal components (B, components, T / 2). phones: logits
    (B, phones, T / 2).
    """

    units: Tensor
    features: Tensor
    phones: Tensor


class ContentStudent(nn.Module):
    """mel (B, n_mels, T), T even -> content code (B, dim, T / 2), `delay` mel frames late.

    Raises ValueError for a delay that is not a multiple of the encoder's stride.
    """

    def __init__(self, config: ContentStudentConfig) -> None:
        super().__init__()
        c = self.config = config
        self.delay = Alignment(c.mel, c.delay, ContentEncoder.stride).code_delay
        """Delay of the code, in code frames."""
        self.encoder = ContentEncoder(c.mel, c.width, c.hidden, c.dim, c.fine, c.coarse)
        self.bottleneck = bottleneck(dim=c.dim, **c.bottleneck)
        self.head = ContentHead(c.dim, c.units, c.components, c.head_width)

    def forward(self, mel: Tensor, cache: Cache | None = None) -> Code:
        """(B, n_mels, T) -> code, z (B, dim, T / 2)."""
        code: Code = self.bottleneck(self.encoder(mel, cache))
        return code


class ContentHead(nn.Module):
    """Predicts from each frame of a code, (B, dim, T / 2). Small, so that the code holds the content."""

    def __init__(self, dim: int, units: int, components: int, width: int = 256) -> None:
        super().__init__()
        self.hidden = Conv1d(dim, width)
        self.units = Conv1d(width, units)
        self.features = Conv1d(width, components)
        self.phones = Conv1d(width, len(PHONES))

    def forward(self, z: Tensor) -> ContentPrediction:
        """(B, dim, T / 2) -> `ContentPrediction`."""
        x = F.gelu(self.hidden(z))
        return ContentPrediction(self.units(x), self.features(x), self.phones(x))
