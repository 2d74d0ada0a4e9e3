"""References as people have them: what is left out of a voice, what is doubted, how several are weighed."""

import shutil

import numpy as np
import pytest
from conftest import VOICES

import vcae
from vcae import Audio, VoiceError, audio
from vcae.audio import AudioWarning

RATE = 16_000
CLIPS = sorted(VOICES.glob("*.flac"))
MAN, WOMAN = CLIPS[1:3]


@pytest.fixture(scope="module")
def vc():
    return vcae.load()


def samples(path):
    return audio.read(path, RATE).samples


def white(seconds, level=1.0, seed=0):
    return level * np.random.default_rng(seed).standard_normal(round(seconds * RATE)).astype(np.float32)


def chord(seconds, *pitches):
    t = np.arange(round(seconds * RATE)) / RATE
    tones = [np.sin(2 * np.pi * k * f * t) / k for f in pitches for k in range(1, 6)]
    return (0.05 * np.sum(tones, axis=0)).astype(np.float32)


def arpeggio(seconds):
    """Notes of a quarter of a second that ring on, as of a piano."""
    x = np.zeros(round(seconds * RATE) + 2 * RATE, np.float32)
    for number in range(round(4 * seconds)):
        note = chord(2, 220 * 2 ** ([0, 4, 7, 12, 7, 4][number % 6] / 12))
        x[number * RATE // 4 :][: len(note)] += note * np.exp(-np.arange(len(note)) / RATE)
    return x[: round(seconds * RATE)]


@pytest.mark.parametrize("path", CLIPS, ids=lambda path: path.stem)
def test_good_recordings_raise_no_doubts(vc, path, recwarn):
    assert vc.examine(path).doubts == ()
    assert vc.voice(path).doubts == ()
    assert not recwarn.list


def test_what_is_wrong_with_a_reference_is_told_and_kept(vc, tmp_path):
    man, woman = samples(MAN), samples(WOMAN)
    narrow = audio.resample(audio.resample(man, RATE, 8000), 8000, RATE)
    wrong = {
        "short": man[int(np.abs(man).argmax()) - RATE // 4 :][: RATE // 2],
        "noisy": man + white(len(man) / RATE, 0.3 * man.std()),
        "clipped": (8 * man).clip(-0.5, 0.5),
        "two voices": np.concatenate([x[-4 * RATE :] for x in (man, woman)]),
        "narrow band": narrow,
    }
    for doubt, sound in wrong.items():
        with pytest.warns(AudioWarning, match="the recording: "):
            voice = vc.voice(Audio(sound, RATE))
        assert doubt in voice.doubts, doubt
        voice.save(tmp_path / "a.voice")
        assert vcae.Voice.load(tmp_path / "a.voice").doubts == voice.doubts


def test_music_is_doubted(vc):
    assert "music" in vc.examine(Audio(arpeggio(5), RATE)).doubts


@pytest.mark.parametrize("sound", [chord(5, 220, 277, 330), white(3, 0.1)], ids=["chord", "noise"])
def test_what_is_no_speech_is_refused(vc, sound):
    with pytest.raises(VoiceError, match=r"no speech or too little.*three seconds or more"):
        vc.voice(Audio(sound, RATE))


def test_too_little_speech_is_refused_with_the_length_that_is_needed(vc):
    man = samples(MAN)
    loudest = int(np.abs(man).argmax())
    with pytest.raises(VoiceError, match=r"too little.*three seconds or more"):
        vc.voice(Audio(man[loudest:][: round(0.15 * RATE)], RATE))


@pytest.mark.parametrize("kind", ["silence", "noise", "chord"])
def test_long_parts_without_speech_are_left_out(vc, kind):
    man = samples(MAN)
    pad = {"silence": 0 * white(8), "noise": white(8, 0.003), "chord": chord(8, 220, 277, 330)}[kind]
    voice, padded = (vc.voice(Audio(x, RATE)) for x in (man, np.concatenate([pad, man, pad])))
    assert padded.embedding @ voice.embedding > 0.9
    assert padded.f0.mean == pytest.approx(voice.f0.mean, abs=0.05)
    assert padded.f0.frames == pytest.approx(voice.f0.frames, rel=0.1)


def test_several_references_are_weighed_by_quality(vc):
    man = samples(MAN)
    noisy = man + white(len(man) / RATE, 0.3 * man.std())
    with pytest.warns(AudioWarning, match="noisy"):
        good, bad = vc.weigh([Audio(man, RATE), Audio(noisy, RATE)])
    assert good.share + bad.share == pytest.approx(1)
    assert good.share > 2 * bad.share
    assert good.doubts == () and "noisy" in bad.doubts


def test_a_reference_of_another_speaker_is_told(vc):
    with pytest.warns(AudioWarning, match="another speaker"):
        assert "another voice" in vc.voice([MAN, WOMAN]).doubts


def test_a_folder_is_a_voice(vc, tmp_path):
    (tmp_path / "man" / "deep").mkdir(parents=True)
    shutil.copy(MAN, tmp_path / "man" / "deep")
    (tmp_path / "man" / "notes.txt").write_text("not audio")
    for form in (tmp_path / "man", str(tmp_path / "man"), [tmp_path / "man"]):
        np.testing.assert_array_equal(vc.voice(form).embedding, vc.voice(MAN).embedding)
    (tmp_path / "empty").mkdir()
    with pytest.raises(VoiceError, match="empty: holds no audio files"):
        vc.voice(tmp_path / "empty")
