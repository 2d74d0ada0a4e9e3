"""Recordings within a file: files that were joined end to end, and files that end too early."""

import io
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path

_UNKNOWN = 0x7F000000  # programs that write to a pipe give a length from here on, or 0
_FLAC = b"fLaC\x00\x00\x00\x22"  # the mark of a file, and the header of its first block


@dataclass(frozen=True)
class Part:
    """A recording within a file: bytes `start` to `stop`."""

    start: int
    stop: int
    declared: float = 1.0
    """Length by the header, as a multiple of what is there; `inf` if more should follow, but not how much."""


class Window(io.RawIOBase):
    """The bytes of a part, as a file to read. Has no name, so that libraries do not guess from it."""

    def __init__(self, path: Path, part: Part) -> None:
        self._file, self._part = path.open("rb"), part
        self.seek(0)

    def readable(self) -> bool:
        """Can be read."""
        return True

    def seekable(self) -> bool:
        """Can be sought."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position, counted from the start of the part."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self._part.stop - self._part.start}
        return self._file.seek(self._part.start + max(0, base[whence] + offset)) - self._part.start

    def tell(self) -> int:
        """The position, counted from the start of the part."""
        return self._file.tell() - self._part.start

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read as many bytes as fit and are left."""
        left = max(0, self._part.stop - self._file.tell())
        return self._file.readinto(memoryview(buffer)[:left])

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def parts(path: Path) -> list[Part]:
    """The recordings in a file, in order; the whole file for formats that cannot be told apart.

    WAV, FLAC, Ogg and MP4 are. MP3 needs no parts: its frames stand alone.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:4] == b"RIFF":
            return list(_wav(data))
        if data[:4] == b"OggS":
            return list(_ogg(data))
        starts = [0]
        if data[:4] == b"fLaC":
            starts = list(_find(data, _FLAC))
        elif data[4:8] == b"ftyp":
            starts = [at for name, at in _boxes(data) if name == b"ftyp"]
        return [Part(a, b) for a, b in zip(starts, [*starts[1:], len(data)], strict=True)] or [
            Part(0, len(data))
        ]


def _wav(data: mmap.mmap) -> Iterator[Part]:
    start = 0
    while start < len(data):
        end, declared = _riff(data, start)
        if data[end : end + 4] != b"RIFF":  # what follows is no recording
            end = len(data)
        yield Part(start, end, declared)
        start = end


def _riff(data: mmap.mmap, start: int) -> tuple[int, float]:
    """End of the RIFF file at `start`, and its length by the header as a multiple of what is there."""
    end = start + 8 + int.from_bytes(data[start + 4 : start + 8], "little")
    at = start + 12
    while at + 8 <= min(end, len(data)):
        size, present = int.from_bytes(data[at + 4 : at + 8], "little"), len(data) - at - 8
        if data[at : at + 4] == b"data":
            if size == 0 or size >= _UNKNOWN:
                return len(data), 1.0
            if size > present:
                return len(data), size / present if present else inf
        at += 8 + size + size % 2
    return min(max(at, end), len(data)), 1.0


def _ogg(data: mmap.mmap) -> Iterator[Part]:
    """A part begins with pages that begin streams, after pages that do not."""
    start, at, declared = 0, 0, 1.0
    beginning = True
    while 0 <= at < len(data):
        if data[at : at + 4] != b"OggS" or at + 27 > len(data):  # damaged
            at = data.find(b"OggS", at + 1)
            continue
        begins = bool(data[at + 5] & 2)
        if begins and not beginning:
            yield Part(start, at)
            start = at
        beginning = begins
        lengths = data[at + 27 : at + 27 + data[at + 26]]
        at += 27 + data[at + 26] + sum(lengths)
        declared = inf if at > len(data) else 1.0
    yield Part(start, len(data), declared)


def is_unfinished(path: Path, part: Part) -> bool:
    """Whether a part is the beginning of an MP4 file, without the index that is needed to read it."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        names = [name for name, at in _boxes(data) if part.start <= at < part.stop]
    return names[:1] == [b"ftyp"] and b"mdat" in names and not {b"moov", b"moof"} & set(names)


def _boxes(data: mmap.mmap) -> Iterator[tuple[bytes, int]]:
    """Name and position of the outermost boxes of an MP4 file (ISO/IEC 14496-12)."""
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        yield data[at + 4 : at + 8], at
        if size < 8:  # up to the end
            return
        at += size


def _find(data: mmap.mmap, mark: bytes) -> Iterator[int]:
    at = data.find(mark)
    while at >= 0:
        yield at
        at = data.find(mark, at + 1)
