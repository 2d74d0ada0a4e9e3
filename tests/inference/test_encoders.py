"""The encoders by themselves: recordings in every form, batches, codes along a recording."""

import numpy as np
import pytest
import torch
from conftest import VOICES

import vcae
from vcae import Audio, AudioError

RATE = 16_000
CLIPS = sorted(VOICES.glob("*.flac"))


@pytest.fixture(scope="module")
def vc():
    return vcae.load()


@pytest.fixture(scope="module")
def speaker():
    return vcae.SpeakerEncoder.from_pretrained()


@pytest.fixture(scope="module")
def content():
    return vcae.ContentEncoder.from_pretrained()


@pytest.fixture(scope="module")
def long():
    """25 seconds of speech: three pieces, the last one short."""
    return np.tile(vcae.audio.read(CLIPS[0], RATE).samples, 6)[: 25 * RATE + 77]


def test_both_encoders_equal_the_converter(vc, speaker, content, long):
    for source in (CLIPS[1], Audio(long, RATE)):
        np.testing.assert_allclose(speaker.embed(source), vc.embed(source), atol=1e-5)
        np.testing.assert_allclose(content.embed(source), vc.content(source).z.numpy(), atol=1e-3)


def test_a_recording_comes_in_many_forms(speaker):
    recording = vcae.audio.read(CLIPS[0])
    expected = speaker.embed(CLIPS[0])
    assert expected.shape == (192,) and expected.dtype == np.float32
    forms = [(str(CLIPS[0]),), (recording,), (recording.samples, recording.sample_rate)]
    forms += [(recording.samples.astype(np.float64), recording.sample_rate)]
    forms += [(torch.from_numpy(recording.samples), recording.sample_rate)]
    for form in forms:
        np.testing.assert_allclose(speaker.embed(*form), expected, atol=1e-4)
    tensor = speaker.embed_tensors(CLIPS[0])
    assert torch.is_tensor(tensor) and torch.equal(tensor, torch.from_numpy(expected))


def test_a_batch_equals_its_members(speaker, content, long):
    waves = np.stack([long, long[::-1].copy()])
    for batch in (waves, torch.from_numpy(waves)[:, None], list(waves)):
        codes = speaker.embed(batch, RATE)
        assert codes.shape == (2, 192)
        np.testing.assert_allclose(codes[1], speaker.embed(waves[1], RATE), atol=1e-5)
    np.testing.assert_allclose(content.embed(waves, RATE)[1], content.embed(waves[1], RATE), atol=1e-4)


def test_recordings_of_several_lengths_keep_their_order(speaker, content):
    codes = speaker.embed(CLIPS)
    frames = [code.shape[1] for code in content.embed(CLIPS)]
    for clip, code, count in zip(CLIPS, codes, frames, strict=True):
        np.testing.assert_allclose(code, speaker.embed(clip), atol=1e-5)
        assert count == -(-len(vcae.audio.read(clip, RATE).samples) // 320)


def test_codes_along_a_recording_tell_who_speaks_when(speaker):
    man, woman = (vcae.audio.read(clip, RATE).samples[-3 * RATE :] for clip in CLIPS[1:3])
    track = speaker.slide(np.concatenate([man, woman]), RATE, window=1.5, step=0.5)
    assert track.times[0] == 0.75 and np.allclose(np.diff(track.times), 0.5)
    assert track.codes.shape == (len(track.times), 192)
    assert np.linalg.norm(track.codes, axis=1) == pytest.approx(1, abs=1e-5)
    to_man, to_woman = (track.codes @ speaker.embed(each, RATE) for each in (man, woman))
    assert (to_man > to_woman)[track.times < 2.3].all()
    assert (to_woman > to_man)[track.times > 3.7].all()
    assert speaker.slide(man[:RATE], RATE).codes.shape == (1, 192)
    with pytest.raises(ValueError, match="too short"):
        speaker.slide(man, RATE, window=0.01)


@pytest.mark.parametrize(
    ("source", "rate", "told"),
    [
        (np.ones(RATE, np.float32), None, "sample_rate"),
        (np.ones((RATE, 2), np.float32), RATE, r"batch of waveforms.*vcae\.Audio"),
        (np.zeros(RATE, np.float32), RATE, "silent"),
        (np.ones(RATE, bool), RATE, "no waveform"),
        (None, None, "NoneType"),
        ([1.0, 2.0], RATE, "float"),
        ("missing.wav", None, r"missing\.wav: no such file"),
    ],
    ids=str,
)
def test_what_is_no_recording_is_refused_in_one_line(speaker, content, source, rate, told):
    for encoder in (speaker, content):
        with pytest.raises(AudioError, match=told) as refusal:
            encoder.embed(source, rate)
        assert "\n" not in str(refusal.value)
