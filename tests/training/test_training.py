"""Stages and the training loop, at the smallest sizes, on the CPU unless a test says otherwise."""

import dataclasses
import json
import os
import shutil
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
from banks import hum_bank, some_phones
from conftest import TINY, TINY_VOCODER, seeded

import vcae
import vcae.files
import vcae.training.trainer
from vcae.files import OutputError, TensorFileError, load_tensors
from vcae.inference.checkpoint import CheckpointError, load, save
from vcae.model.autoencoder import Autoencoder
from vcae.model.config import AutoencoderConfig, VocoderConfig
from vcae.model.vocoder import Vocoder
from vcae.training.augment import QUEFRENCIES
from vcae.training.config import (
    AutoencoderStageConfig,
    DecoderMilestones,
    HeadsConfig,
    SamplerConfig,
    TrainConfig,
    VocoderStageConfig,
)
from vcae.training.data import Bank, Sampler
from vcae.training.heads import EncoderHeads
from vcae.training.recogniser import Recogniser, RecogniserConfig
from vcae.training.run import Run, differences, git_revision, phases_of
from vcae.training.stages.autoencoder import AutoencoderStage
from vcae.training.stages.base import Phase, Stage
from vcae.training.stages.encoders import EncodersStage, Sketch
from vcae.training.stages.recogniser import RecogniserStage
from vcae.training.stages.views import envelope
from vcae.training.stages.vocoder import VocoderStage
from vcae.training.trainer import Trainer

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
FEW = TrainConfig(steps=7, warm_up=2, log_steps=1, validate_steps=7, validate_batches=1)
HERE = Path(__file__).parent


def small_bank() -> Bank:
    """Two of the three speakers have a name and a text, and some frames a phone."""
    texts = ["hello there", "a cat", None]
    return hum_bank(phones=some_phones(6), labelled=[True, True, False], texts=texts)


def sampler(device: torch.device = CPU) -> Sampler:
    return Sampler(small_bank().to(device), SamplerConfig(4, 0.24, 0.2, speeds=(1.0, 1.1), power=0.3))


def recogniser() -> Recogniser:
    return seeded(Recogniser, RecogniserConfig(TINY.mel, width=16, stacks=2))


def recogniser_stage() -> Stage:
    return RecogniserStage(recogniser(), sampler())


def heads(source: Sampler, config: AutoencoderConfig = TINY) -> EncoderHeads:
    return EncoderHeads(HeadsConfig(), config, source.speakers)


def encoders_stage(**sizes) -> Stage:
    config, source = dataclasses.replace(TINY, **sizes), sampler()
    return EncodersStage(seeded(Autoencoder, config), heads(source, config), source, recogniser())


def autoencoder_stage(milestones: dict[str, float] | None = None, **sizes) -> Stage:
    config, source = dataclasses.replace(TINY, **sizes), sampler()
    options = AutoencoderStageConfig(
        discriminator_channels=4, milestones=DecoderMilestones(**milestones or {})
    )
    model, teacher = seeded(Autoencoder, config), recogniser()
    torch.manual_seed(0)
    return AutoencoderStage(model, heads(source, config), source, teacher, options)


def vocoder_stage() -> Stage:
    config = VocoderStageConfig(discriminator_channels=4)
    return VocoderStage(seeded(Vocoder, TINY_VOCODER), sampler(), config)


STAGES = {
    "recogniser": recogniser_stage,
    "encoders": encoders_stage,
    "autoencoder": autoencoder_stage,
    "vocoder": vocoder_stage,
}
ADVERSARIAL = ["autoencoder", "vocoder"]
MAIN_LOSS = {"recogniser": "phones", "encoders": "sketch", "autoencoder": "mel", "vocoder": "mel"}
DELAYS = [0, 2, 8]


