"""The examples of recipes/FEATURES.md, with the bundled weights and the sample voices."""

import inspect
from pathlib import Path

import numpy as np
import pytest
from conftest import VOICES

pytest.importorskip("sklearn")

import features

import vcae
from vcae import audio

SOUNDS = sorted(VOICES.glob("*.flac"))
RATE = 16_000


@pytest.fixture(scope="module")
def vc():
    return vcae.load()


@pytest.fixture(scope="module")
def halves(tmp_path_factory) -> list[Path]:
    """Two parts of the recordings of three people, one after the other."""
    folder = tmp_path_factory.mktemp("halves")
    paths = []
    for sound in SOUNDS[:3]:
        samples = audio.read(sound, RATE).samples[: 6 * RATE]
        for k, part in enumerate(np.array_split(samples, 2)):
            paths.append(folder / f"{sound.stem}-{k}.wav")
            vcae.Audio(part, RATE).write(paths[-1])
    return paths


def test_the_page_shows_the_code_that_runs():
    page = features.PAGE.read_text(encoding="utf-8")
    for functions in features.EXAMPLES.values():
        assert all(inspect.getsource(each).strip() in page for each in functions)


def test_recordings_of_a_speaker_are_one_cluster(vc, halves):
    found = features.cluster(vc, halves, 3)
    assert found[::2] == found[1::2] and len(set(found)) == 3


def test_a_voice_is_found(vc, halves):
    assert features.find_voice(vc, halves[2], halves)[:2] == [halves[2], halves[3]]


def test_two_people_are_told_apart(vc, halves, tmp_path):
    turns = [audio.read(path, RATE).samples for path in (halves[0], halves[2])]
    vcae.Audio(np.concatenate(turns), RATE).write(tmp_path / "talk.wav")
    border = len(turns[0]) / RATE
    clear = [(t, who) for t, who in features.diarise(vc, tmp_path / "talk.wav") if abs(t - border) > 1]
    before, after = ({who for t, who in clear if (t < border) == early} for early in (True, False))
    assert len(before) == len(after) == 1 and before != after


def test_words_are_classified_and_a_phrase_is_found(vc, halves):
    classifier = features.word_classifier(vc, halves[:4], ["a", "b", "a", "b"])
    assert classifier.predict([features.word_features(vc, halves[0])]) == ["a"]
    phrase = vcae.Audio(audio.read(halves[4], RATE).samples[RATE : 2 * RATE], RATE)
    assert features.find_phrase(vc, phrase, halves)[0] == halves[4]
