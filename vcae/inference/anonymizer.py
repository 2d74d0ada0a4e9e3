"""Invented voices: one for each speaker, from a secret, far from all people of a reference set.

A statistical model of voices is drawn from, as in "Speaker Anonymization Using X-vector and Neural Waveform
Models" (Fang et al., 2019) and later systems of the VoicePrivacy Challenge, which mix voices of a pool or
draw from a density of them. The random numbers are the HMAC (RFC 2104) of the speaker's name and a counter
under the secret: who has both gets the same voice again, and nobody else can tell whose it is.

`recipes/population.py` makes the model from recordings, and `recipes/ANONYMISATION.md` says what it is worth.
"""

import hmac
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vcae.audio import Source, beginning
from vcae.errors import AudioError, VcaeError
from vcae.files import TensorFileError, load_tensors, save_tensors
from vcae.inference.checkpoint import BUNDLED, FORMAT, CheckpointError
from vcae.inference.converter import Converter
from vcae.inference.voice import Voice
from vcae.model.prosody import PRIOR, F0Statistics

POPULATION = BUNDLED / "population.safetensors"
LEAST_SECRET = 16
"""Least length of a secret, in bytes."""
FAR = 0.45
"""Cosine of speaker codes that an invented voice stays below to everybody."""
MOST_DRAWS = 10_000
_OWN, _OWN_SECONDS = 3, 60.0  # recordings of a speaker, and seconds of each, that tell the own voice
_F0_STD = 0.08, 0.5  # limits of the standard deviation of log-F0, those of nearly all people
_F0_FRAMES = 1_000.0  # of an invented voice: a voiced speech of ten seconds


@dataclass(frozen=True)
class Population:
    """A statistical model of voices: a Gaussian mixture of principal components of the voices' `vector`.

    mean: (V,). scale: (V,), of the standardised vector. components: (V, K). shares: (G,), of the groups.
    centres: (G, K). factors: (G, K, K), Cholesky factors of the covariances. people: (N, E), unit norm,
    speaker codes of the reference set. tokens: their shape. made_by: hash of the speaker encoder.
    """

    mean: Tensor
    scale: Tensor
    components: Tensor
    shares: Tensor
    centres: Tensor
    factors: Tensor
    people: Tensor
    tokens: tuple[int, int]
    made_by: str

    @classmethod
    def of(cls, voices: Sequence[Voice], components: int = 40, border: float = 155.0) -> "Population":
        """Fit to voices of different speakers, in two groups: a mean F0 below `border`, in Hz, and above.

        Raises VcaeError for too few voices.
        """
        vectors = torch.stack([vector(voice) for voice in voices])
        high = torch.tensor([voice.f0.mean for voice in voices]).exp() > border
        groups = [vectors[~high], vectors[high]]
        if min(map(len, groups)) < 4:
            raise VcaeError(
                f"{len(groups[0])} low and {len(groups[1])} high voices are too few; give four of each"
            )
        parts = _parts(voices[0])
        mean = vectors.mean(0)
        # Each part has the same weight, whatever its unit and its number of elements.
        spread = [part.square().sum(-1).mean().sqrt() for part in (vectors - mean).split(parts, dim=1)]
        scale = torch.cat([x.expand(size) for x, size in zip(spread, parts, strict=True)])
        kept = min(components, len(voices) - 1)
        basis = torch.linalg.svd((vectors - mean) / scale, full_matrices=False)[2][:kept].T
        latents = [(group - mean) / scale @ basis for group in groups]
        centres = torch.stack([each.mean(0) for each in latents])
        pooled = torch.cat([each - centre for each, centre in zip(latents, centres, strict=True)])
        factors = []
        for each, centre in zip(latents, centres, strict=True):
            # A tenth of the covariance of all keeps that of a small group regular.
            own, every = ((x.T @ x) / len(x) for x in (each - centre, pooled))
            covariance = 0.9 * own + 0.1 * every
            factors.append(torch.linalg.cholesky(covariance + 1e-6 * covariance.trace() * torch.eye(kept)))
        return cls(
            mean,
            scale,
            basis,
            torch.tensor([len(group) / len(voices) for group in groups]),
            centres,
            torch.stack(factors),
            torch.stack([voice.embedding for voice in voices]),
            (voices[0].tokens.shape[0], voices[0].tokens.shape[1]),
            voices[0].made_by,
        )

    def save(self, path: Path, notes: dict[str, Any] | None = None) -> None:
        """Write a safetensors file; speaker codes have a precision of 8 bits. notes: on the data.

        Raises OutputError.
        """
        tensors = {name: getattr(self, name).half() for name in _HALF}
        tensors["people"] = (127 * self.people / self.people.abs().amax(1, keepdim=True)).round().char()
        config = {"tokens": self.tokens, "made_by": self.made_by}
        about = {"format": FORMAT, "kind": type(self).__name__, "config": config, "notes": notes or {}}
        save_tensors(path, tensors, about)

    @classmethod
    def load(cls, path: Path = POPULATION) -> "Population":
        """Read a file that `save` wrote. Raises CheckpointError."""
        try:
            tensors, about = load_tensors(path)
            people = F.normalize(tensors["people"].float(), dim=1)
            config = about["config"]
            rows, columns = config["tokens"]
            half = {name: tensors[name].float() for name in _HALF}
            return cls(**half, people=people, tokens=(rows, columns), made_by=config["made_by"])
        except (TensorFileError, KeyError, TypeError, ValueError) as error:
            reason = error.reason if isinstance(error, TensorFileError) else "it holds other tensors"
            raise CheckpointError(
                f"{path}: not a model of voices ({reason}); make one by recipes/population.py"
            ) from error

    def draw(self, numbers: Iterator[float]) -> Voice:
        """A voice of nobody. numbers: uniform in (0, 1), of which 1 + K are used."""
        group = int(next(numbers) >= float(self.shares[0]))
        normal = NormalDist()
        latent = torch.tensor([normal.inv_cdf(next(numbers)) for _ in range(self.components.shape[1])])
        x = self.mean + self.scale * (self.components @ (self.centres[group] + self.factors[group] @ latent))
        rows, columns = self.tokens
        embedding, tokens, f0 = x.split([self.people.shape[1], rows * columns, 2])
        mean, log_std = f0.tolist()
        std = min(max(math.exp(log_std), _F0_STD[0]), _F0_STD[1])
        # F0 statistics count the prior.
        statistics = F0Statistics.around(mean, std, _F0_FRAMES + PRIOR.frames) - PRIOR
        return Voice(F.normalize(embedding, dim=0), tokens.reshape(rows, columns), statistics, self.made_by)


