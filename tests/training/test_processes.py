"""Two processes that `torchrun` starts train one stage together."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from banks import hum_bank
from conftest import TINY, seeded
from test_training import FEW, about

from vcae.training.config import MaskConfig, Ranges, RecogniserStageConfig, SamplerConfig
from vcae.training.data import Batch, Sampler
from vcae.training.devices import Processes
from vcae.training.guards import TrainingError
from vcae.training.recogniser import Recogniser, RecogniserConfig
from vcae.training.stages.recogniser import RecogniserStage
from vcae.training.trainer import Result, Trainer

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
EXACT = dataclasses.replace(FEW, steps=4, decay=1.0, validate_steps=1000, checkpoint_minutes=0.0)


def stage() -> RecogniserStage:
    """A stage without chance, whose losses are means over the examples of a batch."""
    bank = hum_bank(phones=torch.arange(300) % 40)
    as_it_is = Ranges(pitch=(1.0, 1.0), envelope=(1.0, 1.0), eq_db=0.0, share=0.0)
    config = RecogniserStageConfig(as_it_is, MaskConfig(bands=0, frames=0))
    model = seeded(Recogniser, RecogniserConfig(TINY.mel, width=16, stacks=2))
    return RecogniserStage(model, Sampler(bank, SamplerConfig(4, 0.24, 0.2, speeds=(1.0,))), config)


def run(folder: Path, steps: int) -> Result:
    return Trainer(stage(), folder, dataclasses.replace(EXACT, steps=steps)).run()


def child(folder: str) -> None:
    """In each of two processes: train four steps, then go on until the second is killed at step 6."""
    result = run(Path(folder), 4)
    if result.validation:
        print(result.validation["phones"])  # noqa: T201 -- read by the test
    trainer = Trainer(stage(), Path(folder), dataclasses.replace(EXACT, steps=8))
    losses = trainer.stage.generator_losses

    def killed(out, phase):
        if trainer.step == 6 and trainer.processes.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return losses(out, phase)

    trainer.stage.generator_losses = killed
    try:
        trainer.run()
    except TrainingError as error:
        print(error, flush=True)  # noqa: T201
        raise


def test_two_processes_make_the_loss_of_one_and_a_killed_one_ends_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    script = tmp_path / "script.py"
    script.write_text(f"import test_processes; test_processes.child({str(tmp_path / 'two')!r})")
    places = os.pathsep.join([str(HERE.parent), str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, str(script)],
        env=os.environ | {"PYTHONPATH": places, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    loss, message = done.stdout.splitlines()
    alone = run(tmp_path / "one", 4)
    assert float(loss) == pytest.approx(alone.validation["phones"], rel=1e-4)
    assert done.returncode != 0
    assert "recogniser: another process of this run has ended" in message and "to continue" in message
    # The run goes on, with any number of processes.
    assert about(tmp_path / "two")["step"] == 6
    assert about(tmp_path / "two")["notes"]["processes"] == 2
    resumed, whole = (run(tmp_path / name, 8) for name in ("two", "one"))
    assert resumed.new_steps == 2
    assert resumed.validation["phones"] == pytest.approx(whole.validation["phones"], rel=1e-3)


def test_a_batch_is_shared_in_order_and_only_evenly():
    alone = Processes(SimpleNamespace(world_size=1, global_rank=0), "test")
    batch = Batch(*(torch.arange(6) + 10 * k for k in range(5)))
    assert alone.share(batch) is batch
    alone.number, alone.rank = 3, 1
    assert [x.tolist() for x in alone.share(batch)] == [[2 + 10 * k, 3 + 10 * k] for k in range(5)]
    alone.number = 4
    with pytest.raises(TrainingError, match="a batch of 6 cannot be shared by 4 processes; set batch_size"):
        alone.share(batch)
