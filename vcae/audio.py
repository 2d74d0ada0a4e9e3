"""Audio files and waveforms: read, write, find, resample, and tell how loud they are.

Every waveform is mono: a float32 array of shape (N,) with values in [-1, 1]. Files are decoded, resampled
and written in blocks, so that recordings of any length need little memory (`Recording`, `write_blocks`).
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import chain
from math import ceil, inf
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from vcae.errors import VcaeError
from vcae.output import check_output, replacing

Samples = npt.NDArray[np.float32]
Progress: TypeAlias = Callable[[str, float, float | None], None]
"""Told of long work: what is being done, how many seconds of sound have been, and of how many, if known."""

AUDIO_SUFFIXES = frozenset(
    (
        *(".wav", ".wave", ".w64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf"),
        *(".m4a", ".mp4", ".aac", ".webm", ".mka", ".wma"),
    )
)
"""What counts as an audio file in a folder, in lower case; compare with ``path.suffix.lower()``."""

WRITABLE = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
"""What can be written: suffix to libsndfile's names of container and encoding."""
LEVEL = -25.0
"""What the networks hear every recording at, in dBFS as `loudness` measures it."""

_BLOCK = 2**16  # samples decoded or encoded at a time
_ACTIVE_DB = 40.0  # what is quieter than the loudest frame by more than this is a pause
_FRAME_SECONDS = 0.02
_SHORT_SECONDS = 600  # what is no longer than this is kept in memory
_ZERO_CROSSINGS = 32  # of the resampling filter on each side, in samples of the lower rate
_CUTOFF = 0.98  # of the lower Nyquist frequency
_KAISER_BETA = 8.0
_HUGE = 1e5  # files hold floats as large as 32768 by mistake
_SILENCE = 1e-3  # a peak below this (-60 dBFS) is silence


class AudioError(VcaeError):
    """An audio file that cannot be used. One line that names the file and says what to do about it."""


@dataclass(frozen=True, eq=False)
class Audio:
    """A mono waveform and its sample rate."""

    samples: Samples
    """(N,) float32 in [-1, 1]."""
    sample_rate: int
    """In Hz."""

    def __post_init__(self) -> None:
        if self.samples.ndim != 1:
            raise ValueError(f"samples must be of shape (N,), not {self.samples.shape}")
        if self.sample_rate <= 0:
            raise ValueError(f"sample_rate must be positive, not {self.sample_rate}")

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate

    def write(self, path: str | Path) -> None:
        """Write to a file, as the function ``write`` does."""
        write(path, self)


