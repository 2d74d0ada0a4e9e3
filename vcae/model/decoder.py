"""The mel decoder, shared by all speakers."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcae.model.config import MelConfig
from vcae.model.harmonics import HarmonicTemplate
from vcae.model.layers import ChannelNorm, Conv1d, Modulation, Pointwise, Stack
from vcae.model.prosody import features
from vcae.model.speaker import SpeakerCode
from vcae.model.state import Cache


class Adapter(NamedTuple):
    """Low-rank changes of a decoder for one voice: of both linear layers of each of its N blocks.

    down: (N, rank, C), up: (N, hidden, rank), of the first layer; hidden_down: (N, rank, hidden), hidden_up:
    (N, C, rank), of the second (LoRA, Hu et al., 2022).
    """

    down: Tensor
    up: Tensor
    hidden_down: Tensor
    hidden_up: Tensor

    @classmethod
    def sum(cls, adapters: Sequence["Adapter"], shares: Sequence[float]) -> "Adapter":
        """The weighted sum of changes; the ranks add up."""
        down, up, hidden_down, hidden_up = zip(*adapters, strict=True)
        return cls(
            torch.cat(down, dim=1),
            torch.cat([s * x for s, x in zip(shares, up, strict=True)], dim=2),
            torch.cat(hidden_down, dim=1),
            torch.cat([s * x for s, x in zip(shares, hidden_up, strict=True)], dim=2),
        )


class SpeakerConditioning(NamedTuple):
    """Parts of the decoder's computation that depend on the speaker alone.

    timbre: keys and values of each attention layer, 2 x (B, heads, K, C / heads). coarse, fine: modulation of
    each block.
    """

    timbre: list[tuple[Tensor, Tensor]]
    coarse: list[Modulation]
    fine: list[Modulation]

    @property
    def adapted(self) -> bool:
        """Whether it is that of a fine-tuned voice."""
        return len(self.coarse[0]) > 2

    def with_adapter(self, adapter: Adapter) -> "SpeakerConditioning":
        """The same with low-rank changes of the blocks."""
        each = list(zip(*adapter, strict=True))  # a tuple for each block
        middle = len(self.coarse)
        coarse, fine = (
            [modulation + change for modulation, change in zip(blocks, changes, strict=True)]
            for blocks, changes in ((self.coarse, each[:middle]), (self.fine, each[middle:]))
        )
        return SpeakerConditioning(self.timbre, coarse, fine)


class TimbreAttention(nn.Module):
    """Cross-attention from frames to K timbre tokens, with a residual connection: (B, C, T) -> (B, C, T)."""

    def __init__(self, width: int, token_dim: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = ChannelNorm(width)
        self.query = Pointwise(width, width)
        self.key_value = Pointwise(token_dim, 2 * width)
        self.output = Pointwise(width, width)

    def keys_and_values(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of tokens: (B, token_dim, K) -> 2 x (B, heads, K, C / heads)."""
        key, value = self.key_value(tokens).chunk(2, dim=1)
        return self._by_head(key), self._by_head(value)

    def forward(self, x: Tensor, keys_and_values: tuple[Tensor, Tensor]) -> Tensor:
        """(B, C, T), 2 x (B, heads, K, C / heads) -> (B, C, T)."""
        query = self._by_head(self.query(self.norm(x)))
        y = F.scaled_dot_product_attention(query, *keys_and_values)  # (B, heads, T, C / heads)
        out: Tensor = x + self.output(y.transpose(2, 3).flatten(1, 2))
        return out

    def _by_head(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, heads, T, C / heads)."""
        return x.unflatten(1, (self.heads, -1)).transpose(2, 3)


class Decoder(nn.Module):
    """z (B, dim, T / 2), prosody (B, 3, T) and speaker conditioning -> mel (B, n_mels, T).

    The first half of the blocks runs at the code's rate, the second, with prosody added, at the mel's rate.
    All blocks have FiLM. The network predicts an envelope and a factor for the `HarmonicTemplate` in each
    band.
    """

    def __init__(
        self,
        mel: MelConfig,
        dim: int = 64,
        width: int = 256,
        hidden: int = 512,
        speaker_dim: int = 192,
        token_dim: int = 64,
    ) -> None:
        super().__init__()
        self.mel = mel
        self.input = Conv1d(dim, width, 3)
        self.timbre = nn.ModuleList(TimbreAttention(width, token_dim) for _ in range(2))
        self.coarse = Stack(width, hidden, [1, 1, 2, 2], condition=speaker_dim)
        self.prosody = Conv1d(3, width, 5)
        self.fine = Stack(width, hidden, [1, 1, 1, 2], condition=speaker_dim)
        self.norm = ChannelNorm(width)
        self.harmonics = HarmonicTemplate(mel)
        self.output = Pointwise(width, 2 * mel.n_mels)

    def conditioning(self, speaker: SpeakerCode) -> SpeakerConditioning:
        """Compute all that depends on the speaker code alone."""
        return SpeakerConditioning(
            [layer.keys_and_values(speaker.tokens) for layer in self.timbre],  # type: ignore[operator]
            self.coarse.modulations(speaker.embedding),
            self.fine.modulations(speaker.embedding),
        )

    def forward(
        self, z: Tensor, prosody: Tensor, conditioning: SpeakerConditioning, cache: Cache | None = None
    ) -> Tensor:
        """(B, dim, T / 2), (B, 3, T), conditioning -> (B, n_mels, T)."""
        before, after = self.timbre
        x = before(self.input(z, cache), conditioning.timbre[0])
        x = after(self.coarse(x, cache, conditioning.coarse), conditioning.timbre[1])
        x = x.repeat_interleave(prosody.shape[-1] // z.shape[-1], dim=-1)  # (B, width, T)
        x = self.fine(x + self.prosody(features(prosody), cache), cache, conditioning.fine)
        envelope, depth = self.output(self.norm(x)).chunk(2, dim=1)  # (B, n_mels, T) each
        return self.mel.unstandardise(envelope + depth * self.harmonics(prosody))
