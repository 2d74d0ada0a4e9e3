"""A waveform with its sample rate."""

from dataclasses import dataclass
from pathlib import Path

from vcae.audio.blocks import Samples, split
from vcae.audio.writer import write_blocks


@dataclass(frozen=True, eq=False)
class Audio:
    """A mono waveform and its sample rate. Raises ValueError for other shapes and rates below 1."""

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
        """Write to a file by the function ``write``."""
        write(path, self)


def write(path: str | Path, audio: Audio) -> None:
    """Write a file in the format of its suffix: .wav or .flac (16 bit), .ogg, .opus or .mp3.

    Samples beyond [-1, 1] are clipped. The file is written completely or not at all, and replaces an older
    one. Missing folders are not created. Raises OutputError, and AudioError for samples that are not finite.
    """
    write_blocks(path, split(audio.samples), audio.sample_rate)