def find_audio(path: str | Path) -> list[Path]:
    """List the audio files at ``path``: itself if it is a file, else all below the folder, sorted.

    Hidden files and folders are passed over; a folder without audio gives an empty list.
    Raises AudioError when there is nothing at ``path``.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise AudioError(f"{path}: no such file or folder")
    found: list[Path] = []
    for folder, subfolders, names in os.walk(path):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        found += [
            Path(folder, name)
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in AUDIO_SUFFIXES
        ]
    return sorted(found)


def read(path: str | Path, sample_rate: int | None = None, longest: float = inf) -> Audio:
    """Read an audio file of any common format, rate and number of channels as mono.

    Channels are averaged. ``sample_rate`` resamples to that rate; None keeps the file's own.
    Raises AudioError when the file is missing, empty, unreadable, or holds no samples or no sound, and when
    it is longer than ``longest`` seconds; no more than that of it is ever in memory.
    """
    rate, blocks = decode(Path(path))
    blocks = _limited(Path(path), blocks, rate, longest)
    if sample_rate is None:
        return Audio(concatenate(blocks), rate)
    return Audio(concatenate(_resampled(blocks, rate, sample_rate)), sample_rate)


def decode(path: Path) -> tuple[int, Iterator[Samples]]:
    """Sample rate and mono blocks of a file of any kind. Raises AudioError, possibly from the iterator."""
    import soundfile

    try:
        if path.is_dir():
            raise AudioError(f"{path}: is a folder; name an audio file")
        size = path.stat().st_size
        path.open("rb").close()
    except FileNotFoundError:
        raise AudioError(f"{path}: no such file") from None
    except OSError as error:
        raise AudioError(f"{path}: cannot be opened ({error.strerror}); check name and permissions") from None
    if size == 0:
        raise AudioError(f"{path}: is empty (0 bytes); record or download it again")
    try:
        rate, blocks = _decode_with_soundfile(path)
    except soundfile.SoundFileError as error:
        rate, blocks = _decode_with_av(path, _reason(error))
    return rate, _checked(str(path), blocks)


class Recording:
    """A recording of any length, to be heard in mono blocks at one sample rate as often as wanted.

    The first time, as it is made, tells its length and level. A file of more than ten minutes is decoded
    anew each time, so that little of it is ever in memory. Raises AudioError as `read` does.
    """

    length: int
    """In samples at `sample_rate`."""
    level: float
    """What `loudness` says of the whole, in dBFS."""
    silent: bool
    """What `is_silent` says of the whole."""

    def __init__(
        self, source: str | Path | Audio, sample_rate: int, progress: Progress | None = None
    ) -> None:
        self.name = "the recording" if isinstance(source, Audio) else str(source)
        self.sample_rate = sample_rate
        self._source, self._progress = source, progress
        self.length, self.silent = 0, True
        powers: list[Samples] = []  # of each frame: 7 MB for ten hours
        short: list[Samples] = []
        frame = _frame_size(sample_rate)
        for block in cut(self._told("reading", self._decoded(), None), 100 * frame):
            if len(block) >= frame or not powers:  # a shorter tail is left out
                powers.append(_frame_powers(block, sample_rate))
            self.length += len(block)
            self.silent &= is_silent(block)
            if self.length <= _SHORT_SECONDS * sample_rate:
                short.append(block)
        if self.length <= _SHORT_SECONDS * sample_rate:
            self._source = Audio(concatenate(short), sample_rate)
        self.level = _level(np.concatenate(powers) if powers else np.zeros(0, dtype=np.float32))

    def blocks(self, doing: str) -> Iterator[Samples]:
        """The recording from its beginning; `doing` names what for, for the progress that is told."""
        return self._told(doing, self._decoded(), self.length / self.sample_rate)

    def _decoded(self) -> Iterator[Samples]:
        if isinstance(self._source, Audio):
            rate, blocks = self._source.sample_rate, _checked(self.name, _blocks(self._source.samples))
        else:
            rate, blocks = decode(Path(self._source))
        return blocks if rate == self.sample_rate else _resampled(blocks, rate, self.sample_rate)

    def _told(self, doing: str, blocks: Iterable[Samples], seconds: float | None) -> Iterator[Samples]:
        heard = 0
        for block in blocks:
            yield block
            heard += len(block)
            if self._progress:
                self._progress(doing, heard / self.sample_rate, seconds)


def write(path: str | Path, audio: Audio) -> None:
    """Write a file in the format that its suffix names: .wav and .flac (16 bit), .ogg, .opus or .mp3.

    Samples beyond [-1, 1] are clipped. The file appears whole or not at all, replacing an older one.
    Raises OutputError or AudioError when it cannot be written; missing folders are not created.
    """
    write_blocks(path, _blocks(audio.samples), audio.sample_rate)


def write_blocks(path: str | Path, blocks: Iterable[Samples], sample_rate: int) -> None:
    """Write a waveform that comes in blocks, as `write` does; what the blocks raise leaves no file either."""
    import soundfile

    path = Path(path)
    check_output(path, WRITABLE)
    container, encoding = WRITABLE[path.suffix.lower()]
    with replacing(path) as unfinished:
        try:
            with soundfile.SoundFile(
                os.fsencode(unfinished), "w", sample_rate, 1, encoding, format=container
            ) as file:
                # Cut small, because libsndfile's Vorbis encoder crashes on very long blocks.
                for block in chain.from_iterable(map(_blocks, blocks)):
                    if not np.isfinite(block).all():
                        raise AudioError(f"{path}: not written, there are samples that are NaN or infinite")
                    file.write(_to_int16(block) if encoding == "PCM_16" else block.clip(-1, 1))
        except soundfile.SoundFileError as error:
            raise AudioError(
                f"{path}: cannot be written at {sample_rate} Hz ({_tidy(str(error))});"
                " check the folder's permissions and free space, or choose .wav"
            ) from None


def resample(samples: Samples, from_rate: int, to_rate: int) -> Samples:
    """Resample (N,) from one rate in Hz to another: (ceil(N * to_rate / from_rate),) float32.

    See `Resampler`.
    """
    if from_rate == to_rate:
        return samples
    return concatenate(_resampled(_blocks(samples), from_rate, to_rate))


class Resampler:
    """Resamples a waveform that comes in blocks of any size; how it is cut leaves no trace.

    Output m lies at input m * ratio. Windowed-sinc interpolation (Smith, "Digital Audio Resampling", 2002)
    with 32 zero crossings on each side, which is 2 ms where the lower of the two rates is 16 kHz: flat to
    0.9 of the lower Nyquist frequency, 80 dB down from 1.07 of it on. Rates whose ratio takes whole numbers
    above 4000, such as 44101 to 16000, are met within 0.02 %, which is less than one hears.
    """

    ratio: Fraction
    """Input samples for each output sample."""
    lookahead: int
    """How many input samples behind its place an output waits for."""

    def __init__(self, from_rate: int, to_rate: int) -> None:
        # The filter bank has a row for each output of a period, so the period must be kept short.
        if from_rate > to_rate:
            self.ratio = 1 / Fraction(to_rate, from_rate).limit_denominator(4000)
        else:
            self.ratio = Fraction(from_rate, to_rate).limit_denominator(4000)
        self._bank = np.ones((1, 1), dtype=np.float32) if self.ratio == 1 else _filter_bank(self.ratio)
        self.lookahead = self._bank.shape[1] // 2
        self._pending = np.zeros(max(0, self.lookahead - 1), dtype=np.float32)
        self._start = -len(self._pending)  # where in the input what is pending starts
        self._received = self._emitted = 0

    def feed(self, block: Samples) -> Samples:
        """What has become ready with this block: (N,) -> (M,), M about N / ratio."""
        self._received += len(block)
        ready = max(0, ceil((self._received - self.lookahead) / self.ratio) - self._emitted)
        if self.ratio == 1:
            self._emitted += ready
            return block
        self._pending = np.concatenate([self._pending, block])
        if not ready:
            return np.zeros(0, dtype=np.float32)
        windows = sliding_window_view(self._pending, self._bank.shape[1])
        out = np.empty(ready, dtype=np.float32)
        for part in _blocks(np.arange(self._emitted, self._emitted + ready), 2**13):
            place = part * self.ratio.numerator // self.ratio.denominator
            window = windows[place - self.lookahead + 1 - self._start]
            at = part[0] - self._emitted
            out[at : at + len(part)] = np.einsum("ij,ij->i", window, self._bank[part % len(self._bank)])
        self._emitted += ready
        next_place = self._emitted * self.ratio.numerator // self.ratio.denominator
        used = next_place - self.lookahead + 1 - self._start
        self._pending, self._start = self._pending[used:], self._start + used
        return out

    def flush(self) -> Samples:
        """The rest, as if silence followed: then ceil(N / ratio) samples are given for N in all."""
        rest = ceil(self._received / self.ratio) - self._emitted
        return self.feed(np.zeros(self.lookahead, dtype=np.float32))[:rest]


def loudness(samples: Samples, sample_rate: int) -> float:
    """Level in dBFS (a full-scale square wave: 0): RMS of the active part; -inf for silence.

    Active are the frames of 20 ms that lie within 40 dB of the loudest, so that pauses do not count.
    """
    return _level(_frame_powers(samples, sample_rate))


def is_silent(samples: Samples) -> bool:
    """Whether no sample of (N,) reaches -60 dBFS; true of an empty array."""
    return len(samples) == 0 or bool(max(samples.max(), -samples.min()) < _SILENCE)


def is_sound(samples: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.bool_]:
    """Which samples are finite and, though they may be beyond [-1, 1], not beyond a hundred thousand."""
    return np.abs(samples) <= _HUGE


def speech_seconds(samples: Samples, sample_rate: int) -> float:
    """Seconds of (N,) that are not pauses: within 40 dB of the loudest frame; 0 where all is silent.

    Tells sound from silence, not speech from other sounds.
    """
    power = _frame_powers(samples, sample_rate)
    if is_silent(samples):
        return 0.0
    return float(np.count_nonzero(power >= power.max() * 10 ** (-_ACTIVE_DB / 10)) * _FRAME_SECONDS)


def cut(blocks: Iterable[Samples], size: int) -> Iterator[Samples]:
    """Blocks of any size as blocks of `size` samples; the last one is shorter where they do not fit."""
    pending: list[Samples] = []
    count = 0
    for block in blocks:
        pending.append(block)
        count += len(block)
        if count >= size:
            whole = np.concatenate(pending)
            count %= size
            yield from _blocks(whole[: len(whole) - count], size)
            pending = [whole[len(whole) - count :]]
    if count:
        yield np.concatenate(pending)


def concatenate(blocks: Iterable[Samples]) -> Samples:
    """One waveform of blocks, without holding everything twice."""
    gathered = bytearray()  # which grows in place
    for block in blocks:
        gathered += block.tobytes()
    return np.frombuffer(gathered, dtype=np.float32)


def _tidy(reason: str) -> str:
    """A library's message as a part of one of our sentences."""
    return " ".join(reason.removeprefix("Error : ").split()).rstrip(".")


