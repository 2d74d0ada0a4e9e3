"""The recipe from corpora to a model that teachers have taught, with tiny teachers of random weights."""

import sys
from pathlib import Path

import pytest
import torch
from tiny_teachers import write_teachers

import vcae
from vcae.errors import VcaeError
from vcae.training.run import phases_of

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))
import bundled
import studio

pytestmark = pytest.mark.slow


def test_one_command_makes_a_model_that_converts(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # for the vocoder's process
    whisper, campplus = write_teachers(tmp_path, positions=1500)
    recipe = studio.Recipe(whisper=(whisper,), campplus=campplus, out=tmp_path / "out", tiny=True)
    studio.main(recipe)

    stages = [phase["stage"] for phase in phases_of(recipe.out / "autoencoder.safetensors")]
    assert stages == ["encoders", "content", "decoder"]
    voice = bundled.SAMPLE_VOICES / "vcc2016-SF1-200001.flac"
    assert vcae.load(recipe.out).convert(voice, voice).duration > 3

    # The same command finds all else done, and tells that the vocoder fails.
    before = (recipe.out / "decoder.safetensors").read_bytes()
    (recipe.out / "vocoder.ckpt").write_bytes(b"nothing of the kind")
    with pytest.raises(VcaeError, match=r"vocoder\.log: the vocoder's training has failed"):
        studio.main(recipe)
    assert (recipe.out / "decoder.safetensors").read_bytes() == before


def test_banks_of_other_corpora_are_not_mixed_in(tmp_path):
    recipe = studio.Recipe(whisper=(), campplus=tmp_path, out=tmp_path)
    for key in "ab":
        (tmp_path / f"train-{key}.bank").touch()
    with pytest.raises(VcaeError, match="holds banks of other corpora too"):
        studio.banks_and_teachers(recipe, tmp_path)
