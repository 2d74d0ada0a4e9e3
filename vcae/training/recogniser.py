"""The phone recogniser: a training-only network with look-ahead that teaches the other stages.

The content encoder learns phones from it also where there is no text. Its features and phones of a decoded
mel show which words are left (a perceptual loss, Johnson et al., 2016).
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor, nn

from vcae.model.config import MelConfig
from vcae.model.layers import ChannelNorm, Conv1d, Pointwise, Stack
from vcae.model.phones import PHONES


@dataclass(frozen=True)
class RecogniserConfig:
    """Sizes of a `Recogniser`."""

    mel: MelConfig = field(default_factory=MelConfig)
    width: int = 320
    """Channels."""
    expansion: int = 4
    """Hidden channels of a block, in widths."""
    stacks: int = 4
    """Number of stacks of blocks."""
    dilations: tuple[int, ...] = (1, 2, 4)
    """Dilation of each block of a stack."""


class Recognised(NamedTuple):
    """phones: logits (B, phones, T / 2). features: (B, width, T / 2) after each stack, unit variance."""

    phones: Tensor
    features: list[Tensor]

    def part(self, examples: slice, frames: int) -> "Recognised":
        """Some examples, and the first `frames` of them."""
        return Recognised(self.phones[examples, :, :frames], [x[examples, :, :frames] for x in self.features])


class Recogniser(nn.Module):
    """mel (B, n_mels, T), T even -> `Recognised`, in step with labels: one for two mel frames. Not causal."""

    def __init__(self, config: RecogniserConfig) -> None:
        super().__init__()
        self.config = config
        width, dilations = config.width, list(config.dilations)
        self.input = Conv1d(config.mel.n_mels, width, 4, stride=2, causal=False)
        self.stacks = nn.ModuleList(
            Stack(width, config.expansion * width, dilations, causal=False) for _ in range(config.stacks)
        )
        self.norms = nn.ModuleList(ChannelNorm(width, elementwise_affine=False) for _ in range(config.stacks))
        self.output = Pointwise(width, len(PHONES))

    def forward(self, mel: Tensor) -> Recognised:
        """(B, n_mels, T) -> (B, phones, T / 2) and (B, width, T / 2) for each stack."""
        x = self.input(self.config.mel.standardise(mel))
        features = []
        for stack, norm in zip(self.stacks, self.norms, strict=True):
            x = stack(x)
            features.append(norm(x))
        return Recognised(self.output(features[-1]), features)
