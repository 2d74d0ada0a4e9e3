"""Measure how fast each stage of `recipes/bundled.py` trains on this machine.

    python recipes/throughput.py                                  # on a GPU if there is one
    CUDA_VISIBLE_DEVICES= python recipes/throughput.py --batch-size 8     # on the CPU
    torchrun --nproc-per-node 2 recipes/throughput.py --out runs/throughput      # several processes together

Prints one table: steps a second, hours of audio a second, and the share of the time in which a batch is
drawn, while the networks wait for it. The speech is that of the sample voices, unless --corpora says
otherwise; sizes and batches are those of the recipe.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import bundled
import torch
import tyro

from vcae.cli.console import in_one_line, show
from vcae.training.config import TrainConfig
from vcae.training.devices import name_of
from vcae.training.stages.base import Stage
from vcae.training.trainer import Trainer


@dataclass(frozen=True)
class Recipe(bundled.Recipe):
    """All settings."""

    batch_size: int | None = None
    """Examples in a batch of every stage; default: the recipe's, which are for an H100."""
    steps: int = 20
    """Steps that are timed."""
    warm_up: int = 6
    """Steps before that, in which libraries choose algorithms and a GPU's step is recorded."""


class Measuring(bundled.Session):
    """Times the stages instead of training them to the end."""

    rows: list[list[str]]

    def run(
        self, stages: Sequence[Stage[Any, Any]], training: TrainConfig, **others: list[dict[str, Any]]
    ) -> None:
        """Time the first stage, and write its weights for the stages that start from them."""
        recipe: Any = self.recipe
        stage = stages[0].train()
        total = recipe.warm_up + recipe.steps
        trainer = Trainer(stage, self.out, replace(training, steps=total, minutes=None, trackers=()))
        for _ in range(recipe.warm_up):
            trainer.advance()
        whole, hours = seconds_of(trainer.advance, recipe.steps), trainer.hours
        hours *= recipe.steps / total
        drawing = seconds_of(lambda: stage.batch(trainer.rng), recipe.steps)
        trainer.save()
        if trainer.processes.first:
            size = len(stage.batch(trainer.rng).source)
            self.rows.append(
                [
                    *(stage.name, str(size), f"{recipe.steps / whole:.2f}", f"{hours / whole:.2g}"),
                    f"{drawing / whole:.1%}",
                ]
            )


def seconds_of(act: Any, times: int) -> float:
    """How long it takes to do something so many times, with all that it starts on a GPU."""
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(times):
        act()
    if on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main(recipe: Recipe) -> None:
    """Measure one stage after the other."""
    torch.manual_seed(0)
    if recipe.tiny:
        recipe = replace(recipe, **vars(bundled.tiny(recipe)))
    changes: dict[str, Any] = {}
    if recipe.corpora == bundled.SAMPLE_VOICES:
        changes["validation"] = replace(recipe.validation, speakers=1)
    if recipe.batch_size:
        samplers = [f"{name}_sampler" for name in bundled.STAGES]
        changes |= {n: replace(getattr(recipe, n), batch_size=recipe.batch_size) for n in samplers}
    recipe = replace(recipe, **changes)
    with TemporaryDirectory() as folder:
        session = Measuring(recipe, recipe.out or Path(folder))
        session.rows = [["stage", "batch", "steps/s", "hours of audio/s", "waiting for data"]]
        for name in recipe.stages:
            bundled.STAGES[name](session)
        device = session.device
    print(name_of(device))
    show(session.rows)


if __name__ == "__main__":
    with in_one_line():
        main(tyro.cli(Recipe, description=__doc__))
