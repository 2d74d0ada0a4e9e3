"""Find, decode and read audio files."""

import os
import stat
import warnings
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import chain
from math import inf
from pathlib import Path

import numpy as np

from vcae.audio.blocks import Samples, concatenate
from vcae.audio.containers import Part, parts
from vcae.audio.decoder import Track, tracks
from vcae.audio.level import is_sound
from vcae.audio.mix import Frames, Mix
from vcae.audio.resampler import resampled
from vcae.audio.waveform import Audio
from vcae.errors import AudioError, AudioWarning, PartialWarning

AUDIO_SUFFIXES = frozenset(
    (
        *(".wav", ".wave", ".w64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf"),
        *(".m4a", ".mp4", ".aac", ".webm", ".mka", ".wma"),
    )
)
"""Suffixes of audio files, in lower case; compare with ``path.suffix.lower()``."""


def find_audio(path: str | Path, without: Path | None = None) -> list[Path]:
    """List the audio files at ``path``: itself if it is a file, else all in the folder and below, sorted.

    Hidden files and folders are ignored, and the folder `without`. Links are followed, to each folder once.
    Warns of folders that cannot be read (PartialWarning). Raises AudioError if ``path`` does not exist.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise AudioError(f"{path}: no such file or folder; check the path")
    found: list[Path] = []
    seen = set() if without is None else {without.resolve()}
    seen.discard(path.resolve())
    for folder, subfolders, names in os.walk(path, onerror=_tell_unreadable, followlinks=True):
        here = Path(folder)
        seen.add(here.resolve())
        subfolders[:] = [
            name
            for name in sorted(subfolders)
            if not name.startswith(".") and here.joinpath(name).resolve() not in seen
        ]
        found += [
            here / name
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in AUDIO_SUFFIXES
        ]
    return sorted(found)


def _tell_unreadable(error: OSError) -> None:
    message = f"{error.filename}: cannot be read ({error.strerror}), and is left out; check its permissions"
    warnings.warn(message, PartialWarning, stacklevel=2)


def read(path: str | Path, sample_rate: int | None = None, longest: float = inf) -> Audio:
    """Read an audio file of any common format, sample rate and number of channels as mono.

    Channels are mixed as described at `vcae.audio.mix.Mix`. sample_rate: in Hz, to resample to; None keeps
    that of the file. Recordings that were joined to one file are read one after the other. Warns of what is
    missing in a damaged file (PartialWarning) and of samples that were scaled (AudioWarning). Raises
    AudioError for files that are missing, empty, unreadable, without samples or with invalid samples, and for
    files longer than ``longest`` seconds, before more than that is in memory.
    """
    file = AudioFile(path, longest)
    rate = sample_rate or file.sample_rate
    blocks = file.blocks() if rate == file.sample_rate else resampled(file.blocks(), file.sample_rate, rate)
    return Audio(concatenate(blocks), rate)


def decode(path: Path) -> tuple[int, Iterator[Samples]]:
    """Sample rate and mono blocks of an audio file. Raises AudioError, possibly from the iterator."""
    file = AudioFile(path)
    return file.sample_rate, file.blocks()


class AudioFile:
    """An audio file, which can be decoded repeatedly in mono blocks. See `read`."""

    sample_rate: int
    """In Hz; of the first recording, if several were joined."""

    def __init__(self, path: str | Path, longest: float = inf) -> None:
        self.path, self._longest = Path(path), longest
        _check(self.path)
        self._recordings: list[_Recording] = []
        found, errors = parts(self.path), []
        for part in found:
            try:
                self._recordings.append(_Recording(self, part, len(found) == 1))
            except AudioError as error:
                errors.append(error)
        if not self._recordings:
            raise errors[0]
        if errors:
            message = (
                f"{len(errors)} of {len(found)} recordings joined in it cannot be read; the rest was read"
            )
            warnings.warn(f"{path}: {message}", PartialWarning, stacklevel=2)
        self.sample_rate = self._recordings[0].tracks[0].sample_rate

    def blocks(self) -> Iterator[Samples]:
        """Decode the file from its beginning. Raises AudioError."""
        rate = self.sample_rate
        joined = (
            blocks if own_rate == rate else resampled(blocks, own_rate, rate)
            for own_rate, blocks in (recording.decode() for recording in self._recordings)
        )
        return self.limited(checked(str(self.path), chain.from_iterable(joined)), rate)

    def limited(self, blocks: Iterable[Frames], rate: int) -> Iterator[Frames]:
        """The same blocks. Raises AudioError if they are longer than allowed."""
        left = self._longest * rate
        for block in blocks:
            left -= len(block)
            if left < 0:
                raise AudioError(
                    f"{self.path}: is longer than {_length(self._longest)}; cut it into shorter files"
                )
            yield block


class _Recording:
    """A recording within a file."""

    def __init__(self, file: AudioFile, part: Part, whole: bool) -> None:
        self._file = file
        self.tracks = tracks(file.path, part, whole)

    def decode(self) -> tuple[int, Iterator[Samples]]:
        track, mix = self._mixed
        return track.sample_rate, map(mix, track.decode(self._broken))

    @cached_property
    def _mixed(self) -> tuple[Track, Mix]:
        """The track to use, the first that is not silent, and its mix."""
        for track in self.tracks:
            if track.channels == 1 and not track.unscaled and len(self.tracks) == 1:
                return track, Mix(np.ones(1, dtype=np.float32))
            blocks = self._file.limited(track.decode(lambda *_: None), track.sample_rate)
            mix = Mix.of(blocks, track.sample_rate, track.unscaled)
            if not mix.silent:
                break
        if mix.told:
            warnings.warn(f"{self._file.path}: {mix.told}", AudioWarning, stacklevel=2)
        return track, mix

    def _broken(self, second: float, missing: float, went_on: bool) -> None:
        lost = "" if missing == inf else f" and {missing:.1f} s are missing"
        if went_on:
            message = f"is damaged at {second:.1f} s{lost}; the rest was read"
        else:
            lost = "" if missing == inf else f" of {second + missing:.1f} s"
            message = f"breaks off at {second:.1f} s{lost}; what is there was read"
        warnings.warn(f"{self._file.path}: {message}", PartialWarning, stacklevel=2)


def _check(path: Path) -> None:
    """Raise AudioError for what is no file, cannot be opened or is empty."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise AudioError(f"{path}: is a folder; give an audio file")
        if not stat.S_ISREG(status.st_mode):
            raise AudioError(
                f"{path}: is a pipe or a device, which cannot be read twice; save it to a file first"
            )
        path.open("rb").close()
    except FileNotFoundError:
        raise AudioError(f"{path}: no such file; check the path") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{path}: cannot be opened ({reason}); check name and permissions") from None
    if status.st_size == 0:
        raise AudioError(f"{path}: is empty (0 bytes); record or download it again")


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


def _length(seconds: float) -> str:
    return f"{seconds / 60:g} minutes" if seconds >= 120 else f"{seconds:g} seconds"


def comment(path: Path) -> str:
    """The comment in the metadata of an audio file; empty for none, and for files that cannot be read."""
    import soundfile

    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:
            return str(file.comment)
    except (soundfile.SoundFileError, OSError):
        return ""
