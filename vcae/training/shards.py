"""Corpora beyond memory: shards in WebDataset's format, and a sampler that keeps a few of them in memory.

A shard is a tar file; a recording is KEY.flac, KEY.f0.npy, KEY.phones.npy and KEY.json in it (Aizman et al.,
"High performance I/O for large scale deep learning", 2019). Beside each is NAME.json: its length, its
speakers, and the recordings that could not be used. index.json, written last, lists them all.
"""

import hashlib
import io
import json
import random
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import torch
from torch import Tensor

from vcae.corpora.utterance import Utterance, refuse_held_out
from vcae.errors import AudioError, VcaeError
from vcae.files import replacing
from vcae.model.config import MelConfig
from vcae.progress import Track, untracked
from vcae.training.config import SamplerConfig
from vcae.training.data import Bank, Sampler
from vcae.training.labels import bank_key, prepare

INDEX = "index.json"
_SPEAKER_RUN = 20
"""Recordings of a speaker that stay together, so that a shard holds references for them."""


class ShardError(VcaeError):
    """Shards that cannot be read. One line that names the folder and the remedy."""


@dataclass(frozen=True)
class Shard:
    """What is known of a shard.

    name: of the file. seconds: of speech. speakers: whether each is a person. skipped: a line for each
    recording that could not be used.
    """

    name: str
    seconds: float
    speakers: dict[str, bool]
    skipped: list[str]


def write_shards(
    folder: Path,
    utterances: Iterable[Utterance],
    mel: MelConfig,
    recordings: int = 500,
    processes: int = 1,
    track: Track = untracked,
) -> list[Shard]:
    """Label recordings and write them as shards of so many, mixed at random, and the index.

    A shard that an earlier run has finished is kept. Raises HeldOutError, OutputError, and AudioError where
    nothing can be used.
    """
    utterances = list(utterances)
    refuse_held_out(utterances)
    folder.mkdir(parents=True, exist_ok=True)
    key = bank_key(utterances, mel)
    made = []
    for number, part in enumerate(track(list(_parts(utterances, recordings)), "Writing shards")):
        about = folder / f"{key}-{number:05d}.json"
        if not about.exists():
            _write_one(about.with_suffix(".tar"), part, mel, processes)
        made.append(Shard(**json.loads(about.read_text(encoding="utf-8"))))
    if not any(shard.seconds for shard in made):
        raise AudioError("no recording could be read; is the corpus unpacked where you say it is?")
    index = {"mel": asdict(mel), "key": key, "shards": [asdict(shard) for shard in made if shard.seconds]}
    _write_json(folder / INDEX, index)
    return made


def _parts(utterances: Sequence[Utterance], size: int) -> Iterator[list[Utterance]]:
    """Recordings in groups of about `size`: runs of each speaker, in random order."""
    speakers: dict[str, list[Utterance]] = defaultdict(list)
    for u in sorted(utterances, key=lambda u: (u.speaker, u.id, u.path)):
        speakers[u.speaker].append(u)
    runs = [
        group[k : k + _SPEAKER_RUN] for group in speakers.values() for k in range(0, len(group), _SPEAKER_RUN)
    ]
    random.Random(0).shuffle(runs)  # noqa: S311 -- reproducible, not secret
    part: list[Utterance] = []
    for run in runs:
        part += run
        if len(part) >= size:
            yield part
            part = []
    if part:
        yield part


def _write_one(path: Path, part: Sequence[Utterance], mel: MelConfig, processes: int) -> None:
    """Write a shard, then what is beside it. Raises OutputError."""
    try:
        bank, skipped = prepare(part, mel, processes)
    except AudioError:
        skipped = [f"{u.path}: cannot be used" for u in part]
        _write_json(path.with_suffix(".json"), asdict(Shard(path.name, 0.0, {}, skipped)))
        return
    write_bank(path, bank)
    speakers = dict(zip(bank.speaker_names, bank.labelled.tolist(), strict=True))
    shard = Shard(path.name, len(bank.samples) / bank.sample_rate, speakers, skipped)
    _write_json(path.with_suffix(".json"), asdict(shard))


