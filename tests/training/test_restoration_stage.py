"""The restoration's stage: alignment of its losses, and training."""

import dataclasses

import pytest
import torch
from banks import hum_bank
from conftest import TINY, TINY_VOCODER, seeded

from vcae.errors import VcaeError
from vcae.inference.checkpoint import load
from vcae.model.prosody import ProsodyEncoder
from vcae.model.restorer import TASKS, Restoration, Restorer, RestorerConfig
from vcae.model.vocoder import Vocoder
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
from vcae.training.stages.restoration import RestorationOutput, RestorationSampler, RestorationStage
from vcae.training.teachers import WhisperEncoder
from vcae.training.teachers.whisper import WhisperConfig
from vcae.training.trainer import Trainer

SMALL = RestorerConfig(TINY.mel, delay=3, width=16, hidden=32, dilations=(1, 2), pitches=24)
WHISPER = WhisperConfig(width=64, heads=1, layers=1, positions=60)


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    """Only on the CPU are two runs equal to the bit."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def stage(
    config: RestorationStageConfig | None = None, whisper: WhisperEncoder | None = None
) -> RestorationStage:
    torch.manual_seed(0)
    sampler = Sampler(hum_bank(), SamplerConfig(4, 0.6, 0.04, speeds=(1.0, 1.1), at_most=()))
    config = dataclasses.replace(config or RestorationStageConfig(), shares=(0.5, 0.25, 0.25))
    parts = seeded(ProsodyEncoder, TINY.mel), seeded(Vocoder, TINY_VOCODER)
    return RestorationStage(Restorer(SMALL), RestorationSampler(sampler, sampler), *parts, whisper, config)


def phase(*started: str) -> Phase:
    return Phase(0.0, frozenset(started), torch.Generator().manual_seed(0))


def test_a_batch_has_a_part_for_each_task():
    tested = stage()
    out = tested.generate(tested.batch(phase().rng), phase())
    assert out.tasks == ["denoise", "denoise", "superres", "revoice"]
    assert out.seen.shape == out.clean.shape == (4, 321, 60)
    assert set(tested.pictures(out)) == {f"{t}_{n}" for t in TASKS for n in ("clean", "made")}


def test_a_batch_without_an_example_of_a_task_is_refused():
    tested = stage()
    arguments = tested.model, tested.sampler, tested.labeller, tested.vocoder
    with pytest.raises(VcaeError, match=r"a batch of 4 has too few .*--sampler\.batch-size"):
        RestorationStage(*arguments, config=RestorationStageConfig(shares=(0.9, 0.05, 0.05)))


def masked(tested: RestorationStage, out: RestorationOutput, gain: float) -> RestorationOutput:
    """The same with a mask of this gain, not limited by the mel."""
    size = len(out.denoised)
    mask = torch.full_like(out.restoration.mask[:size], gain)
    denoised = tested.model.masked(tested.model.delayed(out.seen[:size]), out.restoration._replace(mask=mask))
    return dataclasses.replace(out, denoised=denoised, heard=tested.model.waveform(denoised))


def test_denoised_speech_is_compared_in_step():
    """Almost without noise, an open mask loses nothing, and another delay would."""
    noise = NoiseConfig(snr_db=(80.0, 80.0), rooms=RoomConfig(share=0.0))
    tested = stage(RestorationStageConfig(noise=noise, whisper_layer=1), seeded(WhisperEncoder, WHISPER))
    out = tested.generate(tested.batch(phase().rng), phase())
    out = masked(tested, out, 1.0)
    found = tested.generator_losses(out, phase())
    assert found["magnitude"] < 1e-3 and found["complex"] < 1e-2
    assert found["heard"] < 0.05 and found["words"] < 0.01
    late = dataclasses.replace(out, clean=out.clean.roll(1, -1), spoken=out.spoken.roll(160, -1))
    worse = tested.generator_losses(late, phase())
    assert worse["complex"] > 10 * found["complex"]
    assert worse["heard"] > 3 * found["heard"] and worse["words"] > 3 * found["words"]


def test_denoised_speech_has_no_more_in_a_band_than_the_predicted_mel():
    tested = stage(RestorationStageConfig(noise=NoiseConfig(snr_db=(-5.0, -5.0))))
    batch = tested.batch(phase().rng)
    with torch.no_grad():
        tested.model.mel.bias[: TINY.mel.n_mels] -= 2.0  # the predicted envelope falls
        soft = tested.generate(batch, phase())
        tested.model.mel.bias[: TINY.mel.n_mels] += 20.0
        loud = tested.generate(batch, phase())
    size = len(loud.denoised)
    assert soft.denoised.abs().mean() < 0.5 * loud.denoised.abs().mean()
    seen = tested.model.delayed(loud.seen[:size])
    expected = tested.model.masked(seen, Restoration(*(x[:size] for x in loud.restoration)))
    assert torch.allclose(loud.denoised, expected, rtol=1e-4)


def test_lost_speech_weighs_more_than_noise_that_stays():
    tested = stage(RestorationStageConfig(removal=3.0))
    out = tested.generate(tested.batch(phase().rng), phase())
    out = dataclasses.replace(out, clean=out.seen / 2)

    def magnitude(gain: float) -> float:
        return float(tested.generator_losses(masked(tested, out, gain), phase())["magnitude"])

    c = tested.config.compression
    half, nothing, everything = (0.5**c, 0.01**c, 1.0)
    assert magnitude(0.01) / magnitude(1.0) == pytest.approx(
        3 * ((half - nothing) / (everything - half)) ** 2, rel=0.1
    )


def test_a_step_trains_restorer_and_discriminator_and_not_the_teachers(tmp_path):
    milestones = RestorationMilestones(0.0, 0.0)
    tested = stage(
        RestorationStageConfig(milestones=milestones, whisper_layer=1), seeded(WhisperEncoder, WHISPER)
    )
    before = {n: p.clone() for n, p in tested.named_parameters()}
    config = TrainConfig(steps=3, warm_up=1, log_steps=1, validate_steps=3, validate_batches=1)
    result = Trainer(tested, tmp_path, config).run()
    assert set(tested.loss_weights) - {"discriminator"} <= set(result.validation)
    for name, parameter in tested.named_parameters():
        frozen = name.startswith(("labeller.", "vocoder.", "whisper."))
        assert torch.equal(parameter, before[name]) == frozen, name
    product = load(tmp_path / "restorer.safetensors", Restorer, RestorerConfig)
    assert product.config == SMALL
