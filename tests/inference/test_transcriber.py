"""Phones of recordings, and recordings with edited phones."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import TINY, TINY_VOCODER, VOICES, seeded
from hypothesis import given
from hypothesis import strategies as st

import vcae
from vcae import Audio, Converter
from vcae.inference.checkpoint import CheckpointError, fingerprint, model_files
from vcae.inference.transcriber import PhoneError, Transcriber, load_codec, phones_of, spoken_frames
from vcae.model.autoencoder import Autoencoder
from vcae.model.phones import PHONES, SILENCE, Phone, PhoneCodec, PhoneConfig
from vcae.model.vocoder import Vocoder

RATE, FRAME = 16_000, 0.02
WOMAN, MAN = VOICES / "vcc2016-SF1-200001.flac", VOICES / "librispeech-78-368-0031.flac"
SENTENCE = "AE F T ER S AH CH AH F AO L AE Z DH IH S AY SH AE L TH IH NG K N AH TH IH NG"
"""How the woman's sentence begins: after such a fall as this, I shall think nothing."""


@pytest.fixture(scope="module")
def tiny():
    return Converter(seeded(Autoencoder, TINY), seeded(Vocoder, TINY_VOCODER))


@pytest.fixture(scope="module")
def transcriber(tiny):
    config = PhoneConfig(content=fingerprint(tiny.autoencoder.content), dim=8, width=16, hidden=24)
    return Transcriber(tiny, seeded(PhoneCodec, config))


@pytest.fixture(scope="module")
def bundled():
    return Transcriber.load()


def names(phones):
    return [phone.name for phone in phones if phone.name != SILENCE]


def distance(found, wanted):
    """Fewest edits from one list to another."""
    row = list(range(len(wanted) + 1))
    for i, a in enumerate(found, start=1):
        new = [i]
        for j, b in enumerate(wanted, start=1):
            new.append(min(row[j - 1] + (a != b), row[j] + 1, new[j - 1] + 1))
        row = new
    return row[-1]


