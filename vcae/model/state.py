"""State of causal modules between two blocks of a stream.

The `forward` of every causal module takes an optional cache. Without a cache, the input is a whole signal,
preceded by zeros. With a cache, the input continues that of the previous call, and the outputs of successive
calls equal those of one call on the whole signal. The caller owns the cache, a dict that starts empty, so any
number of streams can share one model.
"""

from typing import TypeAlias

import torch
from torch import Tensor

Cache: TypeAlias = dict[object, Tensor]
"""State by owner: the module itself, or `(module, name)` for a module with several tensors of state."""


def with_past(x: Tensor, past: int, cache: Cache | None, owner: object, dim: int = -1) -> Tensor:
    """Prepend the `past` frames that precede `x`: (..., T) -> (..., past + T), time being dimension `dim`.

    At the start of a signal they are zeros. The newest frames are stored in the cache, if there is one.
    """
    if past == 0:
        return x
    before = None if cache is None else cache.get(owner)
    if before is None:
        shape = list(x.shape)
        shape[dim] = past
        before = x.new_zeros(shape)
    x = torch.cat([before, x], dim)
    if cache is not None:
        newest = x.narrow(dim, -past, past)
        # The clone allows the block to be freed; for a short block that would not be worth the time.
        cache[owner] = newest if x.shape[dim] < 4 * past else newest.clone()
    return x


def delay(x: Tensor, frames: int, cache: Cache | None, owner: object) -> Tensor:
    """Delay a signal by `frames`: (..., T) -> (..., T), starting with zeros."""
    return with_past(x, frames, cache, owner)[..., : x.shape[-1]]


def overlap_add(frames: Tensor, cache: Cache | None, owner: object) -> Tensor:
    """Sum of windows that start a quarter of their length apart: (B, W, T) -> (B, 1, T * W / 4).

    The output is late: quarter q of a window is added q frames after the window's own.
    """
    count = frames.shape[-1]
    quarters = with_past(frames, 3, cache, owner).unflatten(1, (4, -1))  # (B, 4, W / 4, 3 + T)
    hops = sum(quarters[:, q, :, 3 - q : 3 - q + count] for q in range(4))  # (B, W / 4, T)
    return hops.mT.flatten(1).unsqueeze(1)
