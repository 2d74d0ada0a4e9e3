"""The recipe of the speaker student, with a teacher of random weights."""

import dataclasses
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_teachers import write_banks

from vcae.errors import VcaeError
from vcae.inference.checkpoint import load
from vcae.model.config import SpeakerConfig
from vcae.model.speaker import SpeakerEncoder
from vcae.training.config import SpeakerLabelsConfig, SpeakerSamplerConfig, TrainConfig
from vcae.training.run import phases_of
from vcae.training.teachers import CamPlusPlus

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))
import speaker

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_the_recipe_trains_and_starts_from_its_own_product(tmp_path):
    torch.manual_seed(0)
    train, validation = write_banks(tmp_path)
    save_file(CamPlusPlus().state_dict(), tmp_path / "campplus.safetensors")
    recipe = speaker.Recipe(
        train=train,
        validation=validation,
        campplus=tmp_path / "campplus.safetensors",
        out=tmp_path / "out",
        runs=tmp_path / "runs.tsv",
        speakers=SpeakerLabelsConfig(crops=1, seconds=0.5),
        student=SpeakerConfig(width=16, hidden=16, tokens=2, token_dim=4),
        sampler=SpeakerSamplerConfig(seconds=(0.4, 0.6), batch_seconds=2.0, at_most=()),
        training=TrainConfig(steps=2, validate_steps=2, validate_batches=1, record=False),
    )
    speaker.main(recipe)
    model = load(recipe.out / "speaker.safetensors", SpeakerEncoder, SpeakerConfig)
    assert model.config.width == 16
    head, row = (tmp_path / "runs.tsv").read_text().splitlines()
    found = dict(zip(head.split("\t"), row.split("\t"), strict=True))
    assert found["recipe"] == "speaker" and "cosine=" in found["validation"]

    again = dataclasses.replace(
        recipe,
        start=recipe.out / "speaker.safetensors",
        out=tmp_path / "again",
        student=SpeakerConfig(),
    )
    speaker.main(again)
    phases = phases_of(tmp_path / "again/speaker.safetensors")
    assert [(p["stage"], p["teachers"][0]["stage"]) for p in phases] == [("speaker", "CAM++")] * 2
    other = dataclasses.replace(recipe, sampler=dataclasses.replace(recipe.sampler, speeds=(1.0, 1.1)))
    with pytest.raises(VcaeError, match=r"prototypes-train\.safetensors: is of another bank or other speeds"):
        speaker.main(other)
