"""A fine-tuned voice, which changes the decoder by low-rank matrices."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import VOICES, save_weights

import vcae
from vcae import Audio, Voice
from vcae.audio import Recording, read
from vcae.inference.voice import VoiceError
from vcae.model.decoder import Adapter

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
    torch.manual_seed(0)
    sizes = [(8, 2, 16), (8, 64, 2), (8, 2, 64), (8, 16, 2)]
    adapter = Adapter(*((0.3 * torch.randn(size)).half().float() for size in sizes))
    return replace(plain, adapter=adapter, tuned_for=converter.decoder)


def changes(voice: Voice) -> torch.Tensor:
    """What the voice adds to the weights of the first layer of each block."""
    return voice.adapter.up @ voice.adapter.down


def test_changes_are_kept_in_the_file_and_change_the_conversion(converter, plain, tuned, source, tmp_path):
    tuned.save(tmp_path / "a.voice")
    plain.save(tmp_path / "b.voice")
    loaded, same = (Voice.load(tmp_path / name) for name in ("a.voice", "b.voice"))
    assert all(torch.equal(x, y) for x, y in zip(loaded.adapter, tuned.adapter, strict=True))
    assert loaded.tuned_for == converter.decoder
    assert same.adapter is None and same.tuned_for is None
    changed, without = (converter.convert(source, v).samples for v in (tmp_path / "a.voice", plain))
    assert np.abs(changed - without).max() > 0.01
    none = replace(tuned, adapter=Adapter(*(torch.zeros_like(x) for x in tuned.adapter)))
    np.testing.assert_allclose(converter.convert(source, none).samples, without, atol=1e-5)


def test_a_change_is_that_of_the_weights(converter, tuned):
    """The low-rank path gives what blocks with changed weights would give."""
    decoder = copy.deepcopy(converter.autoencoder.decoder)
    a = tuned.adapter
    with torch.no_grad():
        for k, block in enumerate([*decoder.coarse.blocks, *decoder.fine.blocks]):
            block.expand.weight += a.up[k] @ a.down[k]
            block.project.weight += a.hidden_up[k] @ a.hidden_down[k] / block.scale[:, None]
        z, prosody = torch.randn(1, 8, 20), torch.rand(1, 3, 40) + torch.tensor([4.5, 0.0, 0.0])[:, None]
        found = converter.autoencoder.decode(z, prosody, converter.engine.conditioning(tuned))
        plain = converter.engine.conditioning(replace(tuned, adapter=None))
        torch.testing.assert_close(found, decoder(z, prosody, plain), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("traced", [False, True])
def test_a_stream_changes_the_decoder_as_convert_does(converter, tuned, source, traced):
    if traced:
        converter.trace()
    level = Recording(source, 16_000).level
    stream = converter.stream(tuned, source_voice=converter.voice(source), level=level)
    streamed = [stream.feed(block) for block in source.samples.reshape(-1, 320)] + [stream.flush()]
    whole = converter.convert(source, tuned).samples
    np.testing.assert_allclose(np.concatenate(streamed), whole, atol=1e-4)


def test_a_stream_that_estimates_its_source_keeps_the_changes(converter, tuned, source):
    stream = converter.stream(tuned)
    at_first = stream.speaker.conditioning
    stream.feed(np.tile(source.samples, 3))
    now = stream.speaker.conditioning
    assert now is not at_first and now.adapted and stream.speaker.source.adapter is None
    for x, y in zip(now.coarse[0][2:], at_first.coarse[0][2:], strict=True):
        torch.testing.assert_close(x, y)


def test_changes_are_mixed_by_weight_and_by_strength(converter, plain, tuned):
    mixed = Voice.mix([tuned, plain], [0.25, 0.75])
    torch.testing.assert_close(changes(mixed), 0.25 * changes(tuned))
    assert mixed.tuned_for == tuned.tuned_for
    torch.testing.assert_close(changes(Voice.mix([tuned, tuned])), changes(tuned))
    torch.testing.assert_close(changes(tuned.guided(plain, 0.45)), changes(tuned))
    torch.testing.assert_close(changes(tuned.guided(plain, 0.45, 0.5)), 0.5 * changes(tuned))
    assert Voice.mix([plain, plain]).adapter is None
    with pytest.raises(VoiceError, match="tuned for different models"):
        Voice.mix([tuned, replace(tuned, tuned_for="another")])


def test_a_voice_that_is_tuned_for_another_model_is_refused(converter, tuned, source, tmp_path):
    replace(tuned, tuned_for="another").save(tmp_path / "a.voice")
    with pytest.raises(VoiceError, match=r"a\.voice: was fine-tuned for another model; choose that one"):
        converter.convert(source, tmp_path / "a.voice")
