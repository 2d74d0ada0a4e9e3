"""Training data: a whole corpus in memory, and batches cut from it on the device that trains.

A `Bank` holds every recording as 16-bit samples in one long tensor, with labels of F0 and phones; the
recordings of a speaker follow one another. Tens of hours take a few GB, so that a GPU can hold the bank, and
no step waits for a data loader.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from vcae.files import load_tensors, save_tensors
from vcae.training.config import SamplerConfig


class Batch(NamedTuple):
    """Crops of speech.

    source: (B, 1, N). reference: (B, 1, R), other speech of the same speaker. f0: (B, N / hop) in Hz, zero
    where unvoiced, frame t at sample hop * t. speaker: (B,) index, -1 where unknown. phones: (B, N / 2 hop)
    indices at half the frame rate, -1 where unknown. Each speed of a speaker is a speaker of its own.
    """

    source: Tensor
    reference: Tensor
    f0: Tensor
    speaker: Tensor
    phones: Tensor


@dataclass
class Bank:
    """Every recording of a corpus: U recordings of S speakers, those of a speaker following one another.

    samples: (N,) int16. f0: (N / hop,) in Hz, zero where unvoiced. phones: (N / 2 hop,) indices, -1 where
    unknown. starts: (U + 1,) first sample of each recording, multiples of 2 hop. speakers: (U,) index of the
    speaker. labelled: (S,) whether the speaker's name is that of a person. ids, texts: of each recording.
    identity: fingerprint of the data that the bank is a part of, if it is.
    """

    samples: Tensor
    f0: Tensor
    phones: Tensor
    starts: Tensor
    speakers: Tensor
    labelled: Tensor
    speaker_names: list[str]
    ids: list[str]
    texts: list[str | None]
    hop_length: int = 160
    sample_rate: int = 16_000
    identity: str | None = None
    speaker_starts: Tensor = field(init=False)
    """(S + 1,) first sample of each speaker."""

    def __post_init__(self) -> None:
        last = torch.searchsorted(self.speakers, torch.arange(len(self.speaker_names)), right=True)
        self.speaker_starts = torch.cat([self.starts[:1], self.starts[last]])

    @property
    def hours(self) -> float:
        """Hours of speech."""
        return len(self.samples) / self.sample_rate / 3600

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that identify the data: a hash of ids, speakers, texts, lengths and rates."""
        if self.identity:
            return self.identity
        content = [self.sample_rate, self.hop_length, self.speaker_names, self.ids, self.texts]
        content += [self.starts.tolist(), self.speakers.tolist(), self.labelled.tolist()]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def save(self, path: Path) -> None:
        """Write everything as one safetensors file."""
        tensors = {n: getattr(self, n) for n in ("samples", "f0", "phones", "starts", "speakers", "labelled")}
        about = {"speaker_names": self.speaker_names, "ids": self.ids, "texts": self.texts}
        about |= {"hop_length": self.hop_length, "sample_rate": self.sample_rate}
        save_tensors(path, tensors, about)

    @classmethod
    def load(cls, path: Path) -> "Bank":
        """Read what `save` wrote. Raises TensorFileError."""
        tensors, about = load_tensors(path)
        return cls(**(tensors | about))

    def to(self, device: torch.device) -> "Bank":
        """Move the long tensors to a device, in place."""
        for name in ("samples", "f0", "phones", "speaker_starts", "labelled"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def part(self, begin: int, end: int) -> "Bank":
        """Samples from `begin` to `end`, rounded down to code frames, as one recording.

        Raises ValueError for a bank of several speakers.
        """
        if len(self.speaker_names) > 1:
            raise ValueError("only the speech of one speaker can be cut into parts")
        grid = 2 * self.hop_length
        a, b = begin // grid, end // grid  # in code frames
        return replace(
            self,
            samples=self.samples[a * grid : b * grid],
            f0=self.f0[2 * a : 2 * b],
            phones=self.phones[a:b],
            starts=torch.tensor([0, (b - a) * grid]),
            speakers=self.speakers[:1],
            ids=[f"{self.speaker_names[0]}-{a}-{b}"],
            texts=[None],
        )

    def speaker_probabilities(self, power: float = 0.3, at_most: dict[str, float] | None = None) -> Tensor:
        """How often each speaker is drawn, (S,), sums to 1: in proportion to hours ** power.

        at_most: prefix of speaker names -> largest share of all draws for these speakers together.
        """
        samples = (self.speaker_starts[1:] - self.speaker_starts[:-1]).double().cpu()
        shares = samples.clamp(min=1) ** power * (samples > 0)  # in a shard, some have none
        shares /= shares.sum()
        groups = [
            (share, torch.tensor([name.startswith(prefix) for name in self.speaker_names]))
            for prefix, share in (at_most or {}).items()
        ]
        free = torch.ones_like(shares, dtype=torch.bool)
        # A cap raises the shares of all others, perhaps over their own cap, so repeat until none is over.
        while over := [(s, g) for s, g in groups if (g & free).any() and shares[g].sum() > s]:
            for share, group in over:
                shares[group] *= share / shares[group].sum()
                free &= ~group
            if free.any():
                shares[free] *= (1 - shares[~free].sum()) / shares[free].sum()
        return (shares / shares.sum()).to(self.samples.device)

    def cut(self, speaker: Tensor, start: Tensor, rate: Tensor, length: int) -> Tensor:
        """Cut speech of each speaker: -> (B, 1, length) in [-1, 1].

        speaker: (B,). start: (B,) in samples from the speaker's first. rate: (B,) playback speed, by cubic
        interpolation. A cut that reaches the speaker's last sample continues at the first.
        """
        begin = self.speaker_starts[speaker][:, None]
        run = (self.speaker_starts[speaker + 1] - self.speaker_starts[speaker])[:, None]
        at = start[:, None] + torch.arange(length, device=start.device) * rate[:, None].double()  # (B, N)
        whole = at.floor()
        t = (at - whole).float()

        def sample(offset: int) -> Tensor:
            return self.samples[begin + (whole.long() + offset) % run].float()

        a, b, c, d = (sample(k) for k in (-1, 0, 1, 2))  # Catmull-Rom spline
        y = b + t / 2 * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
        return y.unsqueeze(1) / 32768

    def labels(self, track: Tensor, speaker: Tensor, start: Tensor, step: Tensor, length: int) -> Tensor:
        """Labels along a cut: `track` is f0 or phones, start and step are in its frames -> (B, length)."""
        hop = len(self.samples) // len(track)
        begin = self.speaker_starts[speaker][:, None] // hop
        run = ((self.speaker_starts[speaker + 1] - self.speaker_starts[speaker]) // hop)[:, None]
        at = start[:, None] + torch.arange(length, device=start.device) * step[:, None]
        return track[begin + at.round().long() % run]


_Drawn = TypeVar("_Drawn", covariant=True)


class BatchSource(ABC, Generic[_Drawn]):
    """Draws batches from a bank. A batch depends on nothing but the step sought and the random generator.

    parts: the sources that it draws from in turn, if any.
    """

    bank: Bank
    parts: "tuple[BatchSource[Any], ...]" = ()

    @abstractmethod
    def batch(self, rng: torch.Generator) -> _Drawn:
        """Draw one batch, on the generator's device, where the bank must be."""

    def seek(self, step: int) -> None:
        """Have in memory what a step, counted from 0, draws from. Raises ShardError."""
        for part in self.parts:
            part.seek(step)


class Sampler(BatchSource[Batch]):
    """Draws crops of speech.

    speaker_probabilities: how often each speaker is drawn, (S,); by default the bank's, by `config`.
    """

    def __init__(
        self, bank: Bank, config: SamplerConfig, speaker_probabilities: Tensor | None = None
    ) -> None:
        self.config = config
        self.rates = torch.tensor(config.speeds, device=bank.samples.device)  # read by a recorded step
        self.use(bank, speaker_probabilities)

    def use(self, bank: Bank, speaker_probabilities: Tensor | None = None) -> None:
        """Draw from a bank of the same speakers from now on."""
        self.bank = bank
        self.speaker_probabilities = (
            bank.speaker_probabilities(self.config.power, dict(self.config.at_most))
            if speaker_probabilities is None
            else speaker_probabilities
        )

    @property
    def speakers(self) -> int:
        """Number of speakers, pseudo-speakers included."""
        return len(self.bank.speaker_names) * len(self.config.speeds)

    def batch(self, rng: torch.Generator) -> Batch:
        """Draw one batch, on the generator's device, where the bank must be."""
        bank, config, hop = self.bank, self.config, self.bank.hop_length
        size, speeds = config.batch_size, len(config.speeds)
        grid = 2 * hop  # sources start on a whole code frame, so that labels stay in step
        length = round(config.seconds * bank.sample_rate) // grid * grid
        other = round(config.reference_seconds * bank.sample_rate) // grid * grid
        on: dict[str, Any] = {"generator": rng, "device": rng.device}
        speaker = torch.multinomial(self.speaker_probabilities, size, replacement=True, generator=rng)
        draws = torch.rand(3, size, dtype=torch.float64, **on)
        which = torch.randint(2 * speeds, (size,), **on)
        which = which.where(which < speeds, 0)  # half the batch keeps speed 1
        rate = self.rates[which]

        run = bank.speaker_starts[speaker + 1] - bank.speaker_starts[speaker]
        start = (draws[0] * run // grid) * grid
        source_run = (length * rate).double()
        free = (run - source_run - (other * rate).double()).clamp(min=0)
        elsewhere = start + source_run + draws[1] * free
        low, high = config.gain_db
        gain = 10 ** ((low + draws[2] * (high - low)) / 20).float()[:, None, None]
        f0 = bank.labels(bank.f0, speaker, start / hop, rate, length // hop).float() * rate[:, None]
        phones = bank.labels(bank.phones, speaker, start / grid, rate, length // grid).long()
        label = (speaker * speeds + which).where(bank.labelled[speaker], -1)
        return Batch(
            (bank.cut(speaker, start, rate, length) * gain).clamp(-1, 1),
            bank.cut(speaker, elsewhere, rate, other),
            f0,
            label,
            phones,
        )
