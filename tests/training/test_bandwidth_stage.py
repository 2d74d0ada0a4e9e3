"""The bandwidth extender's stage and recipe: which bands and recordings count, and training."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from banks import hum_bank
from conftest import noise, seeded, vowel

from vcae.audio import Audio
from vcae.inference.checkpoint import load
from vcae.model.bandwidth import BandwidthExtender, BandwidthExtenderConfig
from vcae.training.config import SamplerConfig, TrainConfig
from vcae.training.data import Batch, Sampler
from vcae.training.stages.bandwidth import BandwidthStage
from vcae.training.stages.base import Phase

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))
import bandwidth

SMALL = BandwidthExtenderConfig(width=16, hidden=32, dilations=(1, 2))
SHORT = SamplerConfig(4, 0.5, 0.04, speeds=(1.0,))


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory) -> Path:
    """Two speakers at 48 kHz, one at 16 kHz, and one that is kept for testing."""
    root = tmp_path_factory.mktemp("corpora")
    for number, (speaker, rate) in enumerate(
        {"p300": 48_000, "p301": 48_000, "p302": 16_000, "p225": 48_000}.items()
    ):
        folder = root / "vctk/wav48" / speaker
        folder.mkdir(parents=True)
        sound = 0.5 * vowel(120.0 + 20 * number, 2 * rate, rate) + 0.02 * noise(2 * rate, seed=number)
        Audio(sound.flatten().numpy(), rate).write(folder / f"{speaker}_001.wav")
    return root


def test_bands_that_were_not_recorded_have_no_loss():
    stage = BandwidthStage(seeded(BandwidthExtender, SMALL), Sampler(hum_bank(), SHORT))
    rng = torch.Generator().manual_seed(0)
    white = noise(2, 1, 24_000)
    spectrum = torch.fft.rfft(white[1:])
    spectrum[..., 6000:] = 0  # from 12 kHz on, of 24 kHz
    source = torch.cat([white[:1], torch.fft.irfft(spectrum, n=24_000)])
    empty = torch.zeros(2, 0)
    out = stage.generate(Batch(source, source[..., :0], empty, empty, empty), Phase(0.0, frozenset(), rng))
    centres = SMALL.crossover + SMALL.spacing * torch.arange(out.recorded.shape[1])
    assert out.recorded[0].all()
    assert out.recorded[1, centres < 11_000].all() and not out.recorded[1, centres > 12_000].any()
    right = stage.generator_losses(replace(out, predicted=out.wanted), Phase(0.0, frozenset(), rng))
    assert right["energy"] < 1e-6 and right["smooth"] < 1e-6
    wrong_there = torch.where(out.recorded, out.wanted, out.wanted + 5)
    there = stage.generator_losses(replace(out, predicted=wrong_there), Phase(0.0, frozenset(), rng))
    assert there["energy"] < 1e-6


def test_the_recipe_reads_wide_recordings_and_trains_on_those_not_held_out(corpora, tmp_path):
    recipe = bandwidth.Recipe(
        corpora=corpora,
        out=tmp_path,
        runs=None,
        validation_speakers=1,
        extender=SMALL,
        sampler=SHORT,
        training=TrainConfig(steps=3, warm_up=1, validate_steps=3, validate_batches=1),
    )
    bandwidth.main(recipe)
    made = load(tmp_path / "bandwidth.safetensors", BandwidthExtender, BandwidthExtenderConfig)
    assert made.config == SMALL
    samplers = bandwidth.speech(recipe, made)  # from the banks that were written
    assert sorted(n for s in samplers for n in s.bank.speaker_names) == ["vctk/p300", "vctk/p301"]
    assert {s.bank.sample_rate for s in samplers} == {48_000}
