"""Waveforms in blocks: cut and join."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

BLOCK_SIZE = 2**16  # samples decoded or encoded at a time


def cut(blocks: Iterable[Samples], size: int) -> Iterator[Samples]:
    """Blocks of any size as blocks of `size` samples; the last one may be shorter."""
    pending: list[Samples] = []
    count = 0
    for block in blocks:
        pending.append(block)
        count += len(block)
        if count >= size:
            joined = np.concatenate(pending)
            count %= size
            yield from split(joined[: len(joined) - count], size)
            pending = [joined[len(joined) - count :]]
    if count:
        yield np.concatenate(pending)


def concatenate(blocks: Iterable[Samples]) -> Samples:
    """Join blocks to one waveform, without a second copy in memory."""
    data = bytearray()  # grows in place
    for block in blocks:
        data += block.tobytes()
    return np.frombuffer(data, dtype=np.float32)


def split(samples: npt.NDArray[Any], size: int = BLOCK_SIZE) -> Iterator[npt.NDArray[Any]]:
    """Slices of `size` samples of an array (N,); the last one may be shorter."""
    return (samples[start : start + size] for start in range(0, len(samples), size))
