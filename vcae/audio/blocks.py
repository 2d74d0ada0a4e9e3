"""Waveforms in blocks: cut and join."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]
Progress: TypeAlias = Callable[[str, float, float | None], None]
"""Told of long work: what is being done, how many seconds of sound have been, and of how many, if known."""

BLOCK_SIZE = 2**16  # samples decoded or encoded at a time


def cut(blocks: Iterable[Samples], size: int) -> Iterator[Samples]:
    """Blocks of any size as blocks of `size` samples; the last one is shorter where they do not fit."""
    pending: list[Samples] = []
    count = 0
    for block in blocks:
        pending.append(block)
        count += len(block)
        if count >= size:
            whole = np.concatenate(pending)
            count %= size
            yield from split(whole[: len(whole) - count], size)
            pending = [whole[len(whole) - count :]]
    if count:
        yield np.concatenate(pending)


def concatenate(blocks: Iterable[Samples]) -> Samples:
    """One waveform of blocks, without holding everything twice."""
    gathered = bytearray()  # which grows in place
    for block in blocks:
        gathered += block.tobytes()
    return np.frombuffer(gathered, dtype=np.float32)


def split(samples: npt.NDArray[Any], size: int = BLOCK_SIZE) -> Iterator[npt.NDArray[Any]]:
    """Pieces of `size` samples of an array (N,); the last one may be shorter."""
    return (samples[start : start + size] for start in range(0, len(samples), size))
