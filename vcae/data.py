"""Training data: a whole corpus in memory, and batches cut from it on whatever device trains.

A `Bank` holds every recording as 16-bit samples in one long tensor, a speaker's recordings side by side,
with F0 labels along. Tens of hours fit into a few GB, so on a GPU the bank lives there, and cropping,
changing speed and making mels never wait for a data loader.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor

from vcae.audio import LEVEL, AudioError, loudness, read
from vcae.corpora import Utterance, refuse_held_out
from vcae.mel import MelConfig
from vcae.phones import PHONES, align_phones
from vcae.prosody import f0_labels
from vcae.tensors import load_tensors, save_tensors


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


def prepare(utterances: Iterable[Utterance], mel: MelConfig, processes: int = 1) -> Bank:
    """Read recordings, label their F0 and, where they have English text, their phones; a bank.

    Silence at the ends is cut off.

    Unreadable files are told and left out. Raises HeldOutError for speakers kept for testing, AudioError
    if nothing is left.
    """
    ordered = sorted(utterances, key=lambda u: (u.speaker, u.id, u.path))
    refuse_held_out(ordered)
    console = Console(stderr=True)
    with ProcessPoolExecutor(processes, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        work = pool.map(_prepare_one, ordered, [mel] * len(ordered), chunksize=16)
        results = list(track(work, "Reading and labelling", total=len(ordered), console=console))
    kept = [(u, *r) for u, r in zip(ordered, results, strict=True) if not isinstance(r, str)]
    for problem in (r for r in results if isinstance(r, str)):
        console.print(f"left out: {problem}", highlight=False, markup=False, soft_wrap=True)
    if not kept:
        raise AudioError("no recording could be read; is the corpus unpacked where you say it is?")
    names = sorted({u.speaker for u, *_ in kept})
    labelled = {u.speaker: u.labelled for u, *_ in kept}
    lengths = np.cumsum([0] + [len(samples) for _, samples, *_ in kept])
    return Bank(
        samples=torch.from_numpy(np.concatenate([s for _, s, *_ in kept])),
        f0=torch.from_numpy(np.concatenate([f for *_, f, _ in kept])),
        phones=torch.from_numpy(np.concatenate([p for *_, p in kept])),
        starts=torch.from_numpy(lengths),
        speakers=torch.tensor([names.index(u.speaker) for u, *_ in kept]),
        labelled=torch.tensor([labelled[n] for n in names]),
        speaker_names=names,
        ids=[u.id for u, *_ in kept],
        texts=[u.text if u.language == "en" else None for u, *_ in kept],
        hop_length=mel.hop_length,
        sample_rate=mel.sample_rate,
    )


_Prepared = tuple[NDArray[np.int16], NDArray[np.float16], NDArray[np.int8]]


def _prepare_one(utterance: Utterance, mel: MelConfig) -> _Prepared | str:
    """Samples (whole code frames), F0 (one a hop) and phones (one a code frame), or what is wrong."""
    from librosa.effects import trim

    try:
        x = read(utterance.path, mel.sample_rate).samples
    except AudioError as error:
        return str(error)
    margin = mel.sample_rate // 10
    _, (begin, end) = trim(x, top_db=40)
    x = x[max(begin - margin, 0) : end + margin]
    x = x[: len(x) // (2 * mel.hop_length) * (2 * mel.hop_length)]
    level = loudness(x, mel.sample_rate) if len(x) else -np.inf
    if len(x) < mel.sample_rate // 4 or level < -90:
        return f"{utterance.path}: less than a quarter second of sound"
    x *= min(10 ** ((LEVEL - level) / 20), 0.99 / float(np.abs(x).max()))
    f0 = f0_labels(x, mel.sample_rate, mel.hop_length)[: len(x) // mel.hop_length]
    phones = np.full(len(x) // (2 * mel.hop_length), -1, dtype=np.int8)
    if utterance.text and utterance.language == "en":
        middles = (np.arange(len(phones)) + 0.5) * 2 * mel.hop_length / mel.sample_rate
        for phone in align_phones(x, mel.sample_rate, utterance.text):
            begin, end = np.searchsorted(middles, (phone.start, phone.end))
            phones[begin:end] = PHONES.index(phone.name)
    return (x * 32767).astype(np.int16), f0.astype(np.float16), phones
