"""The autoencoder, and the engine from waveform to waveform: streaming, causality, budgets."""

import dataclasses
import math
from itertools import pairwise

import pytest
import torch
from conftest import TINY, TINY_VOCODER, cuts, noise, seeded, vowel
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vcae.model.autoencoder import Autoencoder
from vcae.model.config import AutoencoderConfig, MelConfig, VocoderConfig
from vcae.model.harmonics import HarmonicTemplate
from vcae.model.mel import LogMel
from vcae.model.speaker import SpeakerCode
from vcae.model.vocoder import Vocoder

MEL = MelConfig()
HOP = MEL.hop_length
KINDS = [{"kind": "continuous"}, {"kind": "vq", "size": 32}, {"kind": "fsq", "levels": [5, 5, 3]}]

every_kind = pytest.mark.parametrize("bottleneck", KINDS, ids=lambda b: b["kind"])
every_delay = pytest.mark.parametrize("delay", [0, 2, 4, 8, 24])


def tiny(**options) -> Autoencoder:
    return seeded(Autoencoder, dataclasses.replace(TINY, **options))


def mel_like(*shape: int, seed: int = 0) -> Tensor:
    return MEL.unstandardise(noise(*shape, seed=seed))


class Engine:
    """Waveform to waveform in another voice, delayed by `delay` samples, whole or in blocks."""

    def __init__(self, autoencoder: Autoencoder, vocoder: Vocoder) -> None:
        # As in the converter: sums over time must not depend on the size of the blocks.
        autoencoder.prosody.double()
        self.log_mel, self.autoencoder, self.vocoder = LogMel(MEL).double(), autoencoder, vocoder
        with torch.no_grad():
            self.speaker = autoencoder.speaker.encode(mel_like(1, MEL.n_mels, 50))
        self.delay = vocoder.delay + HOP * autoencoder.config.delay

    @torch.no_grad()
    def __call__(self, wav: Tensor, cache=None) -> Tensor:
        code, prosody = self.autoencoder.encode(self.log_mel(wav, cache), cache)
        speaker = SpeakerCode(*(x.expand(len(wav), *x.shape[1:]) for x in self.speaker))
        return self.vocoder(self.autoencoder.decode(code.z, prosody, speaker, cache), prosody, cache)


# The parts together


