"""Exponential moving averages of weights."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@torch.no_grad()
def follow(slow: Iterable[Tensor], fast: Iterable[Tensor], rate: float) -> None:
    """Move the floating-point tensors of `slow` towards those of `fast` by a share, in place."""
    pairs = [(s, f) for s, f in zip(slow, fast, strict=True) if s.is_floating_point()]
    torch._foreach_lerp_([s for s, _ in pairs], [f for _, f in pairs], rate)


class EMA:
    """The average of the weights and buffers of some modules over the steps of training.

    `averages` holds it, by "module.key". Integer buffers are copied.
    """

    def __init__(self, modules: dict[str, nn.Module], decay: float) -> None:
        self.decay = decay
        self._current = {  # the very tensors that are trained
            f"{name}.{key}": t for name, module in modules.items() for key, t in module.state_dict().items()
        }
        self.averages = {n: t.detach().clone() for n, t in self._current.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step (from 0); early steps move the average further."""
        decay = min(self.decay, (1 + step) / (10 + step))
        follow(self.averages.values(), self._current.values(), 1 - decay)
        for name, t in self._current.items():
            if not t.is_floating_point():
                self.averages[name].copy_(t)

    @torch.no_grad()
    def load(self, averages: dict[str, Tensor]) -> None:
        """Take averages from a checkpoint. Raises KeyError or RuntimeError for other modules."""
        for name, t in self.averages.items():
            t.copy_(averages[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averages into the modules, and the weights back at the end."""
        weights = {n: t.clone() for n, t in self._current.items()}
        self._fill(self.averages)
        try:
            yield
        finally:
            self._fill(weights)

    @torch.no_grad()
    def _fill(self, values: dict[str, Tensor]) -> None:
        for name, t in self._current.items():
            t.copy_(values[name])
