"""Training labels: F0 and phones of recordings, and the bank that holds them."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from vcae.audio import gain_to, loudness, read
from vcae.corpora.phones import align_phones
from vcae.corpora.utterance import Utterance, refuse_held_out
from vcae.errors import AudioError
from vcae.model.config import MelConfig
from vcae.model.phones import PHONES
from vcae.model.prosody import F0_CEIL, F0_FLOOR
from vcae.progress import Track, untracked
from vcae.training.data import Bank

_VERSION = 1  # to be raised with each change of what `prepare` makes of a recording


def f0_labels(samples: NDArray[np.float32], sample_rate: int, hop_length: int) -> NDArray[np.float32]:
    """F0 in Hz, zero where unvoiced: (N,) -> (1 + N // hop_length,), frame i at sample i * hop_length.

    By WORLD's dio and stonemask (Morise et al., 2009 and 2010). Needs the extra `train`.
    """
    import pyworld

    x = samples.astype(np.float64)
    period = 1000 * hop_length / sample_rate  # ms
    f0, times = pyworld.dio(x, sample_rate, f0_floor=F0_FLOOR, f0_ceil=F0_CEIL, frame_period=period, speed=4)
    f0 = pyworld.stonemask(x, f0, times, sample_rate)[: 1 + len(samples) // hop_length]
    return np.where((f0 >= F0_FLOOR) & (f0 <= F0_CEIL), f0, 0).astype(np.float32)


class Prepared(NamedTuple):
    """A bank, and one line for each recording that is not in it: the file and the reason."""

    bank: Bank
    skipped: list[str]


def bank_key(utterances: Iterable[Utterance], mel: MelConfig) -> str:
    """12 hexadecimal digits that identify the bank that `prepare` makes of these utterances.

    A hash of file names and sizes, speakers, ids, texts and the mel configuration; the folder of the corpora
    has no influence.
    """
    listed = [
        [u.path.name, _size(u.path), u.speaker, u.id, u.text, u.language, u.labelled]
        for u in _ordered(utterances)
    ]
    content = json.dumps([_VERSION, dataclasses.asdict(mel), listed])
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def find_or_prepare(
    folder: Path,
    name: str,
    utterances: Iterable[Utterance],
    mel: MelConfig,
    processes: int = 1,
    track: Track = untracked,
) -> Prepared:
    """The bank of these utterances, read from `folder`/NAME-KEY.bank if it is there, else made and written.

    Of a bank that is read, nothing is reported as skipped. Raises as `prepare`, TensorFileError for a damaged
    bank and OutputError where the bank cannot be written.
    """
    utterances = list(utterances)
    refuse_held_out(utterances)
    path = folder / f"{name}-{bank_key(utterances, mel)}.bank"
    if path.exists():
        return Prepared(Bank.load(path), [])
    prepared = prepare(utterances, mel, processes, track)
    prepared.bank.save(path)
    return prepared


def prepare(
    utterances: Iterable[Utterance], mel: MelConfig, processes: int = 1, track: Track = untracked
) -> Prepared:
    """Read recordings, cut off silence at their ends, and label F0 and, from English text, phones.

    Recordings that cannot be used are skipped. Raises HeldOutError for speakers kept for testing, AudioError
    if nothing is left.
    """
    import librosa.effects  # noqa: F401 -- takes seconds; processes that are forked inherit it
    import pyworld  # noqa: F401

    ordered = _ordered(utterances)
    refuse_held_out(ordered)
    with ProcessPoolExecutor(processes, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        results = pool.map(_prepare_one, ordered, [mel] * len(ordered), chunksize=16)
        pairs = list(zip(track(ordered, "Reading and labelling"), results, strict=True))
    skipped = [result for _, result in pairs if isinstance(result, str)]
    used = [(utterance, *result) for utterance, result in pairs if not isinstance(result, str)]
    if not used:
        raise AudioError("no recording could be read; is the corpus unpacked where you say it is?")
    names = sorted({u.speaker for u, *_ in used})
    labelled = {u.speaker: u.labelled for u, *_ in used}
    lengths = np.cumsum([0] + [len(samples) for _, samples, *_ in used])
    bank = Bank(
        samples=torch.from_numpy(np.concatenate([s for _, s, *_ in used])),
        f0=torch.from_numpy(np.concatenate([f for *_, f, _ in used])),
        phones=torch.from_numpy(np.concatenate([p for *_, p in used])),
        starts=torch.from_numpy(lengths),
        speakers=torch.tensor([names.index(u.speaker) for u, *_ in used]),
        labelled=torch.tensor([labelled[n] for n in names]),
        speaker_names=names,
        ids=[u.id for u, *_ in used],
        texts=[u.text if u.language == "en" else None for u, *_ in used],
        hop_length=mel.hop_length,
        sample_rate=mel.sample_rate,
    )
    return Prepared(bank, skipped)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _ordered(utterances: Iterable[Utterance]) -> list[Utterance]:
    return sorted(utterances, key=lambda u: (u.speaker, u.id, u.path))


_Labelled = tuple[NDArray[np.int16], NDArray[np.float16], NDArray[np.int8]]


def _prepare_one(utterance: Utterance, mel: MelConfig) -> _Labelled | str:
    """Samples (whole code frames), F0 (one a hop) and phones (one a code frame), or the problem as a line."""
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
    x *= min(gain_to(level), 0.99 / float(np.abs(x).max()))
    f0 = f0_labels(x, mel.sample_rate, mel.hop_length)[: len(x) // mel.hop_length]
    phones = np.full(len(x) // (2 * mel.hop_length), -1, dtype=np.int8)
    if utterance.text and utterance.language == "en":
        middles = (np.arange(len(phones)) + 0.5) * 2 * mel.hop_length / mel.sample_rate
        for phone in align_phones(x, mel.sample_rate, utterance.text):
            begin, end = np.searchsorted(middles, (phone.start, phone.end))
            phones[begin:end] = PHONES.index(phone.name)
    return (x * 32767).astype(np.int16), f0.astype(np.float16), phones
