"""Find, decode and read audio files."""

import os
from collections.abc import Iterable, Iterator
from math import inf
from pathlib import Path

import numpy as np

from vcae.audio.blocks import BLOCK_SIZE, Samples, concatenate
from vcae.audio.level import is_sound
from vcae.audio.resampler import resampled
from vcae.audio.waveform import Audio
from vcae.audio.writer import tidy
from vcae.errors import AudioError

AUDIO_SUFFIXES = frozenset(
    (
        *(".wav", ".wave", ".w64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf"),
        *(".m4a", ".mp4", ".aac", ".webm", ".mka", ".wma"),
    )
)
"""Suffixes of audio files, in lower case; compare with ``path.suffix.lower()``."""


def find_audio(path: str | Path) -> list[Path]:
    """List the audio files at ``path``: itself if it is a file, else all in the folder and below, sorted.

    Hidden files and folders are ignored. Raises AudioError if ``path`` does not exist.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise AudioError(f"{path}: no such file or folder; check the path")
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
    """Read an audio file of any common format, sample rate and number of channels as mono.

    Channels are averaged. sample_rate: in Hz, to resample to; None keeps that of the file. Raises AudioError
    for files that are missing, empty, unreadable, without samples or with invalid samples, and for files
    longer than ``longest`` seconds, before more than that is in memory.
    """
    rate, blocks = decode(Path(path))
    blocks = _limited(Path(path), blocks, rate, longest)
    if sample_rate is None:
        return Audio(concatenate(blocks), rate)
    return Audio(concatenate(resampled(blocks, rate, sample_rate)), sample_rate)


def decode(path: Path) -> tuple[int, Iterator[Samples]]:
    """Sample rate and mono blocks of an audio file. Raises AudioError, possibly from the iterator."""
    import soundfile

    try:
        if path.is_dir():
            raise AudioError(f"{path}: is a folder; give an audio file")
        size = path.stat().st_size
        path.open("rb").close()
    except FileNotFoundError:
        raise AudioError(f"{path}: no such file; check the path") from None
    except OSError as error:
        raise AudioError(f"{path}: cannot be opened ({error.strerror}); check name and permissions") from None
    if size == 0:
        raise AudioError(f"{path}: is empty (0 bytes); record or download it again")
    try:
        rate, blocks = _decode_with_soundfile(path)
    except soundfile.SoundFileError as error:
        rate, blocks = _decode_with_av(path, _reason(error))
    return rate, checked(str(path), blocks)


def _decode_with_soundfile(path: Path) -> tuple[int, Iterator[Samples]]:
    """Sample rate and mono blocks; where libsndfile fails, PyAV decodes the rest. Raises SoundFileError."""
    import soundfile

    file = soundfile.SoundFile(os.fsencode(path))  # accepts names that are not valid UTF-8

    def blocks() -> Iterator[Samples]:
        decoded = 0
        with file:
            try:
                while len(block := file.read(BLOCK_SIZE, dtype="float32", always_2d=True)):
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
    """Sample rate and mono blocks. Raises AudioError with `reason`, possibly from the iterator."""
    import av  # slow to import, and rarely needed

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
        planar = av.AudioResampler(format="fltp")  # floats, one row per channel; same rate and channels
        with container:
            try:
                for frame in container.decode(stream):
                    for converted in planar.resample(frame):
                        yield converted.to_ndarray().mean(axis=0)
            except (av.FFmpegError, EOFError):
                raise unreadable from None

    return stream.rate, blocks()


def _reason(error: Exception) -> str:
    return tidy(getattr(error, "error_string", str(error)))


def checked(name: str, blocks: Iterable[Samples]) -> Iterator[Samples]:
    """The same blocks. Raises AudioError at their end if there are no samples or invalid ones."""
    total = bad = 0
    for block in blocks:
        total += len(block)
        bad += int(np.count_nonzero(~is_sound(block)))
        yield block
    if total == 0:
        raise AudioError(f"{name}: holds no samples; record or download it again")
    if bad:
        raise AudioError(f"{name}: {bad} of {total} samples are NaN, infinite or huge; export the file again")


def _limited(path: Path, blocks: Iterable[Samples], rate: int, longest: float) -> Iterator[Samples]:
    left = longest * rate
    for block in blocks:
        left -= len(block)
        if left < 0:
            raise AudioError(f"{path}: is longer than {_length(longest)}; cut it into shorter files")
        yield block


def _length(seconds: float) -> str:
    return f"{seconds / 60:g} minutes" if seconds >= 120 else f"{seconds:g} seconds"
