"""Reading, writing, resampling and measuring waveforms."""

import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from vcae import audio
from vcae.audio import Audio
from vcae.errors import AudioError, VcaeError
from vcae.files import OutputError

RATES = [8000, 11025, 16000, 22050, 24000, 44100, 48000]
STEP = 1 / 32768


def tone(frequency: float, rate: int, seconds: float = 1.0, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(
        np.float32
    )


def noise(count: int, rate: int, below: float, seed: int = 0) -> np.ndarray:
    """Noise without frequencies above ``below``."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(count))
    spectrum[np.fft.rfftfreq(count, 1 / rate) > below] = 0
    samples = np.fft.irfft(spectrum, count)
    return (0.5 * samples / np.abs(samples).max()).astype(np.float32)


def decibels(error: np.ndarray, reference: np.ndarray) -> float:
    return float(10 * np.log10((np.sum(error**2) + 1e-20) / np.sum(reference**2)))


# Files


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".WAV"])
@settings(max_examples=20)
@given(
    count=st.integers(1, 3000), rate=st.sampled_from(RATES), level=st.floats(0, 1), seed=st.integers(0, 99)
)
def test_sixteen_bit_files_return_what_was_written(tmp_path_factory, suffix, count, rate, level, seed):
    path = tmp_path_factory.mktemp("audio") / f"a{suffix}"
    samples = level * np.random.default_rng(seed).uniform(-1, 1, count).astype(np.float32)
    Audio(samples, rate).write(path)
    once = audio.read(path)
    assert once.sample_rate == rate
    assert once.samples.dtype == np.float32
    assert np.abs(once.samples - samples).max() <= STEP
    once.write(path)
    np.testing.assert_array_equal(audio.read(path).samples, once.samples)


@pytest.mark.parametrize("suffix", [".ogg", ".opus", ".mp3"])
def test_compressed_files_keep_rate_duration_and_level(tmp_path, suffix):
    samples = tone(440, 24000)
    audio.write(tmp_path / f"a{suffix}", Audio(samples, 24000))
    again = audio.read(tmp_path / f"a{suffix}")
    assert again.sample_rate == 24000
    assert again.duration == pytest.approx(1, abs=0.1)
    assert audio.loudness(again.samples, 24000) == pytest.approx(audio.loudness(samples, 24000), abs=0.5)


@pytest.mark.parametrize(("suffix", "codec"), [(".m4a", "aac"), (".webm", "libopus")])
def test_formats_that_soundfile_cannot_read_are_read_by_pyav(tmp_path, suffix, codec):
    path = tmp_path / f"a{suffix}"
    stereo = np.stack([tone(440, 48000), np.zeros(48000, np.float32)])
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=48000, layout="stereo")
        frame = av.AudioFrame.from_ndarray(
            (stereo.T.reshape(1, -1) * 32767).astype(np.int16), "s16", "stereo"
        )
        frame.sample_rate = 48000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    again = audio.read(path)
    assert again.sample_rate == 48000
    assert again.duration == pytest.approx(1, abs=0.1)
    # A silent channel does not count.
    assert audio.loudness(again.samples, 48000) == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.5)
    assert audio.read(path, 16000).duration == pytest.approx(again.duration, abs=1e-4)


def test_reading_at_another_rate_equals_reading_and_resampling(tmp_path):
    samples = noise(200_000, 44100, 7000)
    Audio(samples, 44100).write(tmp_path / "a.flac")
    whole = audio.read(tmp_path / "a.flac")
    at_16k = audio.read(tmp_path / "a.flac", sample_rate=16000)
    assert at_16k.sample_rate == 16000
    np.testing.assert_allclose(at_16k.samples, audio.resample(whole.samples, 44100, 16000), atol=1e-6)


def test_samples_beyond_full_scale_are_clipped_and_do_not_wrap(tmp_path):
    for suffix in (".wav", ".flac"):
        Audio(np.array([2, -2, 1, -1, 0.5], np.float32), 16000).write(tmp_path / f"a{suffix}")
        again = audio.read(tmp_path / f"a{suffix}").samples
        np.testing.assert_allclose(again, [1, -1, 1, -1, 0.5], atol=STEP)


def test_long_files_of_every_kind_can_be_written(tmp_path):
    samples = noise(2_000_000, 16000, 3000)
    for suffix in (".wav", ".flac", ".ogg", ".mp3"):
        Audio(samples, 16000).write(tmp_path / f"a{suffix}")
        assert audio.read(tmp_path / f"a{suffix}").duration == pytest.approx(125, abs=0.2)


# Bad files


def bad_file(folder: Path, kind: str) -> Path:
    path = folder / "bad.wav"
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("This is not audio.\n" * 100)
    elif kind == "truncated header":
        Audio(tone(440, 16000), 16000).write(path)
        path.write_bytes(path.read_bytes()[:20])
    elif kind == "header only":
        soundfile.write(path, np.zeros(0, np.float32), 16000)
    elif kind == "folder":
        path.mkdir()
    elif kind in ("NaN", "infinite"):
        samples = np.zeros(100, np.float32)
        samples[[3, 50]] = float(kind.removesuffix("inite"))
        soundfile.write(path, samples, 16000, subtype="FLOAT")
    elif kind == "picture":
        path = folder / "bad.m4a"
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    elif kind == "broken mp3":
        path = folder / "bad.mp3"
        path.write_bytes(b"ID3\x03" + bytes(200))
    return path


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("missing", "no such file"),
        ("empty", "0 bytes"),
        ("text", "not an audio file"),
        ("truncated header", "not an audio file"),
        ("header only", "no samples"),
        ("folder", "is a folder"),
        ("NaN", "2 of 100 samples"),
        ("infinite", "2 of 100 samples"),
        ("picture", "holds no sound, only video"),
        ("broken mp3", "bad.mp3"),
    ],
)
@pytest.mark.parametrize("sample_rate", [None, 24000])
def test_a_bad_file_gives_one_line_that_names_it(tmp_path, kind, complaint, sample_rate):
    path = bad_file(tmp_path, kind)
    with pytest.raises(AudioError) as raised:
        audio.read(path, sample_rate)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert complaint in message
    assert "\n" not in message


@pytest.mark.parametrize("suffix", [".wav", ".mp3"])
def test_a_file_that_is_too_long_is_refused(tmp_path, suffix):
    path = tmp_path / f"long{suffix}"
    audio.Audio(np.full(240_000, 0.1, np.float32), 8_000).write(path)
    assert audio.read(path, longest=31).duration == pytest.approx(30, abs=0.3)
    with pytest.raises(AudioError, match=rf"long\{suffix}: is longer than 29.5 seconds; cut it"):
        audio.read(path, 16_000, longest=29.5)


def test_a_file_name_that_cannot_exist(tmp_path):
    path = tmp_path / f"{'x' * 300}.wav"
    with pytest.raises(AudioError, match="cannot be opened"):
        audio.read(path)
    with pytest.raises(OutputError, match="cannot be written"):
        Audio(tone(440, 16000), 16000).write(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "rate", "complaint"),
    [
        ("a.xyz", 16000, "choose one of .wav"),
        ("a", 16000, "choose one of .wav"),
        ("missing/a.wav", 16000, "does not exist"),
        ("folder.wav", 16000, "is a folder"),
        ("file.txt/a.wav", 16000, "does not exist"),
        ("a.opus", 44100, "cannot be written at 44100 Hz"),
    ],
)
def test_outputs_that_cannot_be_written_are_refused_and_leave_nothing(tmp_path, name, rate, complaint):
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "file.txt").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(VcaeError, match=complaint) as raised:
        Audio(tone(440, rate), rate).write(tmp_path / name)
    assert str(raised.value).startswith(str(tmp_path / name))
    assert "\n" not in str(raised.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder_is_named(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(OutputError, match=r"locked.*permissions"):
        Audio(tone(440, 16000), 16000).write(tmp_path / "locked" / "a.wav")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    Audio(tone(440, 16000), 16000).write(path)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(soundfile.SoundFile, "write", fail)
    with pytest.raises(OutputError, match="No space left"):
        Audio(tone(220, 16000), 16000).write(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_non_finite_samples_are_not_written(tmp_path):
    with pytest.raises(AudioError, match="NaN"):
        Audio(np.array([0, np.nan], np.float32), 16000).write(tmp_path / "a.wav")
    assert list(tmp_path.iterdir()) == []


def test_audio_must_be_mono_with_a_rate():
    with pytest.raises(ValueError, match="shape"):
        Audio(np.zeros((20, 10), np.float32), 16000)
    with pytest.raises(ValueError, match="positive"):
        Audio(np.zeros(10, np.float32), 0)


def test_find_audio(tmp_path):
    for name in ("b.WAV", "a.opus", "deep/er/c.m4a", "notes.txt", "._b.wav", ".trash/d.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert audio.find_audio(tmp_path) == [tmp_path / "a.opus", tmp_path / "b.WAV", tmp_path / "deep/er/c.m4a"]
    assert audio.find_audio(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]
    with pytest.raises(AudioError, match="no such file or folder"):
        audio.find_audio(tmp_path / "nowhere")


def test_importing_audio_imports_nothing_heavy():
    code = "import sys, vcae.audio; print({'av', 'librosa', 'torchaudio'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


# Resampling


@settings(max_examples=60, deadline=None)
@given(count=st.integers(0, 5000), from_rate=st.sampled_from(RATES), to_rate=st.sampled_from(RATES))
def test_resampling_keeps_the_duration(count, from_rate, to_rate):
    resampled = audio.resample(np.ones(count, np.float32), from_rate, to_rate)
    assert resampled.shape == (-(-count * to_rate // from_rate),)
    assert resampled.dtype == np.float32


@pytest.mark.parametrize(
    ("from_rate", "to_rate"), [(44101, 44100), (44101, 16000), (7333, 16000), (16000, 15991)]
)
def test_rates_without_a_common_factor_are_met_closely(from_rate, to_rate):
    resampled = audio.resample(tone(440, from_rate, 2), from_rate, to_rate)
    assert len(resampled) == pytest.approx(2 * to_rate, rel=2e-4)
    crossings = np.flatnonzero(np.diff(np.signbit(resampled)))[1:-1]
    period = 2 * (crossings[-1] - crossings[0]) / (len(crossings) - 1)
    assert to_rate / period == pytest.approx(440, rel=1e-3)


@pytest.mark.parametrize("to_rate", RATES)
@pytest.mark.parametrize("from_rate", RATES)
def test_resampling_agrees_with_soxr(from_rate, to_rate):
    samples = noise(2 * from_rate + 1, from_rate, below=0.45 * min(from_rate, to_rate))
    resampled = audio.resample(samples, from_rate, to_rate)
    reference = soxr.resample(samples, from_rate, to_rate, quality="VHQ")
    middle = slice(
        1000, min(len(resampled), len(reference)) - 1000
    )  # the ends depend on what lies beyond them
    assert decibels(resampled[middle] - reference[middle], reference[middle]) < -60


def test_a_sweep_agrees_with_soxr():
    time = np.arange(3 * 44100) / 44100
    sweep = (0.5 * np.sin(2 * np.pi * (50 * time + (7000 - 50) / 6 * time**2))).astype(np.float32)
    resampled, reference = audio.resample(sweep, 44100, 16000), soxr.resample(sweep, 44100, 16000)
    assert decibels((resampled - reference)[1000:-1000], reference) < -60


@pytest.mark.parametrize(("from_rate", "to_rate"), [(44100, 16000), (48000, 16000), (24000, 16000)])
def test_frequencies_above_the_lower_nyquist_are_removed(from_rate, to_rate):
    above = audio.resample(tone(0.55 * to_rate, from_rate, level=1), from_rate, to_rate)
    assert np.abs(above[500:-500]).max() < 1e-3


def cut_anywhere(samples: np.ndarray, data: st.DataObject, most: int = 12) -> list[np.ndarray]:
    """The waveform in blocks of any sizes, empty blocks and single samples among them."""
    borders = data.draw(st.lists(st.integers(0, len(samples)), max_size=most))
    return np.split(samples, sorted(borders))


@settings(max_examples=40)
@given(
    from_rate=st.sampled_from([*RATES, 44101]),
    to_rate=st.sampled_from(RATES),
    count=st.integers(0, 20_000),
    data=st.data(),
)
def test_resampling_does_not_depend_on_the_blocks(from_rate, to_rate, count, data):
    samples = noise(20_000, from_rate, 3000)[:count]
    resampler = audio.Resampler(from_rate, to_rate)
    pieces = [resampler.feed(block) for block in cut_anywhere(samples, data)]
    whole = audio.resample(samples, from_rate, to_rate)
    np.testing.assert_allclose(np.concatenate([*pieces, resampler.flush()]), whole, atol=1e-6)


@settings(max_examples=40)
@given(
    from_rate=st.sampled_from([*RATES, 44101]), to_rate=st.sampled_from(RATES), place=st.integers(500, 3000)
)
def test_a_resampler_waits_for_its_lookahead_and_no_longer(from_rate, to_rate, place):
    resampler = audio.Resampler(from_rate, to_rate)
    samples = noise(5_000, from_rate, 3000)
    ready = len(resampler.feed(samples[:place]))
    assert (
        (ready - 1) * resampler.ratio + resampler.lookahead
        < place
        <= ready * resampler.ratio + resampler.lookahead
    )
    later = samples.copy()
    later[place:] += 1
    first, second = (audio.resample(x, from_rate, to_rate) for x in (samples, later))
    np.testing.assert_allclose(first[:ready], second[:ready], atol=1e-6)


@pytest.mark.parametrize("rate", [16000, 22050, 24000, 44100, 48000])
def test_resampling_to_16_khz_and_back_waits_for_2_ms_each(rate):
    assert audio.Resampler(rate, 16000).lookahead / rate == pytest.approx(
        0.002 * (rate != 16000), abs=1 / rate
    )
    assert audio.Resampler(16000, rate).lookahead == 32 * (rate != 16000)


# Recordings of any length


@settings(max_examples=30)
@given(sizes=st.lists(st.integers(0, 50), max_size=20), size=st.integers(1, 60))
def test_cutting_gives_blocks_of_one_size(sizes, size):
    samples = np.arange(sum(sizes), dtype=np.float32)
    blocks = list(audio.cut(np.split(samples, np.cumsum(sizes)), size))
    assert all(len(block) == size for block in blocks[:-1])
    assert not blocks or 0 < len(blocks[-1]) <= size
    np.testing.assert_array_equal(audio.concatenate(blocks), samples)


@pytest.mark.parametrize("count", [1, 100, 319, 320, 321, 320_000, 320_007, 400_000])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_a_recording_in_blocks_equals_the_whole(tmp_path, count, rate):
    path = tmp_path / "a.wav"
    Audio(noise(400_000, rate, 7000)[:count], rate).write(path)
    whole = audio.resample(audio.HighPass(rate).feed(audio.read(path).samples), rate, 16000)
    for source in (path, str(path), audio.read(path)):
        recording = audio.Recording(source, 16000)
        assert recording.length == len(whole)
        assert recording.level == pytest.approx(audio.loudness(whole, 16000), abs=1e-3)
        assert recording.silent == audio.is_silent(whole)
        for _ in range(2):
            np.testing.assert_allclose(np.concatenate(list(recording.blocks("reading"))), whole, atol=1e-6)


def test_a_silent_recording():
    assert audio.Recording(Audio(np.zeros(999, np.float32), 8000), 16000).silent
    assert audio.Recording(Audio(np.zeros(5, np.float32), 8000), 16000).level == float("-inf")


@pytest.mark.parametrize("samples", [[], [0.1, np.nan], [0.1, -np.inf], [0.1, 1e30]])
def test_invalid_samples_are_refused(samples):
    with pytest.raises(AudioError, match=f"no samples|1 of {len(samples)} samples"):
        audio.Recording(Audio(np.array(samples, np.float32), 8000), 16000)


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "header only", "NaN", "broken mp3"])
def test_a_bad_recording_is_refused_with_the_message_of_read(tmp_path, kind):
    path = bad_file(tmp_path, kind)
    with pytest.raises(AudioError) as reading:
        audio.read(path)
    with pytest.raises(AudioError) as recording:
        audio.Recording(path, 16000)
    assert str(recording.value) == str(reading.value)


def test_pyav_continues_where_soundfile_fails(tmp_path, monkeypatch):
    path = tmp_path / "a.flac"
    samples = noise(200_000, 16000, 7000)
    Audio(samples, 16000).write(path)
    read = soundfile.SoundFile.read
    blocks = iter(range(100))

    def broken(*args: object, **options: object) -> np.ndarray:
        if next(blocks) == 2:
            raise soundfile.LibsndfileError(7)
        return read(*args, **options)

    monkeypatch.setattr(soundfile.SoundFile, "read", broken)
    np.testing.assert_allclose(audio.read(path).samples, samples, atol=STEP)


def test_an_error_between_blocks_leaves_no_file(tmp_path):
    def blocks():
        yield tone(440, 16000)
        raise AudioError("source.wav: 1 of 9 samples are NaN or infinite")

    with pytest.raises(AudioError, match=r"source\.wav"):
        audio.write_blocks(tmp_path / "a.wav", blocks(), 16000)
    assert list(tmp_path.iterdir()) == []


# Level and activity


@given(level=st.floats(0.01, 1), rate=st.sampled_from(RATES))
def test_loudness_of_a_sine(level, rate):
    samples = tone(400, rate, level=level)
    assert audio.loudness(samples, rate) == pytest.approx(20 * np.log10(level / np.sqrt(2)), abs=0.05)


def test_loudness_ignores_pauses():
    speech = tone(400, 16000)
    paused = np.concatenate([np.zeros(32000, np.float32), speech, 1e-4 * speech])
    assert audio.loudness(paused, 16000) == pytest.approx(audio.loudness(speech, 16000), abs=0.05)


def test_silence():
    for silence in (np.zeros(16000, np.float32), np.zeros(0, np.float32), np.zeros(5, np.float32)):
        assert audio.loudness(silence, 16000) == float("-inf")
        assert audio.is_silent(silence)
        assert audio.speech_seconds(silence, 16000) == 0
    assert audio.is_silent(tone(440, 16000, level=5e-4))
    assert not audio.is_silent(-np.abs(tone(440, 16000, level=0.1)))


def test_speech_seconds_counts_active_frames():
    silence = 1e-4 * noise(2 * 16000, 16000, 8000)
    samples = np.concatenate([silence, tone(300, 16000, 1.5), silence, tone(300, 16000, 0.5), silence])
    assert audio.speech_seconds(samples, 16000) == pytest.approx(2, abs=0.2)
    assert audio.speech_seconds(tone(300, 16000, 0.01), 16000) == pytest.approx(0.01, abs=0.01)


def test_speech_seconds_compares_with_the_loudest_frame_of_a_long_recording():
    quiet = 1e-3 * noise(60 * 16000, 16000, 8000)
    samples = np.concatenate([quiet, tone(300, 16000, 30), quiet])
    assert audio.speech_seconds(samples, 16000) == pytest.approx(30, abs=0.5)
