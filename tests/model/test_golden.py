"""Golden outputs of a seeded tiny model.

After an intended change, write the file anew: `PYTHONPATH=tests python tests/model/test_golden.py`.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, TINY_VOCODER, seeded, vowel

from vcae.audio import Audio
from vcae.inference.converter import Converter
from vcae.model.autoencoder import Autoencoder
from vcae.model.vocoder import Vocoder

GOLDEN = Path(__file__).with_name("golden.npz")


def outputs() -> dict[str, np.ndarray]:
    """Every output of the public API on half a second of a vowel, in the voice of a higher one."""
    converter = Converter(seeded(Autoencoder, TINY), seeded(Vocoder, TINY_VOCODER))
    source, target = (Audio(vowel(f0, 8_000)[0, 0].numpy(), 16_000) for f0 in (120.0, 220.0))
    with torch.no_grad():
        voice = converter.encode(target).voice  # `voice` refuses a vowel as no speech
    return {
        "converted": converter.convert(source, voice).samples,
        "embedding": converter.embed(source),
        "content": converter.content(source).z.numpy(),
    }


@pytest.mark.parametrize("name", ["converted", "embedding", "content"])
def test_outputs_equal_the_golden_file(name):
    with np.load(GOLDEN, allow_pickle=False) as golden:
        assert golden[name].shape == outputs()[name].shape
        np.testing.assert_allclose(outputs()[name], golden[name], atol=1e-3)


if __name__ == "__main__":
    np.savez_compressed(GOLDEN, **outputs())
