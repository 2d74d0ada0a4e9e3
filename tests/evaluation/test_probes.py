"""Probes on codes with known content, and end to end."""

import json
import shutil
import sys
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, TINY_VOCODER, VOICES, save_weights, seeded
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rich.console import Console

pytest.importorskip("resemblyzer", reason="resemblyzer is missing; pip install 'vcae[eval]'")
pytest.importorskip("swift_f0", reason="swift_f0 is missing; pip install 'vcae[eval]'")
pytest.importorskip("pocketsphinx", reason="pocketsphinx is missing; pip install 'vcae[eval]'")

from vcae.audio import Audio, read
from vcae.cli import main as cli
from vcae.cli.evaluate import probe_table
from vcae.corpora.layouts import read_speech
from vcae.corpora.utterance import Utterance
from vcae.evaluation import probes
from vcae.evaluation.probes import (
    Probe,
    ProbeError,
    Probes,
    assign_folds,
    draw,
    equal_error_rate,
    probe,
    probe_f0,
    probe_phones,
    probe_speakers,
    stack,
    verify,
)
from vcae.files import OutputError
from vcae.inference.converter import Converter
from vcae.model.autoencoder import Autoencoder
from vcae.model.vocoder import Vocoder

SPEAKERS = [f"s{k // 6}" for k in range(30)]  # five with six utterances each
FRAMES = 60


def random_frames(width: int, seed: int = 0, frames: int = FRAMES) -> list[NDArray[np.float64]]:
    """Noise (T, width) for each utterance."""
    return list(np.random.default_rng(seed).standard_normal((len(SPEAKERS), frames, width)))


