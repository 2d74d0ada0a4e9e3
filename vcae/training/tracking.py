"""Experiment trackers beside TensorBoard: the loggers of Lightning, all with one interface."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.logger import Logger
from rich.console import Console

from vcae.training.config import Tracker
from vcae.training.guards import TrainingError

_LOGGERS = {"wandb": "WandbLogger", "mlflow": "MLFlowLogger"}


class Trackers:
    """Sends settings and curves of a run to trackers. Each start of a run is a run of its own there.

    A tracker that fails is left out from then on, and training goes on. Raises TrainingError where a tracker
    is not installed.
    """

    def __init__(self, names: Sequence[Tracker], folder: Path, stage: str, console: Console) -> None:
        self._console = console
        self.loggers = {name: _logger(name, folder, stage) for name in names}

    def settings(self, values: dict[str, Any]) -> None:
        """Say how the run is made."""
        self._each("log_hyperparams", values)

    def log(self, values: dict[str, float], step: int) -> None:
        """Add a point to each curve."""
        self._each("log_metrics", values, step)

    def finish(self) -> None:
        """Say that the run has ended."""
        self._each("finalize", "success")

    def _each(self, method: str, *arguments: Any) -> None:
        for name, logger in list(self.loggers.items()):
            try:
                getattr(logger, method)(*arguments)
            except Exception as error:  # of a network or a service, in a class of the tracker's own
                del self.loggers[name]
                reason = " ".join(str(error).split())[:200]
                text = f"{name}: cannot be written ({reason}); training goes on without it"
                self._console.print(text, highlight=False, soft_wrap=True)


def _logger(name: Tracker, folder: Path, stage: str) -> Logger:
    try:
        kind = getattr(importlib.import_module("lightning.pytorch.loggers"), _LOGGERS[name])
        if name == "wandb":
            logger: Logger = kind(project="vcae", name=f"{folder.name}-{stage}", save_dir=folder)
        else:
            logger = kind(experiment_name="vcae", run_name=f"{folder.name}-{stage}")
    except ModuleNotFoundError as error:
        raise TrainingError(
            f"{name}: is not installed ({error.name} is missing); `pip install lightning {name}`, or track by"
            " TensorBoard alone"
        ) from None
    return logger
