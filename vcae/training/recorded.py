"""Training steps replayed from a CUDA graph."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vcae.training.stages.base import Phase


class RecordedStep:
    """Replays a training step from a CUDA graph, one for each set of started milestones.

    Nothing in the step may depend on a value that the processor reads. The first `usual` steps of each graph
    run without it, while libraries choose their algorithms.
    """

    usual = 3

    def __init__(self, step: Callable[[Any, Phase], dict[str, Tensor]]) -> None:
        self.step = step
        self.stream = torch.cuda.Stream()
        self.milestones: frozenset[str] | None = None
        self.steps = 0

    def __call__(self, batch: Any, phase: Phase) -> dict[str, Tensor]:
        """Make a step on a batch; the losses by name."""
        milestones = phase.started - {"decay"}  # which changes the learning rate only
        if milestones != self.milestones:
            self.milestones, self.steps = milestones, 0
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
            self.graph.register_generator_state(phase.rng)
            with torch.cuda.graph(self.graph, stream=self.stream):
                self.result = self.step(self.batch, phase)
        for recorded, new in zip(self.batch, batch, strict=True):
            recorded.copy_(new)
        self.graph.replay()
        return self.result
