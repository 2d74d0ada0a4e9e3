"""Content encoder: a causal network from mel to the content code at half the frame rate."""

from collections.abc import Sequence
from typing import Self

from torch import Tensor, nn

from vcae.model.config import AutoencoderConfig, MelConfig
from vcae.model.layers import ChannelNorm, Conv1d, Pointwise, Stack, StreamingInstanceNorm
from vcae.model.state import Cache


class ContentEncoder(nn.Module):
    """mel (B, n_mels, T) -> content code (B, dim, T / 2). Raises ValueError for an odd T.

    Each channel is normalised over about the last 3 s. The output is delayed by `AutoencoderConfig.delay`,
    since training delays the target by as much. fine, coarse: dilations of the blocks before and after the
    stride; a block before it costs twice as much.
    """

    stride = 2

    def __init__(
        self,
        mel: MelConfig,
        width: int = 256,
        hidden: int = 512,
        dim: int = 64,
        fine: Sequence[int] = (1, 1, 1),
        coarse: Sequence[int] = (1, 1, 2, 2, 4, 1, 1),
    ) -> None:
        super().__init__()
        self.mel = mel
        self.input = Conv1d(mel.n_mels, width, 3)
        self.fine = Stack(width, hidden, fine)
        self.down = Conv1d(width, width, 4, stride=self.stride)
        self.coarse = Stack(width, hidden, coarse)
        self.norm = ChannelNorm(width)
        self.output = Pointwise(width, dim)
        self.over_time = StreamingInstanceNorm(dim, time_constant=3 * mel.frame_rate / self.stride)

    @classmethod
    def of(cls, config: AutoencoderConfig) -> Self:
        """The content encoder of an autoencoder of this configuration."""
        c, width = config, config.content_width
        return cls(c.mel, width, c.expansion * width, c.content_dim, c.content_fine, c.content_coarse)

    def forward(self, mel: Tensor, cache: Cache | None = None) -> Tensor:
        """(B, n_mels, T) -> (B, dim, T / 2)."""
        if mel.shape[-1] % self.stride:
            raise ValueError(f"the content encoder needs an even number of frames, not {mel.shape[-1]}")
        x = self.fine(self.input(self.mel.standardise(mel), cache), cache)
        x = self.coarse(self.down(x, cache), cache)
        return self.over_time(self.output(self.norm(x)), cache)
