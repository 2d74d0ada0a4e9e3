"""The speaker student: batches with a teacher's embeddings, losses, training."""

import dataclasses

import pytest
import torch
from banks import hum_bank
from conftest import noise, seeded, vowel
from torch import nn
from torch.nn import functional as F

from vcae.inference.checkpoint import load
from vcae.model.config import SpeakerConfig
from vcae.model.speaker import SpeakerEncoder
from vcae.training import augment
from vcae.training.config import SpeakerSamplerConfig, TrainConfig
from vcae.training.data import Bank
from vcae.training.stages.base import Phase
from vcae.training.stages.speaker import SpeakerStage
from vcae.training.teachers.sampler import SpeakerSampler
from vcae.training.trainer import Trainer

SMALL = SpeakerConfig(width=16, hidden=32, dim=12, tokens=3, token_dim=8)
CONFIG = SpeakerSamplerConfig((0.4, 0.8), 3.0, (1.0, 1.1), altered=0.5)


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


class MeanSpectrum(nn.Module):
    """A teacher whose embedding is the mean spectrum."""

    def forward(self, wav: torch.Tensor) -> torch.Tensor:
        return F.adaptive_avg_pool1d(torch.fft.rfft(wav).abs(), 12)


def bank() -> Bank:
    """The last of the three speakers has no name."""
    return hum_bank(labelled=[True, True, False])


def sampler(teacher: nn.Module | None = None, **options) -> SpeakerSampler:
    embeddings = F.normalize(noise(3, 2, 12), dim=-1)
    return SpeakerSampler(
        bank(), dataclasses.replace(CONFIG, **options), embeddings, teacher or MeanSpectrum()
    )


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_formants_are_scaled_and_harmonics_stay():
    wav = vowel(120.0)  # formants at 600 and 2300 Hz

    def spectrum(x: torch.Tensor) -> torch.Tensor:
        return torch.fft.rfft(x[0, 0, 4000:12000] * torch.hann_window(8000)).abs()  # bins of 2 Hz

    scaled = augment.scale_formants(wav, torch.tensor([1.2]), 16_000)
    assert scaled.shape == wav.shape
    before, after = spectrum(wav), spectrum(scaled)
    harmonics = torch.arange(1, 30) * 60
    assert harmonics[after[harmonics].argmax()] > harmonics[before[harmonics].argmax()]
    for k in harmonics[:10].tolist():
        assert after[k - 20 : k + 20].argmax() == 20
    same = augment.scale_formants(wav, torch.ones(1), 16_000)
    torch.testing.assert_close(same[..., 1000:-1000], wav[..., 1000:-1000], atol=2e-3, rtol=0)


def test_embeddings_are_those_of_the_speakers():
    source = sampler()
    batch = source.batch(generator())
    size = len(batch.source)
    altered = round(0.5 * size)
    assert 0.4 * 16_000 <= batch.source.shape[-1] <= 0.8 * 16_000
    assert size * batch.source.shape[-1] == pytest.approx(3.0 * 16_000, rel=0.2)
    torch.testing.assert_close(batch.embedding.norm(dim=1), torch.ones(size))
    assert (batch.speaker[:altered] == -1).all()
    known = batch.speaker >= 0
    assert known.any() and batch.speaker.max() < 4  # the last speaker has no name
    torch.testing.assert_close(batch.embedding[known], source.prototypes[batch.speaker[known]])
    torch.testing.assert_close(batch.source, source.batch(generator()).source)


def test_without_a_teacher_no_reference_is_altered():
    source = SpeakerSampler(bank(), CONFIG, F.normalize(noise(3, 2, 12), dim=-1))
    batch = source.batch(generator())
    nearest = (batch.embedding @ source.prototypes.T).amax(1)
    torch.testing.assert_close(nearest, torch.ones(len(nearest)))


def test_embeddings_of_other_speeds_are_refused():
    with pytest.raises(ValueError, match="embeddings of 1 speeds are not of 2"):
        SpeakerSampler(bank(), CONFIG, noise(3, 1, 12))


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("altered", [0.0, 0.5])
def test_every_loss_is_finite_and_every_weight_gets_a_gradient(altered, precision):
    stage = SpeakerStage(seeded(SpeakerEncoder, SMALL), sampler(altered=altered)).train()
    phase = Phase(0.0, frozenset(), generator())
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        found = stage.generator_losses(stage.generate(stage.batch(phase.rng), phase), phase)
    assert set(found) == set(stage.loss_weights)
    torch.stack([stage.loss_weights[n] * x for n, x in found.items()]).sum().backward()
    assert [n for n, p in stage.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@pytest.mark.slow
def test_the_student_learns_and_is_saved(tmp_path):
    config = TrainConfig(steps=60, warm_up=5, learning_rate=5e-3, validate_steps=60, validate_batches=1)
    stage = SpeakerStage(seeded(SpeakerEncoder, SMALL), sampler(altered=0.0))
    assert Trainer(stage, tmp_path, config).run().validation["cosine"] < 0.6
    model = load(tmp_path / "speaker.safetensors", SpeakerEncoder, SpeakerConfig)
    assert model(noise(2, 80, 30)).shape == (2, 12)
