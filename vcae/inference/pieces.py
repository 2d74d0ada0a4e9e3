"""Recordings in the pieces in which networks analyse them, so that memory does not grow with their length."""

from collections.abc import Iterator

import numpy as np

from vcae.audio import Recording, Samples, cut, gain_to, speech_seconds
from vcae.errors import AudioError

PIECE_SECONDS = 10
"""Length of a piece, in seconds."""


def pieces(recording: Recording) -> Iterator[Samples]:
    """A recording scaled to LEVEL, in pieces of PIECE_SECONDS: (N,) each, the last one shorter."""
    gain = np.float32(gain_to(recording.level))
    for block in cut(recording.blocks("analysing"), PIECE_SECONDS * recording.sample_rate):
        yield block * gain


def weight(piece: Samples, sample_rate: int) -> float:
    """Weight of the speaker code of a piece (N,) in that of its recording: seconds that are not silent."""
    return 0.01 + speech_seconds(piece, sample_rate)  # a piece without speech counts a little


def refuse_silence(recording: Recording) -> Recording:
    """The same recording. Raises AudioError where it is silent."""
    if recording.silent:
        raise AudioError(f"{recording.name}: is silent; give a recording of speech")
    return recording
