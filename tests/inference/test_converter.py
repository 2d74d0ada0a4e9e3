"""Converter: conversion, voices, embeddings, content. Mostly with tiny random weights."""

import contextlib
import dataclasses
import itertools
import math
import os
import shutil
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from conftest import FSQ, TINY, TINY_VOCODER, VOICES, noise, save_weights, seeded

import vcae
from vcae import Audio, AudioError, CheckpointError, Converter, Voice, VoiceError
from vcae.audio import AudioWarning, recording
from vcae.errors import VcaeError
from vcae.model.autoencoder import Autoencoder
from vcae.model.bottleneck import Code
from vcae.model.prosody import F0Statistics
from vcae.model.state import delay
from vcae.model.vocoder import Vocoder

RATE = 16_000
CLIPS = sorted(VOICES.glob("*.flac"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder of tiny weights with a continuous code, and one with a discrete code."""
    folder = tmp_path_factory.mktemp("weights")
    return {"continuous": save_weights(folder / "a"), "fsq": save_weights(folder / "b", FSQ)}


@pytest.fixture(scope="module")
def converter(weights):
    return vcae.load(weights["continuous"])


@pytest.fixture(scope="module")
def discrete(weights):
    return vcae.load(weights["fsq"])


@pytest.fixture(scope="module")
def bundled():
    return vcae.load()


@pytest.fixture(scope="module")
def source(speech):
    """Two seconds of speech; with an end that fits no block, hop or step."""
    return Audio(speech[0, 0, :-77].numpy(), RATE)


@pytest.fixture(scope="module")
def voice(converter):
    return converter.voice(CLIPS[-1])


def louder(audio, decibels):
    return Audio(audio.samples * np.float32(10 ** (decibels / 20)), audio.sample_rate)


def white(seconds):
    return Audio(0.1 * noise(round(seconds * RATE)).numpy(), RATE)


def close(a, b, tolerance=1e-4):
    """Whether two conversions are the same, sample for sample."""
    return len(a.samples) == len(b.samples) and np.abs(a.samples - b.samples).max() <= tolerance


# Convert


@pytest.mark.parametrize("samples", [2, 159, 320, 321, 7_999, 16_000])
def test_the_output_is_as_long_as_the_source(converter, voice, source, samples):
    start = np.abs(source.samples).argmax()  # so that the shortest one is not silent
    cut = np.roll(source.samples, -start)[:samples]
    out = converter.convert(Audio(cut, RATE), voice)
    assert out.samples.shape == (samples,)
    assert out.samples.dtype == np.float32
    assert out.sample_rate == RATE


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_sources_of_any_rate_become_16_khz(converter, voice, speech_at, rate):
    samples = speech_at(rate)[0, 0, :-13].numpy()
    out = converter.convert(Audio(samples, rate), voice)
    assert out.sample_rate == RATE
    assert len(out.samples) == math.ceil(len(samples) * RATE / rate)


@pytest.mark.parametrize("level", [-40, 0, 40])
def test_the_output_is_finite_and_within_bounds(converter, voice, source, level):
    out = converter.convert(louder(source, level), voice).samples
    assert np.isfinite(out).all()
    assert np.abs(out).max() <= 1
    assert np.abs(out).max() > 1e-4


@pytest.mark.parametrize("level", [-20, -6, 6])
def test_a_source_as_loud_gives_an_output_as_loud(converter, voice, source, level):
    out = converter.convert(source, voice)
    gain = 10 ** (level / 20)
    assert close(converter.convert(louder(source, level), voice), louder(out, level), 1e-4 * gain)


@pytest.mark.parametrize("block_seconds", [0.1, 0.31, 1, 60])
def test_the_output_does_not_depend_on_the_block_size(converter, voice, source, block_seconds):
    blocks = Converter(converter.autoencoder, converter.vocoder, block_seconds=block_seconds)
    assert close(blocks.convert(source, voice), converter.convert(source, voice))


def test_the_output_of_longer_speech_does_not_depend_on_the_block_size(bundled):
    clips = Audio(np.concatenate([vcae.audio.read(clip).samples for clip in CLIPS[:3]]), RATE)
    voice = bundled.voice(CLIPS[-1])
    blocks = Converter(bundled.autoencoder, bundled.vocoder, block_seconds=1)
    whole = Converter(bundled.autoencoder, bundled.vocoder, block_seconds=60)
    assert close(blocks.convert(clips, voice), whole.convert(clips, voice))


def test_converting_twice_gives_the_same(converter, voice, source):
    np.testing.assert_array_equal(
        converter.convert(source, voice).samples, converter.convert(source, voice).samples
    )


@pytest.mark.parametrize("strength", [-0.1, 1.1, math.nan])
def test_strength_has_bounds(converter, voice, source, strength):
    with pytest.raises(ValueError, match="strength"):
        converter.convert(source, voice, strength=strength)


@pytest.mark.parametrize("semitones", [math.nan, math.inf])
def test_pitch_shift_is_a_number(converter, voice, source, semitones):
    with pytest.raises(ValueError, match="pitch shift"):
        converter.convert(source, voice, pitch_shift=semitones)


def test_strength_goes_from_the_source_to_the_voice(converter, voice, source):
    source_voice, half, full = (converter.convert(source, voice, strength=s) for s in (0, 0.5, 1))
    assert not close(source_voice, full, 1e-3)
    assert not close(half, full, 1e-3)
    assert close(full, converter.convert(source, voice))


def test_strength_0_is_the_plain_autoencoder(converter, voice, source):
    assert close(converter.convert(source, voice, strength=0), converter.reconstruct(source), 1e-3)


class ConstantProsody(torch.nn.Module):
    """A prosody encoder with constant F0 and voicing."""

    def __init__(self, f0, voicing):
        super().__init__()
        self.f0, self.voicing = f0, voicing

    def forward(self, mel, cache=None):
        log_f0 = torch.full_like(mel[:, :1], math.log(self.f0))
        return torch.cat([log_f0, torch.full_like(log_f0, self.voicing), log_f0], dim=1)


class Copying(Autoencoder):
    """A perfect autoencoder, to test the rest: the code is the mel, the output the delayed mel."""

    def encode(self, mel, cache=None):
        return Code(mel, None, mel.new_zeros(())), self.prosody(mel, cache)

    def decode(self, z, prosody, speaker, cache=None):
        return delay(z, self.config.delay, cache, self)


def copying(f0=150.0, voicing=1.0, delay=2):
    """A converter with a perfect autoencoder and a constant F0, and a voice with this F0."""
    autoencoder = seeded(Copying, dataclasses.replace(TINY, delay=delay))
    autoencoder.prosody = ConstantProsody(f0, voicing)
    converter = Converter(autoencoder, seeded(Vocoder, TINY_VOCODER))
    voice = converter.encode(white(1)).voice
    return converter, dataclasses.replace(voice, f0=F0Statistics.around(math.log(f0), 0.2, 1e6))


@pytest.mark.parametrize("delay", [0, 2, 4, 8, 24])
def test_the_output_is_aligned_in_time(delay):
    """Bursts of noise stay where they are, within 2.5 ms."""
    converter, voice = copying(voicing=0, delay=delay)
    burst = np.zeros(2 * RATE, np.float32)
    for start in (3_000, 13_000, 20_000, 27_500):
        burst[start : start + 1_500] = white(1).samples[:1_500]
    out = converter.convert(Audio(burst, RATE), voice).samples

    def envelope(samples):
        return np.sqrt((samples.reshape(-1, 40) ** 2).mean(1))

    lags = range(-40, 41)
    match = [np.dot(envelope(burst), np.roll(envelope(out), -lag)) for lag in lags]
    assert abs(lags[int(np.argmax(match))]) <= 1


def pitch_of(samples):
    """F0 in Hz of a steady voice: the first high peak of the autocorrelation."""
    power = np.abs(np.fft.rfft(samples, 2 * len(samples))) ** 2
    power[len(power) // 5 :] = 0  # above 1.6 kHz, where peaks are finer than a sample
    shortest = RATE // 700
    similar = np.fft.irfft(power)[shortest : RATE // 45]
    first = int(np.argmax(similar > 0.8 * similar.max()))
    return RATE / (shortest + first + int(np.argmax(similar[first : first + 8])))


@pytest.mark.parametrize(
    ("target", "semitones"), [(100.0, 0), (100.0, 7), (100.0, 12), (220.0, -12), (220.0, 0), (220.0, 12)]
)
def test_pitch_moves_to_the_voice_and_by_semitones(target, semitones):
    converter, voice = copying(f0=150.0)
    target_voice = dataclasses.replace(voice, f0=F0Statistics.around(math.log(target), 0.2, 1e6))
    clicks = np.zeros(RATE, np.float32)
    clicks[::160] = 0.5  # one a hop, so that all frames are the same
    out = converter.convert(Audio(clicks, RATE), target_voice, pitch_shift=semitones).samples
    assert pitch_of(out[4_000:12_000]) == pytest.approx(target * 2 ** (semitones / 12), rel=0.03)


def test_an_octave_doubles_the_pitch_of_the_bundled_weights(bundled):
    pytest.importorskip("pyworld")
    from vcae.training.labels import f0_labels

    def median(semitones):
        man = CLIPS[2]  # far from the ceiling
        f0 = f0_labels(bundled.convert(CLIPS[-1], man, pitch_shift=semitones).samples, RATE, 160)
        return np.median(f0[f0 > 0])

    assert median(12) / median(0) == pytest.approx(2, rel=0.15)


def test_a_silent_source_is_refused(converter, voice, tmp_path):
    path = tmp_path / "silent.wav"
    Audio(np.zeros(RATE, np.float32), RATE).write(path)
    for action in (lambda s: converter.convert(s, voice), converter.embed, converter.content):
        with pytest.raises(AudioError, match=r"silent\.wav.*silent"):
            action(path)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
def test_names_that_are_no_text_are_read_or_refused(converter, tmp_path):
    path = tmp_path / os.fsdecode(b"\xff.flac")
    shutil.copy(CLIPS[0], path)
    with contextlib.suppress(vcae.VcaeError):
        np.testing.assert_array_equal(converter.embed(path), converter.embed(CLIPS[0]))


# Long files


@pytest.fixture(params=[600, 0.5], ids=["short", "long"])
def length(request, monkeypatch):
    """Files count as short, which are held in memory, or as long."""
    monkeypatch.setattr(recording, "_SHORT_SECONDS", request.param)


@pytest.mark.usefixtures("length")
@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_converting_to_a_file_equals_converting_in_memory(converter, voice, source, tmp_path, suffix):
    source.write(tmp_path / "source.wav")
    decoded = vcae.audio.read(tmp_path / "source.wav")
    for kind, options in (("convert", (voice, -3.0, 0.7)), ("reconstruct", ())):
        getattr(converter, f"{kind}_file")(tmp_path / "source.wav", tmp_path / f"file{suffix}", *options)
        getattr(converter, kind)(decoded, *options).write(tmp_path / f"memory{suffix}")
        assert (tmp_path / f"file{suffix}").read_bytes() == (tmp_path / f"memory{suffix}").read_bytes()


@pytest.mark.usefixtures("length")
def test_voices_and_codes_of_long_files_are_the_same(converter):
    samples = vcae.audio.read(CLIPS[0], RATE)
    assert same(converter.voice(CLIPS[0]), converter.voice(samples))
    np.testing.assert_array_equal(converter.embed(CLIPS[0]), converter.embed(samples))
    assert torch.equal(converter.content(CLIPS[0]).z, converter.content(samples).z)


def test_little_of_a_long_file_is_in_memory(converter, voice, source, tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "_SHORT_SECONDS", 1)
    blocks = Converter(converter.autoencoder, converter.vocoder, block_seconds=1)
    peaks = []
    for times in (24, 48):  # recordings are analysed in pieces of ten seconds
        Audio(np.tile(source.samples, times), RATE).write(tmp_path / "long.flac")
        tracemalloc.start()  # which counts NumPy's arrays
        blocks.convert_file(tmp_path / "long.flac", tmp_path / "out.flac", voice)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 24 * source.samples.nbytes / 10


def test_progress_is_reported_in_seconds_of_the_source(converter, voice, source, tmp_path):
    progress = []
    converter.convert_file(source, tmp_path / "out.wav", voice, progress=lambda *now: progress.append(now))
    doing = [doing for doing, _ in itertools.groupby(progress, lambda now: now[0])]
    assert doing == ["reading", "analysing", "converting"]
    assert {total for doing, _, total in progress if doing != "reading"} == {source.duration}
    assert progress[-1] == ("converting", source.duration, source.duration)


# Voices


@pytest.fixture(params=["path", "str", "list", "audio", ".voice", "Voice"])
def reference(request, voice, tmp_path):
    """The same voice in every form that is accepted."""
    path = CLIPS[-1]
    voice_file = tmp_path / "reference.voice"
    voice.save(voice_file)
    return {
        "path": path,
        "str": str(path),
        "list": [path],
        "audio": vcae.audio.read(path),
        ".voice": voice_file,
        "Voice": voice,
    }[request.param]


def same(a, b):
    return (
        torch.equal(a.embedding, b.embedding)
        and torch.equal(a.tokens, b.tokens)
        and a.f0 == b.f0
        and a.made_by == b.made_by
    )


def test_a_voice_comes_in_many_forms(converter, voice, source, reference):
    assert same(converter.voice(reference), voice)
    assert close(converter.convert(source, reference), converter.convert(source, voice))


def test_several_references_are_pooled(converter):
    one, other, both = (converter.voice(r) for r in (CLIPS[0], CLIPS[1], CLIPS[:2]))
    assert both.embedding.norm() == pytest.approx(1)
    assert both.f0.frames == pytest.approx(one.f0.frames + other.f0.frames)
    assert one.embedding @ other.embedding < both.embedding @ one.embedding < 1
    assert not torch.equal(both.tokens, one.tokens)


def test_a_reference_given_twice_counts_as_given_once(converter, voice):
    twice = converter.voice([CLIPS[-1], CLIPS[-1]])
    torch.testing.assert_close(twice.embedding, voice.embedding)
    torch.testing.assert_close(twice.tokens, voice.tokens)


def test_long_references_work(converter, source, voice):
    two_minutes = Audio(np.tile(vcae.audio.read(CLIPS[-1]).samples, 29), RATE)
    assert two_minutes.duration > 119
    long = converter.voice(two_minutes)
    assert long.embedding @ voice.embedding > 0.99
    assert long.f0.mean == pytest.approx(voice.f0.mean, abs=0.05)


@pytest.mark.parametrize("shares", [[0.7, 0.3], [7, 3]], ids=str)
def test_voices_mix_by_weights(converter, shares):
    low, high = (F0Statistics.around(math.log(f0), 0.2, 300) for f0 in (110, 210))
    one, other = (converter.voice(clip) for clip in CLIPS[:2])
    one, other = dataclasses.replace(one, f0=low), dataclasses.replace(other, f0=high)
    mixed = Voice.mix([one, other], shares)
    assert mixed.embedding.norm() == pytest.approx(1)
    assert mixed.embedding @ one.embedding > mixed.embedding @ other.embedding
    torch.testing.assert_close(mixed.tokens, 0.7 * one.tokens + 0.3 * other.tokens)
    assert mixed.f0.mean == pytest.approx(0.7 * low.mean + 0.3 * high.mean, abs=0.01)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_mixing_a_voice_with_itself_changes_nothing(voice, count):
    one = dataclasses.replace(voice, f0=F0Statistics.around(math.log(210), 0.3, 100))
    mixed = Voice.mix(count * [one])
    torch.testing.assert_close(mixed.embedding, one.embedding)
    assert mixed.f0.mean == pytest.approx(one.f0.mean, abs=1e-9)
    assert mixed.f0.std == pytest.approx(one.f0.std, abs=1e-9)


GUIDANCE_SCALE = 0.45


def test_guidance_moves_a_voice_away_from_that_of_the_source(converter):
    low, high = (F0Statistics.around(math.log(f0), 0.2, 300) for f0 in (110, 210))
    voice, source_voice = (converter.voice(clip) for clip in CLIPS[:2])
    voice, source_voice = dataclasses.replace(voice, f0=low), dataclasses.replace(source_voice, f0=high)
    guided = voice.guided(source_voice, GUIDANCE_SCALE)
    assert guided.embedding.norm() == pytest.approx(1)
    assert guided.embedding @ source_voice.embedding < voice.embedding @ source_voice.embedding
    assert guided.embedding @ voice.embedding > guided.embedding @ source_voice.embedding
    difference = voice.tokens - source_voice.tokens
    torch.testing.assert_close(guided.tokens, voice.tokens + GUIDANCE_SCALE * difference)
    assert guided.f0.mean == pytest.approx(voice.f0.mean, abs=1e-9)  # F0 is not guided
    assert guided.f0.std == pytest.approx(voice.f0.std, abs=1e-9)


@pytest.mark.parametrize("strength", [0, 0.5, 1])
def test_guidance_by_the_same_voice_changes_nothing(voice, strength):
    guided = voice.guided(voice, GUIDANCE_SCALE, strength)
    torch.testing.assert_close(guided.embedding, voice.embedding)
    torch.testing.assert_close(guided.tokens, voice.tokens)


def test_guidance_at_strength_0_is_the_voice_of_the_source(converter):
    voice, source_voice = (converter.voice(clip) for clip in CLIPS[:2])
    guided = voice.guided(source_voice, GUIDANCE_SCALE, 0)
    torch.testing.assert_close(guided.embedding, source_voice.embedding)
    torch.testing.assert_close(guided.tokens, source_voice.tokens)


@pytest.mark.parametrize("shares", [[1], [-1, 2], [0, 0], [math.nan, 1], [math.inf, 1]], ids=str)
def test_weights_that_make_no_mix_are_refused(voice, shares):
    with pytest.raises(VoiceError, match="weights"):
        Voice.mix([voice, voice], shares)


def test_no_voices_make_no_mix():
    with pytest.raises(VoiceError):
        Voice.mix([])


@pytest.mark.parametrize("references", [[], ()])
def test_a_voice_needs_a_reference(converter, references):
    with pytest.raises(VoiceError, match="reference"):
        converter.voice(references)


def test_a_short_clip_holds_no_voice(converter, source):
    with pytest.raises(VoiceError, match="no speech"):
        converter.voice(Audio(source.samples[:1_600], RATE))


@pytest.mark.parametrize("seconds", [1, 3, 20])
def test_noise_holds_no_voice(bundled, seconds):
    with pytest.raises(VoiceError, match="no speech"):
        bundled.voice(white(seconds))


def test_a_moment_of_speech_holds_no_voice(bundled, source):
    middle = int(np.abs(source.samples).argmax())
    with pytest.raises(VoiceError, match="no speech"):
        bundled.voice(Audio(source.samples[middle : middle + 1_600], RATE))


def test_a_bad_reference_among_good_ones_is_named_and_left_out(converter, tmp_path):
    short = tmp_path / "short.wav"
    white(0.1).write(short)
    with pytest.warns(AudioWarning, match=r"short\.wav: holds no speech.*left out"):
        assert same(converter.voice([CLIPS[0], short]), converter.voice(CLIPS[0]))
    with pytest.raises(VoiceError, match=r"short\.wav: holds no speech"):
        converter.voice([short, short])


def test_voices_belong_to_their_weights(converter, discrete, voice, source, tmp_path):
    path = tmp_path / "other.voice"
    voice.save(path)
    with pytest.raises(VoiceError, match=r"other\.voice.*other weights"):
        discrete.convert(source, path)
    with pytest.raises(VoiceError, match="other weights"):
        discrete.voice(voice)
    with pytest.raises(VoiceError, match="different weights"):
        Voice.mix([voice, dataclasses.replace(voice, made_by=discrete.made_by)])


def test_a_voice_file_must_be_the_only_reference(converter, voice, tmp_path):
    path = tmp_path / "a.voice"
    voice.save(path)
    for references in ([path, path], [CLIPS[0], path]):
        with pytest.raises(VoiceError, match=r"a\.voice.*mix"):
            converter.voice(references)


def test_a_voice_is_saved_and_loaded(voice, tmp_path):
    for name in ("a.voice", "ä [1].voice"):
        voice.save(tmp_path / name)
        assert same(Voice.load(tmp_path / name), voice)
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(VcaeError, match=r"choose one of \.voice"):
        voice.save(tmp_path / "no suffix")


@pytest.mark.parametrize("content", [None, b"", b"text", b"\0" * 100, "cut short", "weights"])
def test_a_file_that_is_no_voice_is_refused_in_one_line(voice, weights, tmp_path, content):
    path = tmp_path / "bad.voice"
    if content == "cut short":
        voice.save(path)
        content = path.read_bytes()[:-10]
    elif content == "weights":
        content = (weights["continuous"] / "vocoder.safetensors").read_bytes()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VoiceError) as refusal:
        Voice.load(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert "\n" not in str(refusal.value)


# Embeddings and content


def test_an_embedding_is_a_unit_vector(converter):
    one = converter.embed(CLIPS[0])
    assert one.shape == (TINY.speaker_dim,)
    assert one.dtype == np.float32
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(one, converter.embed(str(CLIPS[0])))
    assert one @ converter.embed(CLIPS[1]) < 0.999


@pytest.mark.parametrize("level", [-20, 6])
def test_an_embedding_does_not_depend_on_the_level(converter, source, level):
    assert converter.embed(louder(source, level)) @ converter.embed(source) > 0.9999


@pytest.mark.parametrize("samples", [2, 319, 320, 321, 31_923])
@pytest.mark.parametrize("kind", ["converter", "discrete"])
def test_content_is_a_code_every_20_ms(request, source, kind, samples):
    holder = request.getfixturevalue(kind)
    start = np.abs(source.samples).argmax()
    code = holder.content(Audio(np.roll(source.samples, -start)[:samples], RATE))
    frames = math.ceil(samples / 320)
    assert code.z.shape == (TINY.content_dim, frames)
    if kind == "converter":
        assert code.ids is None
    else:
        assert code.ids.shape == (frames,)
        torch.testing.assert_close(holder.autoencoder.bottleneck.decode(code.ids[None])[0], code.z)


def test_content_does_not_depend_on_blocks(discrete, source):
    blocks = Converter(discrete.autoencoder, discrete.vocoder, block_seconds=0.31)
    in_blocks, whole = blocks.content(source), discrete.content(source)
    assert (in_blocks.ids == whole.ids).float().mean() > 0.99


# Load


@pytest.mark.parametrize("exists", [False, True], ids=["no folder", "empty folder"])
def test_missing_weights_are_reported_in_one_line(tmp_path, exists):
    folder = tmp_path / "weights"
    if exists:
        folder.mkdir()
    with pytest.raises(CheckpointError) as refusal:
        vcae.load(folder)
    assert str(refusal.value).startswith(str(folder))
    assert "\n" not in str(refusal.value)


def test_autoencoder_and_vocoder_share_a_mel(converter):
    other = dataclasses.replace(TINY_VOCODER, mel=dataclasses.replace(TINY.mel, n_mels=40))
    with pytest.raises(ValueError, match="same mel"):
        Converter(converter.autoencoder, seeded(Vocoder, other))