def _blocks(samples: npt.NDArray[Any], size: int = _BLOCK) -> Iterator[npt.NDArray[Any]]:
    return (samples[start : start + size] for start in range(0, len(samples), size))


def _to_int16(samples: Samples) -> npt.NDArray[np.int16]:
    # The inverse of reading, which divides by 32768; libsndfile's own conversion is one step off.
    steps: npt.NDArray[np.int16] = np.rint(samples * np.float32(32768)).clip(-32768, 32767).astype(np.int16)
    return steps


def _decode_with_soundfile(path: Path) -> tuple[int, Iterator[Samples]]:
    """Sample rate and mono blocks; PyAV goes on where libsndfile breaks off. Raises SoundFileError."""
    import soundfile

    file = soundfile.SoundFile(os.fsencode(path))  # a name that is no UTF-8 is a name all the same

    def blocks() -> Iterator[Samples]:
        decoded = 0
        with file:
            try:
                while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
                    decoded += len(block)
                    yield block.mean(axis=1)
                return
            except soundfile.SoundFileError as error:
                _, again = _decode_with_av(path, _reason(error))
        for block in again:
            yield block[decoded:]
            decoded = max(0, decoded - len(block))

    return file.samplerate, blocks()


def _decode_with_av(path: Path, reason: str) -> tuple[int, Iterator[Samples]]:
    """Sample rate and mono blocks. Raises AudioError, possibly from the iterator: `reason` is the first."""
    import av  # slow to import, and seldom needed

    unreadable = AudioError(
        f"{path}: not an audio file that can be read ({reason}); convert it to WAV or FLAC first"
    )
    try:
        container = av.open(str(path))
    except (av.FFmpegError, EOFError):
        raise unreadable from None
    if not container.streams.audio:
        container.close()
        raise unreadable
    stream = container.streams.audio[0]

    def blocks() -> Iterator[Samples]:
        planar = av.AudioResampler(format="fltp")  # floats, a row for each channel; rate and channels stay
        with container:
            try:
                for frame in container.decode(stream):
                    for converted in planar.resample(frame):
                        yield converted.to_ndarray().mean(axis=0)
            except (av.FFmpegError, EOFError):
                raise unreadable from None

    return stream.rate, blocks()


