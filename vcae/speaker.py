"""Who says it: the speaker encoder, and the `Voice` that a user keeps in a file."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcae.errors import VcaeError
from vcae.layers import ChannelNorm, Conv1d, Pointwise, Stack
from vcae.mel import MelConfig
from vcae.output import check_output
from vcae.prosody import PRIOR, F0Statistics
from vcae.tensors import TensorFileError, load_tensors, save_tensors

BEYOND = 0.45
"""How far past a voice its code is put, of the way from the source's own; chosen on development speakers."""


class SpeakerCode(NamedTuple):
    """embedding: (B, E), unit norm, for FiLM and comparison. tokens: (B, token_dim, tokens), timbre."""

    embedding: Tensor
    tokens: Tensor


class SpeakerEncoder(nn.Module):
    """Who speaks, from a mel of any level and of 2 frames or more: (B, n_mels, T) -> (B, dim).

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
        self.attention = Pointwise(width, 1 + tokens)
        self.embedding = nn.Linear(2 * width, dim)
        # Without it all embeddings start out, and long stay, in one narrow cone.
        self.centre = nn.BatchNorm1d(dim, affine=False)
        self.timbre = Pointwise(width, token_dim)

    @classmethod
    def from_pretrained(cls) -> "SpeakerEncoder":
        """The bundled one, in eval mode."""
        from vcae.checkpoint import load_autoencoder  # not above: the parts do not know the whole

        return load_autoencoder().speaker

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
        return SpeakerCode(F.normalize(self.centre(self.embedding(pooled)), dim=1), tokens)


class VoiceError(VcaeError):
    """A voice that cannot be made or used. One line that names the file and the mend."""


@dataclass(frozen=True)
class Voice:
    """Whose voice to speak in: speaker code, F0 statistics, and which weights they belong to.

    embedding: (E,), unit norm. tokens: (token_dim, tokens).
    """

    embedding: Tensor
    tokens: Tensor
    f0: F0Statistics
    made_by: str

    def save(self, path: str | Path) -> None:
        """Write to a file NAME.voice (safetensors). Raises OutputError."""
        check_output(Path(path), [".voice"])
        about = {"f0": dataclasses.asdict(self.f0), "made_by": self.made_by}
        save_tensors(Path(path), {"embedding": self.embedding, "tokens": self.tokens}, about)

    @classmethod
    def load(cls, path: str | Path) -> "Voice":
        """Read what `save` wrote. Raises VoiceError for anything else."""
        try:
            tensors, about = load_tensors(Path(path))
            return cls(tensors["embedding"], tensors["tokens"], F0Statistics(**about["f0"]), about["made_by"])
        except (TensorFileError, KeyError, TypeError) as error:
            reason = error.reason if isinstance(error, TensorFileError) else "something else is in it"
            raise VoiceError(f"{path}: not a voice ({reason}); make one with `vcae voice`") from error

    @classmethod
    def mix(
        cls, voices: Sequence["Voice"], weights: Sequence[float] | None = None, pool_pitch: bool = False
    ) -> "Voice":
        """A voice between others, by weights that need not sum to 1 (default: equal).

        Its F0 mean and spread lie between theirs too; with `pool_pitch` the voices are of one speaker, and
        their voiced frames are put together. Raises VoiceError for no voices, weights that do not fit or
        are negative, and voices of different weights.
        """
        weights = [1.0] * len(voices) if weights is None else list(weights)
        if not voices or len(weights) != len(voices):
            raise VoiceError(f"{len(voices)} voices with {len(weights)} weights; give one weight a voice")
        if not all(0 <= w < math.inf for w in weights) or sum(weights) <= 0:
            raise VoiceError(f"weights {weights} cannot be mixed; give numbers from 0 on, not all 0")
        if len({v.made_by for v in voices}) > 1:
            raise VoiceError("voices made with different weights cannot be mixed; make them again with one")
        shares = [w / sum(weights) for w in weights]
        if pool_pitch:
            f0 = sum((v.f0 for v in voices), F0Statistics(0, 0, 0))
        else:
            mean, std, frames = (
                sum(s * x for s, x in zip(shares, values, strict=True))
                for values in zip(*((v.f0.mean, v.f0.std, v.f0.frames) for v in voices), strict=True)
            )
            f0 = F0Statistics.around(mean, std, frames + PRIOR.frames) - PRIOR  # which they hold already
        return cls(*_weighed(voices, shares), f0, voices[0].made_by)

    def instead_of(self, own: "Voice", strength: float = 1.0) -> "Voice":
        """What to give the decoder, that speech in the voice `own` comes out in this one.

        Content leaves some of `own` in what is decoded. At strength 1 the code is therefore further from it
        than this voice's, by `BEYOND` of the way (as classifier-free guidance extrapolates, Ho and Salimans,
        2022); at 0 it is `own`. F0 statistics are a mix. Raises VoiceError where the two were made with
        different weights.
        """
        mixed = Voice.mix([own, self], [1 - strength, strength])
        away = (1 + BEYOND) * strength
        return Voice(*_weighed([own, self], [1 - away, away]), mixed.f0, self.made_by)


def _weighed(voices: Sequence[Voice], weights: Sequence[float]) -> SpeakerCode:
    """The weighed sum of speaker codes: (E,), its norm 1 again, and (token_dim, tokens)."""
    embedding, tokens = (
        torch.stack([getattr(v, name) for v in voices], dim=-1) @ torch.tensor(weights)
        for name in ("embedding", "tokens")
    )
    return SpeakerCode(F.normalize(embedding, dim=0), tokens)
