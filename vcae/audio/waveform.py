"""A waveform with its sample rate."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vcae.audio.blocks import Samples, split
from vcae.audio.mix import mono
from vcae.audio.writer import write_blocks
from vcae.errors import AudioError

MAX_CHANNELS = 8
"""An axis of at most so many elements, and shorter than the other one, holds channels."""
_FULL_SCALE = {"int8": 2**7, "int16": 2**15, "int32": 2**31}


@dataclass(frozen=True, eq=False)
class Audio:
    """A mono waveform and its sample rate.

    Takes samples as other libraries give them: NumPy arrays or torch tensors of floats in [-1, 1], or of
    integers of 8, 16 or 32 bits, which are scaled; of shape (N,), (N, channels) or (channels, N), whose
    channels are mixed as described at `vcae.audio.Mix`. Raises AudioError for anything else, and for a rate
    that is no positive integer.
    """

    samples: Samples
    """(N,) float32 in [-1, 1], however they were given."""
    sample_rate: int
    """In Hz."""
    comment: str = ""
    """Text for the metadata of a file."""

    def __post_init__(self) -> None:
        rate: Any = self.sample_rate
        if not isinstance(rate, int | float | np.integer | np.floating) or rate <= 0 or rate != int(rate):
            raise AudioError(f"sample_rate must be a positive number of samples a second, not {rate!r}")
        object.__setattr__(self, "sample_rate", int(rate))
        object.__setattr__(self, "samples", as_mono(self.samples, self.sample_rate))

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate

    def write(self, path: str | Path) -> None:
        """Write to a file by the function ``write``."""
        write(path, self)


def as_mono(samples: Any, sample_rate: int) -> Samples:
    """Samples as described at `Audio` -> (N,) float32 in [-1, 1]. Raises AudioError."""
    if hasattr(samples, "detach"):  # a torch tensor
        samples = samples.detach().cpu().numpy()
    try:
        array = np.asarray(samples)
    except ValueError:  # lists of different lengths
        array = np.array(None)
    name = array.dtype.name
    if array.dtype.kind != "f" and name not in (*_FULL_SCALE, "uint8"):
        raise AudioError(f"samples of type {name} are no waveform; give floats in [-1, 1], or int16")
    if array.ndim > 1:
        array = array.reshape([size for size in array.shape if size != 1] or [1])
    if name == "uint8":
        array = (array.astype(np.float32) - 128) / 128
    elif name in _FULL_SCALE:
        array = (array / _FULL_SCALE[name]).astype(np.float32)
    if array.ndim == 2 and min(array.shape) <= MAX_CHANNELS and array.shape[0] != array.shape[1]:
        array = mono(array if array.shape[1] < array.shape[0] else array.T, sample_rate)
    if array.ndim != 1:
        raise AudioError(f"samples of shape {array.shape} are no waveform; give (N,) or (N, channels)")
    return array.astype(np.float32, copy=False)


def write(path: str | Path, audio: Audio) -> None:
    """Write a file in the format of its suffix: .wav or .flac (16 bit), .ogg, .opus or .mp3.

    The comment becomes metadata.
    Samples beyond [-1, 1] are clipped. The file is written completely or not at all, and replaces an older
    one. Missing folders are not created. Raises OutputError, and AudioError for samples that are not finite.
    """
    write_blocks(path, split(audio.samples), audio.sample_rate, comment=lambda: audio.comment)