@pytest.mark.parametrize("samples", [2, 319, 321, 5_000, 31_923])
def test_phones_cover_a_recording_of_any_length(transcriber, speech, samples):
    wav = np.roll(speech[0, 0].numpy(), -int(speech.abs().argmax()))[:samples]
    phones = transcriber.transcribe(Audio(wav, RATE))
    assert phones[0].start == 0
    assert phones[-1].end == pytest.approx(-(-samples // 320) * FRAME)
    assert all(a.end == b.start and a.name != b.name for a, b in pairwise(phones))


def test_a_sentence_is_read(bundled):
    """Two fifths of the phones may be wrong; three quarters are, if they are drawn at random."""
    wanted = SENTENCE.split()
    found = names(bundled.transcribe(WOMAN))
    assert distance(found[: len(wanted)], wanted) < 0.4 * len(wanted)


def test_pieces_of_a_long_recording_are_read_as_one(bundled):
    """A recording longer than a piece of the analysis is read in the middle as at the beginning."""
    wav = vcae.audio.read(WOMAN, RATE).samples
    wav = wav[: len(wav) // 320 * 320]
    phones = bundled.transcribe(Audio(np.tile(wav, 4), RATE))
    copies = [[p for p in phones if k * len(wav) <= p.start * RATE < (k + 1) * len(wav)] for k in (1, 2, 3)]
    for copy in copies[1:]:
        assert distance(names(copy), names(copies[0])) <= len(copies[0]) / 8


def test_phones_as_they_were_transcribed_change_nothing(transcriber):
    parts = transcriber.converter.encode(WOMAN)
    again = transcriber.converter.decode(*parts)
    spoken = transcriber.speak(WOMAN, transcriber.transcribe(WOMAN))
    np.testing.assert_allclose(spoken.samples, again.samples, atol=1e-3)


def test_an_edit_changes_only_what_is_near(transcriber):
    phones = transcriber.transcribe(WOMAN)
    middle = len(phones) // 2
    new = "S" if phones[middle].name != "S" else "AA"
    edited = [*phones[:middle], phones[middle]._replace(name=new), *phones[middle + 1 :]]
    one, other = (transcriber.speak(WOMAN, x).samples for x in (phones, edited))
    assert len(one) == len(other)
    log_mel = vcae.LogMel(vcae.PRESETS["16k"])
    mels = [log_mel(torch.from_numpy(x.copy())[None, None])[0] for x in (one, other)]
    change = (mels[1] - mels[0]).abs().mean(0)  # of each frame of 10 ms
    start, end = round(100 * phones[middle].start), round(100 * phones[middle].end)
    assert change[start : end + 4].mean() > 5 * torch.cat([change[: start - 50], change[end + 60 :]]).mean()


def test_a_changed_phone_is_heard(bundled):
    """Fall becomes feel; the rest stays."""
    phones = bundled.transcribe(WOMAN)
    at = next(
        k for k, p in enumerate(phones) if [q.name for q in phones[k - 1 : k + 2]] == ["F", p.name, "L"]
    )
    edited = [*phones[:at], phones[at]._replace(name="IY", duration=0.2), *phones[at + 1 :]]
    before, after = (names(bundled.transcribe(bundled.speak(WOMAN, x))) for x in (phones, edited))
    near = slice(at - 3, at + 4)
    assert "IY" in after[near] and "IY" not in before[near]
    assert after.count("IY") == before.count("IY") + 1
    assert distance(after, before) < len(before) / 5


def test_durations_order_and_number_of_phones(transcriber):
    phones = transcriber.transcribe(WOMAN)[:6]
    seconds = sum(p.end - p.start for p in phones)

    def length(edited):
        return transcriber.speak(WOMAN, edited).duration

    assert length(phones) == pytest.approx(seconds)
    assert length(phones[::-1]) == pytest.approx(seconds)
    assert length(phones[1:]) == pytest.approx(seconds - (phones[0].end - phones[0].start))
    inserted = Phone(phones[2].end, phones[2].end, "S", 0.3)
    assert length([*phones[:3], inserted, *phones[3:]]) == pytest.approx(seconds + 0.3)
    slower = [p._replace(duration=2 * (p.end - p.start)) for p in phones]
    assert length(slower) == pytest.approx(2 * seconds)


@given(frames=st.lists(st.integers(0, len(PHONES) - 1), min_size=1, max_size=40))
def test_phones_of_frames_are_these_frames(frames):
    phones = phones_of(frames, FRAME)
    assert spoken_frames(phones, FRAME, len(frames)) == (frames, list(range(len(frames))))


@given(
    durations=st.lists(st.floats(0, 1), min_size=1, max_size=5),
    spans=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).map(sorted), min_size=5, max_size=5),
)
def test_frames_are_taken_in_order_from_where_a_phone_is(durations, spans):
    phones = [Phone(a * FRAME, b * FRAME, "S", d) for d, (a, b) in zip(durations, spans, strict=False)]
    if not any(round(d / FRAME) for d in durations):
        return
    named, take = spoken_frames(phones, FRAME, 30)
    counts = [round(d / FRAME) for d in durations]
    assert len(named) == len(take) == sum(counts)
    for phone, end, count in zip(phones, np.cumsum(counts), counts, strict=True):
        own = take[end - count : end]
        assert own == sorted(own)
        assert all(
            phone.start / FRAME - 1.01 <= k < max(phone.end / FRAME, phone.start / FRAME + 1) for k in own
        )


@pytest.mark.parametrize(
    ("phones", "said"),
    [
        ([], "no phone is left"),
        ([Phone(0, 0.1, "QX")], "phone 1, QX: no such phone"),
        ([Phone(0, 0.1, "S"), Phone(0.2, 0.1, "Z")], "phone 2, Z: 0.2 to 0.1"),
        ([Phone(-0.1, 0.1, "S")], "-0.1 to 0.1"),
        ([Phone(0, 99, "S")], "0 to 99"),
        ([Phone(0, float("nan"), "S")], "nan"),
        ([Phone(0, 0.1, "S", -1)], "-1"),
        ([Phone(0, 0.1, "S", 1e9)], "duration"),
        ([Phone(0, 0.1, "S", float("nan"))], "nan"),
        ([Phone(0, 0, "S")], "no phone is left"),
    ],
)
def test_phones_that_cannot_be_spoken_are_refused(phones, said):
    with pytest.raises(PhoneError, match=said) as refusal:
        spoken_frames(phones, FRAME, 50)
    assert "\n" not in str(refusal.value)


def test_a_codec_of_another_content_encoder_is_refused(tiny, transcriber):
    config = dataclasses.replace(transcriber.codec.config, content="0" * 16)
    with pytest.raises(CheckpointError, match="another model"):
        Transcriber(tiny, seeded(PhoneCodec, config))
    with pytest.raises(CheckpointError, match="another model"):
        Transcriber.load("live")


def test_a_model_without_a_codec_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"phones\.safetensors: no such file"):
        load_codec(tmp_path)


def test_the_bundled_codec_is_small():
    assert model_files().phones.stat().st_size < 2**21


def test_silence_is_refused(transcriber):
    with pytest.raises(vcae.AudioError, match="silent"):
        transcriber.transcribe(Audio(np.zeros(RATE, np.float32), RATE))
