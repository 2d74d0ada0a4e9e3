"""Scores of recordings and seconds that are unlike normal speech."""

import numpy as np
import pytest
from conftest import VOICES

import vcae
from vcae import Audio, audio
from vcae.inference.checkpoint import CheckpointError
from vcae.uses.anomaly import LEAST_KNOWN, PARTS, SPEAKER, Density, Detector, fit

RATE = 16_000
SPEECH = VOICES / "vcc2016-SF1-200001.flac"


@pytest.fixture(scope="module")
def detector():
    return Detector.load()


@pytest.fixture(scope="module")
def speech():
    return audio.read(SPEECH, RATE).samples


@pytest.fixture(scope="module")
def pieces(detector):
    """What is measured of recordings of two people: five of each."""
    found = {}
    for name in ("librispeech-40-121026-0007.flac", "librispeech-78-368-0031.flac"):
        samples = audio.read(VOICES / name, RATE).samples
        parts = np.array_split(samples[: 10 * RATE], LEAST_KNOWN)
        found[name] = [detector.profile(Audio(part, RATE)) for part in parts]
    return list(found.values())


def score(detector, samples):
    return detector.score(detector.profile(Audio(samples.astype(np.float32), RATE)))


def gaps(samples, start, stop):
    """Every tenth packet of 20 ms is missing between two samples."""
    made = samples.copy()
    for at in range(start, stop - 320, 3200):
        made[at : at + 320] = 0
    return made


def test_every_part_and_every_second_has_a_score(detector, speech):
    scores = score(detector, speech)
    assert set(scores.parts) == set(PARTS)
    assert scores.by_second.shape == (round(len(speech) / RATE),)
    assert scores.reason in PARTS and scores.total == scores.parts[scores.reason]


def test_missing_packets_are_unusual_where_they_are(detector, speech):
    found = score(detector, gaps(speech, RATE, 2 * RATE))
    assert found.total > score(detector, speech).total
    assert found.reason == "gaps" and found.seconds["gaps"].argmax() == 1


def test_clipping_and_hum_are_unusual(detector, speech):
    usual = score(detector, speech)
    clipped = score(detector, (4 * speech / np.abs(speech).max()).clip(-1, 1))
    assert clipped.reason == "clipping" and clipped.total > max(1, usual.total)
    times = np.arange(len(speech)) / RATE
    tone = sum(np.sin(2 * np.pi * 50 * k * times) / k for k in range(1, 6))
    found = score(detector, speech + 0.1 * speech.std() * tone)
    assert found.parts["hum"] > 1 > usual.parts["hum"]


def test_a_hum_that_all_known_recordings_have_is_normal(detector, speech):
    times = np.arange(len(speech)) / RATE
    tone = sum(np.sin(2 * np.pi * 50 * k * times) / k for k in range(1, 6))
    hums = speech + 0.1 * speech.std() * tone
    known = Detector.load()
    profiles = [known.profile(Audio(hums[k : k + RATE], RATE)) for k in range(0, 5000, 1000)]
    before = known.score(profiles[0]).parts["hum"]
    known.know(profiles)
    assert known.score(profiles[0]).parts["hum"] < 0.5 * before


def test_noise_is_unusual(detector, speech):
    noise = 0.1 * np.random.default_rng(0).standard_normal(3 * RATE)
    assert score(detector, noise).total > detector.threshold(0.05) > detector.threshold(0.5)


def test_the_end_in_the_middle_of_a_word_is_unusual(detector, speech):
    loudest = int(np.abs(speech).argmax())
    assert score(detector, speech[:loudest]).parts["end"] > score(detector, speech).parts["end"]


def test_a_long_recording_is_measured_in_pieces(detector, speech):
    """Where the pieces meet, nothing is unusual."""
    again = np.resize(speech, 14 * RATE)
    found = score(detector, again)
    assert len(found.by_second) == 14
    assert found.seconds["reconstruction"][12] < found.seconds["reconstruction"].max() + 1e-6
    once = detector.profile(Audio(again[: 11 * RATE], RATE))
    whole = detector.profile(Audio(again, RATE))
    level = once.parts["code"].std()  # the levels of the two recordings differ a little
    np.testing.assert_allclose(once.parts["code"][:10], whole.parts["code"][:10], atol=0.1 * level)


def test_recordings_of_half_a_second_or_less_are_one_second(detector, speech):
    loudest = int(np.abs(speech).argmax())
    found = score(detector, speech[loudest : loudest + 2000])
    assert len(found.by_second) == 1 and np.isfinite(found.total)


def test_silence_is_refused(detector):
    with pytest.raises(vcae.AudioError, match="is silent"):
        detector.profile(Audio(np.zeros(RATE, np.float32), RATE))


def test_another_speaker_is_unusual_where_one_is_known(pieces):
    own, other = pieces
    detector = Detector.load()
    assert SPEAKER not in detector.score(own[0]).parts
    detector.know(own, one_speaker=True)
    assert detector.score(other[0]).parts[SPEAKER] > max(detector.score(each).parts[SPEAKER] for each in own)


def test_what_is_known_is_less_unusual(pieces):
    own, _ = pieces
    detector = Detector.load()
    before = np.mean([detector.score(each).total for each in own])
    detector.know(own)
    assert np.mean([detector.score(each).total for each in own]) < before
    with pytest.raises(vcae.VcaeError, match=f"{LEAST_KNOWN} or more"):
        detector.know(own[:-1])


def test_what_is_normal_is_fitted_saved_and_loaded(pieces, detector, tmp_path):
    profiles = [each for group in pieces for each in group]
    collections = [str(k % 3) for k in range(len(profiles))]
    speakers = [str(k // LEAST_KNOWN) for k in range(len(profiles))]
    made = fit(detector.converter, profiles, collections, speakers)
    assert made.threshold(0.05) > made.threshold(0.5)
    with pytest.raises(ValueError, match="two collections"):  # one is left out, and one remains
        fit(detector.converter, profiles, [str(k % 2) for k in range(len(profiles))], speakers)
    made.save(tmp_path / "normal.safetensors")
    loaded = Detector.of(detector.converter, tmp_path / "normal.safetensors")
    assert loaded.score(profiles[0]).parts == pytest.approx(made.score(profiles[0]).parts, abs=0.1)
    with pytest.raises(CheckpointError, match="belongs to another model"):
        Detector.of(vcae.load("live"), tmp_path / "normal.safetensors")
    with pytest.raises(CheckpointError, match="no such file"):
        Detector.of(detector.converter, tmp_path / "none.safetensors")


def test_a_density_knows_its_collections():
    rng = np.random.default_rng(0)
    centres = 5 * rng.standard_normal((40, 1, 6))
    vectors = (centres + rng.standard_normal((40, 50, 6))).reshape(-1, 6)
    density = Density.fit(vectors, [str(k) for k in range(40) for _ in range(50)])
    assert density.distances(vectors).mean() == pytest.approx(1, abs=0.1)
    one, other = vectors[:50], vectors[50:100]
    assert density.distances(one[25:], one[:25]).mean() == pytest.approx(1, abs=0.4)
    assert density.distances(other, one).mean() > 5
    with pytest.raises(ValueError, match="two collections"):
        Density.fit(vectors, ["a"] * len(vectors))


@pytest.mark.parametrize("rate", [0, 1, -0.1])
def test_a_rate_of_false_alarms_is_a_share(detector, rate):
    with pytest.raises(vcae.VcaeError, match="between 0 and 1"):
        detector.threshold(rate)
