"""Whether an audio file is cut off, by what its container says of its own length."""

from pathlib import Path

_OGG_TAIL = 2**17  # more than the longest page, 65307 bytes
_TOLERANCE = 0.2  # seconds


def is_truncated(path: Path, seconds: float) -> bool:
    """Whether a file that decodes to so many seconds ends before its container says it should.

    WAV, FLAC, Ogg, MP3 with a Xing header, and what PyAV opens; False for others and where nothing is said.
    """
    with path.open("rb") as file:
        head = file.read(2**16)
        size = path.stat().st_size
        if head[:4] == b"RIFF":
            return _riff_is_truncated(head, size)
        if head[:4] == b"fLaC":
            return _flac_seconds(head) > seconds + _TOLERANCE / 10
        if head[:4] == b"OggS":
            file.seek(max(0, size - _OGG_TAIL))
            return _ogg_is_truncated(file.read())
    if (at := max(head.find(b"Xing"), head.find(b"Info"))) > 0 and head[at + 7] & 2:
        frames = 4 * (head[at + 7] & 1)  # the number of frames comes first, if it is there
        return size < int.from_bytes(head[at + 8 + frames : at + 12 + frames], "big")
    return _container_seconds(path) > seconds + _TOLERANCE


def _riff_is_truncated(head: bytes, size: int) -> bool:
    at = 12
    while at + 8 <= len(head):
        length = int.from_bytes(head[at + 4 : at + 8], "little")
        if head[at : at + 4] == b"data":
            unknown = length in (0, 2**32 - 1)  # of a program that wrote to a pipe
            return not unknown and at + 8 + length > size
        at += 8 + length + length % 2
    return False


def _flac_seconds(head: bytes) -> float:
    """The length that STREAMINFO gives; 0 where it gives none."""
    info = int.from_bytes(head[18:26], "big")  # rate 20 bits, channels 3, bits 5, samples 36
    return (info & (2**36 - 1)) / max(info >> 44, 1)


def _ogg_is_truncated(tail: bytes) -> bool:
    """Whether the last page is not marked as the end of the stream, or is incomplete."""
    at = tail.rfind(b"OggS")
    page = tail[at:]
    if at < 0 or len(page) < 27:
        return True
    segments = page[27 : 27 + page[26]]
    return not page[5] & 4 or len(segments) < page[26] or len(page) < 27 + page[26] + sum(segments)


def _container_seconds(path: Path) -> float:
    import av

    try:
        with av.open(str(path)) as container:
            return (container.duration or 0) / av.time_base
    except (av.FFmpegError, EOFError):
        return 0.0
