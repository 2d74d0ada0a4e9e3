"""What goes wrong with a run ends in one line, and loses nothing."""

import dataclasses
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import TINY, seeded
from test_training import FEW, about, assert_equal_to_the_bit, recogniser_stage, sampler, state, trained

import vcae
import vcae.files
from vcae.files import OutputError, load_tensors, save_tensors
from vcae.inference.checkpoint import CheckpointError
from vcae.model.autoencoder import Autoencoder
from vcae.training.config import DecoderStageConfig
from vcae.training.guards import FiniteWatch, TrainingError, check_folder
from vcae.training.recogniser import Recogniser, RecogniserConfig
from vcae.training.stages.base import Stage
from vcae.training.stages.decoder import DecoderStage
from vcae.training.trainer import Trainer


def stage_that_fails(monkeypatch, at: set[int], nan: bool = False) -> Stage:
    """A stage whose loss is infinite at these steps; nan: and whose weights become so."""
    stage = recogniser_stage()
    losses, steps = stage.generator_losses, iter(range(1000))

    def failing(out, phase):
        bad = stage.training and next(steps) in at
        if bad and nan:
            with torch.no_grad():
                next(stage.parameters()).fill_(torch.nan)
        return {n: x / 0 if bad else x for n, x in losses(out, phase).items()}

    monkeypatch.setattr(stage, "generator_losses", failing)
    return stage


def run(stage: Stage, folder: Path, **options) -> Trainer:
    trainer = Trainer(stage, folder, dataclasses.replace(FEW, **options))
    trainer.run()
    return trainer


# Folders and disks


