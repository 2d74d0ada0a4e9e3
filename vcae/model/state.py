"""What a causal module remembers between two blocks of a stream.

Every causal module has one `forward` that takes an optional cache. Without it, the input is a whole
signal, preceded by silence (zeros). With it, the input continues the signal of the call before, and the
outputs of successive calls are those of one call on the whole. The caller owns the cache, an ordinary
dict that starts empty, so any number of streams can share one model.
"""

from typing import TypeAlias

import torch
from torch import Tensor

Cache: TypeAlias = dict[object, Tensor]
"""State by owner: the module itself, or `(module, name)` where a module keeps more than one."""


def with_past(x: Tensor, past: int, cache: Cache | None, owner: object, dim: int = -1) -> Tensor:
    """Put the `past` frames that came before `x` in front of it: (..., T) -> (..., past + T).

    They are zeros at the start of a signal. The cache, where there is one, then holds the newest frames.
    Time may be another dimension, `dim`.
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
        # A clone, so that the block itself can be freed; with a short one it is not worth its time.
        cache[owner] = newest if x.shape[dim] < 4 * past else newest.clone()
    return x


def delay(x: Tensor, frames: int, cache: Cache | None, owner: object) -> Tensor:
    """Shift a signal later by `frames`: (..., T) -> (..., T); what comes in first are zeros."""
    return with_past(x, frames, cache, owner)[..., : x.shape[-1]]
