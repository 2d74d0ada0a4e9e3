"""What a stage of training is: networks, and how a batch becomes losses.

The trainer asks a stage for a batch, lets it generate, and asks for two dicts of losses: the generator's and,
once the discriminator has started, the discriminator's. `Stage.loss_weights` weighs both.
"""

from abc import ABC, abstractmethod
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from vcae.model.mel import LogMel
from vcae.training.data import BatchSource

Losses = dict[str, Tensor]
Input = TypeVar("Input")
"""A batch: a named tuple of tensors, one of them `source` of shape (B, 1, N)."""
Output = TypeVar("Output")
"""What `Stage.generate` gives: a frozen dataclass of the stage."""


class Phase(NamedTuple):
    """Where training stands.

    progress: spent share of the budget, 0 to 1. started: the milestones that are reached. rng: the source of
    all randomness of the step, on the device that trains.
    """

    progress: float
    started: frozenset[str]
    rng: torch.Generator


class Stage(nn.Module, ABC, Generic[Input, Output]):
    """A thing to train. `discriminator` is trained apart; all other trainable weights are the generator's.

    configs: the frozen dataclasses that describe the stage, by what they configure. loss_weights: weights of
    the losses by name; a loss without a weight is logged only. milestones: name -> progress at which it
    starts. The trainer knows the milestone "discriminator", and "decay" of its own. frozen: modules that stay
    in eval mode. constant: those among them whose weights never change; checkpoints do not hold them.
    """

    name: str
    configs: dict[str, Any]
    loss_weights: dict[str, float]
    milestones: dict[str, float]
    sampler: BatchSource[Input]
    discriminator: nn.Module
    log_mel: LogMel
    frozen: tuple[nn.Module, ...] = ()
    constant: tuple[nn.Module, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.discriminator = nn.Module()  # an empty one, for stages that have none
        self.milestones = {}

    def train(self, mode: bool = True) -> "Stage[Input, Output]":
        """Train mode for all but the frozen modules."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def batch(self, rng: torch.Generator) -> Input:
        """Draw a batch."""
        return self.sampler.batch(rng)

    def before_step(self, phase: Phase) -> None:
        """Do what a training step needs beforehand. Validation does not call this."""

    @abstractmethod
    def generate(self, batch: Input, phase: Phase) -> Output:
        """Run the networks: all that both kinds of losses need. Has no side effects."""

    @abstractmethod
    def generator_losses(self, out: Output, phase: Phase) -> Losses:
        """The generator's losses by name, not weighed."""

    def discriminator_losses(self, out: Output, phase: Phase) -> Losses:
        """The discriminator's losses by name, not weighed, on detached outputs of the generator."""
        return {}

    def pictures(self, out: Output) -> dict[str, Tensor]:
        """Mels to look at, (n_mels, T) each."""
        return {}

    def sounds(self, out: Output) -> dict[str, Tensor]:
        """Waveforms to listen to, (N,) each."""
        return {}

    @property
    @abstractmethod
    def product(self) -> dict[str, nn.Module]:
        """The modules that are kept when training ends, by file name."""

    @property
    def averaged(self) -> dict[str, nn.Module]:
        """The modules whose weights are averaged over training, by name: the product and more."""
        return self.product
