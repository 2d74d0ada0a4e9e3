"""A fine-tuned voice, whose offsets are added to the decoder's conditioning."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import VOICES, save_weights

import vcae
from vcae import Audio, Voice
from vcae.audio import Recording, read
from vcae.inference.voice import VoiceError

CLIPS = sorted(VOICES.glob("*.flac"))


@pytest.fixture(scope="module")
def converter(tmp_path_factory) -> vcae.Converter:
    return vcae.load(save_weights(tmp_path_factory.mktemp("weights") / "tiny"))


@pytest.fixture(scope="module")
def source() -> Audio:
    return Audio(read(CLIPS[0], 16_000).samples[:32_000], 16_000)


@pytest.fixture(scope="module")
def plain(converter) -> Voice:
    return converter.voice(CLIPS[1])


@pytest.fixture(scope="module")
def tuned(converter, plain) -> Voice:
    size = converter.engine.conditioning(plain).size
    offsets = 0.5 * torch.randn(size, generator=torch.Generator().manual_seed(0))
    return replace(plain, offsets=offsets, tuned_for=converter.decoder)


def test_offsets_are_kept_in_the_file_and_change_the_conversion(converter, plain, tuned, source, tmp_path):
    tuned.save(tmp_path / "a.voice")
    plain.save(tmp_path / "b.voice")
    loaded, same = (Voice.load(tmp_path / name) for name in ("a.voice", "b.voice"))
    assert torch.equal(loaded.offsets, tuned.offsets) and loaded.tuned_for == converter.decoder
    assert same.offsets is None and same.tuned_for is None
    with_offsets, without = (converter.convert(source, v).samples for v in (tmp_path / "a.voice", plain))
    assert np.abs(with_offsets - without).max() > 0.01
    zero = replace(tuned, offsets=torch.zeros_like(tuned.offsets))
    np.testing.assert_array_equal(converter.convert(source, zero).samples, without)


@pytest.mark.parametrize("traced", [False, True])
def test_a_stream_uses_offsets_as_convert_does(converter, tuned, source, traced):
    if traced:
        converter.trace()
    level = Recording(source, 16_000).level
    stream = converter.stream(tuned, source_voice=converter.voice(source), level=level)
    streamed = [stream.feed(block) for block in source.samples.reshape(-1, 320)] + [stream.flush()]
    whole = converter.convert(source, tuned).samples
    np.testing.assert_allclose(np.concatenate(streamed), whole, atol=1e-4)


def test_a_stream_that_estimates_its_source_keeps_the_offsets(converter, tuned, source):
    stream = converter.stream(tuned)
    at_first = stream.speaker.conditioning
    stream.feed(np.tile(source.samples, 3))
    plain = converter.engine.conditioning(replace(stream.speaker._guided(), offsets=None))
    assert stream.speaker.conditioning is not at_first
    for x, y in zip(stream.speaker.conditioning.tensors, plain.moved(tuned.offsets).tensors, strict=True):
        torch.testing.assert_close(x, y)


def test_offsets_are_mixed_by_weight_and_by_strength(converter, plain, tuned):
    mixed = Voice.mix([tuned, plain], [0.25, 0.75])
    torch.testing.assert_close(mixed.offsets, 0.25 * tuned.offsets)
    assert mixed.tuned_for == tuned.tuned_for
    torch.testing.assert_close(tuned.guided(plain, 0.45).offsets, tuned.offsets)
    torch.testing.assert_close(tuned.guided(plain, 0.45, 0.5).offsets, 0.5 * tuned.offsets)
    assert Voice.mix([plain, plain]).offsets is None
    with pytest.raises(VoiceError, match="tuned for different models"):
        Voice.mix([tuned, replace(tuned, tuned_for="another")])


def test_a_voice_that_is_tuned_for_another_model_is_refused(converter, tuned, source, tmp_path):
    replace(tuned, tuned_for="another").save(tmp_path / "a.voice")
    with pytest.raises(VoiceError, match=r"a\.voice: was fine-tuned for another model; choose that one"):
        converter.convert(source, tmp_path / "a.voice")
