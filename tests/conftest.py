"""Shared by the tests: one thread, no deadlines, speech, tiny seeded models, ways to cut a stream."""

import gc
import os
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

# One thread per test process, for the libraries below and for programs that tests start.
os.environ["OMP_NUM_THREADS"] = "1"

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from vcae import audio
from vcae.inference import checkpoint
from vcae.model.autoencoder import Autoencoder
from vcae.model.config import AutoencoderConfig, VocoderConfig
from vcae.model.state import Cache
from vcae.model.vocoder import Vocoder

pytest.register_assert_rewrite("demo_page")  # the demo's tests import it, and have its fixtures as a plugin
settings.register_profile("vcae", deadline=None, derandomize=True, max_examples=12)
settings.load_profile("vcae")

VOICES = Path(__file__).parents[1] / "demo" / "voices"

TINY = AutoencoderConfig(
    content_width=24,
    content_dim=8,
    prosody_width=16,
    speaker_width=16,
    speaker_dim=12,
    tokens=3,
    token_dim=8,
    decoder_width=16,
)
FSQ = replace(TINY, bottleneck={"kind": "fsq", "levels": [5, 3]})
TINY_VOCODER = VocoderConfig(width=16, hidden=32, blocks=2)


def seeded(model: type, config: object) -> torch.nn.Module:
    """A model of this config with the same weights every time, in eval mode."""
    torch.manual_seed(0)
    return model(config).eval()


def save_weights(folder: Path, config: AutoencoderConfig = TINY) -> Path:
    """A new folder of seeded tiny weights, as training writes it."""
    folder.mkdir()
    checkpoint.save(folder / "autoencoder.safetensors", seeded(Autoencoder, config))
    checkpoint.save(folder / "vocoder.safetensors", seeded(Vocoder, TINY_VOCODER))
    return folder


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that ask for the fixture `browser`, and begin with the files that take longest.

    Else, one process would be left with such a file when the other has nothing to do.
    """
    slow: dict[Path, int] = {}
    for item in items:
        browser = "browser" in getattr(item, "fixturenames", ())
        if browser:
            item.add_marker(pytest.mark.browser)
        is_slow = item.get_closest_marker("slow") is not None
        slow[item.path] = max(slow.get(item.path, 0), is_slow + browser)
    items.sort(key=lambda item: -slow[item.path])


def pytest_collection_finish() -> None:
    """Leave what all test files have imported, millions of objects, out of each later search for garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def tiny() -> AutoencoderConfig:
    return TINY


@pytest.fixture
def tiny_vocoder() -> VocoderConfig:
    return TINY_VOCODER


@pytest.fixture
def autoencoder() -> Autoencoder:
    return seeded(Autoencoder, TINY)


@pytest.fixture
def vocoder() -> Vocoder:
    return seeded(Vocoder, TINY_VOCODER)


@pytest.fixture(scope="session")
def speech_at() -> Callable[[int], Tensor]:
    """Two seconds of real speech at any rate: rate -> (1, 1, N)."""
    files = sorted(VOICES.glob("*.flac"))
    if not files:
        pytest.skip(f"no speech to test with: {VOICES} holds no .flac")

    def read(rate: int) -> Tensor:
        samples = audio.read(files[0], rate).samples
        loudest = abs(samples).argmax()  # in the middle of the two seconds, so that they hold speech
        start = max(0, min(loudest - rate, len(samples) - 2 * rate))
        return torch.from_numpy(samples[start : start + 2 * rate].copy())[None, None]

    return read


@pytest.fixture(scope="session")
def speech(speech_at: Callable[[int], Tensor]) -> Tensor:
    """Two seconds of real speech at 16 kHz, (1, 1, N)."""
    return speech_at(16_000)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def vowel(f0: float | Tensor, samples: int = 16_000, rate: int = 16_000, level: float = 0.3) -> Tensor:
    """Harmonics of F0 (a number, or one a sample) under two broad formants: (1, 1, samples)."""
    f0 = torch.as_tensor(f0, dtype=torch.float64).expand(samples)
    phase = 2 * torch.pi * (f0 / rate).cumsum(0)
    wav = torch.zeros(samples, dtype=torch.float64)
    for k in range(1, int(0.9 * rate / 2 / f0.max()) + 1):
        formants = 1 / (1 + ((k * f0 - 600) / 300) ** 2) + 0.3 / (1 + ((k * f0 - 2300) / 500) ** 2)
        wav += (formants + 0.01) * torch.cos(k * phase)
    return (level * wav / wav.abs().max()).float()[None, None]


def cuts(length: int, multiple: int = 1) -> st.SearchStrategy[list[int]]:
    """Ways to cut a signal of this length into blocks of multiples of `multiple`: the borders."""
    inner = st.sets(st.integers(1, length // multiple - 1), max_size=12)
    return inner.map(lambda at: [0, *sorted(multiple * i for i in at), length])


def streamed(module: Callable[[Tensor, Cache], Tensor], x: Tensor, borders: list[int]) -> Tensor:
    """Output for a signal that is fed block by block with one cache."""
    cache: Cache = {}
    return torch.cat([module(x[..., a:b], cache) for a, b in pairwise(borders)], dim=-1)
