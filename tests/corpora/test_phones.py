"""Phones and their times by forced alignment."""

import sys
from itertools import pairwise

import numpy as np
import pytest
from conftest import VOICES
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pocketsphinx", reason="pocketsphinx is missing; pip install 'vcae[eval]'")

from vcae.audio import Audio, Samples, read, resample
from vcae.corpora import phones
from vcae.corpora.phones import align_phones
from vcae.errors import VcaeError
from vcae.model.phones import PHONES, SILENCE, Phone

SENTENCE = "After such a fall as this, I shall think nothing of tumbling downstairs."
RATE = 16_000

clips = [VOICES / f"vcc2016-{speaker}-200001.flac" for speaker in ("SF1", "SM1", "TF2")]
if not all(path.is_file() for path in clips):
    pytest.skip(f"no speech to test with in {VOICES}", allow_module_level=True)


@pytest.fixture(scope="module")
def speech() -> Samples:
    return read(clips[0], RATE).samples


def names(aligned: list[Phone]) -> list[str]:
    return [phone.name for phone in aligned if phone.name != SILENCE]


def in_order(aligned: list[Phone], seconds: float) -> bool:
    """Whether they lie in the recording, one after the other, none of no length."""
    ordered = all(a.end <= b.start + 1e-9 for a, b in pairwise(aligned))
    return ordered and all(0 <= phone.start < phone.end <= seconds + 1e-9 for phone in aligned)


@pytest.mark.parametrize("path", clips, ids=lambda path: path.stem)
def test_a_sentence(path):
    audio = read(path)
    aligned = align_phones(audio.samples, audio.sample_rate, SENTENCE)
    assert in_order(aligned, audio.duration)
    assert aligned[0].start == 0
    assert aligned[-1].end == pytest.approx(audio.duration)
    assert all(a.end == pytest.approx(b.start) for a, b in pairwise(aligned))  # nothing is left out
    assert aligned[0].name == aligned[-1].name == SILENCE
    assert {phone.name for phone in aligned} <= set(PHONES)
    said = " ".join(names(aligned))
    assert said.startswith("AE F T ER S AH CH AH F AA L ")
    assert " SH AE L TH IH NG K N AH TH IH NG " in said
    assert said.endswith("D AW N S T EH R Z")


def test_phones_lie_where_they_sound(speech):
    """Hisses cross zero often, vowels are loud, pauses are neither."""

    def middle(phone: Phone) -> Samples:
        return speech[int(phone.start * RATE) : int(phone.end * RATE)]

    def crossings(phone: Phone) -> float:
        return float(np.mean(np.diff(np.sign(middle(phone))) != 0)) * RATE / 2

    def level(phone: Phone) -> float:
        return float(10 * np.log10(np.mean(middle(phone) ** 2)))

    aligned = align_phones(speech, RATE, SENTENCE)
    hisses = [phone for phone in aligned if phone.name in ("S", "SH", "CH")]
    vowels = [phone for phone in aligned if phone.name in ("AA", "AE", "AH", "AW", "AY", "EH", "IH")]
    pauses = [phone for phone in aligned if phone.name == SILENCE]
    assert min(map(crossings, hisses)) > 2000 > 1200 > max(map(crossings, vowels))
    assert min(map(level, vowels)) > max(map(level, pauses)) + 15


def test_any_rate_and_level(speech):
    aligned = align_phones(speech, RATE, SENTENCE)
    for other in (Audio(resample(speech, RATE, 44_100), 44_100), Audio(speech * np.float32(0.03), RATE)):
        again = align_phones(other.samples, other.sample_rate, SENTENCE)
        assert names(again) == names(aligned)
        starts = np.array([[a.start, b.start] for a, b in zip(aligned, again, strict=True)])
        assert np.median(abs(starts[:, 0] - starts[:, 1])) <= 0.01


def test_what_was_aligned_before_has_no_influence(speech):
    first = align_phones(speech, RATE, SENTENCE)
    align_phones(read(clips[1], RATE).samples, RATE, "after such an xyzzyx as this")
    assert align_phones(speech, RATE, SENTENCE) == first


def test_an_unknown_word_is_left_out_where_it_is(speech):
    whole = align_phones(speech, RATE, SENTENCE)
    for _ in range(2):  # the second time it is in the decoder's dictionary
        rest = align_phones(speech, RATE, SENTENCE.replace("tumbling", "tumblynge"))
        tumbling = names(whole).index("M") - 2  # T AH M B ...
        before, after = names(whole)[:tumbling], ["D", "AW", "N", "S", "T", "EH", "R", "Z"]
        assert names(rest) == before + after
        (gap,) = [(a.end, b.start) for a, b in pairwise(rest) if b.start > a.end + 1e-6]
        spoken = [p for p in whole if p.name != SILENCE][tumbling : -len(after)]
        assert gap == pytest.approx((spoken[0].start, spoken[-1].end), abs=0.12)


def test_a_wrong_word_is_left_out(speech):
    """A transcript that misheard something costs that, not the rest."""
    rest = align_phones(speech, RATE, SENTENCE.replace("fall", "sheep"))
    assert "SH IY P" not in " ".join(names(rest))
    assert " ".join(names(rest)).endswith("T AH M B L IH NG D AW N S T EH R Z")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "... \u2014 '",
        "xyzzyx",
        "\u043f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440",
        "He should notice the position and temperature of the body, and the condition of the mouth.",
        "hello",
        SENTENCE * 8,
    ],
)
def test_a_text_that_is_not_spoken_gives_nothing(speech, text):
    assert align_phones(speech, RATE, text) == []


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(0, np.float32),
        np.zeros(RATE, np.float32),  # would crash PocketSphinx, and Python with it
        np.full(RATE, 1e-4, np.float32),
        np.eye(1, RATE, RATE // 2, dtype=np.float32)[0],
        np.ones(100, np.float32),
    ],
    ids=["empty", "silent", "almost silent", "a click", "short"],
)
def test_what_is_no_speech_gives_nothing(samples):
    assert align_phones(samples, RATE, SENTENCE) == []


def test_words_as_they_are_written():
    assert phones.words_of(
        "Mr. O\u2019Brien's \u201ccaf\u00e9\u201d, post-mortem: 10 \u2019tis (hello) <sil>"
    ) == [*("mr", "o'brien's", "cafe", "post", "mortem", "10", "'tis", "hello", "sil")]


@given(text=st.text(max_size=30))
def test_any_text_can_be_asked_for(speech, text):
    aligned = align_phones(speech[:RATE], RATE, f"after {text}")
    assert in_order(aligned, 1)


def test_missing_package(speech, monkeypatch):
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    phones.load_decoder.cache_clear()
    with pytest.raises(VcaeError) as caught:
        align_phones(speech, RATE, SENTENCE)
    assert str(caught.value) == "pocketsphinx is not installed; pip install 'vcae[eval]'"
