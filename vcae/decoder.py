"""Any content in any voice: the shared mel decoder."""

from torch import Tensor, nn
from torch.nn import functional as F

from vcae.cache import Cache
from vcae.layers import ChannelNorm, Conv1d, Pointwise, Stack
from vcae.mel import MelConfig
from vcae.prosody import features
from vcae.speaker import SpeakerCode


class TimbreAttention(nn.Module):
    """Every frame looks up the timbre tokens: x (B, C, T), tokens (B, token_dim, K) -> (B, C, T)."""

    def __init__(self, width: int, token_dim: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = ChannelNorm(width)
        self.query = Pointwise(width, width)
        self.key_value = Pointwise(token_dim, 2 * width)
        self.output = Pointwise(width, width)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """(B, C, T), (B, token_dim, K) -> (B, C, T)."""

        def by_head(y: Tensor) -> Tensor:  # (B, C, T) -> (B, heads, T, C / heads)
            return y.unflatten(1, (self.heads, -1)).transpose(2, 3)

        key, value = self.key_value(tokens).chunk(2, dim=1)
        y = F.scaled_dot_product_attention(
            by_head(self.query(self.norm(x))), by_head(key), by_head(value)
        )  # (B, heads, T, C / heads)
        out: Tensor = x + self.output(y.transpose(2, 3).flatten(1, 2))
        return out


class Decoder(nn.Module):
    """Code, prosody and speaker to mel: z (B, dim, T / 2), prosody (B, 3, T) -> (B, n_mels, T).

    Half of the blocks run at the code's rate, then prosody joins at the mel's; FiLM throughout.
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
        self.output = Pointwise(width, mel.n_mels)

    def forward(self, z: Tensor, prosody: Tensor, speaker: SpeakerCode, cache: Cache | None = None) -> Tensor:
        """(B, dim, T / 2), (B, 3, T), speaker -> (B, n_mels, T)."""
        before, after = self.timbre
        x = before(self.input(z, cache), speaker.tokens)
        x = after(self.coarse(x, cache, speaker.embedding), speaker.tokens)
        x = x.repeat_interleave(prosody.shape[-1] // z.shape[-1], dim=-1)  # (B, width, T)
        x = self.fine(x + self.prosody(features(prosody), cache), cache, speaker.embedding)
        return self.mel.unstandardise(self.output(self.norm(x)))
