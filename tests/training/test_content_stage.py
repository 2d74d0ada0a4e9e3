"""The content student: batches with labels, alignment of its targets, training."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from banks import hum_bank, some_phones
from conftest import TINY, noise, seeded
from torch.nn import functional as F

from vcae.files import load_tensors
from vcae.inference.checkpoint import CheckpointError, load
from vcae.training.config import ContentStageConfig, RoomConfig, SamplerConfig, TrainConfig
from vcae.training.data import Bank
from vcae.training.stages.base import Phase
from vcae.training.stages.content import ContentStage
from vcae.training.student import ContentPrediction, ContentStudent, ContentStudentConfig
from vcae.training.teachers.labels import UNKNOWN, Codebook, ContentLabels
from vcae.training.teachers.sampler import ContentSampler
from vcae.training.trainer import Trainer

SMALL = ContentStudentConfig(
    TINY.mel, 4, width=16, hidden=32, dim=8, coarse=(1, 2), units=6, components=3, head_width=16
)
FEW = TrainConfig(steps=5, warm_up=2, log_steps=1, validate_steps=5, validate_batches=1)
LABELLED = 200


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    """Only on the CPU are two runs equal to the bit."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def bank() -> Bank:
    return hum_bank(phones=some_phones(6), labelled=[True, False, False])


def labels() -> ContentLabels:
    """Unit 2 s + h in half h of the two seconds of speaker s; the last speaker has no labels."""
    frames = 300
    units = torch.arange(frames, dtype=torch.int32) // 50
    units[LABELLED:] = UNKNOWN
    codebook = Codebook(torch.zeros(6, 5), torch.zeros(5), torch.eye(5)[:, :3], layer=4)
    return ContentLabels(units.to(torch.uint16), noise(frames, 3).half(), codebook, bank().fingerprint)


def sampler(variants: int = 2, **options) -> ContentSampler:
    config = SamplerConfig(4, 0.4, 0.04, **{"speeds": (1.0, 1.1), "at_most": (), **options})
    return ContentSampler(bank(), config, labels(), F.normalize(noise(3, variants, 5), dim=-1))


def stage(delay: int = 4, bottleneck: dict[str, Any] | None = None, **options) -> ContentStage:
    sizes = dataclasses.replace(SMALL, delay=delay, bottleneck=bottleneck or SMALL.bottleneck)
    model = seeded(ContentStudent, sizes)
    return ContentStage(model, sampler(), ContentStageConfig(**options))


def phase() -> Phase:
    return Phase(0.1, frozenset(), torch.Generator().manual_seed(0))


def test_labels_are_those_of_the_crop():
    source = sampler()
    batch = source.batch(phase().rng)
    assert batch.source.shape == (4, 1, 6_400)
    assert batch.units.shape == batch.phones.shape == (4, 20)
    assert batch.features.shape == (4, 3, 20) and batch.embedding.shape == (4, 5)
    assert ((batch.units >= 0) & (batch.units < 4)).all()  # the speaker without labels is not drawn
    assert (batch.units // 2 == (batch.speaker // 2)[:, None]).all()
    which = batch.speaker % 2
    torch.testing.assert_close(batch.embedding, source.embeddings[batch.speaker // 2, which])
    assert set(batch.speaker.tolist()) <= {0, 1, 2, 3}
    same = sampler(variants=1)
    batch = same.batch(phase().rng)
    torch.testing.assert_close(batch.embedding, same.embeddings[batch.speaker // 2, 0])


def test_frames_without_a_label_are_unknown():
    source = sampler()
    source.units[::2] = UNKNOWN
    units = source.batch(phase().rng).units
    assert (units == -1).any() and units.max() < 4


@pytest.mark.parametrize(
    ("delay", "precision", "bottleneck"),
    [
        (0, torch.float32, {"kind": "continuous"}),
        (4, torch.float32, {"kind": "fsq", "levels": (4, 4)}),
        (4, torch.bfloat16, {"kind": "continuous"}),
        (4, torch.float32, {"kind": "onehot", "size": 8}),
    ],
)
def test_every_loss_is_finite_and_every_weight_gets_a_gradient(delay, precision, bottleneck):
    s, p = stage(delay, bottleneck, rooms=RoomConfig(share=1.0)).train(), phase()
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        found = s.generator_losses(s.generate(s.batch(p.rng), p), p)
    assert set(found) - set(s.loss_weights) == {"accuracy", "phone_accuracy"}
    assert all(x.ndim == 0 and x.isfinite() for x in found.values())
    torch.stack([s.loss_weights[n] * x for n, x in found.items() if n in s.loss_weights]).sum().backward()
    assert [n for n, x in s.named_parameters() if x.grad is None or not x.grad.isfinite().all()] == []


@pytest.mark.parametrize("delay", [0, 2, 8])
def test_targets_are_those_of_the_frames_that_a_code_frame_describes(delay):
    s, p = stage(delay).eval(), phase()
    out = s.generate(s.batch(p.rng), p)
    batch, late = out.batch, delay // 2

    def certain(label, classes):
        return 40.0 * F.one_hot(label.roll(late, 1).clamp(min=0), classes).mT.float()

    perfect = ContentPrediction(
        certain(batch.units, 6),
        batch.features.roll(late, 2),
        certain(batch.phones, out.predicted.phones.shape[1]),
    )
    found = s.generator_losses(dataclasses.replace(out, predicted=perfect, clean=perfect), p)
    for prefix in ("", "clean_"):
        assert max(found[f"{prefix}{n}"] for n in ("units", "features", "phones")) < 1e-6
        assert found[f"{prefix}accuracy"] == found[f"{prefix}phone_accuracy"] == 1


@pytest.mark.parametrize(("delay", "of_guide"), [(0, 8), (2, 8), (8, 2)])
def test_the_code_is_compared_with_the_guides_of_the_same_frame(delay, of_guide):
    s, p = stage(delay), phase()
    s = ContentStage(s.model, s.sampler, s.config, guide=stage(of_guide).model).eval()
    out = s.generate(s.batch(p.rng), p)
    assert s.generator_losses(out, p)["code"] > 0.1
    z = out.wanted.roll((delay - of_guide) // 2, -1)
    same = dataclasses.replace(out, code=out.code._replace(z=z))
    assert s.generator_losses(same, p)["code"] < 1e-5


def test_a_delay_that_is_not_a_multiple_of_the_stride_is_refused():
    with pytest.raises(ValueError, match="multiple of the code's stride"):
        stage(3)


@pytest.mark.slow
def test_a_run_that_is_continued_equals_one_that_was_not_stopped(tmp_path: Path):
    Trainer(stage(), tmp_path / "whole", FEW, stage()).run()
    first = Trainer(stage(), tmp_path / "halves", FEW, stage())
    before_step = first.stage.before_step

    def stop(p: Phase) -> None:
        first.stopping = first.step == 2
        before_step(p)

    first.stage.before_step = stop
    assert first.run().steps == 3
    result = Trainer(stage(), tmp_path / "halves", FEW, stage()).run()
    assert result.finished and {"units", "clean_units"} <= set(result.validation)
    whole, halves = (load_tensors(tmp_path / n / "content.ckpt")[0] for n in ("whole", "halves"))
    assert whole.keys() == halves.keys()
    assert [n for n in whole if not torch.equal(whole[n], halves[n])] == []
    student = load(tmp_path / "whole" / "content.safetensors", ContentStudent, ContentStudentConfig)
    assert student.config == SMALL
    with pytest.raises(CheckpointError, match=r"stage.unwarped was 0.4, is 0.5"):
        Trainer(stage(unwarped=0.5), tmp_path / "whole", FEW).run()
