"""The recipe of the look-ahead curve: alignment of its targets, figures, files."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest
import torch
from banks import hum_bank, some_phones
from conftest import TINY, noise, seeded
from torch.nn import functional as F

from vcae.files import TensorFileError
from vcae.inference.checkpoint import save
from vcae.model.autoencoder import Autoencoder
from vcae.training.config import PhoneClassifierConfig, SamplerConfig, TrainConfig
from vcae.training.data import Bank
from vcae.training.stages.base import Phase
from vcae.training.student import ContentStudent, ContentStudentConfig
from vcae.training.teachers.labels import UNKNOWN, Codebook, ContentLabels
from vcae.training.teachers.sampler import ContentSampler

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))
import look_ahead

CONFIG = look_ahead.LookAheadConfig(width=16, hidden=16, coarse=(1, 2), units=7, delays=(0, 6))
SHORT = SamplerConfig(2, 0.4, 0.04, speeds=(1.0,), at_most=())


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def bank() -> Bank:
    return hum_bank(seconds=1, phones=some_phones(3))


def labels() -> ContentLabels:
    units = torch.arange(150, dtype=torch.int32) % 7
    units[:5] = UNKNOWN
    codebook = Codebook(torch.zeros(7, 5), torch.zeros(5), torch.eye(5)[:, :3], layer=4)
    return ContentLabels(units.to(torch.uint16), noise(150, 3).half(), codebook, bank().fingerprint)


def test_each_classifier_has_targets_of_its_own_delay():
    sampler = ContentSampler(bank(), SHORT, labels(), torch.zeros(3, 1, 1))
    stage = look_ahead.LookAheadStage(look_ahead.LookAheadModel(CONFIG), sampler)
    phase = Phase(0.0, frozenset(), torch.Generator().manual_seed(0))
    out = stage.generate(stage.batch(phase.rng), phase)

    def certain(label: torch.Tensor, delay: int, classes: int) -> torch.Tensor:
        return 40.0 * F.one_hot(label.roll(delay, 1).clamp(min=0), classes).mT.float()

    perfect = [
        look_ahead.Predicted(certain(out.batch.units, k, 7), certain(out.batch.phones, k, 40)) for k in (0, 3)
    ]
    found = stage.generator_losses(dataclasses.replace(out, predicted=perfect), phase)
    assert set(found) == {"units", "phones", "units_0_ms", "units_60_ms"}
    assert max(found.values()) < 1e-3


def test_accuracy_is_over_the_frames_with_a_label():
    rows = look_ahead.accuracy(seeded(look_ahead.LookAheadModel, CONFIG), bank(), labels())
    assert [row["look-ahead ms"] for row in rows] == [0, 60]
    assert [row["frames"] for row in rows] == [145, 145 - 3 * 3]
    assert all(0 <= row["units"] <= 1 and row["units cross-entropy"] > 0 for row in rows)


def test_a_model_starts_from_the_encoder_of_a_student():
    sizes = ContentStudentConfig(width=16, hidden=16, dim=4, coarse=(1, 2), units=7, components=3)
    student = seeded(ContentStudent, sizes)
    model = look_ahead.LookAheadModel(CONFIG)
    model.start_from(student)
    own = model.code.state_dict()
    taken = {
        n: t for n, t in student.encoder.state_dict().items() if n.startswith(("fine", "down", "coarse"))
    }
    assert taken and all(torch.equal(own[n], t) for n, t in taken.items())
    assert own["output.weight"].shape == (16, 16)


def test_the_page_holds_table_and_picture(tmp_path):
    page = tmp_path / "PAGE.md"
    page.write_text("Text.\n<!-- look-ahead -->\nold\n<!-- /look-ahead -->\nMore.\n")
    rows = look_ahead.accuracy(seeded(look_ahead.LookAheadModel, CONFIG), bank(), labels())
    look_ahead.write_page(rows, page)
    text = page.read_text()
    assert text.startswith("Text.\n") and text.endswith("\nMore.\n") and "old" not in text
    assert f"| 60 | {rows[1]['units']:.3f} |" in text
    assert (tmp_path / "look_ahead.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
def test_the_recipe_writes_the_curve(frozen, tmp_path, capsys):
    path = tmp_path / "a.bank"
    bank().save(path)
    save(tmp_path / "autoencoder.safetensors", seeded(Autoencoder, TINY))
    recipe = look_ahead.Recipe(
        train=path,
        tests=(path,),
        out=tmp_path / "out",
        autoencoder=tmp_path / "autoencoder.safetensors" if frozen else None,
        phones=PhoneClassifierConfig(width=8, steps=2, batch_size=8),
        model=CONFIG,
        sampler=SHORT,
        training=TrainConfig(steps=2, validate_steps=2, validate_batches=1),
    )
    with pytest.raises(TensorFileError, match=r"content-a\.safetensors: no such file"):
        look_ahead.main(recipe)
    labels().save(tmp_path / "content-a.safetensors")
    look_ahead.main(recipe)
    rows = json.loads((recipe.out / "look_ahead.json").read_text())["a"]
    assert [row["look-ahead ms"] for row in rows] == ([20] if frozen else [0, 60])
    assert "look-ahead ms" in capsys.readouterr().out
    assert (recipe.out / "look_ahead.png").read_bytes().startswith(b"\x89PNG")
