"""The recipe of the decoder under a content student, with tiny teachers of random weights."""

import dataclasses
import sys
from pathlib import Path

import pytest
import torch
from conftest import TINY, seeded
from tiny_teachers import taught

from vcae.inference import checkpoint
from vcae.inference.checkpoint import CheckpointError, load_autoencoder, save
from vcae.model.autoencoder import Autoencoder
from vcae.training.config import (
    DecoderStageConfig,
    FrontEndFitConfig,
    SamplerConfig,
    TrainConfig,
)
from vcae.training.run import phases_of
from vcae.training.student import ContentStudent, ContentStudentConfig

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))
import decoder

pytestmark = pytest.mark.slow
STUDENT = ContentStudentConfig(
    TINY.mel, 8, width=24, hidden=4 * 24, dim=TINY.content_dim, fine=(1, 1, 1), coarse=(1, 1, 2, 2, 4, 1, 1)
)


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> decoder.Recipe:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    save(tmp_path / "content.safetensors", seeded(ContentStudent, STUDENT))
    save(tmp_path / "start.safetensors", seeded(Autoencoder, TINY))
    return decoder.Recipe(
        **taught(tmp_path),
        content=tmp_path / "content.safetensors",
        start=tmp_path / "start.safetensors",
        out=tmp_path / "out",
        runs=tmp_path / "runs.tsv",
        front_ends=FrontEndFitConfig(steps=2),
        stage=DecoderStageConfig(
            discriminator_channels=4,
            milestones=dataclasses.replace(
                DecoderStageConfig().milestones, discriminator=0.0, adversarial=0.0, conversion=0.0
            ),
        ),
        sampler=SamplerConfig(4, 0.8, 0.8, speeds=(1.0, 1.1), at_most=()),
        training=TrainConfig(steps=3, validate_steps=3, validate_batches=1),
    )


def test_only_the_decoder_is_trained_and_the_result_can_be_bundled(recipe, tmp_path, monkeypatch):
    bundled = tmp_path / "bundled"
    bundled.mkdir()
    before = load_autoencoder(recipe.start)
    save(bundled / checkpoint.SHARED_SPEAKER, before.speaker)
    monkeypatch.setattr(decoder, "BUNDLED", bundled)
    decoder.main(dataclasses.replace(recipe, bundle="studio"))

    model = load_autoencoder(bundled / "studio.safetensors")
    assert (model.config.delay, model.config.prosody_look_ahead) == (STUDENT.delay, TINY.delay)
    student = checkpoint.load(recipe.content, ContentStudent, ContentStudentConfig)
    for found, wanted in (
        (model.content, student.encoder),
        (model.prosody, before.prosody),
        (model.speaker, before.speaker),
    ):
        for name, tensor in wanted.state_dict().items():
            torch.testing.assert_close(found.state_dict()[name], tensor)
    trained, start = model.decoder.state_dict(), before.decoder.state_dict()
    assert not all(torch.equal(trained[name], start[name]) for name in start)
    assert [p["stage"] for p in phases_of(bundled / "studio.safetensors")][-1] == "decoder"
    assert "decoder" in (tmp_path / "runs.tsv").read_text()


def test_training_goes_on_from_an_autoencoder_alone(recipe):
    alone = dataclasses.replace(recipe, content=None)
    found, before = decoder.autoencoder(alone), load_autoencoder(recipe.start)
    assert found.config == before.config
    for name, tensor in before.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor)
    assert len(decoder.describe(alone).started_from) == len(decoder.describe(recipe).started_from) - 1


def test_the_speaker_encoder_can_be_trained_too(recipe):
    stage = dataclasses.replace(recipe.stage, train_speaker=True)
    decoder.main(dataclasses.replace(recipe, stage=stage))
    model, before = load_autoencoder(recipe.out / "decoder.safetensors"), load_autoencoder(recipe.start)
    moved = {
        n for n, t in model.speaker.state_dict().items() if not torch.equal(t, before.speaker.state_dict()[n])
    }
    assert "timbre.weight" in moved and "centre.running_mean" not in moved


def test_the_content_encoder_can_be_trained_too(recipe):
    decoder.main(dataclasses.replace(recipe, stage=dataclasses.replace(recipe.stage, train_content=True)))
    model, before = load_autoencoder(recipe.out / "decoder.safetensors"), decoder.autoencoder(recipe)
    parts = ("content", "prosody", "speaker", "decoder")
    states = {part: (getattr(model, part).state_dict(), getattr(before, part).state_dict()) for part in parts}
    moved = {
        part for part, (now, then) in states.items() if any(not torch.equal(now[n], then[n]) for n in then)
    }
    assert moved == {"content", "decoder"}


def test_a_model_with_another_speaker_encoder_is_not_bundled_beside_it(recipe, tmp_path):
    other = seeded(Autoencoder, TINY)
    torch.nn.init.ones_(other.speaker.timbre.weight)
    save(tmp_path / checkpoint.SHARED_SPEAKER, other.speaker)
    with pytest.raises(CheckpointError, match=r"speaker\.safetensors: holds another speaker encoder"):
        checkpoint.save_without_speaker(tmp_path / "live.safetensors", load_autoencoder(recipe.start))
