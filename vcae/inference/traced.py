"""Networks as functions of nothing but tensors, so that they can be traced and exported."""

import threading
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.backends import mkldnn

from vcae.model.state import Cache


class TensorFunction(nn.Module):
    """A function of named tensors that uses modules, and then a cache of theirs, a tensor for each owner.

    Until `keep_cache` the inputs are whole signals, and the cache stays inside. It is to be run, not trained.
    """

    def __init__(self, call: Callable[..., Any], inputs: str, outputs: str, **modules: nn.Module) -> None:
        """`call` takes the inputs, by their order, and a cache; its outputs are one tensor or a tuple."""
        super().__init__()
        self.call = call
        self.inputs, self.outputs = inputs.split(), outputs.split()
        self.owners: list[object] = []
        for name, module in modules.items():
            self.add_module(name, module)
        self.eval()

    def zeros(self, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """An example of the inputs."""
        return {name: torch.zeros(shapes[name]) for name in self.inputs}

    def keep_cache(self, inputs: dict[str, Any]) -> dict[str, Tensor]:
        """From now on, take the cache behind the inputs, a tensor for each owner; what they begin with."""
        cache = _Asked()
        self.call(*inputs.values(), cache)
        names = {module: name for name, module in self.named_modules()}
        begin = {}
        for owner, kept in cache.items():
            module, *part = owner if isinstance(owner, tuple) else (owner,)
            first = cache.first[owner]
            first = torch.zeros_like(kept) if first is None else first.expand_as(kept).contiguous()
            begin[".".join(["cache", names[module], *part])] = first
        self.owners = list(cache)
        return begin

    def forward(self, *tensors: Any) -> tuple[Tensor, ...]:
        """Inputs and cache -> outputs and the cache for the next block."""
        count = len(self.inputs)
        cache: Cache = dict(zip(self.owners, tensors[count:], strict=True))
        out = self.call(*tensors[:count], cache)
        outputs = (out,) if isinstance(out, Tensor) else out
        return (*outputs, *(cache[owner] for owner in self.owners))


class Traced:
    """A network for inputs of the shapes of an example, run by TorchScript: without Python between its parts.

    Where there is little to compute, that takes two thirds of the time. The weights stay as they are now.
    torch deprecates TorchScript. A torch without it runs the network as it is, with oneDNN off all the same.
    """

    @torch.no_grad()
    def __init__(self, network: TensorFunction, inputs: dict[str, Any]) -> None:
        for module in network.modules():
            if isinstance(module, nn.Linear) and module.out_features > module.in_features:
                # Laid out input by input, a matrix that widens is read quicker for a frame or two.
                module.weight.data = module.weight.data.mT.contiguous().mT
        begin = network.keep_cache(inputs)
        self._begin = dict(zip(network.owners, begin.values(), strict=True))
        example = (*inputs.values(), *begin.values())
        self._graph: Any = network
        if hasattr(torch.jit, "trace") and hasattr(torch.jit, "freeze"):
            # Ignored: that TorchScript is deprecated, and what depends on a shape, which stays the same.
            with warnings.catch_warnings(action="ignore"):
                self._graph = torch.jit.freeze(torch.jit.trace(network, example, check_trace=False))
        for _ in range(3):  # the first times, it is still being optimised
            self._graph(*example)

    def __call__(self, *inputs: Any, cache: Cache) -> tuple[Tensor, ...]:
        """As the network's `call`; the cache is the same, so that either may go on from the other."""
        before = (cache.get(owner, first) for owner, first in self._begin.items())
        with _library_off:
            out: tuple[Tensor, ...] = self._graph(*inputs, *before)
        count = len(out) - len(self._begin)
        cache.update(zip(self._begin, out[count:], strict=True))
        return out[:count]


class _LibraryOff:
    """While any thread is within, oneDNN is off: for a frame or two, its calls take longer than the work."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._within = 0
        self._before: Any = True

    def __enter__(self) -> None:
        with self._lock:
            if not self._within:
                self._before = mkldnn.enabled
                mkldnn.enabled = False  # type: ignore[assignment]
            self._within += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._within -= 1
            if not self._within:
                mkldnn.enabled = self._before


_library_off = _LibraryOff()


class _Asked(dict[object, Tensor]):
    """A cache that notes what is taken in place of what it does not hold: None, for zeros, or a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.first: dict[object, Tensor | None] = {}

    def get(self, owner: object, default: Any = None) -> Any:
        self.first.setdefault(owner, default)
        return super().get(owner, default)