def with_speaker(frames: list[NDArray[np.float64]], seed: int = 9) -> list[NDArray[np.float64]]:
    """The same with a constant vector of each speaker added."""
    offsets = np.random.default_rng(seed).standard_normal((5, frames[0].shape[1]))
    return [each + offsets[k // 6] for k, each in enumerate(frames)]


# The speaker.


@pytest.fixture
def one_split(monkeypatch):
    """Faster, and sufficient for clear cases."""
    monkeypatch.setattr(probes, "SPLITS", 1)


def test_a_code_with_the_speaker_has_full_leakage(one_split):
    for each in probe_speakers(
        with_speaker(random_frames(8)), with_speaker(random_frames(16, 1)), SPEAKERS, [2] * 30
    ):
        assert each.chance == 0.2
        assert each.mel > 0.95
        assert each.leakage == pytest.approx(1, abs=0.05)


def test_a_code_of_noise_has_no_leakage(one_split):
    for each in probe_speakers(random_frames(8), with_speaker(random_frames(16, 1)), SPEAKERS, [2] * 30):
        assert abs(each.leakage) < 0.15


def test_the_speaker_leaks_through_the_variance_too(one_split):
    """The mean alone would not show it."""
    spread = np.exp(np.random.default_rng(2).standard_normal((5, 8)))
    loud = [each * spread[k // 6] for k, each in enumerate(random_frames(8))]
    for each in probe_speakers(loud, with_speaker(random_frames(16, 1)), SPEAKERS, [2] * 30):
        assert each.leakage > 0.8


def test_segments_of_an_utterance_are_in_one_fold(one_split):
    """Otherwise a code that marks the utterance would reveal the speaker through its other segments."""
    marks = np.random.default_rng(3).standard_normal((30, 1, 8)) * 5
    marked = [each + mark for each, mark in zip(random_frames(8), marks, strict=True)]
    linear, _ = probe_speakers(marked, with_speaker(random_frames(16, 1)), SPEAKERS, [6] * 30)
    assert abs(linear.leakage) < 0.25


def test_leakage_is_relative_to_chance_and_mel():
    assert Probe(0.3, 0.5, 0.1).leakage == pytest.approx(0.5)
    assert Probe(0.1, 0.5, 0.1).leakage == 0
    assert Probe(0.3, 0.1, 0.1).leakage is None  # the mel itself has no information


# Phones.


def random_phones(seed: int = 5) -> list[NDArray[np.str_]]:
    """A random phone or pause for each frame; "AA" is the most frequent phone."""
    chance = np.random.default_rng(seed)
    return list(chance.choice(["", "AA", "AA", "B", "K", "S"], (len(SPEAKERS), FRAMES)))


def of_phones(phones: list[NDArray[np.str_]], width: int, seed: int) -> list[NDArray[np.float64]]:
    """Codes (T, width) of the phone, with noise."""
    names = ["", "AA", "B", "K", "S"]
    means = 4 * np.random.default_rng(8).standard_normal((len(names), width))
    return [
        noise + means[np.searchsorted(names, each)]
        for each, noise in zip(phones, random_frames(width, seed), strict=True)
    ]


def test_a_code_of_phones_has_them_all():
    phones = random_phones()
    found = probe_phones(of_phones(phones, 6, 1), of_phones(phones, 12, 2), phones, SPEAKERS)
    assert found.chance == pytest.approx(0.4, abs=0.03)  # without pauses
    assert found.code > 0.95
    assert found.leakage == pytest.approx(1, abs=0.08)


def test_a_code_of_noise_has_no_phones():
    phones = random_phones()
    found = probe_phones(random_frames(6), of_phones(phones, 12, 2), phones, SPEAKERS)
    assert abs(found.leakage) < 0.05


def test_phones_are_tested_on_other_speakers():
    """Phone codes that differ from speaker to speaker do not generalise."""
    phones = random_phones()
    permuted = [np.roll(code, 2 * (k // 6), axis=1) for k, code in enumerate(of_phones(phones, 10, 1))]
    everyone = probe_phones(permuted, of_phones(phones, 12, 2), phones, SPEAKERS)
    assert everyone.leakage < 0.6
    one = [f"s{k}" for k in range(6)]  # utterances of one speaker, labelled as six
    assert probe_phones(permuted[:6], of_phones(phones, 12, 2)[:6], phones[:6], one).leakage > 0.9


def test_frames_without_a_code_are_left_out():
    phones = random_phones()
    codes = of_phones(phones, 6, 1)
    for each in codes:
        each[::2] = np.nan
    assert probe_phones(codes, of_phones(phones, 12, 2), phones, SPEAKERS).code > 0.95


def test_phones_of_one_speaker_are_not_enough():
    phones = random_phones()
    phones[6:] = [np.full(FRAMES, "")] * 24
    with pytest.raises(ProbeError, match="fewer than two speakers"):
        probe_phones(random_frames(6), random_frames(12), phones, SPEAKERS)


# F0.


def random_f0() -> list[NDArray[np.float64]]:
    """F0 in Hz with unvoiced frames; the mean differs between utterances."""
    chance = np.random.default_rng(4)
    return [
        np.where(chance.random(FRAMES) < 0.3, 0, np.exp(5 + level + 0.2 * chance.standard_normal(FRAMES)))
        for level in chance.standard_normal(len(SPEAKERS))
    ]


def of_f0(f0: list[NDArray[np.float64]], width: int, seed: int) -> list[NDArray[np.float64]]:
    return [
        np.concatenate([np.log(each.clip(1))[:, None], noise], axis=1)
        for each, noise in zip(f0, random_frames(width - 1, seed), strict=True)
    ]


@pytest.mark.parametrize("level", [False, True])
def test_a_code_with_f0_has_full_leakage(level):
    f0 = random_f0()
    found = probe_f0(of_f0(f0, 6, 1), of_f0(f0, 12, 2), f0, SPEAKERS, level)
    assert found.code > 0.95
    assert found.leakage == pytest.approx(1, abs=0.02)
    noise = probe_f0(random_frames(6), of_f0(f0, 12, 2), f0, SPEAKERS, level)
    assert abs(noise.leakage) < 0.1


def test_the_mean_of_f0_is_not_the_contour():
    f0 = random_f0()
    level = [np.full(FRAMES, np.log(each[each > 0]).mean()) for each in f0]
    codes = [
        np.stack([mean, noise[:, 0]], axis=1) for mean, noise in zip(level, random_frames(1), strict=True)
    ]
    assert probe_f0(codes, of_f0(f0, 12, 2), f0, SPEAKERS, level=True).code > 0.9
    assert abs(probe_f0(codes, of_f0(f0, 12, 2), f0, SPEAKERS, level=False).code) < 0.02


def test_unvoiced_speech_cannot_be_probed_for_f0():
    with pytest.raises(ProbeError, match="voiced"):
        probe_f0(random_frames(6), random_frames(12), [np.zeros(FRAMES)] * 30, SPEAKERS, level=True)


# Speaker codes.

SCORES = st.lists(st.integers(-50, 50), min_size=1, max_size=30).map(np.array)


@pytest.mark.parametrize(
    ("same", "different", "expected"),
    [
        ([0.8, 0.9], [0.1, 0.2, 0.3], 0.0),
        ([0.1, 0.2], [0.8, 0.9], 1.0),
        ([0.9, 0.8, 0.4], [0.5, 0.3, 0.1], 1 / 3),
        ([0.5], [0.5], 0.5),
        ([0.9, 0.4], [0.5, 0.3, 0.2, 0.1], 0.25),
    ],
)
def test_equal_error_rate(same, different, expected):
    assert equal_error_rate(np.array(same), np.array(different)) == pytest.approx(expected)


def test_equal_error_rate_of_one_distribution():
    same, different = np.random.default_rng(0).standard_normal((2, 4000))
    assert equal_error_rate(same, different) == pytest.approx(0.5, abs=0.02)


@given(same=SCORES, different=SCORES)
def test_equal_error_rate_depends_on_the_order_only(same, different):
    rate = equal_error_rate(same, different)
    assert 0 <= rate <= 1
    assert equal_error_rate(np.exp(same / 10), np.exp(different / 10)) == pytest.approx(rate)
    assert equal_error_rate(-different, -same) == pytest.approx(rate)
    assert equal_error_rate(-same, -different) == pytest.approx(1 - rate)


@given(same=SCORES, different=SCORES)
def test_equal_error_rate_is_where_the_rates_meet(same, different):
    """No threshold has both error rates below it, or both above it."""
    rate = equal_error_rate(same, different)
    for threshold in {*same, *different}:
        false_accept, false_reject = (different >= threshold).mean(), (same < threshold).mean()
        assert (
            min(false_accept, false_reject) <= rate + 1e-9 and max(false_accept, false_reject) >= rate - 1e-9
        )


def test_verification_counts_every_pair():
    embeddings = np.concatenate([random_frames(8, frames=1)])[:, 0]
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    found = verify(embeddings, SPEAKERS)
    assert sum(found.same) == 5 * 15  # of six utterances, fifteen pairs
    assert sum(found.different) == 30 * 29 // 2 - 75
    assert len(found.edges) == len(found.same) + 1 == len(found.different) + 1
    assert verify(np.eye(5)[np.arange(30) // 6], SPEAKERS).eer == 0


# Folds, and drawing of utterances.


@given(counts=st.lists(st.integers(2, 9), min_size=1, max_size=5), seed=st.integers(0, 3))
def test_folds_are_even(counts, seed):
    owners = [str(k) for k, count in enumerate(counts) for _ in range(count)]
    folds = assign_folds(owners, seed)
    assert set(folds) == set(range(min(5, *counts)))
    for owner in set(owners):
        each = Counter(p for p, o in zip(folds, owners, strict=True) if o == owner)
        assert len(each) == min(5, *counts) and max(each.values()) - min(each.values()) <= 1
    assert (assign_folds(owners, seed) == folds).all()


def listed(speakers: int, each: int, **facts: object) -> list[Utterance]:
    return [
        Utterance(Path(f"{s}/{k}.wav"), f"x/{s}", str(k), "x", **facts)
        for s in range(speakers)
        for k in range(each)
    ]


def test_drawing():
    many = listed(25, 12)
    drawn = draw(many)
    assert len(drawn) == 20 and all(len(of_one) == len(set(of_one)) == 10 for of_one in drawn)
    assert all(len({each.speaker for each in of_one}) == 1 for of_one in drawn)
    assert draw(many[::-1]) == drawn
    assert draw(many, seed=1) != drawn
    assert [len(of_one) for of_one in draw(listed(3, 4))] == [4, 4, 4]


@pytest.mark.parametrize(
    "utterances",
    [[], listed(1, 9), listed(9, 1), listed(3, 3, labelled=False), [*listed(1, 5), *listed(5, 1)[1:]]],
    ids=["none", "one speaker", "one utterance each", "unlabelled", "one with several"],
)
def test_two_speakers_with_two_utterances_are_needed(utterances):
    with pytest.raises(ProbeError, match="two") as caught:
        draw(utterances)
    assert "\n" not in str(caught.value)


def test_stacking():
    mel = np.arange(8.0)[:, None]  # (2 T, 1)
    assert stack(mel, look_ahead=2).tolist() == [
        [0, 0, 0, 1, 2, 3],
        [0, 1, 2, 3, 4, 5],
        [2, 3, 4, 5, 6, 7],
        [4, 5, 6, 7, 7, 7],
    ]
    assert stack(mel, look_ahead=0).tolist() == [[0, 0, 0, 1], [0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]]
    assert stack(mel, look_ahead=8).shape == (4, 12)


# End to end, with tiny weights.

CUTS = {"SF1": 1.35, "SM1": 2.0, "TF2": 1.46}  # seconds; between the two halves of the sentence
TEXTS = {"a": "After such a fall as this,", "b": "I shall think nothing of tumbling downstairs."}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder of three speakers, two utterances each."""
    top = tmp_path_factory.mktemp("speech") / "clips"
    for speaker, cut in CUTS.items():
        path = VOICES / f"vcc2016-{speaker}-200001.flac"
        if not path.is_file():
            pytest.skip(f"no speech to test with: {path} is missing")
        (top / speaker).mkdir(parents=True)
        samples, at = read(path, 16_000).samples, int(cut * 16_000)
        for name, half in (("a", samples[:at]), ("b", samples[at:])):
            Audio(half, 16_000).write(top / speaker / f"{name}.wav")
    return top


@pytest.fixture(scope="module")
def transcripts(folder) -> Path:
    """A folder of texts for them."""
    rows = "".join(f"{name}\t{text}\n" for name, text in TEXTS.items())
    (folder.parent / "clips.tsv").write_text(f"id\ttext\n{rows}")
    return folder.parent


@pytest.fixture(scope="module")
def converter() -> Converter:
    return Converter(seeded(Autoencoder, TINY), seeded(Vocoder, TINY_VOCODER))


@pytest.fixture(scope="module")
def result(folder, transcripts, converter) -> Probes:
    return probe(read_speech(folder, transcripts=transcripts), converter)


@pytest.mark.slow
def test_probing_real_speech(result):
    assert (result.speakers, result.utterances, result.aligned) == (3, 6, 6)
    assert result.seconds == pytest.approx(13.057, abs=0.01)
    assert result.skipped == [] and result.phones_missing is None
    for each in (result.speaker_linear, result.speaker_nonlinear):
        assert each.chance == pytest.approx(1 / 3)
        assert 0 <= each.code <= 1 and each.mel >= 0.5
    # Untrained weights pass phones on, too.
    assert result.phones_from_content.code > 1.5 * result.phones_from_content.chance > 0
    assert result.phones_from_content.mel > 1.5 * result.phones_from_content.chance
    for each in (result.phones_from_content, result.phones_from_speaker):
        assert 0 < each.chance < 0.2
    assert result.f0_contour.mel > 0
    assert sum(result.speaker_code.same) == sum(result.resemblyzer.same) == 3
    assert sum(result.speaker_code.different) == sum(result.resemblyzer.different) == 12
    assert result.resemblyzer.eer < 0.2  # Resemblyzer separates these speakers well


@pytest.mark.slow
def test_probing_again_gives_the_same(result, folder, transcripts, converter):
    utterances = read_speech(folder, transcripts=transcripts)
    assert probe(utterances[::-1], converter) == result


@pytest.mark.slow
def test_a_report_in_json(result, tmp_path):
    result.write(tmp_path / "probes.json")
    assert json.loads((tmp_path / "probes.json").read_text()) == asdict(result)
    with pytest.raises(OutputError, match=r"probes\.txt"):
        result.write(tmp_path / "probes.txt")


def printed(result: Probes) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(probe_table(result))
    return capture.get()


@pytest.mark.slow
def test_a_table_for_the_console(result):
    shown = printed(result)
    assert "3 speakers, 6 utterances, 13 s" in shown
    assert "0: no information, 1: as much as the mel" in shown
    assert f"{result.phones_from_content.code:.3f}" in shown
    assert f"{result.speaker_linear.leakage:.2f}" in shown


@pytest.mark.slow
def test_there_are_no_phone_probes_without_english(folder, transcripts, converter):
    utterances = read_speech(folder, transcripts=transcripts)
    result = probe([replace(each, language="nl") for each in utterances], converter)
    assert result.phones_from_content is result.phones_from_speaker is None
    assert result.phones_missing == "the phones of fewer than two speakers are known"
    assert result.phones_missing in printed(result)
    assert result.speaker_linear.mel >= 0.5


@pytest.mark.slow
def test_only_utterances_without_text_are_transcribed(folder, transcripts, converter, monkeypatch):
    transcribed = []

    class Transcriber:
        def extract(self, audio: Audio) -> str:
            transcribed.append(round(audio.duration, 3))
            return TEXTS["a"]

    monkeypatch.setattr(probes, "Intelligibility", Transcriber)
    utterances = [
        replace(each, text=None) if each.id == "a" else each
        for each in read_speech(folder, transcripts=transcripts)
    ]
    assert probe(utterances, converter).aligned == 6
    assert sorted(transcribed) == sorted(CUTS.values())


# The command line.


@pytest.fixture
def vcae_probe(monkeypatch, capsys, tmp_path):
    """Run `vcae probe` in this process with tiny weights: exit status, output, and lines of errors."""
    weights = save_weights(tmp_path / "weights")

    def run(*words: object) -> tuple[int, str, list[str]]:
        monkeypatch.setattr(sys, "argv", ["vcae", "probe", *map(str, words), "--model", str(weights)])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err.splitlines()

    return run


@pytest.mark.slow
def test_the_command(vcae_probe, folder, transcripts, tmp_path):
    """Bad files are reported, the rest is probed."""
    mine = shutil.copytree(folder, tmp_path / "clips")
    (mine / "SF1" / "c.wav").write_bytes(b"no sound")
    Audio(np.zeros(32_000, np.float32), 16_000).write(mine / "SM1" / "d.wav")
    code, out, lines = vcae_probe(mine, "--transcripts", transcripts, "--out", tmp_path / "out.json")
    assert code == 1
    assert len(lines) == 3
    assert str(mine / "SF1" / "c.wav") in lines[0] and str(mine / "SM1" / "d.wav") in lines[1]
    assert "3 speakers, 6 utterances" in out
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["utterances"] == 6 and len(report["skipped"]) == 2
    assert 0 <= report["speaker_code"]["eer"] <= 1


@pytest.mark.parametrize("problem", ["no folder", "one speaker", "out", "suffix", "corpus", "silence"])
def test_bad_input_is_reported_in_one_line(vcae_probe, folder, tmp_path, problem):
    quiet = tmp_path / "quiet"
    for name in ("a/1.wav", "a/2.wav", "b/1.wav", "b/2.wav"):
        (quiet / name).parent.mkdir(parents=True, exist_ok=True)
        Audio(np.zeros(32_000, np.float32), 16_000).write(quiet / name)
    words, reason = {
        "no folder": ([tmp_path / "none"], "none: no such folder"),
        "one speaker": ([folder / "SF1"], "belongs to no speaker"),
        "out": ([folder, "--out", tmp_path / "no" / "out.json"], "does not exist; create it first"),
        "suffix": ([folder, "--out", tmp_path / "out.txt"], "choose one of .json"),
        "corpus": ([folder, "--corpus", "timit"], "timit: no such corpus"),
        "silence": ([quiet], "1.wav: is silent"),
    }[problem]
    code, out, lines = vcae_probe(*words)
    assert (code, out) == (2, "")
    assert len(lines) == 1 and lines[0].startswith("vcae: ") and reason in lines[0]
    assert not list(tmp_path.rglob("out.*"))
