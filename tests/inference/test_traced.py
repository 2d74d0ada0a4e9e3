"""Live streams stay as they are where torch deprecates TorchScript, and where it has none."""

import warnings

import numpy as np
import pytest
import torch
from conftest import TINY, TINY_VOCODER, VOICES, seeded

from vcae import Autoencoder, Converter, Vocoder, audio

BLOCK = 320  # samples, 20 ms
SOURCE, TARGET, *_ = sorted(VOICES.glob("*.flac"))


def converted(trace: bool) -> np.ndarray:
    """A second of speech in blocks of 20 ms."""
    converter = Converter(seeded(Autoencoder, TINY), seeded(Vocoder, TINY_VOCODER))
    if trace:
        converter.trace()
    stream = converter.stream(converter.voice(TARGET))
    blocks = np.split(audio.read(SOURCE, 16_000).samples[: 50 * BLOCK], 50)
    return np.concatenate([*map(stream.feed, blocks), stream.flush()])


def test_tracing_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        converted(trace=True)


@pytest.mark.parametrize("name", ["trace", "freeze"])
def test_without_torchscript_streams_stay_the_same(name, monkeypatch):
    expected = converted(trace=False)
    monkeypatch.delattr(torch.jit, name)
    np.testing.assert_allclose(converted(trace=True), expected, atol=1e-5)
