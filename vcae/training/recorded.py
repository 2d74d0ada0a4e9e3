"""Training steps replayed from a CUDA graph."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vcae.training.stages.base import Phase


class RecordedStep:
    """Steps of a trainer, replayed from a CUDA graph of the phase (NVIDIA's graphs, as in PyTorch's notes on
    them): nothing in a step may depend on a value that the processor reads.

    In each new phase a few steps are made as usual first, while libraries choose their algorithms.
    """

    usual = 3

    def __init__(self, step: Callable[[Any, Phase], dict[str, Tensor]]) -> None:
        self.step = step
        self.stream = torch.cuda.Stream()
        self.kind: frozenset[str] | None = None
        self.steps = 0

    def __call__(self, batch: Any, phase: Phase) -> dict[str, Tensor]:
        """Make a step on a batch: its losses."""
        kind = phase.started - {"decay"}  # which changes the rate alone
        if kind != self.kind:
            self.kind, self.steps = kind, 0
        self.steps += 1
        if self.steps <= self.usual:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                result = self.step(batch, phase)
            torch.cuda.current_stream().wait_stream(self.stream)
            return result
        if self.steps == self.usual + 1:
            self.batch = type(batch)(*(x.clone() for x in batch))
            self.graph = torch.cuda.CUDAGraph()
            self.graph.register_generator_state(phase.generator)
            with torch.cuda.graph(self.graph, stream=self.stream):
                self.result = self.step(self.batch, phase)
        for kept, new in zip(self.batch, batch, strict=True):
            kept.copy_(new)
        self.graph.replay()
        return self.result