_HALF = ("mean", "scale", "components", "shares", "centres", "factors")


def vector(voice: Voice) -> Tensor:
    """A voice as a vector: speaker code, timbre tokens, mean and log of the deviation of log-F0. (V,)"""
    f0 = torch.tensor([voice.f0.mean, voice.f0.std], dtype=torch.float32)
    return torch.cat([voice.embedding, voice.tokens.reshape(-1), f0[:1], f0[1:].log()])


class Anonymizer:
    """Gives each speaker an invented voice, the same for each secret and name.

    secret: at least `LEAST_SECRET` bytes, or a text of this length in UTF-8. Keep it to yourself: with it and
    a list of names, anybody can tell which voice is whose. Raises VcaeError for a shorter secret, and
    VoiceError for a converter with another speaker encoder than the model of voices.
    """

    def __init__(
        self, converter: Converter, secret: bytes | str, population: Population | None = None
    ) -> None:
        self._secret = secret.encode() if isinstance(secret, str) else bytes(secret)
        if len(self._secret) < LEAST_SECRET:
            raise VcaeError(
                f"a secret of {len(self._secret)} bytes can be guessed; use {LEAST_SECRET} or more"
            )
        self.converter = converter
        self.population = population or Population.load()
        if self.population.made_by != converter.made_by:
            raise VcaeError(
                "invented voices are made for the bundled speaker encoder; use the model studio or live, or"
                " make a model of voices by recipes/population.py"
            )

    def voice(self, speaker: str, recordings: Sequence[Source] = ()) -> Voice:
        """The invented voice of a speaker.

        speaker: a name, by which the voice is found again. recordings: of this speaker. The cosine of the
        voice's speaker code to everyone in the reference set is below `FAR`, and so is that to the own voice
        in the first three recordings that can be read; those are the only effect of the recordings, and
        hardly ever change the voice. Raises VcaeError where no such voice is found.
        """
        own = self._own(recordings)
        people = self.population.people if own is None else torch.cat([self.population.people, own[None]])
        for number in range(MOST_DRAWS):
            voice = self.population.draw(_uniform(self._secret, speaker, number))
            if float((people @ voice.embedding).max()) < FAR:
                return voice
        raise VcaeError(f"no invented voice is far enough from everyone for {speaker}; take another secret")

    def _own(self, recordings: Sequence[Source]) -> Tensor | None:
        """The speaker code of the first recordings that can be read: (E,), unit norm."""
        codes: list[Any] = []
        for recording in recordings:
            if len(codes) == _OWN:
                break
            with suppress(AudioError):  # conversion reports it
                codes.append(torch.from_numpy(self.converter.embed(beginning(recording, _OWN_SECONDS))))
        return F.normalize(torch.stack(codes).mean(0), dim=0) if codes else None


def _uniform(secret: bytes, speaker: str, draw: int) -> Iterator[float]:
    """Random numbers in (0, 1) that only the secret, the speaker's name and the number of the draw decide."""
    block = 0
    while True:
        message = b"vcae voice 1\0%d\0%d\0" % (draw, block) + speaker.encode("utf-8", "surrogateescape")
        digest = hmac.digest(secret, message, "sha256")
        for start in range(0, len(digest), 8):
            number = int.from_bytes(digest[start : start + 8], "big") >> 11
            yield (number + 0.5) / 2**53
        block += 1


def _parts(voice: Voice) -> list[int]:
    """Sizes of the parts of a vector: speaker code, timbre tokens, mean F0, deviation of F0."""
    return [voice.embedding.numel(), voice.tokens.numel(), 1, 1]
