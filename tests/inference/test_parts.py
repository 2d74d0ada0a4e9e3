"""`Converter.encode` and `Converter.decode`."""

import math

import numpy as np
import pytest
import torch
from conftest import TINY, VOICES, save_weights

import vcae
from vcae import Audio, AudioError, VoiceError
from vcae.audio import loudness, read
from vcae.model.prosody import F0Statistics
from vcae.training import corrupt
from vcae.training.augment import add_noise, hum
from vcae.training.config import TelephoneConfig

RATE, HOP = 16_000, 160
WOMAN, MAN = VOICES / "vcc2016-SF1-200001.flac", VOICES / "librispeech-78-368-0031.flac"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return vcae.load(save_weights(tmp_path_factory.mktemp("weights") / "tiny"))


@pytest.fixture(scope="module")
def bundled():
    return vcae.load()


def at_one_level(*recordings):
    """Samples of the same length and loudness, without the first tenth of a second."""
    n = min(len(r.samples) for r in recordings)
    cut = [r.samples[RATE // 10 : n] for r in recordings]
    return [s * 10 ** ((-25 - loudness(s, RATE)) / 20) for s in cut]


def spectral_distance(a, b):
    """Mean difference of log mels of (N,), in nepers."""
    log_mel = vcae.LogMel(vcae.PRESETS["16k"])
    one, other = (log_mel(torch.from_numpy(x.astype(np.float32))[None, None]) for x in (a, b))
    return float((one - other).abs().mean())


@pytest.mark.parametrize("samples", [2, 319, 320, 321, 31_923])
def test_parts_have_frames_for_every_sample(tiny, speech, samples):
    loudest = int(speech.abs().argmax())
    source = Audio(np.roll(speech[0, 0].numpy(), -loudest)[:samples], RATE)
    parts = tiny.encode(source)
    steps = math.ceil(samples / tiny.step)
    assert parts.content.shape == (TINY.content_dim, steps)
    assert parts.prosody.shape == (3, 2 * steps)
    decoded = tiny.decode(*parts)
    assert decoded.samples.shape == (steps * tiny.step,)
    assert decoded.sample_rate == RATE
    assert np.isfinite(decoded.samples).all()


def fan(wav, decibels, rng):
    return add_noise(wav, torch.randn(wav.shape, generator=rng), torch.tensor([decibels]))


def mains(wav, decibels, rng):
    return add_noise(wav, hum(wav, 16_000, rng), torch.tensor([decibels]))


def fundamental(wav, decibels, rng):
    """Mains hum without overtones, which passes for a low voice."""
    return add_noise(
        wav, (2 * math.pi * 60 / RATE * torch.arange(wav.shape[-1])).sin(), torch.tensor([decibels])
    )


def telephone(wav, hertz, rng):
    band = TelephoneConfig(low_hz=(hertz, hertz), share_low=1.0)
    return corrupt.telephone(wav[..., : wav.shape[-1] // 4 * 4], band, RATE, rng)


@pytest.mark.parametrize("recording", [WOMAN, MAN], ids=["woman", "man"])
@pytest.mark.parametrize(
    ("disturb", "value"), [(fan, 10.0), (fan, 5.0), (mains, 5.0), (fundamental, 10.0), (telephone, 300.0)]
)
def test_f0_does_not_depend_on_noise_and_telephones(bundled, recording, disturb, value):
    source = read(recording, RATE)
    wav = torch.from_numpy(source.samples)[None, None]
    disturbed = disturb(wav, value, torch.Generator().manual_seed(0))
    pair = (bundled.encode(Audio(x[0, 0].numpy(), RATE)).prosody for x in (wav, disturbed))
    clean, found = (prosody[:, : wav.shape[-1] // HOP - 2] for prosody in pair)
    voiced = (clean[1] > 0.9) & (found[1] > 0.5)
    cents = 1200 / math.log(2) * (found[0] - clean[0])[voiced]
    assert (cents.abs() < 50).float().mean() > 0.8
    assert cents.median().abs() < 6
    assert voiced.sum() > 0.7 * (clean[1] > 0.9).sum()


def test_parts_equal_the_results_of_the_other_methods(tiny):
    parts = tiny.encode(WOMAN)
    torch.testing.assert_close(parts.content, tiny.content(WOMAN).z)
    np.testing.assert_array_equal(parts.voice.embedding.numpy(), tiny.embed(WOMAN))
    assert parts.voice.f0.mean == pytest.approx(tiny.voice(WOMAN).f0.mean, abs=1e-3)


def test_decoding_all_parts_is_reconstruction(bundled):
    one, other = at_one_level(bundled.decode(*bundled.encode(WOMAN)), bundled.reconstruct(WOMAN))
    assert spectral_distance(one, other) < 0.05  # the loudness of conversions follows the source


def test_another_voice_is_a_conversion(bundled):
    content, prosody, source_voice = bundled.encode(WOMAN)
    decoded = bundled.decode(content, prosody, bundled.guided(MAN, source_voice), pitch_shift=3)
    one, other = at_one_level(decoded, bundled.convert(WOMAN, MAN, pitch_shift=3))
    assert spectral_distance(one, other) < 0.05  # the loudness of conversions follows the source
    (unconverted,) = at_one_level(bundled.decode(content, prosody, source_voice))
    assert spectral_distance(one, unconverted[: len(one)]) > 0.1


def test_long_recordings_are_decoded_in_blocks(tiny):
    parts = tiny.encode(WOMAN)
    blocks = vcae.Converter(tiny.autoencoder, tiny.vocoder, block_seconds=0.5)
    difference = blocks.decode(*parts).samples - tiny.decode(*parts).samples
    assert np.abs(difference).max() < 1e-4


def test_the_output_depends_on_each_part(tiny):
    """Blanking any one of the three changes the output."""
    content, prosody, voice = tiny.encode(WOMAN)
    other = tiny.encode(MAN).voice
    flat = torch.stack([torch.full_like(prosody[0], 5.0), prosody[1], prosody[2]])
    sounds = [
        tiny.decode(*parts).samples
        for parts in (
            (content, prosody, voice),
            (torch.zeros_like(content), prosody, voice),
            (content, flat, voice),
            (content, prosody, other),
        )
    ]
    for i, one in enumerate(sounds):
        for another in sounds[:i]:
            assert np.abs(one - another).max() > 1e-3


def test_prosody_is_stretched_to_the_content(tiny):
    content, prosody, voice = tiny.encode(WOMAN)
    half = prosody[:, ::2]
    decoded = tiny.decode(content, half, voice)
    assert len(decoded.samples) == content.shape[1] * tiny.step
    again = tiny.decode(content, half.repeat_interleave(2, dim=1), voice)
    assert decoded.samples.std() == pytest.approx(again.samples.std(), rel=0.2)


def test_f0_moves_from_the_range_of_the_prosody_to_that_of_the_voice(tiny, monkeypatch):
    content, prosody, voice = tiny.encode(WOMAN)
    moved = []
    vocoder = tiny.vocoder.forward
    monkeypatch.setattr(
        tiny.vocoder,
        "forward",
        lambda mel, prosody, cache: moved.append(prosody) or vocoder(mel, prosody, cache),
    )
    prosody = torch.stack(
        [torch.linspace(4.5, 5.0, prosody.shape[1]), torch.ones(prosody.shape[1]), prosody[2]]
    )
    target = vcae.Voice(voice.embedding, voice.tokens, F0Statistics.around(5.4, 0.2, 1e6), voice.made_by)
    tiny.decode(content, prosody, target, pitch_shift=12)
    log_f0 = torch.cat(moved, dim=-1)[0, 0]
    assert float(log_f0.mean()) == pytest.approx(5.4 + math.log(2), abs=0.02)


@pytest.mark.parametrize(
    ("content", "prosody", "named"),
    [
        ((5, 4), (3, 8), "content"),
        ((8, 0), (3, 8), "content"),
        ((8, 4), (2, 8), "prosody"),
        ((8, 4), (3,), "prosody"),
    ],
)
def test_other_shapes_are_refused(tiny, content, prosody, named):
    voice = tiny.voice(WOMAN)
    with pytest.raises(ValueError, match=named):
        tiny.decode(torch.zeros(content), torch.zeros(prosody), voice)


def test_recordings_and_voices_that_cannot_be_used_are_refused(tiny, bundled):
    with pytest.raises(AudioError, match="silent"):
        tiny.encode(Audio(np.zeros(RATE, np.float32), RATE))
    content, prosody, _ = tiny.encode(WOMAN)
    with pytest.raises(VoiceError, match="other weights"):
        tiny.decode(content, prosody, bundled.voice(MAN))
