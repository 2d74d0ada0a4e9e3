"""Trackers beside TensorBoard: stand-ins for Lightning's loggers."""

import dataclasses
import sys
from types import SimpleNamespace

import pytest
from test_training import FEW, recogniser_stage

from vcae.training.guards import TrainingError
from vcae.training.trainer import Trainer


@pytest.fixture
def told(monkeypatch) -> list[tuple[str, tuple]]:
    """What a logger of Weights & Biases is told; the second point of a curve fails there."""
    calls: list[tuple[str, tuple]] = []

    class Logger:
        def __init__(self, **options):
            calls.append(("init", tuple(sorted(options))))

        def __getattr__(self, method):
            def call(*arguments):
                calls.append((method, arguments))
                if [name for name, _ in calls].count("log_metrics") == 2:
                    raise ConnectionError("no network")

            return call

    monkeypatch.setitem(sys.modules, "lightning.pytorch.loggers", SimpleNamespace(WandbLogger=Logger))
    return calls


def test_a_tracker_gets_settings_and_curves_and_may_fail(told, tmp_path, capfd):
    config = dataclasses.replace(FEW, steps=3, validate_steps=1000, trackers=("wandb",))
    Trainer(recogniser_stage(), tmp_path, config).run()
    methods = [name for name, _ in told]
    assert methods == ["init", "log_hyperparams", "log_metrics", "log_metrics"]
    assert told[1][1][0]["training"]["steps"] == 3
    values, step = told[2][1]
    assert step == 1 and {"train/phones", "learning_rate"} <= set(values)
    assert "wandb: cannot be written (no network); training goes on" in capfd.readouterr().err
    assert (tmp_path / "recogniser.safetensors").exists()


def test_a_tracker_that_is_not_installed_is_told_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning.pytorch.loggers", None)
    config = dataclasses.replace(FEW, trackers=("mlflow",))
    with pytest.raises(TrainingError, match=r"mlflow: is not installed .*; `pip install lightning mlflow`"):
        Trainer(recogniser_stage(), tmp_path, config)
