"""Who says it: the speaker encoder, and the `Voice` that a user keeps in a file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcae.layers import ChannelNorm, Conv1d, Stack
from vcae.mel import MelConfig
from vcae.prosody import F0Statistics


class SpeakerCode(NamedTuple):
    """embedding: (B, E), unit norm, for FiLM and comparison. tokens: (B, token_dim, tokens), timbre."""

    embedding: Tensor
    tokens: Tensor


class SpeakerEncoder(nn.Module):
    """Who speaks, from a mel of any length and level: (B, n_mels, T) -> (B, dim), unit norm.

    The embedding pools mean and spread under a learned attention (attentive statistics pooling, Okabe et
    al., 2018); every timbre token pools what its own learned query finds.
    """

    def __init__(
        self,
        mel: MelConfig,
        width: int = 256,
        hidden: int = 512,
        dim: int = 192,
        tokens: int = 12,
        token_dim: int = 64,
    ) -> None:
        super().__init__()
        self.mel = mel
        self.input = Conv1d(mel.n_mels, width, 4, stride=2, causal=False)
        self.blocks = Stack(width, hidden, [1, 2, 1, 3], causal=False)
        self.norm = ChannelNorm(width)
        self.attention = nn.Conv1d(width, 1 + tokens, 1)
        self.embedding = nn.Linear(2 * width, dim)
        self.timbre = nn.Conv1d(width, token_dim, 1)

    def forward(self, mel: Tensor) -> Tensor:
        """(B, n_mels, T) -> (B, dim)."""
        return self.encode(mel).embedding

    def encode(self, mel: Tensor) -> SpeakerCode:
        """The embedding and the timbre tokens of (B, n_mels, T)."""
        x = self.mel.standardise(mel)
        x = x - x.mean((1, 2), keepdim=True)  # how loud a recording is says nothing of the speaker
        x = self.norm(self.blocks(self.input(x)))  # (B, width, T / 2)
        weights = self.attention(x).softmax(-1)  # (B, 1 + tokens, T / 2)
        mean = x @ weights[:, 0].unsqueeze(-1)  # (B, width, 1)
        variance = (x - mean).square() @ weights[:, 0].unsqueeze(-1)
        pooled = torch.cat([mean, (variance + 1e-5).sqrt()], dim=1).squeeze(-1)  # (B, 2 width)
        tokens = self.timbre(x) @ weights[:, 1:].transpose(1, 2)  # (B, token_dim, tokens)
        return SpeakerCode(F.normalize(self.embedding(pooled), dim=1), tokens)
