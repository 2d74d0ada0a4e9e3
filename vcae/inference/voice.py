"""A voice, as used for conversion and stored in a file: speaker code and F0 statistics."""

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vcae.errors import VcaeError
from vcae.files import TensorFileError, check_output, load_tensors, save_tensors
from vcae.model.decoder import Adapter
from vcae.model.prosody import PRIOR, F0Statistics
from vcae.model.speaker import SpeakerCode


class VoiceError(VcaeError):
    """A voice that cannot be made or used. The message is one line that names the file and how to fix it."""


@dataclass(frozen=True)
class Voice:
    """Speaker code and F0 statistics of a speaker.

    embedding: (E,), unit norm. tokens: (token_dim, tokens). made_by: hash of the speaker encoder that
    computed them; a voice can be used with models that have this speaker encoder. doubts: what may be wrong
    with the recordings it was made from, keys of `vcae.inference.reference.DOUBTS`. adapter: how a decoder
    changes for a fine-tuned voice. tuned_for: hash of this decoder, with which alone the voice can be used.
    """

    embedding: Tensor
    tokens: Tensor
    f0: F0Statistics
    made_by: str
    doubts: tuple[str, ...] = ()
    adapter: Adapter | None = None
    tuned_for: str | None = None

    @property
    def fingerprint(self) -> str:
        """Hash of all that outputs in this voice depend on."""
        digest = hashlib.sha256(repr(self.f0).encode())
        for part in (self.embedding, self.tokens, *(self.adapter or ())):
            digest.update(part.numpy().tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write to a file NAME.voice, in safetensors format. Raises OutputError."""
        check_output(Path(path), [".voice"])
        about: dict[str, Any] = {"f0": dataclasses.asdict(self.f0), "made_by": self.made_by}
        about |= {"doubts": self.doubts, "tuned_for": self.tuned_for}
        tensors = {"embedding": self.embedding, "tokens": self.tokens}
        if self.adapter is not None:
            tensors |= {f"adapter.{n}": x.half() for n, x in self.adapter._asdict().items()}
        save_tensors(Path(path), tensors, about)

    @classmethod
    def load(cls, path: str | Path) -> "Voice":
        """Read a file that `save` wrote. Raises VoiceError for any other file."""
        try:
            tensors, about = load_tensors(Path(path))
            f0, doubts = F0Statistics(**about["f0"]), tuple(about.get("doubts", ()))
            voice = cls(tensors["embedding"], tensors["tokens"], f0, about["made_by"], doubts)
            if tuned_for := about.get("tuned_for"):
                adapter = Adapter(*(tensors[f"adapter.{name}"].float() for name in Adapter._fields))
                voice = dataclasses.replace(voice, adapter=adapter, tuned_for=tuned_for)
            return voice
        except (TensorFileError, KeyError, TypeError) as error:
            reason = error.reason if isinstance(error, TensorFileError) else "it holds other tensors"
            raise VoiceError(f"{path}: not a voice ({reason}); make one with `vcae voice`") from error

    @classmethod
    def mix(
        cls, voices: Sequence["Voice"], weights: Sequence[float] | None = None, pool_pitch: bool = False
    ) -> "Voice":
        """Weighted mean of voices; the weights (default: equal) need not sum to 1.

        Mean and standard deviation of F0 are weighted means, too, and so are the changes of the decoder for
        fine-tuned voices, zero for others. With `pool_pitch`, for voices of one speaker, F0 statistics are
        added instead. Raises VoiceError without voices, for weights that are negative, all zero or of another
        number, and for voices made with or tuned for different model weights.
        """
        weights = [1.0] * len(voices) if weights is None else list(weights)
        if not voices or len(weights) != len(voices):
            raise VoiceError(
                f"cannot mix {len(voices)} voices with {len(weights)} weights; give one weight for each voice"
            )
        if not all(0 <= w < math.inf for w in weights) or sum(weights) <= 0:
            raise VoiceError(f"weights {weights} cannot be mixed; give numbers from 0 on, not all 0")
        if len({v.made_by for v in voices}) > 1:
            raise VoiceError(
                "voices made with different weights cannot be mixed; make all of them again with one model"
            )
        shares = [w / sum(weights) for w in weights]
        tuned = [(s, v.adapter, v.tuned_for) for s, v in zip(shares, voices, strict=True) if s and v.adapter]
        if len({tuned_for for *_, tuned_for in tuned}) > 1:
            raise VoiceError("voices tuned for different models cannot be mixed; tune them for one model")
        if pool_pitch:
            f0 = sum((v.f0 for v in voices), F0Statistics(0, 0, 0))
        else:
            mean, std, frames = (
                sum(s * x for s, x in zip(shares, values, strict=True))
                for values in zip(*((v.f0.mean, v.f0.std, v.f0.frames) for v in voices), strict=True)
            )
            # `mean` and `std` of each voice include the prior already.
            f0 = F0Statistics.around(mean, std, frames + PRIOR.frames) - PRIOR
        mixed = cls(*_weighted_sum(voices, shares), f0, voices[0].made_by)
        if tuned:
            parts, adapters, (tuned_for, *_) = zip(*tuned, strict=True)
            mixed = dataclasses.replace(mixed, adapter=Adapter.sum(adapters, parts), tuned_for=tuned_for)
        return mixed

    def guided(self, source: "Voice", guidance_scale: float, strength: float = 1.0) -> "Voice":
        """This voice under speaker guidance: moved away from the voice of the source speaker.

        The content code contains some information about the source speaker. At strength 1 the speaker code is
        therefore this voice plus `guidance_scale` times its difference to `source`, the extrapolation of
        classifier-free guidance (Ho and Salimans, 2022). At strength 0 it is `source`. F0 statistics are
        mixed by strength, and so are the changes for a fine-tuned voice. Raises VoiceError for voices made
        with different model weights.
        """
        mixed = Voice.mix([source, self], [1 - strength, strength])
        share = (1 + guidance_scale) * strength
        embedding, tokens = _weighted_sum([source, self], [1 - share, share])
        return dataclasses.replace(mixed, embedding=embedding, tokens=tokens)


def _weighted_sum(voices: Sequence[Voice], weights: Sequence[float]) -> SpeakerCode:
    """Weighted sum of speaker codes: embedding (E,), scaled to unit norm, and tokens (token_dim, tokens)."""
    embedding, tokens = (
        torch.stack([getattr(v, name) for v in voices], dim=-1) @ torch.tensor(weights)
        for name in ("embedding", "tokens")
    )
    return SpeakerCode(F.normalize(embedding, dim=0), tokens)
