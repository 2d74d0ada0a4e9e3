"""Training labels: F0 and phones of recordings, and the bank that holds them."""

from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from vcae.audio import LEVEL, loudness, read
from vcae.corpora.phones import PHONES, align_phones
from vcae.corpora.utterance import Utterance, refuse_held_out
from vcae.errors import AudioError
from vcae.model.config import MelConfig
from vcae.model.prosody import F0_CEIL, F0_FLOOR
from vcae.training.data import Bank


def f0_labels(samples: NDArray[np.float32], sample_rate: int, hop_length: int) -> NDArray[np.float32]:
    """F0 in Hz, zero where unvoiced: (N,) -> (1 + N // hop_length,), frame i at sample i * hop_length.

    WORLD's dio and stonemask (Morise et al., 2009 and 2010). Needs the extra `train`.
    """
    import pyworld

    x = samples.astype(np.float64)
    period = 1000 * hop_length / sample_rate  # ms
    f0, times = pyworld.dio(x, sample_rate, f0_floor=F0_FLOOR, f0_ceil=F0_CEIL, frame_period=period, speed=4)
    f0 = pyworld.stonemask(x, f0, times, sample_rate)[: 1 + len(samples) // hop_length]
    return np.where((f0 >= F0_FLOOR) & (f0 <= F0_CEIL), f0, 0).astype(np.float32)


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