def write_bank(path: Path, bank: Bank) -> None:
    """Write a bank as a shard. Raises OutputError."""
    grid = 2 * bank.hop_length
    with replacing(path) as unfinished, tarfile.open(unfinished, "w") as archive:
        for number, name in enumerate(bank.ids):
            begin, end = bank.starts[number : number + 2].tolist()
            speaker = int(bank.speakers[number])
            about = {
                "id": name,
                "speaker": bank.speaker_names[speaker],
                "labelled": bool(bank.labelled[speaker]),
                "text": bank.texts[number],
            }
            flac = io.BytesIO()
            soundfile.write(
                flac, bank.samples[begin:end].numpy(), bank.sample_rate, format="FLAC", subtype="PCM_16"
            )
            f0 = bank.f0[begin // bank.hop_length : end // bank.hop_length]
            members = {
                "flac": flac.getvalue(),
                "f0.npy": _npy(f0.numpy()),
                "phones.npy": _npy(bank.phones[begin // grid : end // grid].numpy()),
                "json": json.dumps(about).encode(),
            }
            for suffix, content in members.items():
                member = tarfile.TarInfo(f"{number:06d}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def read_bank(path: Path, mel: MelConfig, speakers: Sequence[str], labelled: Sequence[bool]) -> Bank:
    """Read a shard as a bank among these speakers, of whom some may have no recording in it.

    Raises ShardError.
    """
    index = {name: number for number, name in enumerate(speakers)}
    samples: dict[str, dict[str, bytes]] = defaultdict(dict)
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name, _, suffix = member.name.partition(".")
                if content := archive.extractfile(member):
                    samples[name][suffix] = content.read()
        rows = [
            (
                json.loads(each["json"]),
                soundfile.read(io.BytesIO(each["flac"]), dtype="int16")[0],
                *(np.load(io.BytesIO(each[name]), allow_pickle=False) for name in ("f0.npy", "phones.npy")),
            )
            for each in samples.values()
        ]
        rows.sort(key=lambda row: index[row[0]["speaker"]])
    except (OSError, KeyError, ValueError, tarfile.TarError, soundfile.SoundFileError) as error:
        reason = " ".join(str(error).split())[:100]
        raise ShardError(f"{path}: is no shard of this folder ({reason}); write it again") from None
    lengths = np.cumsum([0] + [len(row[1]) for row in rows])
    return Bank(
        samples=torch.from_numpy(np.concatenate([row[1] for row in rows])),
        f0=torch.from_numpy(np.concatenate([row[2] for row in rows])),
        phones=torch.from_numpy(np.concatenate([row[3] for row in rows])),
        starts=torch.from_numpy(lengths),
        speakers=torch.tensor([index[row[0]["speaker"]] for row in rows]),
        labelled=torch.tensor(labelled),
        speaker_names=list(speakers),
        ids=[row[0]["id"] for row in rows],
        texts=[row[0]["text"] for row in rows],
        hop_length=mel.hop_length,
        sample_rate=mel.sample_rate,
    )


class Shards:
    """The shards of a folder. Raises ShardError where `write_shards` has not finished, or for another mel."""

    def __init__(self, folder: Path, mel: MelConfig) -> None:
        try:
            index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            self.shards = [Shard(**each) for each in index["shards"]]
            self.key, of_mel = index["key"], MelConfig(**index["mel"])
        except (OSError, ValueError, KeyError, TypeError):
            raise ShardError(
                f"{folder}: holds no index of shards; write it by `vcae shard`, or let that finish"
            ) from None
        if of_mel != mel:
            raise ShardError(f"{folder}: was written for another mel; write shards for this one")
        self.folder, self.mel = folder, mel
        found: dict[str, bool] = {}
        for shard in self.shards:
            found |= shard.speakers
        self.speakers = sorted(found)
        self.labelled = [found[name] for name in self.speakers]

    @property
    def seconds(self) -> float:
        """Seconds of speech."""
        return sum(shard.seconds for shard in self.shards)

    def read(self, number: int) -> Bank:
        """A shard as a bank. Raises ShardError."""
        return read_bank(self.folder / self.shards[number].name, self.mel, self.speakers, self.labelled)

    def all(self) -> Bank:
        """All shards as one bank, such as speech to validate with. Raises ShardError."""
        return join([self.read(number) for number in range(len(self.shards))])

    def order(self, position: int, seed: int = 0) -> int:
        """The shard at a position of an endless sequence, which holds each once before the next round."""
        round_, at = divmod(position, len(self.shards))
        numbers = list(range(len(self.shards)))
        random.Random(f"{seed}-{round_}").shuffle(numbers)  # noqa: S311 -- reproducible, not secret
        return numbers[at]


class ShardSampler(Sampler):
    """Draws batches from a few shards at a time; which ones depends on nothing but the step.

    Each shard stays for `window` positions, so that a batch mixes the speakers of several, and as much
    speech is drawn in its time as it holds. The next one is read in the background.
    """

    def __init__(
        self, shards: Shards, config: SamplerConfig, window: int = 4, device: str | torch.device = "cpu"
    ) -> None:
        self.shards, self.window, self.device = shards, min(window, len(shards.shards)), torch.device(device)
        mean = shards.seconds / len(shards.shards)
        self.steps = max(1, round(mean / (config.batch_size * config.seconds)))
        """Steps until one shard is replaced."""
        self._reader = ThreadPoolExecutor(1)
        self._recordings: list[_Recording] = []  # of the bank, which alone holds the shards
        self._ahead: dict[int, Future[Bank]] = {}
        self._position = -1
        super().__init__(self._at(0), config)

    def seek(self, step: int) -> None:
        """Have the shards of a step in memory. Raises ShardError."""
        position = step // self.steps
        if position != self._position:
            self.use(self._at(position))

    def _at(self, position: int) -> Bank:
        """The bank of all shards at positions from this one on."""
        wanted = range(position, position + self.window)
        recordings = [each for each in self._recordings if each.position in wanted]
        for at in set(wanted) - {each.position for each in recordings}:
            coming = self._ahead.pop(at, None) or self._submit(at)
            recordings += _recordings(coming.result().to(self.device), at)
        recordings.sort()
        self._ahead = {wanted.stop: self._submit(wanted.stop)} if len(self.shards.shards) > 1 else {}
        self._position = position
        key = hashlib.sha256(f"{self.shards.key} {self.window}".encode()).hexdigest()[:16]
        bank = replace(_joined(recordings), identity=key).to(self.device)
        self._recordings = [each._replace(number=u, bank=bank) for u, each in enumerate(recordings)]
        return bank

    def _submit(self, position: int) -> "Future[Bank]":
        return self._reader.submit(self.shards.read, self.shards.order(position))


class _Recording(NamedTuple):
    """A recording among several shards, in the order of a bank. number: in its own bank."""

    speaker: int
    position: int
    number: int
    bank: Bank

    @property
    def borders(self) -> tuple[int, int]:
        """First sample, and the one after the last."""
        begin, end = self.bank.starts[self.number : self.number + 2].tolist()
        return begin, end


def join(banks: Sequence[Bank]) -> Bank:
    """Banks of the same speakers as one, where the recordings of each speaker follow one another."""
    return _joined(sorted(each for at, bank in enumerate(banks) for each in _recordings(bank, at)))


def _recordings(bank: Bank, position: int) -> list[_Recording]:
    return [_Recording(int(s), position, u, bank) for u, s in enumerate(bank.speakers)]


def _joined(recordings: Sequence[_Recording]) -> Bank:
    """Recordings of banks of the same speakers as a bank, in this order."""
    first = recordings[0].bank

    def cat(name: str, hop: int) -> Tensor:
        parts = []
        for each in recordings:
            begin, end = each.borders
            parts.append(getattr(each.bank, name)[begin // hop : end // hop])
        return torch.cat(parts)

    lengths = [end - begin for begin, end in (each.borders for each in recordings)]
    return replace(
        first,
        samples=cat("samples", 1),
        f0=cat("f0", first.hop_length),
        phones=cat("phones", 2 * first.hop_length),
        starts=torch.tensor([0, *lengths]).cumsum(0),
        speakers=torch.tensor([each.speaker for each in recordings]),
        ids=[each.bank.ids[each.number] for each in recordings],
        texts=[each.bank.texts[each.number] for each in recordings],
    )


def _npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _write_json(path: Path, content: Any) -> None:
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1), encoding="utf-8")
