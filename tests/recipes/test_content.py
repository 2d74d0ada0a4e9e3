"""The recipe of the content student, with tiny teachers of random weights."""

import dataclasses
import sys
from pathlib import Path

import pytest
import torch
from conftest import TINY, seeded, vowel
from safetensors.torch import save_file

from vcae.errors import VcaeError
from vcae.inference.checkpoint import load, save
from vcae.model.autoencoder import Autoencoder
from vcae.training.config import (
    CodebookConfig,
    PhoneClassifierConfig,
    SamplerConfig,
    SpeakerLabelsConfig,
    TrainConfig,
)
from vcae.training.data import Bank
from vcae.training.run import phases_of
from vcae.training.student import ContentStudent, ContentStudentConfig
from vcae.training.teachers import CamPlusPlus, WhisperEncoder
from vcae.training.teachers.whisper import WhisperConfig

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))
import content

pytestmark = pytest.mark.slow
SMALL = ContentStudentConfig(TINY.mel, 4, width=16, hidden=32, dim=8, coarse=(1, 2), head_width=16)


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def bank(path: Path, pitches: tuple[float, ...]) -> Path:
    """A bank of speakers of one second each, the first with phones."""
    size = 16_000
    wav = torch.cat([vowel(p, size)[0, 0] for p in pitches])
    phones = torch.arange(len(wav) // 320) % 40
    phones[50:] = -1
    made = Bank(
        samples=(32767 * wav).to(torch.int16),
        f0=torch.tensor(pitches).repeat_interleave(size // 160).half(),
        phones=phones.to(torch.int8),
        starts=torch.arange(len(pitches) + 1) * size,
        speakers=torch.arange(len(pitches)),
        labelled=torch.ones(len(pitches), dtype=torch.bool),
        speaker_names=[f"test/{p}" for p in pitches],
        ids=[str(p) for p in pitches],
        texts=[None] * len(pitches),
    )
    made.save(path)
    return path


@pytest.fixture
def recipe(tmp_path: Path) -> content.Recipe:
    torch.manual_seed(0)
    whisper = WhisperEncoder(WhisperConfig(width=64, heads=1, layers=1, positions=60))
    block = whisper.blocks[0]
    q, k, v = block.queries_keys_values.weight.chunk(3)
    q_bias, _, v_bias = block.queries_keys_values.bias.chunk(3)
    attention = {"q_proj.weight": q, "k_proj.weight": k, "v_proj.weight": v}
    attention |= {"q_proj.bias": q_bias, "v_proj.bias": v_bias}
    tensors = {f"layers.0.self_attn.{n}": t for n, t in attention.items()}
    tensors["embed_positions.weight"] = whisper.positions
    renamed = {
        "layer_norm": whisper.norm,
        "conv1": whisper.conv1,
        "conv2": whisper.conv2,
        "layers.0.self_attn_layer_norm": block.attention_norm,
        "layers.0.self_attn.out_proj": block.attention_output,
        "layers.0.final_layer_norm": block.norm,
        "layers.0.fc1": block.expand,
        "layers.0.fc2": block.project,
    }
    for name, module in renamed.items():
        tensors |= {f"{name}.weight": module.weight, f"{name}.bias": module.bias}
    save_file(
        {f"encoder.{n}": t.detach().clone() for n, t in tensors.items()}, tmp_path / "whisper.safetensors"
    )
    save_file(CamPlusPlus().state_dict(), tmp_path / "campplus.safetensors")
    return content.Recipe(
        train=bank(tmp_path / "train.bank", (110.0, 170.0, 230.0)),
        validation=bank(tmp_path / "validation.bank", (140.0, 200.0)),
        whisper=(tmp_path / "whisper.safetensors",),
        campplus=tmp_path / "campplus.safetensors",
        out=tmp_path / "out",
        runs=tmp_path / "runs.tsv",
        codebook=CodebookConfig(layer=1, clusters=6, components=3),
        phones=PhoneClassifierConfig(width=8, steps=2, batch_size=8),
        speakers=SpeakerLabelsConfig(crops=1, seconds=0.5),
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
