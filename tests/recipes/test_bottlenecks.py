"""The recipes of the discrete codes, with tiny teachers of random weights."""

import dataclasses
import sys
from pathlib import Path

import pytest
import torch
from conftest import FSQ, TINY, save_weights, seeded
from tiny_teachers import taught, write_banks

import vcae
from vcae.inference.checkpoint import save
from vcae.model.autoencoder import Autoencoder
from vcae.model.bottleneck import BOTTLENECKS
from vcae.model.prosody import ProsodyPredictorConfig
from vcae.training.config import (
    SamplerConfig,
    TrainConfig,
)

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))
import bottlenecks
import prosody

pytestmark = pytest.mark.slow
FEW = TrainConfig(steps=2, validate_steps=2, validate_batches=1)
SHORT = SamplerConfig(4, 0.4, 0.04, speeds=(1.0,), at_most=())


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_all_kinds_have_about_the_same_rate():
    assert bottlenecks.KINDS.keys() == BOTTLENECKS.keys()
    for kind, options in bottlenecks.KINDS.items():
        layer = BOTTLENECKS[kind](64, **options)
        assert not layer.discrete or 7.9 <= layer.bits_per_frame <= 8


def test_a_code_is_trained_and_decoded_by_the_decoder_it_starts_from(tmp_path):
    start = tmp_path / "start.safetensors"
    autoencoder = seeded(Autoencoder, dataclasses.replace(TINY, delay=24))
    save(start, autoencoder)
    recipe = bottlenecks.Recipe(
        **taught(tmp_path),
        start=start,
        out=tmp_path / "out",
        runs=None,
        kinds=("fsq",),
        sampler=dataclasses.replace(SHORT, seconds=0.6),
        training=FEW,
    )
    bottlenecks.main(recipe)
    found = vcae.load(tmp_path / "out/fsq")
    assert found.autoencoder.bottleneck.discrete
    for name, tensor in autoencoder.decoder.state_dict().items():
        torch.testing.assert_close(found.autoencoder.decoder.state_dict()[name], tensor.half().float())


def test_a_prosody_predictor_is_written_beside_its_model(tmp_path):
    train, validation = write_banks(tmp_path)
    folder = save_weights(tmp_path / "model", FSQ)
    with pytest.raises(ValueError, match="no prosody predictor"):
        vcae.load(folder).expected_prosody(torch.zeros(3, dtype=torch.long))
    prosody.main(
        prosody.Recipe(
            train=train,
            validation=validation,
            model=str(folder),
            out=tmp_path / "out",
            runs=None,
            predictor=ProsodyPredictorConfig(width=8, hidden=8),
            sampler=SHORT,
            training=FEW,
        )
    )
    assert vcae.load(folder).expected_prosody(torch.zeros(3, dtype=torch.long)).shape == (3, 3)
