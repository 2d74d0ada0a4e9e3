"""The recipe of the content student, with tiny teachers of random weights."""

import dataclasses
import sys
from pathlib import Path

import pytest
import torch
from conftest import TINY, seeded
from tiny_teachers import taught

from vcae.errors import VcaeError
from vcae.inference.checkpoint import load, load_autoencoder, save
from vcae.model.autoencoder import Autoencoder
from vcae.training.config import (
    CodebookConfig,
    SamplerConfig,
    TrainConfig,
)
from vcae.training.run import phases_of
from vcae.training.student import ContentStudent, ContentStudentConfig

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))
import content

pytestmark = pytest.mark.slow
SMALL = ContentStudentConfig(TINY.mel, 4, width=16, hidden=32, dim=8, coarse=(1, 2), head_width=16)


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def recipe(tmp_path: Path) -> content.Recipe:
    return content.Recipe(
        **taught(tmp_path),
        out=tmp_path / "out",
        runs=tmp_path / "runs.tsv",
        student=SMALL,
        sampler=SamplerConfig(4, 0.4, 0.04, speeds=(1.0, 1.1), at_most=()),
        training=TrainConfig(steps=3, validate_steps=3, validate_batches=1),
    )


def test_the_recipe_labels_trains_and_starts_from_what_there_is(recipe, tmp_path):
    content.main(recipe)
    model = load(recipe.out / "content.safetensors", ContentStudent, ContentStudentConfig)
    assert (model.config.delay, model.config.units, model.config.components) == (4, 6, 3)
    (phase,) = phases_of(recipe.out / "content.safetensors")
    assert [teacher["stage"] for teacher in phase["teachers"]] == ["Whisper", "CAM++"]
    head, row = (tmp_path / "runs.tsv").read_text().splitlines()
    assert dict(zip(head.split("\t"), row.split("\t"), strict=True))["recipe"] == "content"

    # The labels are found again, and no teacher is loaded; another delay starts from the trained student.
    recipe.whisper[0].unlink()
    recipe.campplus.unlink()
    student = dataclasses.replace(SMALL, delay=8)
    again = dataclasses.replace(
        recipe, student=student, start=recipe.out / "content.safetensors", out=tmp_path / "8"
    )
    assert torch.equal(content.student(again).encoder.input.weight, model.encoder.input.weight)
    content.main(again)
    phases = phases_of(tmp_path / "8/content.safetensors")
    assert [phase["settings"]["model"]["delay"] for phase in phases] == [4, 8]

    # So does a discrete bottleneck, guided by the continuous code.
    student = dataclasses.replace(SMALL, bottleneck={"kind": "fsq", "levels": (4, 4)})
    again = dataclasses.replace(again, student=student, guide=again.start, out=tmp_path / "fsq")
    content.main(again)
    found = load(tmp_path / "fsq/content.safetensors", ContentStudent, ContentStudentConfig)
    assert found.bottleneck.discrete

    other = dataclasses.replace(recipe, codebook=CodebookConfig(layer=None, clusters=6, components=3))
    with pytest.raises(VcaeError, match=r"content-train\.safetensors: was made with another codebook"):
        content.main(other)


def test_training_starts_from_the_content_encoder_of_an_autoencoder(recipe, tmp_path):
    config = dataclasses.replace(TINY, content_fine=(1,), content_coarse=(1, 2))
    autoencoder = seeded(Autoencoder, config)
    save(tmp_path / "autoencoder.safetensors", autoencoder)
    student = content.student(dataclasses.replace(recipe, start=tmp_path / "autoencoder.safetensors"))
    assert (student.config.width, student.config.coarse, student.config.delay) == (24, (1, 2), 4)
    found = student.encoder.state_dict()
    for name, tensor in autoencoder.content.state_dict().items():
        torch.testing.assert_close(found[name], tensor.half().float())


def test_the_code_of_an_autoencoder_can_guide(recipe, tmp_path):
    """A student that is its own content encoder gives its code."""
    config = dataclasses.replace(TINY, content_fine=(1,), content_coarse=(1, 2))
    autoencoder = seeded(Autoencoder, config)
    path = tmp_path / "autoencoder.safetensors"
    save(path, autoencoder)
    guide = content.guide_of(dataclasses.replace(recipe, guide=path))
    mel = torch.randn(1, TINY.mel.n_mels, 40)
    expected = load_autoencoder(path).encode(mel)[0].z
    torch.testing.assert_close(guide(mel).z, expected)
    assert guide.delay == autoencoder.alignment.code_delay
