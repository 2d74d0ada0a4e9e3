"""How a stage is trained: budget, optimiser, schedule, logging."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Training ends at `steps` or after `minutes` in all, whichever comes first."""

    steps: int | None = None
    minutes: float | None = None
    learning_rate: float = 1e-3
    adversary_rate: float = 1.0
    """Learning rate of the adversary, in the generator's."""
    warm_up: int = 300
    decay: float = 0.75
    """The progress at which the learning rate starts to fall, linearly to zero."""
    betas: tuple[float, float] = (0.8, 0.99)
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.999
    seed: int = 0
    checkpoint_minutes: float = 2.0
    log_steps: int = 20
    validate_steps: int = 500
    validate_batches: int = 4
    precision: Literal["32-true", "bf16-mixed"] | None = None
    """By default bf16-mixed on a GPU and 32-true elsewhere; bf16-mixed makes a CPU with AMX twice as fast."""
    record: bool = True
    """On a GPU, record a step once as a CUDA graph and replay it: launching thousands of small kernels one by
    one takes the processor longer than it takes the GPU to run them."""
