"""Training data: a whole corpus in memory, and batches cut from it on whatever device trains.

A `Bank` holds every recording as 16-bit samples in one long tensor, a speaker's recordings side by side,
with F0 labels along. Tens of hours fit into a few GB, so on a GPU the bank lives there, and cropping,
changing speed and making mels never wait for a data loader.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vcae.files import load_tensors, save_tensors


class Batch(NamedTuple):
    """Crops of speech.

    source: (B, 1, N). reference: (B, 1, R), other speech of the same speaker. f0: (B, N / hop) in Hz, zero
    where unvoiced, frame t at sample hop * t. speaker: (B,) index, -1 where unknown. phones: (B, N / 2 hop)
    indices at half the frame rate, -1 where unknown. Speed changes are folded into `speaker`: a recording
    played faster is another speaker.
    """

    source: Tensor
    reference: Tensor
    f0: Tensor
    speaker: Tensor
    phones: Tensor


@dataclass
class Bank:
    """Every recording of a corpus. Samples are int16; recordings of a speaker follow one another.

    starts: (U + 1,) first sample of each recording, whole hops. speakers: (U,) speaker of each. phones: one
    label for two hops, -1 where unknown. labelled: (S,) whether the speaker is known at all.
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
    runs: Tensor = field(init=False)

    def __post_init__(self) -> None:
        last = torch.searchsorted(self.speakers, torch.arange(len(self.speaker_names)), right=True)
        self.runs = torch.cat([self.starts[:1], self.starts[last]])  # (S + 1,) first sample of each speaker

    @property
    def hours(self) -> float:
        """How much there is."""
        return len(self.samples) / self.sample_rate / 3600

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
        for name in ("samples", "f0", "phones", "runs", "labelled"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def speaker_weights(self, power: float = 0.3, at_most: dict[str, float] | None = None) -> Tensor:
        """How often each speaker is drawn, (S,), sums to 1: in proportion to hours ** power.

        `at_most` caps the share of all speakers whose name starts with a prefix.
        """
        weights = (self.runs[1:] - self.runs[:-1]).double().cpu().clamp(min=1) ** power
        weights /= weights.sum()
        groups = [
            (share, torch.tensor([name.startswith(prefix) for name in self.speaker_names]))
            for prefix, share in (at_most or {}).items()
        ]
        free = torch.ones_like(weights, dtype=torch.bool)
        # What one cap takes away may lift another group over its own, so until none is over.
        while over := [(s, g) for s, g in groups if (g & free).any() and weights[g].sum() > s]:
            for share, group in over:
                weights[group] *= share / weights[group].sum()
                free &= ~group
            if free.any():
                weights[free] *= (1 - weights[~free].sum()) / weights[free].sum()
        return (weights / weights.sum()).to(self.samples.device)

    def cut(self, speaker: Tensor, start: Tensor, rate: Tensor, length: int) -> Tensor:
        """Speech of each speaker from a fraction of what there is: -> (B, 1, length) in [-1, 1].

        speaker (B,), start (B,) in samples from the speaker's first, rate (B,) the speed (cubic
        interpolation). What runs over the end goes on at the start.
        """
        begin = self.runs[speaker][:, None]
        run = (self.runs[speaker + 1] - self.runs[speaker])[:, None]
        at = start[:, None] + torch.arange(length, device=start.device) * rate[:, None].double()  # (B, N)
        whole = at.floor()
        t = (at - whole).float()

        def sample(offset: int) -> Tensor:
            return self.samples[begin + (whole.long() + offset) % run].float()

        a, b, c, d = (sample(k) for k in (-1, 0, 1, 2))  # Catmull and Rom's spline
        y = b + t / 2 * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
        return y.unsqueeze(1) / 32768

    def labels(self, of: Tensor, speaker: Tensor, start: Tensor, step: Tensor, length: int) -> Tensor:
        """Labels along a cut: `of` is f0 or phones, start and step in its frames -> (B, length)."""
        hop = len(self.samples) // len(of)
        begin = self.runs[speaker][:, None] // hop
        run = ((self.runs[speaker + 1] - self.runs[speaker]) // hop)[:, None]
        at = start[:, None] + torch.arange(length, device=start.device) * step[:, None]
        return of[begin + at.round().long() % run]


@dataclass
class Sampler:
    """Draws batches from a bank; the batch of a step depends on nothing but its generator.

    weights: how often each speaker is drawn, as `Bank.speaker_weights` gives it. seconds, reference_seconds:
    lengths of the crops. speeds: what is drawn from for pseudo-speakers, each a
    new speaker; the first must be 1. rates: the speeds, where the bank is by now.
    """

    bank: Bank
    weights: Tensor
    batch_size: int
    seconds: float
    reference_seconds: float
    speeds: Sequence[float] = (1.0, 0.82, 0.87, 0.91, 0.96, 1.04, 1.09, 1.15, 1.22)
    gain_db: tuple[float, float] = (-12.0, 6.0)
    rates: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.rates = torch.tensor(self.speeds, device=self.bank.samples.device)

    @property
    def speakers(self) -> int:
        """How many there are, pseudo-speakers counted."""
        return len(self.bank.speaker_names) * len(self.speeds)

    def batch(self, generator: torch.Generator) -> Batch:
        """Draw one batch, on the generator's device, where the bank must be."""
        bank, hop = self.bank, self.bank.hop_length
        grid = 2 * hop  # sources start on a whole code frame, so that labels stay in step
        length = round(self.seconds * bank.sample_rate) // grid * grid
        other = round(self.reference_seconds * bank.sample_rate) // grid * grid
        on: dict[str, Any] = {"generator": generator, "device": generator.device}
        speaker = torch.multinomial(self.weights, self.batch_size, replacement=True, generator=generator)
        draws = torch.rand(3, self.batch_size, dtype=torch.float64, **on)
        # Half the batch is left as it is.
        which = torch.randint(2 * len(self.speeds), (self.batch_size,), **on)
        which = which.where(which < len(self.speeds), 0)
        rate = self.rates[which]

        run = bank.runs[speaker + 1] - bank.runs[speaker]
        start = (draws[0] * run // grid) * grid
        source_run = (length * rate).double()
        free = (run - source_run - (other * rate).double()).clamp(min=0)
        elsewhere = start + source_run + draws[1] * free
        low, high = self.gain_db
        gain = 10 ** ((low + draws[2] * (high - low)) / 20).float()[:, None, None]
        f0 = bank.labels(bank.f0, speaker, start / hop, rate, length // hop).float() * rate[:, None]
        phones = bank.labels(bank.phones, speaker, start / grid, rate, length // grid).long()
        label = (speaker * len(self.speeds) + which).where(bank.labelled[speaker], -1)
        return Batch(
            (bank.cut(speaker, start, rate, length) * gain).clamp(-1, 1),
            bank.cut(speaker, elsewhere, rate, other),
            f0,
            label,
            phones,
        )