def _reason(error: Exception) -> str:
    return _tidy(getattr(error, "error_string", str(error)))


def _checked(name: str, blocks: Iterable[Samples]) -> Iterator[Samples]:
    total = bad = 0
    for block in blocks:
        total += len(block)
        bad += int(np.count_nonzero(~is_sound(block)))
        yield block
    if total == 0:
        raise AudioError(f"{name}: holds no samples; record or download it again")
    if bad:
        raise AudioError(f"{name}: {bad} of {total} samples are NaN, infinite or huge; export it again")


def _limited(path: Path, blocks: Iterable[Samples], rate: int, longest: float) -> Iterator[Samples]:
    left = longest * rate
    for block in blocks:
        left -= len(block)
        if left < 0:
            raise AudioError(f"{path}: is longer than {_length(longest)}; cut it into shorter ones")
        yield block


def _length(seconds: float) -> str:
    return f"{seconds / 60:g} minutes" if seconds >= 120 else f"{seconds:g} seconds"


def _resampled(blocks: Iterable[Samples], from_rate: int, to_rate: int) -> Iterator[Samples]:
    resampler = Resampler(from_rate, to_rate)
    for block in blocks:
        yield resampler.feed(block)
    yield resampler.flush()


@lru_cache(maxsize=8)
def _filter_bank(ratio: Fraction) -> Samples:
    """Weights of a window of inputs for each output of a period: (ratio.denominator, 2 * lookahead).

    The window of output m starts `lookahead` - 1 inputs before place m * ratio, rounded down.
    """
    stretch = float(max(ratio, Fraction(1)))  # input samples for each sample of the lower rate
    width = _ZERO_CROSSINGS * stretch
    half = ceil(width)
    phase = np.arange(ratio.denominator) * ratio.numerator % ratio.denominator / ratio.denominator
    distance = np.arange(1 - half, 1 + half) - phase[:, None]  # in input samples
    window = np.i0(_KAISER_BETA * np.sqrt((1 - (distance / width) ** 2).clip(0))) * (abs(distance) <= width)
    bank = np.sinc(_CUTOFF / stretch * distance) * window
    weights: Samples = (bank / bank.sum(axis=1, keepdims=True)).astype(np.float32)
    return weights


def _frame_size(sample_rate: int) -> int:
    return max(1, round(_FRAME_SECONDS * sample_rate))


def _frame_powers(samples: Samples, sample_rate: int) -> Samples:
    """Mean square of each frame of 20 ms; a shorter waveform is one frame, and a shorter tail is left out."""
    size = max(1, min(len(samples), _frame_size(sample_rate)))
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    powers: Samples = np.einsum("ij,ij->i", frames, frames) / np.float32(size)
    return powers


def _level(powers: Samples) -> float:
    if not powers.any():
        return float("-inf")
    active = powers[powers >= powers.max() * 10 ** (-_ACTIVE_DB / 10)]
    return float(10 * np.log10(active.mean()))
