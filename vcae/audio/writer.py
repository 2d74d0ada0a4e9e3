"""Write audio files."""

import os
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vcae.audio.blocks import Samples, split
from vcae.errors import AudioError
from vcae.files import OutputError, check_output, replacing

WRITABLE = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
"""Formats that can be written: suffix -> libsndfile's names of container and encoding."""


def write_blocks(
    path: str | Path,
    blocks: Iterable[Samples],
    sample_rate: int,
    subtype: str | None = None,
    comment: Callable[[], str] = str,
) -> None:
    """Write a waveform in blocks, like `write`. If the iterator of blocks raises, no file is written.

    subtype: libsndfile's name of an encoding, such as PCM_24; default: that of `WRITABLE`. comment: returns
    text for the file's metadata; called before the first samples are written.
    """
    import soundfile

    path = Path(path)
    container, encoding = encoding_of(path, subtype)
    with replacing(path) as unfinished:
        try:
            with soundfile.SoundFile(
                os.fsencode(unfinished), "w", sample_rate, 1, encoding, format=container
            ) as file:
                started = False
                # Short blocks, because libsndfile's Vorbis encoder crashes on very long ones.
                for block in chain.from_iterable(map(split, blocks)):
                    if not started and (about := comment()):
                        file.comment = about
                    started = True
                    if not np.isfinite(block).all():
                        raise AudioError(f"{path}: not written, since some samples are NaN or infinite")
                    file.write(_to_int16(block) if encoding == "PCM_16" else block.clip(-1, 1))
        except soundfile.SoundFileError as error:
            raise AudioError(
                f"{path}: cannot be written at {sample_rate} Hz ({tidy(str(error))});"
                " check the folder's permissions and free space, or choose .wav"
            ) from None


def encoding_of(path: Path, subtype: str | None = None) -> tuple[str, str]:
    """libsndfile's names of container and encoding of a file to write. Raises OutputError."""
    import soundfile

    check_output(path, WRITABLE)
    container, encoding = WRITABLE[path.suffix.lower()]
    if subtype is None:
        return container, encoding
    if container == "OGG":  # the suffix says whether Vorbis or Opus
        known = [encoding]
    else:
        known = [
            name
            for name in soundfile.available_subtypes(container)
            if name.startswith(("PCM", "FLOAT", "MPEG"))
        ]
    if subtype.upper() not in known:
        raise OutputError(f"{path}: cannot hold the subtype {subtype}; choose one of {', '.join(known)}")
    return container, subtype.upper()


def tidy(reason: str) -> str:
    """Format a library's error message as part of a sentence."""
    return " ".join(reason.removeprefix("Error : ").split()).rstrip(".")


def _to_int16(samples: Samples) -> npt.NDArray[np.int16]:
    # The inverse of reading, which divides by 32768; libsndfile's conversion differs by one step.
    steps: npt.NDArray[np.int16] = np.rint(samples * np.float32(32768)).clip(-32768, 32767).astype(np.int16)
    return steps
