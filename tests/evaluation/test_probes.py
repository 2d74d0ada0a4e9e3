"""Probes: what they must say of codes of which one knows what is in them, and from end to end."""

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
from vcae.corpora.layouts import read_speech
from vcae.corpora.utterance import Utterance
from vcae.evaluation import probes
from vcae.evaluation.probes import (
    Probe,
    ProbeError,
    Probes,
    deal,
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
    """The same with something added that is each speaker's own."""
    own = np.random.default_rng(seed).standard_normal((5, frames[0].shape[1]))
    return [each + own[k // 6] for k, each in enumerate(frames)]


# The speaker.


@pytest.fixture
def one_split(monkeypatch):
    """Faster, and enough where the answer is clear."""
    monkeypatch.setattr(probes, "SPLITS", 1)


def test_a_code_with_the_speaker_in_it_leaks_all(one_split):
    for each in probe_speakers(
        with_speaker(random_frames(8)), with_speaker(random_frames(16, 1)), SPEAKERS, [2] * 30
    ):
        assert each.chance == 0.2
        assert each.mel > 0.95
        assert each.share == pytest.approx(1, abs=0.05)


def test_a_code_of_noise_leaks_nothing(one_split):
    for each in probe_speakers(random_frames(8), with_speaker(random_frames(16, 1)), SPEAKERS, [2] * 30):
        assert abs(each.share) < 0.15


def test_a_code_with_the_speaker_in_its_spread_leaks_as_well(one_split):
    """Which no mean would show."""
    spread = np.exp(np.random.default_rng(2).standard_normal((5, 8)))
    loud = [each * spread[k // 6] for k, each in enumerate(random_frames(8))]
    for each in probe_speakers(loud, with_speaker(random_frames(16, 1)), SPEAKERS, [2] * 30):
        assert each.share > 0.8


def test_pieces_of_an_utterance_are_on_one_side(one_split):
    """A code that marks the utterance would else tell its speaker by the other pieces."""
    marks = np.random.default_rng(3).standard_normal((30, 1, 8)) * 5
    marked = [each + mark for each, mark in zip(random_frames(8), marks, strict=True)]
    linear, _ = probe_speakers(marked, with_speaker(random_frames(16, 1)), SPEAKERS, [6] * 30)
    assert abs(linear.share) < 0.25


def test_share_is_between_chance_and_mel():
    assert Probe(0.3, 0.5, 0.1).share == pytest.approx(0.5)
    assert Probe(0.1, 0.5, 0.1).share == 0
    assert Probe(0.3, 0.1, 0.1).share is None  # where the mel tells nothing, nothing can be a part of it


# Phones.


def spoken(seed: int = 5) -> list[NDArray[np.str_]]:
    """Phones of each frame, with pauses, "AA" most frequent."""
    chance = np.random.default_rng(seed)
    return list(chance.choice(["", "AA", "AA", "B", "K", "S"], (len(SPEAKERS), FRAMES)))


def of_phones(phones: list[NDArray[np.str_]], width: int, seed: int) -> list[NDArray[np.float64]]:
    """Codes (T, width) that say the phone, with some noise."""
    known = ["", "AA", "B", "K", "S"]
    means = 4 * np.random.default_rng(8).standard_normal((len(known), width))
    return [
        noise + means[np.searchsorted(known, each)]
        for each, noise in zip(phones, random_frames(width, seed), strict=True)
    ]


def test_a_code_made_of_phones_tells_them():
    phones = spoken()
    told = probe_phones(of_phones(phones, 6, 1), of_phones(phones, 12, 2), phones, SPEAKERS)
    assert told.chance == pytest.approx(0.4, abs=0.03)  # of what is no pause
    assert told.code > 0.95
    assert told.share == pytest.approx(1, abs=0.08)


def test_a_code_without_phones_tells_none():
    phones = spoken()
    told = probe_phones(random_frames(6), of_phones(phones, 12, 2), phones, SPEAKERS)
    assert abs(told.share) < 0.05


def test_phones_are_told_of_other_speakers():
    """A code in which every speaker has phones of their own says nothing of the next one's."""
    phones = spoken()
    own = [np.roll(code, 2 * (k // 6), axis=1) for k, code in enumerate(of_phones(phones, 10, 1))]
    everyone = probe_phones(own, of_phones(phones, 12, 2), phones, SPEAKERS)
    assert everyone.share < 0.6
    one = [f"s{k}" for k in range(6)]  # the same speaker's utterances, as if they were six people's
    assert probe_phones(own[:6], of_phones(phones, 12, 2)[:6], phones[:6], one).share > 0.9


def test_frames_without_a_code_are_left_out():
    phones = spoken()
    codes = of_phones(phones, 6, 1)
    for each in codes:
        each[::2] = np.nan
    assert probe_phones(codes, of_phones(phones, 12, 2), phones, SPEAKERS).code > 0.95


def test_phones_of_one_speaker_are_not_enough():
    phones = spoken()
    phones[6:] = [np.full(FRAMES, "")] * 24
    with pytest.raises(ProbeError, match="fewer than two speakers"):
        probe_phones(random_frames(6), random_frames(12), phones, SPEAKERS)


# F0.


def sung() -> list[NDArray[np.float64]]:
    """F0 in Hz, unvoiced here and there, of every utterance at another level."""
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
def test_a_code_with_f0_in_it_tells_it(level):
    f0 = sung()
    told = probe_f0(of_f0(f0, 6, 1), of_f0(f0, 12, 2), f0, SPEAKERS, level)
    assert told.code > 0.95
    assert told.share == pytest.approx(1, abs=0.02)
    silent = probe_f0(random_frames(6), of_f0(f0, 12, 2), f0, SPEAKERS, level)
    assert abs(silent.share) < 0.1


def test_the_level_of_f0_is_no_melody():
    f0 = sung()
    level = [np.full(FRAMES, np.log(each[each > 0]).mean()) for each in f0]
    codes = [
        np.stack([mean, noise[:, 0]], axis=1) for mean, noise in zip(level, random_frames(1), strict=True)
    ]
    assert probe_f0(codes, of_f0(f0, 12, 2), f0, SPEAKERS, level=True).code > 0.9
    assert abs(probe_f0(codes, of_f0(f0, 12, 2), f0, SPEAKERS, level=False).code) < 0.02


def test_what_is_not_voiced_cannot_be_probed():
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
def test_equal_error_rate_minds_only_the_order(same, different):
    rate = equal_error_rate(same, different)
    assert 0 <= rate <= 1
    assert equal_error_rate(np.exp(same / 10), np.exp(different / 10)) == pytest.approx(rate)
    assert equal_error_rate(-different, -same) == pytest.approx(rate)
    assert equal_error_rate(-same, -different) == pytest.approx(1 - rate)


@given(same=SCORES, different=SCORES)
def test_equal_error_rate_is_where_the_rates_meet(same, different):
    """No threshold accepts and refuses wrongly both less, or both more, than that."""
    rate = equal_error_rate(same, different)
    for threshold in {*same, *different}:
        accepted, refused = (different >= threshold).mean(), (same < threshold).mean()
        assert min(accepted, refused) <= rate + 1e-9 and max(accepted, refused) >= rate - 1e-9


def test_verification_counts_every_pair():
    embeddings = np.concatenate([random_frames(8, frames=1)])[:, 0]
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    found = verify(embeddings, SPEAKERS)
    assert sum(found.same) == 5 * 15  # of six utterances, fifteen pairs
    assert sum(found.different) == 30 * 29 // 2 - 75
    assert len(found.edges) == len(found.same) + 1 == len(found.different) + 1
    assert verify(np.eye(5)[np.arange(30) // 6], SPEAKERS).eer == 0


# How speech is dealt out.


@given(counts=st.lists(st.integers(2, 9), min_size=1, max_size=5), seed=st.integers(0, 3))
def test_dealing_is_even(counts, seed):
    owners = [str(k) for k, count in enumerate(counts) for _ in range(count)]
    parts = deal(owners, seed)
    assert set(parts) == set(range(min(5, *counts)))
    for owner in set(owners):
        each = Counter(p for p, o in zip(parts, owners, strict=True) if o == owner)
        assert len(each) == min(5, *counts) and max(each.values()) - min(each.values()) <= 1
    assert (deal(owners, seed) == parts).all()


def listed(speakers: int, each: int, **facts: object) -> list[Utterance]:
    return [
        Utterance(Path(f"{s}/{k}.wav"), f"x/{s}", str(k), "x", **facts)
        for s in range(speakers)
        for k in range(each)
    ]


def test_drawing():
    many = listed(25, 12)
    drawn = draw(many)
    assert len(drawn) == 20 and all(len(mine) == len(set(mine)) == 10 for mine in drawn)
    assert all(len({each.speaker for each in mine}) == 1 for mine in drawn)
    assert draw(many[::-1]) == drawn
    assert draw(many, seed=1) != drawn
    assert [len(mine) for mine in draw(listed(3, 4))] == [4, 4, 4]


@pytest.mark.parametrize(
    "utterances",
    [[], listed(1, 9), listed(9, 1), listed(3, 3, labelled=False), [*listed(1, 5), *listed(5, 1)[1:]]],
    ids=["none", "one speaker", "one utterance each", "nobody knows whose", "one with several"],
)
def test_two_speakers_with_two_utterances_are_needed(utterances):
    with pytest.raises(ProbeError, match="two") as caught:
        draw(utterances)
    assert "\n" not in str(caught.value)


def test_stacking():
    mel = np.arange(8.0)[:, None]  # (2 T, 1)
    assert stack(mel).tolist() == [
        [0, 0, 0, 1, 2, 3],
        [0, 1, 2, 3, 4, 5],
        [2, 3, 4, 5, 6, 7],
        [4, 5, 6, 7, 7, 7],
    ]


# From end to end, with tiny weights.

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
    assert result.left_out == [] and result.without_phones is None
    for each in (result.speaker_linear, result.speaker_nonlinear):
        assert each.chance == pytest.approx(1 / 3)
        assert 0 <= each.code <= 1 and each.mel > 0.5
    # Even weights that learned nothing pass on what they hear.
    assert result.phones_from_content.code > 1.5 * result.phones_from_content.chance > 0
    assert result.phones_from_content.mel > 1.5 * result.phones_from_content.chance
    for each in (result.phones_from_content, result.phones_from_speaker):
        assert 0 < each.chance < 0.2
    assert result.melody.mel > 0
    assert sum(result.speaker_code.same) == sum(result.resemblyzer.same) == 3
    assert sum(result.speaker_code.different) == sum(result.resemblyzer.different) == 12
    assert result.resemblyzer.eer < 0.2  # a good metric of these


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
        console.print(result.table())
    return capture.get()


@pytest.mark.slow
def test_a_report_in_words(result):
    shown = printed(result)
    assert "3 speakers, 6 utterances, 13 s" in shown
    assert "0 is perfect hiding, 1 as much as the mel tells" in shown
    assert f"{result.phones_from_content.code:.3f}" in shown
    assert f"{result.speaker_linear.share:.2f}" in shown


@pytest.mark.slow
def test_phones_are_left_out_where_nobody_speaks_english(folder, transcripts, converter):
    utterances = read_speech(folder, transcripts=transcripts)
    result = probe([replace(each, language="nl") for each in utterances], converter)
    assert result.phones_from_content is result.phones_from_speaker is None
    assert result.without_phones == "the phones of fewer than two speakers are known"
    assert result.without_phones in printed(result)
    assert result.speaker_linear.mel > 0.5


@pytest.mark.slow
def test_words_are_heard_only_where_there_is_no_text(folder, transcripts, converter, monkeypatch):
    features = []

    class Ears:
        def extract(self, audio: Audio) -> str:
            features.append(round(audio.duration, 3))
            return TEXTS["a"]

    monkeypatch.setattr(probes, "Intelligibility", Ears)
    utterances = [
        replace(each, text=None) if each.id == "a" else each
        for each in read_speech(folder, transcripts=transcripts)
    ]
    assert probe(utterances, converter).aligned == 6
    assert sorted(features) == sorted(CUTS.values())


# The command line.


@pytest.fixture
def vcae_probe(monkeypatch, capsys, tmp_path):
    """Run `vcae probe` here with tiny weights: exit status, what it prints, and what it says is wrong."""
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
    """One bad file is told, the rest is probed."""
    mine = shutil.copytree(folder, tmp_path / "clips")
    (mine / "SF1" / "c.wav").write_bytes(b"no sound")
    Audio(np.zeros(32_000, np.float32), 16_000).write(mine / "SM1" / "d.wav")
    code, out, lines = vcae_probe(mine, "--transcripts", transcripts, "--out", tmp_path / "out.json")
    assert code == 1
    assert len(lines) == 3
    assert str(mine / "SF1" / "c.wav") in lines[0] and str(mine / "SM1" / "d.wav") in lines[1]
    assert "3 speakers, 6 utterances" in out
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["utterances"] == 6 and len(report["left_out"]) == 2
    assert 0 <= report["speaker_code"]["eer"] <= 1


@pytest.mark.parametrize("problem", ["no folder", "one speaker", "out", "suffix", "corpus", "silence"])
def test_bad_input_is_told_in_one_line(vcae_probe, folder, tmp_path, problem):
    quiet = tmp_path / "quiet"
    for name in ("a/1.wav", "a/2.wav", "b/1.wav", "b/2.wav"):
        (quiet / name).parent.mkdir(parents=True, exist_ok=True)
        Audio(np.zeros(32_000, np.float32), 16_000).write(quiet / name)
    words, told = {
        "no folder": ([tmp_path / "none"], "none: no such folder"),
        "one speaker": ([folder / "SF1"], "belongs to no speaker"),
        "out": ([folder, "--out", tmp_path / "no" / "out.json"], "does not exist; create it first"),
        "suffix": ([folder, "--out", tmp_path / "out.txt"], "choose one of .json"),
        "corpus": ([folder, "--corpus", "timit"], "timit: no such corpus"),
        "silence": ([quiet], "1.wav: is silent"),
    }[problem]
    code, out, lines = vcae_probe(*words)
    assert (code, out) == (2, "")
    assert len(lines) == 1 and lines[0].startswith("vcae: ") and told in lines[0]
    assert not list(tmp_path.rglob("out.*"))
