"""Front ends of the teachers, and teachers of decoded mels."""

import dataclasses

import pytest
import torch
from banks import hum_bank
from conftest import TINY, noise, seeded

from vcae.inference.checkpoint import load, save
from vcae.model.autoencoder import Autoencoder
from vcae.model.config import PRESETS, MelConfig
from vcae.model.mel import LogMel
from vcae.training.config import FrontEndFitConfig, HeadsConfig, PhoneClassifierConfig, SamplerConfig
from vcae.training.data import Sampler
from vcae.training.heads import EncoderHeads
from vcae.training.stages.autoencoder import AutoencoderStage
from vcae.training.stages.base import Phase
from vcae.training.teachers import CamPlusPlus, WhisperEncoder
from vcae.training.teachers.campplus import KaldiFilterBank
from vcae.training.teachers.front_ends import FrontEnd, FrontEndConfig, fit_front_end
from vcae.training.teachers.labels import Codebook
from vcae.training.teachers.perceptual import SpeakerPerception, WhisperRecogniser
from vcae.training.teachers.phones import PhoneClassifier
from vcae.training.teachers.whisper import WhisperConfig, WhisperMel

KINDS = {"whisper": WhisperMel, "campplus": KaldiFilterBank}


def sampler() -> Sampler:
    return Sampler(hum_bank(), SamplerConfig(4, 0.4, 0.2, speeds=(1.0, 1.1), at_most=()))


def recogniser() -> WhisperRecogniser:
    torch.manual_seed(0)
    teacher = WhisperEncoder(WhisperConfig(width=64, heads=1, layers=2, positions=200))
    codebook = Codebook(torch.randn(6, 64), torch.zeros(64), torch.randn(64, 3), layer=1)
    classifier = PhoneClassifier(3, PhoneClassifierConfig(width=8))
    return WhisperRecogniser(FrontEnd(FrontEndConfig(width=8)), teacher, codebook, classifier)


def test_a_mel_of_another_rate_is_refused():
    with pytest.raises(ValueError, match="16000 Hz with a hop of 160"):
        FrontEnd(FrontEndConfig(mel=PRESETS["24k"]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_front_end_learns_the_input_of_its_teacher(kind, tmp_path):
    torch.manual_seed(0)
    front_end, source = FrontEnd(FrontEndConfig(kind, width=16)), sampler()
    wav = source.batch(torch.Generator().manual_seed(0)).source
    mel, target = LogMel(MelConfig())(wav), front_end.target(wav, KINDS[kind]())
    assert front_end(mel).shape[-1] in (target.shape[-1], target.shape[-1] - 2)
    before = float(front_end.loss(mel, target).detach())
    fit_front_end(front_end, source, FrontEndFitConfig(steps=60))
    assert front_end.loss(mel, target) < 0.8 * before
    save(tmp_path / "front_end.safetensors", front_end)
    loaded = load(tmp_path / "front_end.safetensors", FrontEnd, FrontEndConfig)
    torch.testing.assert_close(loaded(mel), front_end(mel), atol=0.02, rtol=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_the_target_is_of_the_mel_frames_of_the_same_centre(kind):
    """A click is loudest in the same frame of mel and target, to the nearest frame."""
    front_end = FrontEnd(FrontEndConfig(kind))
    wav = 1e-3 * noise(1, 1, 16_000)
    wav[..., 8_000:8_016] += noise(16)
    mel, target = LogMel(MelConfig())(wav)[..., front_end.delay :], front_end.target(wav, KINDS[kind]())

    def centre(x: torch.Tensor) -> float:
        energy = x[0].mean(0)
        energy = (energy - energy.median()).clamp(min=0) ** 2
        return float((energy * torch.arange(len(energy))).sum() / energy.sum())

    assert centre(mel) == pytest.approx(centre(target), abs=0.6)


def test_teachers_of_mels_pass_a_gradient_and_are_in_step_with_labels():
    words = recogniser()
    voice = SpeakerPerception(FrontEnd(FrontEndConfig("campplus", width=8)), CamPlusPlus())
    mel = torch.randn(2, 80, 100, requires_grad=True)
    found, embedding = words(mel), voice(mel)
    assert found.phones.shape == (2, 40, 50) and [x.shape for x in found.features] == [(2, 3, 50)]
    assert embedding.shape == (2, 192)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2))
    (found.phones[:, 0].sum() + embedding[:, 0].sum()).backward()
    assert mel.grad is not None and mel.grad.any()
    assert all(p.grad is None for m in (words, voice) for p in m.parameters())


@pytest.mark.slow
def test_whisper_takes_the_place_of_the_recogniser():
    source = sampler()
    model = seeded(Autoencoder, TINY)
    stage = AutoencoderStage(
        model, EncoderHeads(HeadsConfig(), TINY, source.speakers), source, recogniser()
    ).train()
    phase = Phase(0.9, frozenset(stage.milestones), torch.Generator().manual_seed(0))
    out = stage.generate(stage.batch(phase.rng), phase)
    found = stage.generator_losses(out, phase)
    assert all(x.isfinite() for x in found.values())
    found["converted_features"].backward()
    assert any(p.grad is not None and p.grad.any() for p in model.decoder.parameters())
    perfect = stage.generator_losses(dataclasses.replace(out, mel=out.target), phase)
    assert perfect["phone_kl"] < found["phone_kl"]
    assert not stage.recogniser.training