@every_kind
@pytest.mark.parametrize("frames", [2, 50])
def test_shapes(bottleneck, frames):
    model = tiny(bottleneck=bottleneck)
    mel, reference = mel_like(2, MEL.n_mels, frames), mel_like(2, MEL.n_mels, 31)
    code, prosody = model.encode(mel)
    assert code.z.shape == (2, TINY.content_dim, frames // 2)
    assert code.ids is None or code.ids.shape == (2, frames // 2)
    assert prosody.shape == (2, 3, frames)
    speaker = model.speaker.encode(reference)
    assert speaker.embedding.shape == (2, TINY.speaker_dim)
    assert speaker.tokens.shape == (2, TINY.token_dim, TINY.tokens)
    assert model.decode(code.z, prosody, speaker).shape == mel.shape


@every_kind
def test_forward_is_encode_then_decode(bottleneck):
    model = tiny(bottleneck=bottleneck)
    mel, reference = mel_like(2, MEL.n_mels, 20), mel_like(2, MEL.n_mels, 31, seed=1)
    code, prosody = model.encode(mel)
    torch.testing.assert_close(
        model(mel, reference), model.decode(code.z, prosody, model.speaker.encode(reference))
    )


@pytest.mark.parametrize("frames", [1, 21])
def test_an_odd_number_of_frames_is_refused(autoencoder, frames):
    with pytest.raises(ValueError, match=f"even.*{frames}"):
        autoencoder.encode(mel_like(1, MEL.n_mels, frames))


@every_kind
def test_a_gradient_reaches_every_parameter(bottleneck):
    model = tiny(bottleneck=bottleneck).train()
    model(mel_like(4, MEL.n_mels, 40), mel_like(4, MEL.n_mels, 40, seed=1)).square().mean().backward()
    without_gradient = [
        n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    ]
    assert without_gradient == []


@torch.no_grad()
def test_harmonics_stand_out_as_far_as_the_network_predicts():
    decoder = seeded(Autoencoder, TINY).decoder
    envelope, depth = torch.rand(2, MEL.n_mels)
    decoder.output.weight.zero_()
    decoder.output.bias.copy_(torch.cat([envelope, depth]))
    prosody = torch.tensor([math.log(200), 1.0, 0.0])[None, :, None].expand(1, 3, 8)
    conditioning = decoder.conditioning(
        SpeakerCode(noise(1, TINY.speaker_dim), noise(1, TINY.token_dim, TINY.tokens))
    )
    mel = MEL.standardise(decoder(noise(1, TINY.content_dim, 4), prosody, conditioning))
    expected = envelope[:, None] + depth[:, None] * HarmonicTemplate(MEL)(prosody)
    torch.testing.assert_close(mel, expected)


def test_bits_per_second_are_those_of_half_the_frames():
    assert tiny(bottleneck={"kind": "vq", "size": 32}).bits_per_second == pytest.approx(5 * 50)


# The speaker


@pytest.mark.parametrize("frames", [2, 33, 500])
def test_the_speaker_embedding_has_unit_norm(autoencoder, frames):
    norms = autoencoder.speaker(mel_like(3, MEL.n_mels, frames)).norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(3))


def test_the_speaker_code_does_not_depend_on_the_gain(autoencoder):
    loud = vowel(150.0, level=0.5) + 0.05 * noise(1, 1, 16_000)
    codes = [autoencoder.speaker.encode(LogMel(MEL)(gain * loud)) for gain in (1, 10**-0.5)]
    for a, b in zip(*codes, strict=True):
        assert torch.cosine_similarity(a.flatten(), b.flatten(), dim=0) > 0.999


def test_different_sounds_have_different_speaker_codes(autoencoder):
    one, other = (autoencoder.speaker(LogMel(MEL)(wav)) for wav in (vowel(150.0), 0.1 * noise(1, 1, 16_000)))
    assert torch.cosine_similarity(one, other) < 0.999


def test_another_speaker_changes_the_output(autoencoder, speech):
    mel = LogMel(MEL)(speech)[..., :100]
    one, other = (autoencoder(mel, mel_like(1, MEL.n_mels, 60, seed=seed) * 2) for seed in (1, 2))
    assert (one - other).abs().mean() > 1e-3


# Whole and in blocks


@every_kind
@given(borders=cuts(100, multiple=2))
@settings(max_examples=5)
def test_codes_block_by_block_equal_those_of_the_whole(bottleneck, borders):
    model = tiny(bottleneck=bottleneck)
    mel = mel_like(2, MEL.n_mels, 100)
    whole, prosody = model.encode(mel)
    before = model.content(mel)
    caches = {}, {}
    content = [model.content(mel[..., a:b], caches[0]) for a, b in pairwise(borders)]
    codes, prosodies = zip(
        *(model.encode(mel[..., a:b], caches[1]) for a, b in pairwise(borders)), strict=True
    )
    torch.testing.assert_close(torch.cat(content, -1), before, atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.cat(prosodies, -1), prosody, atol=1e-4, rtol=0)
    if whole.ids is None:
        torch.testing.assert_close(torch.cat([c.z for c in codes], -1), whole.z, atol=1e-4, rtol=0)
    else:
        assert (torch.cat([c.ids for c in codes], -1) == whole.ids).float().mean() >= 0.999


@every_kind
@given(borders=cuts(60 * HOP, multiple=2 * HOP))
@settings(max_examples=4)
def test_sound_block_by_block_equals_that_of_the_whole(bottleneck, borders):
    engine = Engine(tiny(bottleneck=bottleneck), seeded(Vocoder, TINY_VOCODER))
    wav = vowel(130.0, 60 * HOP) + 0.02 * noise(1, 1, 60 * HOP)
    cache = {}
    parts = [engine(wav[..., a:b], cache) for a, b in pairwise(borders)]
    torch.testing.assert_close(torch.cat(parts, -1), engine(wav), atol=1e-4, rtol=0)


def test_speech_in_the_smallest_blocks_equals_the_whole(autoencoder, vocoder, speech):
    engine = Engine(autoencoder, vocoder)
    wav = speech[..., : 100 * HOP]
    cache = {}
    parts = [engine(block, cache) for block in wav.split(2 * HOP, dim=-1)]
    torch.testing.assert_close(torch.cat(parts, -1), engine(wav), atol=1e-4, rtol=0)


def test_a_long_voiced_stretch_in_small_blocks_equals_the_whole(autoencoder, vocoder):
    """The vocoder integrates F0, and with it rounding errors, which differ between a stream and a whole file.

    The weights make F0 as certain, and its rounding errors as large, as after training.
    """
    with torch.no_grad():
        autoencoder.prosody.output.weight.mul_(30)
        autoencoder.prosody.output.bias[-1] = 100
    engine = Engine(autoencoder, vocoder)
    samples = 3 * MEL.sample_rate
    f0 = 150 + 50 * torch.sin(torch.arange(samples) / 8000)
    wav = vowel(f0, samples) + 0.02 * noise(1, 1, samples)
    cache = {}
    parts = [engine(block, cache) for block in wav.split(4 * HOP, dim=-1)]
    torch.testing.assert_close(torch.cat(parts, -1), engine(wav), atol=1e-4, rtol=0)


def test_streams_do_not_affect_each_other(autoencoder, vocoder):
    engine = Engine(autoencoder, vocoder)
    one, other = 0.1 * noise(1, 1, 40 * HOP), 0.1 * noise(1, 1, 40 * HOP, seed=1)
    cache, other_cache, parts = {}, {}, []
    for a in range(0, 40 * HOP, 8 * HOP):
        parts.append(engine(one[..., a : a + 8 * HOP], cache))
        engine(other[..., a : a + 8 * HOP], other_cache)
    torch.testing.assert_close(torch.cat(parts, -1), engine(one), atol=1e-4, rtol=0)


# Latency: out[n], after the delay is cut off, describes sample n and depends on samples before n + latency.


def latency(delay: int) -> int:
    """As designed: a window, L hops, and one more hop, because a code frame is two mel frames."""
    return 640 + 160 * delay + 160


def lookahead(engine: Engine) -> int:
    """The least k for which outputs up to n do not depend on inputs from n + k on, for any n."""
    more = max(0, engine.delay - 5 * HOP)  # room for a longer delay
    period, begin, length = 2 * HOP, 14 * HOP + more, 24 * HOP + 2 * more
    wavs = 0.1 * noise(1, length).repeat(1 + period, 1, 1)
    for i in range(period):
        wavs[1 + i, :, begin + i :] += noise(length - begin - i, seed=1)
        wavs[1 + i, :, begin + i] += 10
    out = engine(wavs)[:, 0, engine.delay :]
    differs = (out[1:] - out[:1]).abs() > 1e-5 * out.abs().max()  # (period, N)
    assert differs.any(1).all()
    earliest = differs.float().argmax(1)
    return int((begin + torch.arange(period) - earliest).max()) + 1


@every_delay
def test_the_latency_is_as_stated_to_the_sample(vocoder, delay):
    engine = Engine(tiny(delay=delay), vocoder)
    # Rectangular windows, so that every sample within a window affects the output.
    engine.log_mel.window.fill_(1)
    vocoder.window.fill_(1)
    assert lookahead(engine) == latency(delay)


@given(n=st.integers(0, 14 * HOP))
@settings(max_examples=6)
def test_outputs_up_to_n_do_not_depend_on_the_input_from_n_plus_latency_on(n):
    engine = Engine(tiny(), seeded(Vocoder, TINY_VOCODER))
    wav = 0.1 * noise(1, 1, 26 * HOP)
    changed = wav.clone()
    changed[..., n + latency(TINY.delay) :] += 1
    out, other = (engine(x)[..., engine.delay :] for x in (wav, changed))
    torch.testing.assert_close(other[..., : n + 1], out[..., : n + 1], atol=1e-6, rtol=0)
    assert (other - out).abs().max() > 1e-3


# Budgets, at the sizes of the bundled model


@pytest.mark.parametrize(
    ("model", "config", "most"),
    [(Autoencoder, AutoencoderConfig(), 7.5e6), (Vocoder, VocoderConfig(), 4e6)],
    ids=["autoencoder", "vocoder"],
)
def test_parameters_stay_within_the_budget(model, config, most):
    assert sum(p.numel() for p in model(config).parameters()) <= most


def test_a_second_of_audio_costs_at_most_three_quarters_of_a_billion_multiplications():
    engine = Engine(seeded(Autoencoder, AutoencoderConfig()), seeded(Vocoder, VocoderConfig()))
    with FlopCounterMode(display=False) as counter:
        engine(torch.zeros(1, 1, MEL.sample_rate))
    assert 0.1e9 < counter.get_total_flops() / 2 <= 0.75e9
