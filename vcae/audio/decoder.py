"""Decode the recordings within a file by libsndfile and, where that fails, by FFmpeg (PyAV)."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from vcae.audio.blocks import BLOCK_SIZE
from vcae.audio.containers import Part, Window, is_unfinished
from vcae.audio.mix import Frames
from vcae.audio.writer import tidy
from vcae.errors import AudioError

_SLACK = 0.1  # seconds that may lack at the end: encoders' delays
_DURATION_IN_HEADER = ("flac", "mov", "asf")  # formats whose duration FFmpeg does not guess
Broken = Callable[[float, float, bool], None]
"""Called where a part of a track is missing: from which second on, how many seconds (or `inf` for unknown),
and whether reading went on after it."""


@dataclass(frozen=True)
class Track:
    """A sound track of a part of a file."""

    sample_rate: int
    channels: int
    unscaled: bool
    """Whether it was not encoded from integers, so that samples may have any scale."""
    decode: Callable[[Broken], Iterator[Frames]] = field(repr=False)
    """Blocks of samples of all channels, (N, C). Raises AudioError."""


def tracks(path: Path, part: Part, whole: bool) -> list[Track]:
    """The sound tracks of a part of a file. whole: the part is the whole file. Raises AudioError."""
    import soundfile

    with path.open("rb") as file:
        file.seek(part.start)
        head = file.read(4)
    if head[:3] == b"ID3" or (head[:1] == b"\xff" and head[1] & 0xE0 == 0xE0):
        return _av_tracks(path, part, "no MP3")  # libsndfile stops at joins, and prints what it skips
    # libsndfile opens a path itself, which is faster, and accepts names that are not valid UTF-8.
    source = os.fsencode(path) if whole else None
    try:
        with soundfile.SoundFile(source or Window(path, part)) as opened:
            rate, channels, frames = opened.samplerate, opened.channels, opened.frames
            unscaled = opened.subtype in ("FLOAT", "DOUBLE")
    except soundfile.SoundFileError as error:
        return _av_tracks(path, part, _reason(error))
    if frames == 0 and head == b"RIFF":  # the header gives no length
        return _av_tracks(path, part, "no samples")

    def decode(broken: Broken) -> Iterator[Frames]:
        decoded = 0
        reason = "it breaks off"
        with soundfile.SoundFile(source or Window(path, part)) as opened:
            try:
                while len(block := opened.read(BLOCK_SIZE, dtype="float32", always_2d=True)):
                    decoded += len(block)
                    yield block
                    if len(block) < BLOCK_SIZE:
                        break
            except soundfile.SoundFileError as error:
                reason = _reason(error)
        if decoded < frames < 2**40:  # a stream that gives no length has more
            yield from _rest(path, part, reason, decoded, frames, rate, broken)
        elif part.declared > 1:
            broken(decoded / rate, (part.declared - 1) * decoded / rate, False)

    return [Track(rate, channels, unscaled, decode)]


def _rest(
    path: Path, part: Part, reason: str, decoded: int, frames: int, rate: int, broken: Broken
) -> Iterator[Frames]:
    """What FFmpeg decodes of a track of `frames` samples after the first, which libsndfile has decoded."""
    try:
        track = _av_tracks(path, part, reason, frames / rate)[0]
    except AudioError:
        if not decoded:
            raise
        track = None
    if track is None or track.sample_rate != rate:  # FFmpeg decodes Opus at 48 kHz
        broken(decoded / rate, (frames - decoded) / rate, False)
        return
    for block in track.decode(broken):
        yield block[decoded:]
        decoded = max(0, decoded - len(block))


def _av_tracks(path: Path, part: Part, reason: str, seconds: float | None = None) -> list[Track]:
    """Sound tracks by FFmpeg. seconds: the length, where it is known."""
    import av  # slow to import, and rarely needed

    if is_unfinished(path, part):
        raise AudioError(
            f"{path}: breaks off before the index that its end should hold; copy or record it again"
        )
    unreadable = AudioError(
        f"{path}: not an audio file that can be read ({reason}); convert it to WAV or FLAC first"
    )

    def opened() -> Any:
        try:
            return av.open(Window(path, part), metadata_errors="ignore")
        except (av.FFmpegError, EOFError, ValueError):
            raise unreadable from None

    def track(index: int, stream: Any) -> Track:
        length = seconds
        if length is None and stream.duration and format_name in _DURATION_IN_HEADER:
            length = float(stream.duration * stream.time_base)
        codec = stream.codec_context.name
        unscaled = codec.startswith("pcm_f")

        def decode(broken: Broken) -> Iterator[Frames]:
            with opened() as container:
                yield from _decode(container, index, length, broken)

        return Track(stream.rate, stream.channels, unscaled, decode)

    with opened() as container:
        format_name = container.format.name.split(",")[0]
        if format_name == "mp3":
            seconds = _xing_seconds(path, part, container.streams.audio[0])
        if not container.streams.audio and format_name in ("tty", "srt", "ass"):
            raise unreadable  # plain text
        if not container.streams.audio:
            raise AudioError(f"{path}: holds no sound, only {_kinds(container)}; give a recording of speech")
        found = [track(i, s) for i, s in enumerate(container.streams.audio) if s.rate and s.channels]
    if not found:
        raise unreadable
    return found


def _decode(container: Any, index: int, seconds: float | None, broken: Broken) -> Iterator[Frames]:
    """Blocks of a track; damaged packets are skipped."""
    import av

    stream = container.streams.audio[index]
    rate = stream.rate
    if stream.codec_context.name == "flac":  # which FFmpeg decodes to noise otherwise
        stream.codec_context.options = {"err_detect": "crccheck+explode"}
    planar = av.AudioResampler(format="fltp", rate=rate, layout=stream.layout)  # one row per channel
    decoded, damaged, went_on = 0, -1, False
    start: float | None = None
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                break
            frames = packet.decode()
        except (av.FFmpegError, EOFError):
            frames = []
            damaged = decoded if damaged < 0 else damaged
        for frame in frames:
            if frame.pts is not None and frame.time_base:
                at = float(frame.pts * frame.time_base)
                start = at - decoded / rate if start is None else start
                if damaged < 0 and seconds and at - start > decoded / rate + _SLACK:
                    damaged = decoded
            for converted in planar.resample(frame):
                block = np.ascontiguousarray(converted.to_ndarray().T)
                went_on = went_on or 0 <= damaged <= decoded
                decoded += len(block)
                yield block
    if seconds is not None and decoded / rate < seconds - _SLACK:
        missing = seconds - decoded / rate
    elif went_on or (damaged >= 0 and seconds is None):
        missing = inf
    else:
        return
    broken((damaged if damaged >= 0 else decoded) / rate, missing, went_on)


def _xing_seconds(path: Path, part: Part, stream: Any) -> float | None:
    """Length of an MP3 file by its Xing header; without one, FFmpeg would guess it from the bit rate."""
    with Window(path, part) as file:
        head = file.read(10) or b""
        if head[:3] == b"ID3":
            size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
            file.seek(10 + size)
        else:
            file.seek(0)
        frame = file.read(256) or b""
    if stream.duration and (b"Xing" in frame or b"Info" in frame):
        return float(stream.duration * stream.time_base)
    return None


def _kinds(container: Any) -> str:
    kinds = sorted({stream.type for stream in container.streams if stream.type})
    return " and ".join(kinds) or "other data"


def _reason(error: Exception) -> str:
    return tidy(getattr(error, "error_string", str(error)))
