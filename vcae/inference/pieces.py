"""Recordings in the pieces in which networks analyse them, so that memory does not grow with their length."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from vcae.audio import Recording, Samples, cut, gain_to, speech_seconds
from vcae.errors import AudioError

PIECE_SECONDS = 10
"""Length of a piece, in seconds."""


def pieces(
    recording: Recording, mask: npt.NDArray[np.bool_] | None = None, hop: int = 1
) -> Iterator[Samples]:
    """A recording scaled to LEVEL, in pieces of PIECE_SECONDS: (N,) each, the last one shorter.

    mask: which frames of `hop` samples are kept; default: all.
    """
    gain = np.float32(gain_to(recording.level))
    blocks = recording.blocks("analysing")
    if mask is not None:
        blocks = _kept(blocks, mask, hop)
    for block in cut(blocks, PIECE_SECONDS * recording.sample_rate):
        yield block * gain


def _kept(blocks: Iterator[Samples], mask: npt.NDArray[np.bool_], hop: int) -> Iterator[Samples]:
    start = 0
    for block in blocks:
        yield block[mask[np.arange(start, start + len(block)) // hop]]
        start += len(block)


def weight(piece: Samples, sample_rate: int) -> float:
    """Weight of the speaker code of a piece (N,) in that of its recording: seconds that are not silent."""
    return 0.01 + speech_seconds(piece, sample_rate)  # a piece without speech counts a little


def refuse_silence(recording: Recording) -> Recording:
    """The same recording. Raises AudioError where it is silent."""
    if recording.silent:
        raise AudioError(f"{recording.name}: is silent; give a recording of speech")
    return recording
