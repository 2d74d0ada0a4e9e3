"""What is trained, stage by stage: the networks, how a batch becomes losses, and their weights.

A stage is a module that the trainer knows little of: it draws its batches, generates, and gives two dicts of
losses, the generator's and (with an adversary) the discriminator's, each weighed by `weights`.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vcae.model.mel import LogMel

Losses = dict[str, Tensor]


class Phase(NamedTuple):
    """Where training stands. progress: 0 to 1. started: milestones that are behind us.

    generator: all randomness of the step, on the device that trains.
    """

    progress: float
    started: frozenset[str]
    generator: torch.Generator


class Stage(nn.Module, ABC):
    """A thing to train. `adversary` holds the discriminators; everything else is the generator's.

    frozen: what is used but not trained. milestones: name -> progress at which it starts; the trainer
    records the step. "adversary" starts the discriminator, and the trainer's own "decay" the fall of the
    learning rate.
    """

    name: str
    weights: dict[str, float]
    milestones: dict[str, float]
    adversary: nn.Module
    log_mel: LogMel
    frozen: tuple[nn.Module, ...] = ()

    def train(self, mode: bool = True) -> "Stage":
        """Train mode for all but what is frozen."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    @abstractmethod
    def batch(self, generator: torch.Generator) -> Any:
        """Draw a batch."""

    @abstractmethod
    def generate(self, batch: Any, phase: Phase) -> dict[str, Any]:
        """Run the networks; what both kinds of losses need."""

    @abstractmethod
    def generator_losses(self, out: dict[str, Any], phase: Phase) -> Losses:
        """Losses by name, not weighed; names without a weight are only logged."""

    def discriminator_losses(self, out: dict[str, Any], phase: Phase) -> Losses:
        """Those of the adversary, on what was generated, detached."""
        return {}

    def pictures(self, out: dict[str, Any]) -> dict[str, Tensor]:
        """Mels worth looking at, (n_mels, T) each."""
        return {}

    def sounds(self, out: dict[str, Any]) -> dict[str, Tensor]:
        """Waveforms worth hearing, (N,) each."""
        return {}

    @property
    @abstractmethod
    def product(self) -> dict[str, nn.Module]:
        """What is kept when training ends, by file name."""
