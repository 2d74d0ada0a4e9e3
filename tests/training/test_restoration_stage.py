"""The restoration's stage: alignment of its losses, and training."""

import dataclasses

import pytest
import torch
from banks import hum_bank
from conftest import TINY, seeded

from vcae.inference.checkpoint import load
from vcae.model.prosody import ProsodyEncoder
from vcae.model.restorer import TASKS, Restorer, RestorerConfig
from vcae.training.config import (
    NoiseConfig,
    RestorationMilestones,
    RestorationStageConfig,
    RoomConfig,
    SamplerConfig,
    TrainConfig,
)
from vcae.training.data import Sampler
from vcae.training.stages.base import Phase
from vcae.training.stages.restoration import RestorationSampler, RestorationStage
from vcae.training.trainer import Trainer

SMALL = RestorerConfig(TINY.mel, delay=3, width=16, hidden=32, dilations=(1, 2), pitches=24)


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    """Only on the CPU are two runs equal to the bit."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def stage(config: RestorationStageConfig | None = None) -> RestorationStage:
    torch.manual_seed(0)
    sampler = Sampler(hum_bank(), SamplerConfig(4, 0.6, 0.04, speeds=(1.0, 1.1), at_most=()))
    labeller = seeded(ProsodyEncoder, TINY.mel)
    return RestorationStage(Restorer(SMALL), RestorationSampler(sampler, sampler), labeller, config)


def phase(*started: str) -> Phase:
    return Phase(0.0, frozenset(started), torch.Generator().manual_seed(0))


def test_a_batch_has_a_part_for_each_task():
    tested = stage()
    out = tested.generate(tested.batch(phase().rng), phase())
    assert out.tasks == ["denoise", "denoise", "superres", "revoice"]
    assert out.seen.shape == out.clean.shape == (4, 321, 60)
    assert set(tested.pictures(out)) == {f"{t}_{n}" for t in TASKS for n in ("clean", "made")}


def test_the_mask_is_compared_in_step():
    """Almost without noise, an open mask loses nothing, and another delay would."""
    noise = NoiseConfig(snr_db=(80.0, 80.0), rooms=RoomConfig(share=0.0))
    tested = stage(RestorationStageConfig(noise=noise))
    out = tested.generate(tested.batch(phase().rng), phase())
    opened = out.restoration._replace(mask=torch.ones_like(out.restoration.mask))
    out = dataclasses.replace(out, restoration=opened)
    found = tested.generator_losses(out, phase())
    assert found["magnitude"] < 1e-3 and found["complex"] < 1e-2
    late = dataclasses.replace(out, clean=out.clean.roll(1, -1))
    assert tested.generator_losses(late, phase())["complex"] > 10 * found["complex"]


def test_lost_speech_weighs_more_than_noise_that_stays():
    tested = stage(RestorationStageConfig(removal=3.0))
    out = tested.generate(tested.batch(phase().rng), phase())
    size = out.tasks.count("denoise")

    def magnitude(gain: float) -> float:
        mask = torch.full_like(out.restoration.mask, gain)
        clean = out.seen / 2
        changed = dataclasses.replace(out, clean=clean, restoration=out.restoration._replace(mask=mask))
        return float(tested.generator_losses(changed, phase())["magnitude"])

    c = tested.config.compression
    half, nothing, everything = (0.5**c, 0.01**c, 1.0)
    assert size and magnitude(0.01) / magnitude(1.0) == pytest.approx(
        3 * ((half - nothing) / (everything - half)) ** 2, rel=0.1
    )


def test_a_step_trains_restorer_and_discriminator_and_not_the_labeller(tmp_path):
    tested = stage(RestorationStageConfig(milestones=RestorationMilestones(0.0, 0.0)))
    before = {n: p.clone() for n, p in tested.named_parameters()}
    config = TrainConfig(steps=3, warm_up=1, log_steps=1, validate_steps=3, validate_batches=1)
    result = Trainer(tested, tmp_path, config).run()
    assert set(tested.loss_weights) - {"discriminator"} <= set(result.validation)
    for name, parameter in tested.named_parameters():
        frozen = name.startswith("labeller.")
        assert torch.equal(parameter, before[name]) == frozen, name
    product = load(tmp_path / "restorer.safetensors", Restorer, RestorerConfig)
    assert product.config == SMALL