def test_a_folder_that_cannot_be_written_is_told_before_the_first_step(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/runs: cannot be written \(Not a directory\)") as raised:
        run(recogniser_stage(), tmp_path / "file" / "runs")
    assert "\n" not in str(raised.value)

    def read_only(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", read_only)
    with pytest.raises(OutputError, match=r"cannot be written \(Permission denied\)"):
        check_folder(tmp_path, 0)


def test_processes_may_check_one_folder_at_the_same_time(tmp_path, monkeypatch):
    touch = Path.touch

    def touched_and_removed_by_another(path: Path) -> None:
        touch(path)
        path.unlink()

    monkeypatch.setattr(Path, "touch", touched_and_removed_by_another)
    check_folder(tmp_path, 0)


def test_a_disk_without_room_for_a_checkpoint_is_told_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(OutputError, match=r"0 MB are free, and a checkpoint needs \d+ MB; make room"):
        run(recogniser_stage(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_room_that_is_asked_for_is_that_of_a_checkpoint(tmp_path):
    trainer = run(recogniser_stage(), tmp_path, steps=1)
    assert trainer._checkpoint_bytes() == pytest.approx(trainer.checkpoint.stat().st_size, rel=0.2)


def test_training_goes_on_while_the_disk_is_full(tmp_path, monkeypatch, capfd):
    """A checkpoint that cannot be written is tried again; the last one of the run counts."""
    write, calls = vcae.files.save_file, iter(range(1000))  # type: ignore[attr-defined]

    def full(*given: object) -> None:
        if next(calls) < 2:
            raise OSError(28, "No space left on device")
        write(*given)

    monkeypatch.setattr("vcae.files.save_file", full)
    run(recogniser_stage(), tmp_path, checkpoint_minutes=0.0)
    assert capfd.readouterr().err.count("No space left on device") == 2
    assert about(tmp_path)["step"] == FEW.steps
    assert not list(tmp_path.rglob("*.part"))


def test_curves_that_cannot_be_written_stop_the_run_after_a_checkpoint(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vcae.training.trainer.SummaryWriter.add_scalar", full)
    with pytest.raises(OutputError, match=r"tensorboard/recogniser: cannot be written .* to continue"):
        run(recogniser_stage(), tmp_path)
    assert about(tmp_path)["step"] == 1


# Memory


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
@pytest.mark.parametrize(
    ("room", "remedy"),
    [(3, "a batch of 2 fits: set batch_size of its sampler to 2"), (0, "not even a batch of 1 fits")],
)
def test_out_of_memory_names_the_batch_that_fits(tmp_path, monkeypatch, error, room, remedy):
    stage = recogniser_stage()
    generate = stage.generate

    def limited(batch, phase):
        if len(batch.source) > room:
            raise error
        return generate(batch, phase)

    monkeypatch.setattr(stage, "generate", limited)
    with pytest.raises(TrainingError, match=rf"out of memory at step 0, with a batch of 4 on .*; {remedy}"):
        run(stage, tmp_path)
    assert not (tmp_path / "recogniser.ckpt").exists()


def test_another_error_of_a_step_is_no_lack_of_memory(tmp_path, monkeypatch):
    stage = recogniser_stage()

    def broken(batch, phase):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(stage, "generate", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(stage, tmp_path)


# Steps that are not finite


def test_a_step_that_is_not_finite_is_left_out_and_its_batch_is_kept(tmp_path, monkeypatch, capfd):
    stage = stage_that_fails(monkeypatch, {2})
    run(stage, tmp_path)
    told = " ".join(capfd.readouterr().err.split())
    (path,) = tmp_path.glob("*.batch.safetensors")
    assert f"steps without a finite gradient: 1, the first is 2, whose batch is in {path}; left out" in told
    tensors, facts = load_tensors(path)
    assert facts == {"stage": "recogniser", "step": 2, "seed": FEW.seed}
    trainer = Trainer(recogniser_stage(), tmp_path / "other", FEW)
    trainer.step = 2
    batch = trainer._next()[0]
    assert_equal_to_the_bit(tensors, batch._asdict())
    assert about(tmp_path)["step"] == FEW.steps


def test_a_run_stops_at_a_step_that_is_not_finite_if_told_so(tmp_path, monkeypatch):
    stage = stage_that_fails(monkeypatch, {2})
    with pytest.raises(
        TrainingError,
        match=r"the first is 2, whose batch is in .*; stopped: lower learning_rate, or set non_finite",
    ):
        run(stage, tmp_path, non_finite="stop")
    assert about(tmp_path)["step"] == 3  # nothing of the steps before is lost
    trained(recogniser_stage(), tmp_path, non_finite="skip")  # and the setting may change
    assert about(tmp_path)["step"] == FEW.steps


def test_a_hundred_bad_steps_in_a_row_stop_the_run_and_few_batches_are_kept(tmp_path, monkeypatch):
    stage = stage_that_fails(monkeypatch, set(range(3, 1000)))
    with pytest.raises(TrainingError, match="steps without a finite gradient: 1, the first is 102"):
        run(stage, tmp_path, steps=500, validate_steps=1000)
    assert len(list(tmp_path.glob("*.batch.safetensors"))) == 3


def test_weights_that_are_not_finite_are_not_saved(tmp_path, monkeypatch):
    run(recogniser_stage(), tmp_path, steps=2)
    before = state(tmp_path)
    stage = stage_that_fails(monkeypatch, {2}, nan=True)
    with pytest.raises(TrainingError, match=r"weights are not finite at step \d, and were not saved"):
        run(stage, tmp_path)
    assert_equal_to_the_bit(state(tmp_path), before)


def test_the_watch_counts_since_the_last_look():
    watch = FiniteWatch(torch.device("cpu"))
    good, bad = torch.tensor(1.0), torch.tensor(float("inf"))
    assert watch.look() is None
    for step, norms in enumerate([[good], [good, bad], [good], [bad], [bad]]):
        watch.update(step, norms)
    assert watch.look() == (1, 3, 2)
    assert watch.look() is None
    watch.update(5, [bad])
    assert watch.look() == (5, 1, 3)


# Versions


def test_a_checkpoint_of_another_version_is_refused(tmp_path):
    trained(recogniser_stage(), tmp_path, steps=1)
    path = tmp_path / "recogniser.ckpt"
    tensors, facts = load_tensors(path)
    facts["notes"]["vcae"] = "9.1"
    save_tensors(path, tensors, facts | {"format": 99})
    with pytest.raises(CheckpointError, match=rf"of vcae 9.1, and vcae {vcae.__version__} cannot continue"):
        run(recogniser_stage(), tmp_path)
    del facts["format"]  # written before there was a format number
    save_tensors(path, tensors, facts)
    run(recogniser_stage(), tmp_path, steps=2)
    assert about(tmp_path)["step"] == 2


# Early stop, and what a checkpoint leaves out


def test_training_ends_early_without_a_lower_loss_and_keeps_the_best_product(tmp_path, monkeypatch):
    stage = recogniser_stage()
    losses, values = stage.generator_losses, iter([3.0, 2.0, 2.5, 2.1])

    def planned(out, phase):
        found = losses(out, phase)
        return found if stage.training else found | {"phones": torch.tensor(next(values))}

    monkeypatch.setattr(stage, "generator_losses", planned)
    trainer = Trainer(stage, tmp_path, dataclasses.replace(FEW, steps=20, validate_steps=2, patience=2))
    result = trainer.run()
    assert (result.steps, result.finished, trainer.lowest) == (8, True, 2.0)
    assert load_tensors(tmp_path / "recogniser.safetensors")[1]["notes"]["steps"] == 4
    assert Trainer(recogniser_stage(), tmp_path, trainer.config).run().new_steps == 0


def decoder_stage(seed: int = 0, train_content: bool = False) -> Stage:
    """A stage of a decoder, taught by a recogniser of this seed."""
    torch.manual_seed(seed)
    teacher = Recogniser(RecogniserConfig(TINY.mel, width=16, stacks=2))
    config = DecoderStageConfig(discriminator_channels=4, train_content=train_content)
    return DecoderStage(seeded(Autoencoder, TINY), sampler(), teacher, [], config)


def test_a_checkpoint_holds_no_weights_that_never_change(tmp_path):
    stage = decoder_stage()
    run(stage, tmp_path, steps=1)
    names = {n.removeprefix("stage.") for n in state(tmp_path) if n.startswith("stage.")}
    left_out = set(stage.state_dict()) - names
    assert {n.split(".")[0] for n in left_out} == {"recogniser", "model"}
    assert {n.split(".")[1] for n in left_out if n.startswith("model.")} == {"content", "prosody"}
    assert run(decoder_stage(), tmp_path, steps=2).step == 2
    with pytest.raises(CheckpointError, match=r"decoder.ckpt: of a run with other teachers"):
        run(decoder_stage(seed=1), tmp_path, steps=3)


def test_a_content_encoder_that_is_trained_goes_on_from_the_checkpoint(tmp_path):
    whole = run(decoder_stage(train_content=True), tmp_path / "whole", steps=2).stage.state_dict()
    run(decoder_stage(train_content=True), tmp_path / "parts", steps=1)
    parts = run(decoder_stage(train_content=True), tmp_path / "parts", steps=2).stage.state_dict()
    start = decoder_stage(train_content=True).state_dict()
    names = [name for name in start if name.startswith("model.content.")]
    assert any(not torch.equal(whole[name], start[name]) for name in names)
    for name in names:
        torch.testing.assert_close(parts[name], whole[name])


def test_a_checkpoint_that_holds_everything_is_still_read(tmp_path):
    stage = decoder_stage()
    trainer = run(stage, tmp_path, steps=1)
    tensors, notes = load_tensors(trainer.checkpoint)
    del notes["constant"], notes["lowest"], notes["waited"]
    tensors |= {f"stage.{n}": t for n, t in stage.state_dict().items()}
    save_tensors(trainer.checkpoint, tensors, notes)
    assert run(decoder_stage(), tmp_path, steps=2).step == 2
