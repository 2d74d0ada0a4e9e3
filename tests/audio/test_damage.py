"""Files that were joined, cut or damaged, and files that are not what they seem."""

import contextlib
import os
import struct
import sys
import warnings

import av
import numpy as np
import pytest
import soundfile
from conftest import VOICES
from hypothesis import given, settings
from hypothesis import strategies as st

from vcae import Audio, audio
from vcae.audio import AudioWarning, PartialWarning
from vcae.errors import AudioError

RATE = 16_000
SPEECH = audio.read(VOICES / "vcc2016-SF1-200001.flac", RATE).samples[:50_000]
SECONDS = len(SPEECH) / RATE
SUFFIXES = [".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a"]


@pytest.fixture(scope="module")
def encoded(tmp_path_factory):
    """The bytes of a recording in each format."""
    folder = tmp_path_factory.mktemp("encoded")
    for suffix in SUFFIXES[:-1]:
        audio.write(folder / f"a{suffix}", Audio(SPEECH, RATE))
    with av.open(str(folder / "a.m4a"), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("aac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray((SPEECH[None] * 32767).astype(np.int16), "s16", "mono")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return {suffix: (folder / f"a{suffix}").read_bytes() for suffix in SUFFIXES}


def put(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_whole_files_give_no_warning(tmp_path, encoded, suffix):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = audio.read(put(tmp_path / f"a{suffix}", encoded[suffix]))
    assert whole.duration == pytest.approx(SECONDS, abs=0.1)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_cut_file_is_read_to_its_end_and_told(tmp_path, encoded, suffix):
    data = encoded[suffix]
    path = put(tmp_path / f"a{suffix}", data[: len(data) * 6 // 10])
    with pytest.warns(PartialWarning) as told:
        part = audio.read(path)
    assert 0.5 < part.duration < SECONDS
    assert {str(w.message).split(";")[0].split(" of ")[0] for w in told} == {
        f"{path}: breaks off at {part.duration:.1f} s"
    }
    whole = audio.read(put(tmp_path / f"whole{suffix}", data)).samples
    same = len(part.samples) - 2_000
    np.testing.assert_allclose(part.samples[:same], whole[:same], atol=1e-3)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_joined_files_are_read_to_the_end(tmp_path, encoded, suffix):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        joined = audio.read(put(tmp_path / f"a{suffix}", 3 * encoded[suffix]))
    assert joined.duration == pytest.approx(3 * SECONDS, abs=0.4)
    end = joined.samples[-8_000:]
    assert np.abs(end).max() > 0.01


def test_a_part_that_cannot_be_read_is_told(tmp_path, encoded):
    path = put(tmp_path / "a.wav", encoded[".wav"] + b"RIFF\x10\0\0\0WAVEfmt ")
    with pytest.warns(PartialWarning, match="1 of 2 recordings joined in it cannot be read"):
        assert audio.read(path).duration == pytest.approx(SECONDS)


def test_joined_files_may_have_different_rates(tmp_path):
    for name, rate in (("a.flac", RATE), ("b.flac", 44_100)):
        audio.write(tmp_path / name, Audio(audio.resample(SPEECH, RATE, rate), rate))
    data = [(tmp_path / name).read_bytes() for name in ("a.flac", "b.flac")]
    joined = audio.read(put(tmp_path / "joined.flac", b"".join(data)))
    assert joined.sample_rate == RATE
    assert joined.duration == pytest.approx(2 * SECONDS, abs=0.01)


@pytest.mark.parametrize("suffix", [".flac", ".ogg", ".mp3", ".m4a"])
def test_what_follows_damage_is_read(tmp_path, encoded, suffix):
    data, middle = encoded[suffix], len(encoded[suffix]) // 2
    noise = np.random.default_rng(0).bytes(600)
    path = put(tmp_path / f"a{suffix}", data[:middle] + noise + data[middle + len(noise) :])
    with pytest.warns(PartialWarning, match=r"is damaged at [01]\.\d s.*; the rest was read"):
        damaged = audio.read(path).samples
    whole = audio.read(put(tmp_path / f"whole{suffix}", data)).samples
    assert len(whole) - RATE < len(damaged) < len(whole)
    assert audio.loudness(damaged[-RATE:], RATE) == pytest.approx(
        audio.loudness(whole[-RATE:], RATE), abs=1.5
    )


@pytest.mark.parametrize("length", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_a_header_without_length_is_no_damage(tmp_path, encoded, length):
    data = bytearray(encoded[".wav"])
    data[4:8] = data[40:44] = struct.pack("<I", length)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        samples = audio.read(put(tmp_path / "a.wav", data)).samples
    np.testing.assert_allclose(samples, SPEECH, atol=1e-4)


def test_a_movie_that_was_not_finished(tmp_path, encoded):
    data = encoded[".m4a"].replace(b"moov", b"skip")
    with pytest.raises(AudioError, match="breaks off before the index"):
        audio.read(put(tmp_path / "a.m4a", data))


def movie(path, *tracks):
    """A film with a picture and these sound tracks."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        sounds = [container.add_stream("aac", rate=RATE, layout="mono") for _ in tracks]
        packets = [*video.encode(av.VideoFrame(32, 32, "yuv420p")), *video.encode(None)]
        for stream, samples in zip(sounds, tracks, strict=True):
            frame = av.AudioFrame.from_ndarray((samples[None] * 32767).astype(np.int16), "s16", "mono")
            frame.sample_rate = RATE
            packets += [*stream.encode(frame), *stream.encode(None)]
        for packet in packets:
            container.mux(packet)
    return path


def test_a_silent_first_track_is_passed_over(tmp_path):
    path = movie(tmp_path / "a.mp4", 0 * SPEECH, SPEECH)
    assert audio.loudness(audio.read(path).samples, RATE) == pytest.approx(
        audio.loudness(SPEECH, RATE), abs=0.5
    )


def test_a_movie_without_sound_is_called_so(tmp_path):
    with pytest.raises(AudioError, match="holds no sound, only video"):
        audio.read(movie(tmp_path / "a.mp4"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_not_called_empty(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(AudioError, match="is a pipe or a device"):
        audio.read(tmp_path / "pipe.wav")


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux only")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_names_that_are_not_utf_8(tmp_path, encoded, suffix):
    path = put(tmp_path / os.fsdecode(b"caf\xe9" + suffix.encode()), encoded[suffix])
    assert audio.read(path).duration == pytest.approx(SECONDS, abs=0.1)
    audio.write(tmp_path / os.fsdecode(b"\xff.wav"), Audio(SPEECH, RATE))


def test_names_may_be_as_long_as_the_file_system_admits(tmp_path):
    path = tmp_path / f"{251 * 'x'}.wav"
    audio.write(path, Audio(SPEECH, RATE))
    assert audio.read(path).duration == SECONDS
    assert len(list(tmp_path.iterdir())) == 1


@settings(max_examples=60)
@given(data=st.data())
def test_readers_read_or_refuse_any_bytes(tmp_path_factory, encoded, data):
    """Files with flipped, lost and repeated bytes, and heads of one format before another."""
    suffix = data.draw(st.sampled_from(SUFFIXES))
    content = bytearray(encoded[data.draw(st.sampled_from([suffix, *SUFFIXES]))])
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.one_of(st.integers(0, 100), st.integers(0, len(content) - 1)))
        length = data.draw(st.integers(1, 300))
        kind = data.draw(st.sampled_from(["flip", "lose", "repeat", "fill"]))
        if kind == "flip":
            content[at : at + 1] = data.draw(st.binary(min_size=1, max_size=4))
        elif kind == "lose":
            del content[at : at + length]
        elif kind == "repeat":
            content[at:at] = content[at : at + length]
        else:
            content[at : at + length] = bytes(length)
        content = content or bytearray(b"\0")
    path = put(tmp_path_factory.mktemp("fuzz") / f"a{suffix}", bytes(content))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", AudioWarning)
        with contextlib.suppress(AudioError):
            out = audio.read(path, longest=600)
            assert len(out.samples) and np.isfinite(out.samples).all()


@given(content=st.binary(min_size=1, max_size=400))
def test_readers_refuse_noise(tmp_path_factory, content):
    for head in (b"", b"RIFF", b"fLaC\0\0\0\x22", b"OggS", b"ID3\3", b"\0\0\0\x08ftyp", b"\xff\xfb"):
        path = put(tmp_path_factory.mktemp("noise") / "a.wav", head + content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AudioWarning)
            with contextlib.suppress(AudioError):
                audio.read(path, longest=60)


def test_libraries_print_nothing_of_their_own(tmp_path, encoded, capfd):
    with pytest.warns(PartialWarning):
        audio.read(put(tmp_path / "a.mp3", encoded[".mp3"][:9_000]))
    assert capfd.readouterr() == ("", "")


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    """The second finishes while the first is at work; each writes a file of its own."""
    path = tmp_path / "a.wav"

    def blocks():
        yield SPEECH[:100]
        audio.write(path, Audio(SPEECH, RATE))
        assert soundfile.info(path).frames == len(SPEECH)
        yield SPEECH[100:200]

    audio.write_blocks(path, blocks(), RATE)
    assert soundfile.info(path).frames == 200
    assert list(tmp_path.iterdir()) == [path]
