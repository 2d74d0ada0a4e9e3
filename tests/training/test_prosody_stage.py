"""The prosody predictor's stage: alignment of its targets, and training."""

import pytest
import torch
from banks import hum_bank
from conftest import FSQ, seeded

from vcae.inference.checkpoint import load
from vcae.model.autoencoder import Autoencoder
from vcae.model.prosody import LOG_MIDDLE, ProsodyPredictor, ProsodyPredictorConfig
from vcae.training.config import SamplerConfig, TrainConfig
from vcae.training.data import Sampler
from vcae.training.stages.base import Phase
from vcae.training.stages.prosody import ProsodyPredictorStage
from vcae.training.trainer import Trainer

SMALL = ProsodyPredictorConfig(FSQ.mel, dim=FSQ.content_dim, width=16, hidden=32)


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def stage() -> ProsodyPredictorStage:
    torch.manual_seed(0)
    sampler = Sampler(hum_bank(), SamplerConfig(4, 0.6, 0.04, speeds=(1.0, 1.1), at_most=()))
    return ProsodyPredictorStage(ProsodyPredictor(SMALL), seeded(Autoencoder, FSQ), sampler)


def test_the_right_prosody_has_no_loss_for_f0():
    tested, phase = stage(), Phase(0.0, frozenset(), torch.Generator().manual_seed(0))
    out = tested.generate(tested.batch(phase.rng), phase)
    assert out.predicted.shape == out.wanted.shape == (4, 3, 30 - FSQ.delay // 2)
    log_f0, voicing, energy = out.wanted.unbind(1)
    scaled = torch.stack([(log_f0 - LOG_MIDDLE) / 0.4, 20 * (voicing - 0.5), energy / 2], dim=1)
    losses = tested.generator_losses(out.__class__(out.batch, out.code, scaled, out.wanted), phase)
    assert losses["f0"] < 1e-5 and losses["energy"] < 1e-5
    # Another level of F0 is no error, another contour is.
    moved = scaled + torch.tensor([1.0, 0, 0])[:, None]
    bent = scaled + torch.linspace(0, 1, scaled.shape[-1]) * torch.tensor([1.0, 0, 0])[:, None]
    for changed, wrong in ((moved, False), (bent, True)):
        losses = tested.generator_losses(out.__class__(out.batch, out.code, changed, out.wanted), phase)
        assert (losses["f0"] > 1e-2) == wrong


def test_training_writes_a_predictor(tmp_path):
    trained = stage()
    Trainer(trained, tmp_path, TrainConfig(steps=3, validate_steps=3, validate_batches=1), stage()).run()
    found = load(tmp_path / "prosody.safetensors", ProsodyPredictor, ProsodyPredictorConfig)
    prosody = found(torch.zeros(1, FSQ.content_dim, 5))
    assert prosody.shape == (1, 3, 5) and ((prosody[:, 1] >= 0) & (prosody[:, 1] <= 1)).all()
