"""Speaker encoder: embedding and timbre tokens of a speaker from a mel."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcae.model.config import SpeakerConfig
from vcae.model.layers import ChannelNorm, Conv1d, Pointwise, Stack


class SpeakerCode(NamedTuple):
    """embedding: (B, E), unit norm, for FiLM and comparison. tokens: (B, token_dim, tokens), timbre."""

    embedding: Tensor
    tokens: Tensor


class SpeakerEncoder(nn.Module):
    """mel (B, n_mels, T) of any level, T >= 2 -> embedding (B, dim), unit norm.

    The embedding is computed by attentive statistics pooling (Okabe et al., 2018); each timbre token is a
    weighted mean over time, with learned attention of its own.
    """

    def __init__(self, config: SpeakerConfig) -> None:
        super().__init__()
        c = self.config = config
        self.mel = c.mel
        self.input = Conv1d(c.mel.n_mels, c.width, 4, stride=2, causal=False)
        self.blocks = Stack(c.width, c.hidden, [1, 2, 1, 3], causal=False)
        self.norm = ChannelNorm(c.width)
        self.attention = Pointwise(c.width, 1 + c.tokens)
        self.embedding = nn.Linear(2 * c.width, c.dim)
        # Without centring, all embeddings start, and long remain, in a narrow cone.
        self.centre = nn.BatchNorm1d(c.dim, affine=False)
        self.timbre = Pointwise(c.width, c.token_dim)

    def forward(self, mel: Tensor) -> Tensor:
        """(B, n_mels, T) -> (B, dim)."""
        return self.encode(mel).embedding

    def encode(self, mel: Tensor) -> SpeakerCode:
        """mel (B, n_mels, T) -> embedding and timbre tokens."""
        x = self.mel.standardise(mel)
        x = x - x.mean((1, 2), keepdim=True)  # the level of a recording does not depend on the speaker
        x = self.norm(self.blocks(self.input(x)))  # (B, width, T / 2)
        attention = self.attention(x).softmax(-1)  # (B, 1 + tokens, T / 2)
        mean = x @ attention[:, 0].unsqueeze(-1)  # (B, width, 1)
        variance = (x - mean).square() @ attention[:, 0].unsqueeze(-1)
        pooled = torch.cat([mean, (variance + 1e-5).sqrt()], dim=1).squeeze(-1)  # (B, 2 width)
        tokens = self.timbre(x) @ attention[:, 1:].transpose(1, 2)  # (B, token_dim, tokens)
        return SpeakerCode(F.normalize(self.centre(self.embedding(pooled)), dim=1), tokens)