@pytest.fixture(autouse=True)
def on_the_cpu(request, monkeypatch):
    """Only on the CPU are two runs equal to the bit."""
    if not request.node.get_closest_marker("skipif"):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def phases(stage: Stage) -> list[Phase]:
    """Before the milestones, and after all of them; the same where there are none."""
    started = frozenset(stage.milestones)
    return [
        Phase(progress, names, torch.Generator().manual_seed(1))
        for progress, names in ((0.1, frozenset()), (0.9, started))
    ]


def weighed(stage: Stage, losses: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack(
        [stage.loss_weights[n] * x for n, x in losses.items() if n in stage.loss_weights]
    ).sum()


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
            out = stage.generate(stage.batch(phase.rng), phase)
            found = stage.generator_losses(out, phase)
            of_discriminator = (
                stage.discriminator_losses(out, phase) if "discriminator" in phase.started else {}
            )
        only_logged = {"accuracy"} if name == "recogniser" else set()
        assert set(found) - set(stage.loss_weights) == only_logged
        assert all(x.ndim == 0 and x.isfinite() for x in (found | of_discriminator).values())
        weighed(stage, found).backward()
        if of_discriminator:
            weighed(stage, of_discriminator).backward()
    assert {*found, *of_discriminator} - {"accuracy"} == set(stage.loss_weights)
    without = {n for n, p in stage.named_parameters() if p.requires_grad and p.grad is None}
    # Timbre tokens are for the decoder alone.
    assert without == (
        {f"model.speaker.timbre.{n}" for n in ("weight", "bias")} if name == "encoders" else set()
    )
    assert all(p.grad.isfinite().all() for p in stage.parameters() if p.grad is not None)
    idle = {n for n, p in stage.named_parameters() if p.grad is not None and not p.grad.any()}
    assert idle == set()
    assert bool(list(stage.discriminator.parameters())) == (name in ADVERSARIAL)


def test_milestones_bring_their_losses():
    stage = autoencoder_stage()
    early, late = (
        set(stage.generator_losses(stage.generate(stage.batch(p.rng), p), p)) for p in phases(stage)
    )
    assert late - early == {
        "adversarial",
        "feature_matching",
        "target_speaker",
        "source_speaker",
        "converted_features",
        "phone_kl",
    }
    assert early <= late


@pytest.mark.parametrize("delay", DELAYS)
def test_the_sketch_is_of_the_frames_that_a_code_frame_describes(delay):
    """A code frame describes the two mel frames that end `delay` frames before it."""
    stage = encoders_stage(delay=delay)
    phase = phases(stage)[0]
    out = stage.generate(stage.batch(phase.rng), phase)
    wanted = envelope(out.target)
    stage.sketch.forward = lambda z, speaker: wanted.roll(delay, 2)
    assert stage.generator_losses(out, phase)["sketch"] < 1e-6
    # Orthonormal: nothing but the fine structure is lost.
    smooth = torch.ones(1, 80, 4).cumsum(2)
    torch.testing.assert_close(envelope(smooth)[0, 0], 80**0.5 * torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert envelope(smooth).shape == (1, QUEFRENCIES, 4)


def test_a_sketch_predicts_two_frames_for_each_of_the_code():
    sketch = Sketch(5, 3)
    z, speaker = torch.randn(2, 5, 6), torch.randn(2, 3)
    shown = sketch(z, speaker)
    assert shown.shape == (2, QUEFRENCIES, 12)
    z[..., 4:] += 1  # of the code's frame 4, mel frames 8 and 9
    changed = (sketch(z, speaker) - shown).abs().amax((0, 1)) > 0
    assert changed.tolist() == [False] * 8 + [True] * 4


@pytest.mark.parametrize(
    "name",
    [
        "recogniser_features",
        "converted_features",
        "phone_kl",
        "target_speaker",
        "source_speaker",
        "decoded_pitch",
        "decoded_voicing",
    ],
)
def test_decoded_mels_teach_the_autoencoder_and_no_frozen_network(name):
    stage = autoencoder_stage().train()
    phase = phases(stage)[-1]
    out = stage.generate(stage.batch(phase.rng), phase)
    out.prosody[:, 1] = 0.9  # a tiny model finds nothing voiced
    # Decoded mels that are nearest to their sources:
    out = dataclasses.replace(out, reference=TINY.mel.unstandardise(out.mel.detach()))
    before = {n: x.clone() for n, x in stage.model.content.named_buffers()}
    stage.generator_losses(out, phase)[name].backward()
    taught = {n.split(".")[0] for n, p in stage.named_parameters() if p.grad is not None and p.grad.any()}
    assert taught == {"model"}
    assert any(p.grad is not None and p.grad.any() for p in stage.model.decoder.parameters())
    # Nor does the encoder take what is made up for its corpus.
    assert_equal_to_the_bit(before, dict(stage.model.content.named_buffers()))
    assert stage.model.content.training and stage.model.bottleneck.training


@pytest.mark.parametrize("delay", DELAYS)
def test_a_perfectly_decoded_mel_holds_the_phones_of_its_source(delay):
    """The delays of code and decoder are accounted for: frames that are compared are the same."""
    stage = autoencoder_stage(delay=delay).eval()
    phase = phases(stage)[-1]
    out = stage.generate(stage.batch(phase.rng), phase)
    found = stage.generator_losses(out, phase)
    out = dataclasses.replace(out, mel=out.target)
    perfect = stage.generator_losses(out, phase)
    for name in ("recogniser_features", "converted_features", "phone_kl"):
        # Only the last frames, whose future is cut off, differ.
        assert -1e-6 <= perfect[name] < (0.25 if delay < 8 else 0.7) * found[name]


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize("make", [encoders_stage, autoencoder_stage])
def test_phones_are_of_the_frames_that_a_code_frame_describes(make, delay):
    stage = make(delay=delay).eval()
    phase = phases(stage)[-1]
    out = stage.generate(stage.batch(phase.rng), phase)
    wanted = out.recognised.phones.roll(delay // 2, 2)
    stage.heads.phones.forward = lambda z: wanted
    assert stage.generator_losses(out, phase)["phone_distillation"] < 1e-6


@pytest.mark.parametrize("delay", DELAYS)
def test_a_perfectly_decoded_mel_has_the_prosody_that_was_asked_for(delay):
    stage = autoencoder_stage(delay=delay).eval()
    phase = phases(stage)[-1]
    out = stage.generate(stage.batch(phase.rng), phase)
    with torch.no_grad():
        prosody = stage.model.prosody(TINY.mel.unstandardise(out.target))[..., delay:]
    padded = torch.nn.functional.pad(prosody, (0, delay))
    found = stage.generator_losses(dataclasses.replace(out, mel=out.target, prosody=padded), phase)
    voiced = prosody[:, 1]
    least = torch.nn.functional.binary_cross_entropy(voiced, voiced)
    torch.testing.assert_close(found["decoded_voicing"], least)


@pytest.mark.parametrize(("make", "learns"), [(encoders_stage, True), (autoencoder_stage, False)])
def test_the_prosody_encoder_learns_before_the_decoder_and_then_stays(make, learns):
    stage = make().train()
    for phase in phases(stage):
        out = stage.generate(stage.batch(phase.rng), phase)
        weighed(stage, stage.generator_losses(out, phase)).backward()
        assert any(p.grad is not None for p in stage.model.prosody.parameters()) == learns


@pytest.mark.parametrize("name", STAGES)
def test_a_forward_pass_has_no_side_effects(name):
    """But for the statistics that normalising layers keep of what they see."""
    stage = STAGES[name]().train()

    def everything() -> tuple[dict[str, torch.Tensor], dict[str, bool]]:
        parameters = dict(stage.named_parameters())
        return (
            {n: p.detach().clone() for n, p in parameters.items()},
            {n: p.requires_grad for n, p in parameters.items()},
        )

    frozen = {n: x.clone() for module in stage.frozen for n, x in module.state_dict().items()}
    for phase in phases(stage):
        weights, trainable = everything()
        out = stage.generate(stage.batch(phase.rng), phase)
        stage.generator_losses(out, phase)
        stage.discriminator_losses(out, phase)
        assert_equal_to_the_bit(weights, everything()[0])
        assert everything()[1] == trainable
        assert_equal_to_the_bit(frozen, {n: x for m in stage.frozen for n, x in m.state_dict().items()})


def test_the_recogniser_learns_from_frames_that_have_a_label():
    stage = recogniser_stage()
    phase = phases(stage)[0]
    out = stage.generate(stage.batch(phase.rng), phase)
    label = out.batch.phones
    assert (label < 0).any() and (label >= 0).any()
    phones = 9.0 * torch.nn.functional.one_hot(label.clamp(min=0), out.phones.shape[1]).mT
    right = stage.generator_losses(dataclasses.replace(out, phones=phones), phase)
    phones = torch.where((label < 0)[:, None], -phones, phones)
    same = stage.generator_losses(dataclasses.replace(out, phones=phones), phase)
    assert right["accuracy"] == same["accuracy"] == 1
    assert right["phones"] == same["phones"]


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_the_two_steps_leave_each_other_alone(name, tmp_path):
    stage = STAGES[name]()
    stage.milestones = dict.fromkeys(stage.milestones, 0.0)
    discriminator = {f"discriminator.{n}" for n, _ in stage.discriminator.named_parameters()}
    frozen = {p for module in stage.frozen for p in module.parameters()}

    def snapshot() -> list[dict[str, torch.Tensor]]:
        """Trained weights, the generator's and the discriminator's."""
        now = {n: p.detach().clone() for n, p in stage.named_parameters() if p not in frozen}
        return [{n: x for n, x in now.items() if (n in discriminator) == of_it} for of_it in (False, True)]

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
    stage.milestones["discriminator"] = 2.0
    start = {n: p.clone() for n, p in stage.discriminator.state_dict().items()}
    trained(stage, tmp_path, steps=1)
    assert_equal_to_the_bit(start, stage.discriminator.state_dict())


def test_the_discriminator_of_waveforms_learns_before_the_vocoder_is_trained_against_it():
    stage = STAGES["vocoder"]()
    alone = Phase(0.3, frozenset({"discriminator"}), torch.Generator().manual_seed(0))
    out = stage.generate(stage.batch(alone.rng), alone)
    assert set(stage.discriminator_losses(out, alone)) == {"discriminator"}
    assert set(stage.generator_losses(out, alone)) == {"stft", "mel"}
    both = alone._replace(started=frozenset({"discriminator", "adversarial"}))
    assert set(stage.generator_losses(out, both)) == {"stft", "mel", "adversarial", "feature_matching"}


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_the_discriminator_learns_at_a_rate_of_its_own(name, tmp_path):
    moved = []
    for rate in (0.0, 1.0, 4.0):
        stage = STAGES[name]()
        stage.milestones = dict.fromkeys(stage.milestones, 0.0)
        start = [p.detach().clone() for p in stage.discriminator.parameters()]
        trained(stage, tmp_path / str(rate), steps=1, discriminator_rate=rate)
        pairs = zip(stage.discriminator.parameters(), start, strict=True)
        moved.append(float(sum((p.detach() - q).norm() for p, q in pairs)))
    assert moved[0] == 0
    assert moved[2] == pytest.approx(4 * moved[1], rel=0.01)


def test_averaged_speaker_encoders_follow_slowly_and_one_of_them_until_conversion(tmp_path):
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
    stage.milestones = {}
    batch = stage.batch(torch.Generator().manual_seed(0))
    stage.batch = lambda rng: batch
    found, losses = [], stage.generator_losses
    stage.generator_losses = lambda out, phase: (found.append(losses(out, phase)), found[-1])[1]
    trained(stage, tmp_path, steps=15, validate_steps=100, learning_rate=3e-3, log_steps=100)
    values = [float(x[MAIN_LOSS[name]].detach()) for x in found]
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
    assert {p.name for p in folder.iterdir()} == {
        f"{name}.ckpt",
        f"{name}.safetensors",
        "config.json",
        "tensorboard",
    }


def test_the_product_is_the_averaged_model(finished):
    trainer, folder = finished
    name, (model,) = trainer.stage.name, trainer.stage.product.values()
    path = folder / f"{name}.safetensors"
    kind, config = {
        "recogniser": (Recogniser, RecogniserConfig),
        "encoders": (Autoencoder, AutoencoderConfig),
        "autoencoder": (Autoencoder, AutoencoderConfig),
        "vocoder": (Vocoder, VocoderConfig),
    }[name]
    found = load(path, kind, config).state_dict()
    averages = trainer.ema.averages.items()
    averaged = {n.removeprefix(f"{name}."): x for n, x in averages if n.startswith(f"{name}.")}
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
    curves = {f"{kind}/{MAIN_LOSS[name]}" for kind in ("train", "validation")}
    curves |= {"train/gradient", "learning_rate"}
    assert curves <= set(tags["scalars"])
    assert [e.step for e in events.Scalars("train/gradient")] == [1, 2, 3, 4, 5, 6, 7]
    assert bool(tags["images"]) == (name != "encoders")
    assert bool(tags["audio"]) == (name not in ("recogniser", "encoders"))


def test_the_rate_warms_up_stays_and_falls_to_zero(tmp_path):
    found, stage = [], vocoder_stage()
    trainer = Trainer(
        stage, tmp_path, dataclasses.replace(FEW, steps=12, validate_steps=100, warm_up=3, decay=0.5)
    )
    losses = stage.generator_losses
    stage.generator_losses = lambda out, phase: (found.append(trainer.rate_factor), losses(out, phase))[1]
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


# The milestones of the autoencoder pass at steps 3 (three) and 6, those of the vocoder at 3 (two) and 6.
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


@pytest.mark.parametrize("at", [1, 3])
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


def refused(stage: Stage, path: Path, **options) -> str:
    with pytest.raises((CheckpointError, TensorFileError)) as caught:
        Trainer(stage, path.parent, dataclasses.replace(FEW, **options)).run()
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


# What a run says of itself


FACTS = {"vcae", "git", "data", "seed", "device", "steps", "hours", "minutes", "run_config", "phases"}


def notes_of(path: Path) -> dict:
    return load_tensors(path)[1]["notes"]


def leaves(config: object) -> set[str]:
    """The dotted names of all values in nested dicts, those of free keys apart."""
    if not isinstance(config, dict):
        return {""}
    return {f"{key}.{rest}".rstrip(".") for key, value in config.items() for rest in leaves(value)}


def test_checkpoint_product_and_folder_describe_the_run(finished):
    trainer, folder = finished
    name = trainer.stage.name
    inside = json.loads((folder / "config.json").read_text())[name]
    product = notes_of(folder / f"{name}.safetensors")
    assert about(folder)["notes"] == product == inside
    assert set(product) == FACTS
    assert product["vcae"] == vcae.__version__
    assert product["git"] == git_revision()
    assert product["data"] == small_bank().fingerprint
    assert (product["seed"], product["steps"]) == (0, 7)
    assert product["hours"] == pytest.approx(7 * 4 * 0.24 / 3600, abs=1e-3)
    assert product["device"]


def test_every_setting_is_a_field_of_the_checkpoint(finished):
    trainer, folder = finished
    written = notes_of(folder / f"{trainer.stage.name}.safetensors")["run_config"]
    configs = trainer.stage.configs | {"training": trainer.config}
    assert {"model", "stage", "sampler", "training"} <= set(configs)
    for name, config in configs.items():
        wanted = leaves(dataclasses.asdict(config))
        assert leaves(written[name]) == wanted and len(wanted) > 1, name


def test_losses_and_milestones_are_those_of_the_configuration(finished):
    stage = finished[0].stage
    config = stage.configs["stage"]
    expected = dataclasses.asdict(config.loss_weights)
    for trained, drift in (("train_speaker", "speaker_drift"), ("train_content", "code_drift")):
        if not getattr(config, trained, False):
            expected.pop(drift, None)  # a loss that only a trained encoder has
    assert stage.loss_weights == expected
    assert stage.milestones == (dataclasses.asdict(config.milestones) if stage.milestones else {})


def test_phases_are_carried_along(tmp_path):
    trained(vocoder_stage(), tmp_path / "first", steps=1)
    before = phases_of(tmp_path / "first" / "vocoder.safetensors")
    assert [(p["stage"], p["steps"]) for p in before] == [("vocoder", 1)]
    assert before[0]["settings"]["training"]["steps"] == 1
    run = Run({"name": "test"}, started_from=before, teachers=before)
    Trainer(vocoder_stage(), tmp_path / "second", FEW, run=run).run()
    notes = notes_of(tmp_path / "second" / "vocoder.safetensors")
    assert [p["steps"] for p in notes["phases"]] == [1, 7]
    assert notes["phases"][1]["teachers"] == before
    assert notes["run_config"]["recipe"] == {"name": "test"}


def test_weights_without_phases_are_one_phase(tmp_path):
    path = tmp_path / "vocoder.safetensors"
    save(path, seeded(Vocoder, TINY_VOCODER), {"steps": 5, "minutes": 1.5})
    assert phases_of(path) == [{"stage": "vocoder", "steps": 5, "minutes": 1.5}]


def test_a_run_says_what_it_came_to(tmp_path):
    first = Trainer(vocoder_stage(), tmp_path, FEW).run()
    assert (first.steps, first.new_steps, first.finished) == (7, 7, True)
    assert {"stft", "mel"} <= set(first.validation)
    before = notes_of(tmp_path / "vocoder.safetensors")
    again = Trainer(vocoder_stage(), tmp_path, FEW, run=Run({"name": "another"})).run()
    assert (again.steps, again.new_steps, again.hours) == (7, 0, first.hours)
    assert notes_of(tmp_path / "vocoder.safetensors") == before  # of the run that made the steps


def test_there_is_no_revision_without_git(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert git_revision() is None


@pytest.mark.parametrize(
    "options", [{"learning_rate": 0.1}, {"seed": 1}, {"decay": 0.5}, {"betas": (0.9, 0.99)}]
)
def test_a_run_with_other_training_settings_is_refused(options, stopped):
    ((name, value),) = options.items()
    message = refused(autoencoder_stage(), stopped, **options)
    before = json.loads(json.dumps(getattr(FEW, name)))
    assert f"training.{name} was {before}, is {list(value) if isinstance(value, tuple) else value}" in message


def test_a_run_with_another_stage_sampler_or_data_is_refused(stopped):
    message = refused(autoencoder_stage({"conversion": 0.9}), stopped)
    assert "stage.milestones.conversion was 0.375, is 0.9" in message
    other = autoencoder_stage()
    other.sampler.bank.texts[0] = "something else"
    assert "data was " in refused(other, stopped)
    other = autoencoder_stage()
    other.configs["sampler"] = dataclasses.replace(other.configs["sampler"], seconds=1.0)
    assert "sampler.seconds was 0.24, is 1.0" in refused(other, stopped)


def test_budget_and_logging_may_change(stopped):
    trained(
        autoencoder_stage(), stopped.parent, steps=2, log_steps=3, validate_steps=5, checkpoint_minutes=1.0
    )
    assert about(stopped.parent)["step"] == 2


def test_a_refused_run_leaves_the_folder_as_it_was(stopped):
    before = {p: p.read_bytes() for p in stopped.parent.iterdir() if p.is_file()}
    refused(autoencoder_stage(), stopped, seed=3)
    assert {p: p.read_bytes() for p in stopped.parent.iterdir() if p.is_file()} == before


def test_differences_are_named():
    before, now = {"a": {"b": 1, "c": [1, 2]}, "d": None}, {"a": {"b": 2, "c": [1, 2]}, "e": 0.5}
    assert differences(before, now) == ["a.b was 1, is 2", "e was None, is 0.5"]
    assert differences(now, now) == []


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
