"""Stages and the training loop, at the smallest sizes, on the CPU unless a test says otherwise."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import TINY, TINY_VOCODER, seeded, vowel

import vcae.files
import vcae.training.trainer
from vcae.files import OutputError, TensorFileError, load_tensors
from vcae.inference.checkpoint import CheckpointError, load
from vcae.model.autoencoder import Autoencoder
from vcae.model.config import AutoencoderConfig, VocoderConfig
from vcae.model.vocoder import Vocoder
from vcae.training.augment import QUEFRENCIES
from vcae.training.config import TrainConfig
from vcae.training.data import Bank, Sampler
from vcae.training.recogniser import Recogniser, RecogniserConfig
from vcae.training.stages.autoencoder import AutoencoderStage, Sketch, envelope
from vcae.training.stages.base import Phase, Stage
from vcae.training.stages.recogniser import RecogniserStage
from vcae.training.stages.vocoder import VocoderStage
from vcae.training.trainer import Trainer

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
FEW = TrainConfig(steps=7, warm_up=2, log_steps=1, validate_steps=7, validate_batches=1)
HERE = Path(__file__).parent


def small_bank() -> Bank:
    """Three speakers who hum for two seconds each, with a text and with phones for some frames."""
    pitches, size = (110.0, 170.0, 230.0), 32_000
    wav = torch.cat([vowel(p, size)[0, 0] for p in pitches])
    phones = torch.arange(len(wav) // 320) % 40
    return Bank(
        samples=(32767 * wav).to(torch.int16),
        f0=torch.tensor(pitches).repeat_interleave(size // 160).half(),
        phones=phones.where(phones > 10, -1).to(torch.int8),
        starts=torch.arange(4) * size,
        speakers=torch.arange(3),
        labelled=torch.tensor([True, True, False]),
        speaker_names=["test/0", "test/1", "test/2"],
        ids=["0", "1", "2"],
        texts=["hello there", "a cat", None],
    )


def sampler(device: torch.device = CPU) -> Sampler:
    bank = small_bank().to(device)
    return Sampler(bank, bank.speaker_weights(), 4, 0.24, 0.2, speeds=(1.0, 1.1))


def recogniser() -> Recogniser:
    return seeded(Recogniser, RecogniserConfig(TINY.mel, width=16, stacks=2))


def recogniser_stage() -> Stage:
    return RecogniserStage(recogniser(), sampler())


def autoencoder_stage(**options) -> Stage:
    model = seeded(Autoencoder, dataclasses.replace(TINY, **options))
    return AutoencoderStage(model, sampler(), recogniser(), adversary_channels=4)


def vocoder_stage() -> Stage:
    return VocoderStage(seeded(Vocoder, TINY_VOCODER), sampler(), adversary_channels=4)


STAGES = {"recogniser": recogniser_stage, "autoencoder": autoencoder_stage, "vocoder": vocoder_stage}
ADVERSARIAL = ["autoencoder", "vocoder"]


@pytest.fixture(autouse=True)
def on_the_cpu(request, monkeypatch):
    """Only on the CPU are two runs equal to the bit."""
    if not request.node.get_closest_marker("skipif"):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def phases(stage: Stage) -> list[Phase]:
    """Before the milestones, and after all of them."""
    started = frozenset(stage.milestones)
    return [
        Phase(progress, names, torch.Generator().manual_seed(1))
        for progress, names in ((0.1, frozenset()), (0.9, started))
    ]


def weighed(stage: Stage, losses: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack([stage.weights[n] * x for n, x in losses.items() if n in stage.weights]).sum()


def trained(stage: Stage, folder: Path, **options) -> Trainer:
    trainer = Trainer(stage, folder, dataclasses.replace(FEW, **options))
    trainer.run()
    return trainer


def state(folder: Path) -> dict[str, torch.Tensor]:
    """All that a checkpoint holds: the networks, their averages, the optimisers."""
    (path,) = folder.glob("*.ckpt")
    return load_tensors(path)[0]


def about(folder: Path) -> dict:
    (path,) = folder.glob("*.ckpt")
    return load_tensors(path)[1]


def assert_equal_to_the_bit(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [n for n in a if not torch.equal(a[n], b[n])] == []


# Stages


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", STAGES)
def test_every_loss_is_finite_and_every_weight_gets_a_gradient(name, precision):
    stage = STAGES[name]().train()
    for phase in phases(stage):
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            out = stage.generate(stage.batch(phase.generator), phase)
            found = stage.generator_losses(out, phase)
            judged = stage.discriminator_losses(out, phase) if "adversary" in phase.started else {}
        only_logged = {"accuracy"} if name == "recogniser" else set()
        assert set(found) - set(stage.weights) == only_logged
        assert all(x.ndim == 0 and x.isfinite() for x in (found | judged).values()), found | judged
        weighed(stage, found).backward()
        if judged:
            weighed(stage, judged).backward()
    wanting = {n for n, p in stage.named_parameters() if p.requires_grad and p.grad is None}
    assert wanting == set()
    assert all(p.grad.isfinite().all() for p in stage.parameters() if p.grad is not None)
    idle = {n for n, p in stage.named_parameters() if p.requires_grad and not p.grad.any()}
    assert idle == set()
    assert bool(list(stage.adversary.parameters())) == (name in ADVERSARIAL)


def test_milestones_bring_their_losses():
    stage = autoencoder_stage()
    early, late = (
        set(stage.generator_losses(stage.generate(stage.batch(p.generator), p), p)) for p in phases(stage)
    )
    assert late - early == {
        "mel",
        "loudness",
        "envelope",
        "features",
        "adversary",
        "matching",
        "speaker",
        "source",
        "content",
        "words",
        "melody",
        "voiced",
    }
    assert early - late == {"sketch", "pitch", "voicing"}


def test_the_sketch_is_of_the_frames_that_a_code_frame_speaks_of():
    """A code frame ends 20 ms after what it speaks of: two mel frames, one of its own."""
    stage = autoencoder_stage()
    phase = phases(stage)[0]
    out = stage.generate(stage.batch(phase.generator), phase)
    wanted = envelope(out["target"])
    stage.sketch.forward = lambda z, speaker: wanted.roll(2, 2)
    assert stage.generator_losses(out, phase)["sketch"] < 1e-6
    # Orthonormal: nothing but the fine structure is lost.
    smooth = torch.ones(1, 80, 4).cumsum(2)
    torch.testing.assert_close(envelope(smooth)[0, 0], 80**0.5 * torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert envelope(smooth).shape == (1, QUEFRENCIES, 4)


def test_a_sketch_tells_two_frames_for_each_of_the_code():
    sketch = Sketch(5, 3)
    z, speaker = torch.randn(2, 5, 6), torch.randn(2, 3)
    shown = sketch(z, speaker)
    assert shown.shape == (2, QUEFRENCIES, 12)
    z[..., 4:] += 1  # of the code's frame 4, mel frames 8 and 9
    changed = (sketch(z, speaker) - shown).abs().amax((0, 1)) > 0
    assert changed.tolist() == [False] * 8 + [True] * 4


@pytest.mark.parametrize("name", ["features", "content", "words", "speaker", "source", "melody", "voiced"])
def test_what_is_decoded_teaches_the_autoencoder_and_not_its_judges(name):
    stage = autoencoder_stage().train()
    phase = phases(stage)[-1]
    out = stage.generate(stage.batch(phase.generator), phase)
    out["asked"][:, 1] = 0.9  # a tiny model hears no voice
    out["reference"] = TINY.mel.unstandardise(out["mel"].detach())  # nearest to their sources
    before = {n: x.clone() for n, x in stage.model.content.named_buffers()}
    stage.generator_losses(out, phase)[name].backward()
    taught = {n.split(".")[0] for n, p in stage.named_parameters() if p.grad is not None and p.grad.any()}
    assert taught == {"model"}
    assert any(p.grad is not None and p.grad.any() for p in stage.model.decoder.parameters())
    # Nor does the encoder take what is made up for its corpus.
    assert_equal_to_the_bit(before, dict(stage.model.content.named_buffers()))
    assert stage.model.content.training and stage.model.bottleneck.training


def test_what_is_decoded_perfectly_says_what_was_said():
    """The delays of code and decoder are accounted for: frames that are compared are the same."""
    stage = autoencoder_stage().eval()
    phase = phases(stage)[-1]
    out = stage.generate(stage.batch(phase.generator), phase)
    said = stage.generator_losses(out, phase)
    out["mel"] = out["target"]
    perfect = stage.generator_losses(out, phase)
    for name in ("features", "content", "words"):  # only the last frame, whose future was cut off, differs
        assert 0 <= perfect[name] < 0.25 * said[name]
    wanted = out["heard"].phones.roll(1, 2)
    stage.phones.forward = lambda z: wanted
    assert stage.generator_losses(out, phase)["taught"] < 1e-6


def test_what_is_decoded_perfectly_is_heard_as_it_was_asked_for():
    stage = autoencoder_stage().eval()
    phase = phases(stage)[-1]
    out = stage.generate(stage.batch(phase.generator), phase)
    prosody, late = stage.model.prosody, TINY.delay
    with torch.no_grad():
        out["asked"] = prosody(TINY.mel.unstandardise(out["target"]))[..., late:]
        out["asked"] = torch.nn.functional.pad(out["asked"], (0, late))
    out["mel"] = out["target"]
    voiced = out["asked"][:, 1, :-late]
    least = torch.nn.functional.binary_cross_entropy(voiced, voiced)
    torch.testing.assert_close(stage.generator_losses(out, phase)["voiced"], least)


def test_the_prosody_encoder_learns_before_the_decoder_and_then_stays():
    stage = autoencoder_stage().train()
    for phase, learns in zip(phases(stage), (True, False), strict=True):
        stage.zero_grad()
        out = stage.generate(stage.batch(phase.generator), phase)
        weighed(stage, stage.generator_losses(out, phase)).backward()
        assert any(p.grad is not None for p in stage.model.prosody.parameters()) == learns


def test_the_recogniser_learns_from_frames_that_have_a_label():
    stage = recogniser_stage()
    phase = phases(stage)[0]
    out = stage.generate(stage.batch(phase.generator), phase)
    label = out["batch"].phones
    assert (label < 0).any() and (label >= 0).any()
    out["phones"] = 9.0 * torch.nn.functional.one_hot(label.clamp(min=0), out["phones"].shape[1]).mT
    right = stage.generator_losses(out, phase)
    out["phones"] = torch.where((label < 0)[:, None], -out["phones"], out["phones"])
    same = stage.generator_losses(out, phase)
    assert right["accuracy"] == same["accuracy"] == 1
    assert right["phones"] == same["phones"]


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_the_two_steps_leave_each_other_alone(name, tmp_path):
    stage = STAGES[name]()
    stage.milestones = dict.fromkeys(stage.milestones, 0.0)
    adversary = {f"adversary.{n}" for n, _ in stage.adversary.named_parameters()}
    frozen = {p for module in stage.frozen for p in module.parameters()}

    def snapshot() -> list[dict[str, torch.Tensor]]:
        """Trained weights, the generator's and the discriminator's."""
        now = {n: p.detach().clone() for n, p in stage.named_parameters() if p not in frozen}
        return [{n: x for n, x in now.items() if (n in adversary) == own} for own in (False, True)]

    between: list[list[dict[str, torch.Tensor]]] = []
    losses = stage.generator_losses
    stage.generator_losses = lambda out, phase: (between.append(snapshot()), losses(out, phase))[1]
    start = snapshot()
    trained(stage, tmp_path, steps=1, validate_steps=1)
    end, after_discriminator = snapshot(), between[0]
    assert_equal_to_the_bit(start[0], after_discriminator[0])
    assert_equal_to_the_bit(after_discriminator[1], end[1])
    assert all(not torch.equal(start[1][n], end[1][n]) for n in start[1])
    assert any(not torch.equal(start[0][n], end[0][n]) for n in start[0])


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_the_discriminator_waits_for_its_milestone(name, tmp_path):
    stage = STAGES[name]()
    stage.milestones["adversary"] = 2.0
    start = {n: p.clone() for n, p in stage.adversary.state_dict().items()}
    trained(stage, tmp_path, steps=1)
    assert_equal_to_the_bit(start, stage.adversary.state_dict())


def test_the_discriminator_of_sound_learns_before_the_vocoder_has_to_please_it():
    stage = STAGES["vocoder"]()
    alone = Phase(0.3, frozenset({"adversary"}), torch.Generator().manual_seed(0))
    out = stage.generate(stage.batch(alone.generator), alone)
    assert set(stage.discriminator_losses(out, alone)) == {"discriminator"}
    assert set(stage.generator_losses(out, alone)) == {"stft", "mel"}
    both = alone._replace(started=frozenset({"adversary", "contest"}))
    assert set(stage.generator_losses(out, both)) == {"stft", "mel", "adversary", "matching"}


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_the_discriminator_learns_at_a_rate_of_its_own(name, tmp_path):
    moved = []
    for rate in (0.0, 1.0, 4.0):
        stage = STAGES[name]()
        stage.milestones = dict.fromkeys(stage.milestones, 0.0)
        start = [p.detach().clone() for p in stage.adversary.parameters()]
        trained(stage, tmp_path / str(rate), steps=1, adversary_rate=rate)
        pairs = zip(stage.adversary.parameters(), start, strict=True)
        moved.append(float(sum((p.detach() - q).norm() for p, q in pairs)))
    assert moved[0] == 0
    assert moved[2] == pytest.approx(4 * moved[1], rel=0.01)


def test_the_judges_follow_the_speaker_encoder_slowly_and_one_of_them_no_longer_than_until_it_judges(
    tmp_path,
):
    moved = {}
    for milestone in (2.0, 0.0):
        stage = autoencoder_stage()
        stage.milestones["conversion"] = milestone
        if not milestone:
            stage.milestones = dict.fromkeys(stage.milestones, 0.0)
        start = [p.clone() for p in stage.model.speaker.parameters()]
        trained(stage, tmp_path / str(milestone), steps=3)
        moved[milestone] = [
            sum(float((p - q).detach().norm()) for p, q in zip(m.parameters(), start, strict=True))
            for m in (stage.model.speaker, *stage.judges)
        ]
    far, first, second = moved[2.0]
    assert 0 < first == second < 0.1 * far
    far, first, second = moved[0.0]
    assert 0 == second < first < 0.1 * far


@pytest.mark.parametrize("name", STAGES)
def test_steps_on_one_batch_lower_the_loss(name, tmp_path):
    stage = STAGES[name]()
    stage.milestones = {name: 0.0 for name in stage.milestones if name == "decoder"}
    batch = stage.batch(torch.Generator().manual_seed(0))
    stage.batch = lambda generator: batch
    found, losses = [], stage.generator_losses
    stage.generator_losses = lambda out, phase: (found.append(losses(out, phase)), found[-1])[1]
    trained(stage, tmp_path, steps=15, validate_steps=100, learning_rate=3e-3, log_steps=100)
    values = [float(x["phones" if name == "recogniser" else "mel"].detach()) for x in found]
    assert sum(values[10:15]) < 0.9 * sum(values[:5])


# The loop


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Callable[[str], tuple[Trainer, Path]]:
    """Name of a stage -> its trainer after seven steps, through all milestones, and the folder."""

    @cache
    def train(name: str) -> tuple[Trainer, Path]:
        folder = tmp_path_factory.mktemp(name)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.cuda, "is_available", lambda: False)
            return trained(STAGES[name](), folder), folder

    return train


@pytest.fixture(params=STAGES)
def finished(request, unbroken) -> tuple[Trainer, Path]:
    return unbroken(request.param)


def test_training_ends_at_its_steps(finished):
    trainer, folder = finished
    assert trainer.step == about(folder)["step"] == 7
    assert trainer.progress == 1
    assert set(trainer.started) == {*trainer.stage.milestones, "decay"}


def test_training_leaves_a_checkpoint_a_product_and_curves(finished):
    trainer, folder = finished
    name = trainer.stage.name
    assert {p.name for p in folder.iterdir()} == {f"{name}.ckpt", f"{name}.safetensors", "tensorboard"}


def test_the_product_is_the_averaged_model(finished):
    trainer, folder = finished
    name, (model,) = trainer.stage.name, trainer.stage.product.values()
    path = folder / f"{name}.safetensors"
    kind, config = {
        "recogniser": (Recogniser, RecogniserConfig),
        "autoencoder": (Autoencoder, AutoencoderConfig),
        "vocoder": (Vocoder, VocoderConfig),
    }[name]
    found = load(path, kind, config).state_dict()
    averaged = {n.removeprefix(f"{name}."): x for n, x in trainer.ema.items()}
    assert found.keys() == averaged.keys()
    assert all(torch.allclose(found[n], x, rtol=1e-3, atol=1e-4) for n, x in averaged.items())
    assert any(not torch.allclose(averaged[n], x, rtol=1e-3) for n, x in model.state_dict().items())


def test_curves_pictures_and_sounds_are_there(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer, folder = finished
    name = trainer.stage.name
    events = EventAccumulator(str(folder / "tensorboard" / name))
    events.Reload()
    tags = events.Tags()
    loss = "phones" if name == "recogniser" else "mel"
    curves = {f"train/{loss}", f"validation/{loss}", "train/gradient", "learning_rate"}
    assert curves <= set(tags["scalars"])
    assert [e.step for e in events.Scalars("train/gradient")] == [1, 2, 3, 4, 5, 6, 7]
    assert tags["images"]
    assert bool(tags["audio"]) == (name != "recogniser")


def test_the_rate_warms_up_stays_and_falls_to_zero(tmp_path):
    found, stage = [], vocoder_stage()
    trainer = Trainer(
        stage, tmp_path, dataclasses.replace(FEW, steps=12, validate_steps=100, warm_up=3, decay=0.5)
    )
    losses = stage.generator_losses
    stage.generator_losses = lambda out, phase: (found.append(trainer._rate_factor()), losses(out, phase))[1]
    trainer.run()
    wanted = [1 / 3, 2 / 3, 1, 1, 1, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]
    assert found[:12] == pytest.approx(wanted)


def test_training_ends_at_its_minutes(tmp_path, monkeypatch):
    seconds = count(step=3.0)
    clock = SimpleNamespace(monotonic=lambda: float(next(seconds)))
    monkeypatch.setattr(vcae.training.trainer, "time", clock)
    monkeypatch.setattr(vcae.training.progress, "time", clock)
    trainer = trained(vocoder_stage(), tmp_path, steps=None, minutes=0.5)
    assert trainer.progress == 1 and 0 < trainer.step < 10
    assert 30 <= about(tmp_path)["elapsed"] < 60


def test_training_needs_an_end(tmp_path):
    with pytest.raises(ValueError, match="steps or minutes"):
        Trainer(vocoder_stage(), tmp_path, TrainConfig())


@pytest.mark.parametrize("budget", [{"steps": 0}, {"steps": None, "minutes": 0.0}])
def test_an_empty_budget_is_spent(budget, tmp_path):
    """Or refused, but it does not train for ever."""
    try:
        trainer = Trainer(vocoder_stage(), tmp_path, dataclasses.replace(FEW, **budget))
    except ValueError:
        return
    assert trainer.progress == 1


@pytest.mark.parametrize("name", STAGES)
def test_validation_does_not_change_the_training(name, unbroken, tmp_path):
    trained(STAGES[name](), tmp_path, validate_steps=2)
    assert_equal_to_the_bit(state(tmp_path), state(unbroken(name)[1]))


def test_a_step_that_is_not_finite_is_left_out(tmp_path):
    stage = autoencoder_stage()
    stage.milestones, losses = {}, stage.generator_losses
    start = {n: p.detach().clone() for n, p in stage.named_parameters()}
    stage.generator_losses = lambda out, phase: {n: x / 0 for n, x in losses(out, phase).items()}
    trained(stage, tmp_path, steps=1)
    assert_equal_to_the_bit(start, {n: p.detach() for n, p in stage.named_parameters()})


# Going on


def child(name: str, folder: str, steps: int, at: int | None = None, where: str | None = None) -> None:
    """In a process of its own: train, a checkpoint each step; perhaps be killed at a step."""
    stage = STAGES[name]()
    config = dataclasses.replace(FEW, steps=steps, validate_steps=1000, checkpoint_minutes=0.0)
    trainer = Trainer(stage, Path(folder), config)

    def die() -> None:
        if trainer.step == at:
            os.kill(os.getpid(), signal.SIGKILL)

    if where == "step":  # between the discriminator's step and the generator's
        losses = stage.generator_losses
        stage.generator_losses = lambda out, phase: (die(), losses(out, phase))[1]
    elif where == "write":
        write = vcae.files.save_file  # type: ignore[attr-defined]
        patched = lambda *given: (Path(given[1]).touch(), die(), write(*given))  # noqa: E731
        vcae.files.save_file = patched  # type: ignore[attr-defined]
    trainer.run()


def start(*arguments: object) -> subprocess.Popen[bytes]:
    """`child` with these arguments, on the CPU."""
    places = os.pathsep.join([str(HERE.parent), str(HERE)])
    return subprocess.Popen(
        [sys.executable, "-c", f"import test_training; test_training.child(*{arguments!r})"],
        env=os.environ | {"PYTHONPATH": places, "CUDA_VISIBLE_DEVICES": ""},
        stderr=subprocess.PIPE,
    )


# The milestones of the autoencoder pass at steps 4 (two) and 6, those of the vocoder at 3 (two) and 6.
@pytest.mark.parametrize(
    ("name", "at", "where", "left"), [("autoencoder", 5, "step", 5), ("vocoder", 4, "write", 3)]
)
def test_a_killed_run_goes_on_to_the_same_weights(name, at, where, left, unbroken, tmp_path):
    process = start(name, str(tmp_path), FEW.steps, at, where)
    assert process.wait(300) == -signal.SIGKILL, process.stderr.read().decode()
    assert about(tmp_path)["step"] == left
    assert len(list(tmp_path.rglob("*.part"))) == (where == "write")
    trained(STAGES[name](), tmp_path)
    whole = unbroken(name)[1]
    assert_equal_to_the_bit(state(tmp_path), state(whole))
    assert about(tmp_path)["started"] == about(whole)["started"]
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("at", [1, 4])
def test_stopping_leads_to_the_same_weights(at, unbroken, tmp_path):
    """Also just before a milestone, and where the discriminator has not begun."""
    stage = autoencoder_stage()
    trainer = Trainer(stage, tmp_path, dataclasses.replace(FEW, validate_steps=1000))
    losses = stage.generator_losses

    def stopping(out: dict[str, object], phase: Phase) -> dict[str, torch.Tensor]:
        trainer.stopping = trainer.step + 1 == at
        return losses(out, phase)

    stage.generator_losses = stopping
    trainer.run()
    assert about(tmp_path)["step"] == at
    trained(autoencoder_stage(), tmp_path)
    assert_equal_to_the_bit(state(tmp_path), state(unbroken("autoencoder")[1]))


def test_sigterm_ends_after_the_step_in_hand(tmp_path):
    process = start("vocoder", str(tmp_path), 1_000_000)
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("*.ckpt")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.terminate()
    assert process.wait(300) == 0, process.stderr.read().decode()
    assert 0 < about(tmp_path)["step"] < 1_000_000
    assert (tmp_path / "vocoder.safetensors").exists()
    assert not list(tmp_path.rglob("*.part"))


def test_the_signal_handlers_are_put_back(tmp_path):
    before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    trained(vocoder_stage(), tmp_path, steps=1)
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_full_disk_leaves_the_last_checkpoint(finished, monkeypatch):
    trainer, folder = finished
    before = state(folder)

    def full(tensors: object, path: Path, metadata: object) -> None:
        Path(path).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vcae.files.save_file", full)
    with pytest.raises(OutputError, match="No space left"):
        trainer.save()
    assert_equal_to_the_bit(state(folder), before)
    assert not list(folder.rglob("*.part"))


@pytest.fixture
def stopped(tmp_path) -> Path:
    trained(autoencoder_stage(), tmp_path, steps=1)
    return tmp_path / "autoencoder.ckpt"


def refused(stage: Stage, path: Path) -> str:
    with pytest.raises((CheckpointError, TensorFileError)) as caught:
        Trainer(stage, path.parent, FEW).run()
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


@pytest.mark.parametrize("kept", [0, 5, 100, 0.5, -1])
def test_a_damaged_checkpoint_is_refused(kept, stopped):
    whole = stopped.read_bytes()
    stopped.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    refused(autoencoder_stage(), stopped)


@pytest.mark.parametrize("options", [{"decoder_width": 20}, {"content_width": 16}, {"tokens": 5}])
def test_a_checkpoint_of_other_widths_is_refused(options, stopped):
    assert "empty folder" in refused(autoencoder_stage(**options), stopped)


def test_a_file_of_tensors_that_is_no_checkpoint_is_refused(stopped):
    (stopped.parent / "autoencoder.safetensors").replace(stopped)
    refused(autoencoder_stage(), stopped)


# On a GPU


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; this machine has none")
@pytest.mark.parametrize("name", STAGES)
def test_a_step_in_bfloat16_on_the_gpu(name, tmp_path):
    stage = STAGES[name]()
    stage.milestones = dict.fromkeys(stage.milestones, 0.0)
    stage.sampler = sampler(torch.device("cuda"))
    trainer = trained(stage, tmp_path, steps=6, validate_steps=6)  # the last three recorded
    assert trainer.device.type == "cuda" and trainer.step == 6
    assert all(x.isfinite().all() for x in state(tmp_path).values())
