"""A waveform with its sample rate."""

from dataclasses import dataclass
from pathlib import Path

from vcae.audio.blocks import Samples, split
from vcae.audio.writer import write_blocks


@dataclass(frozen=True, eq=False)
class Audio:
    """A mono waveform and its sample rate."""

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
        """Write to a file, as the function ``write`` does."""
        write(path, self)


def write(path: str | Path, audio: Audio) -> None:
    """Write a file in the format that its suffix names: .wav and .flac (16 bit), .ogg, .opus or .mp3.

    Samples beyond [-1, 1] are clipped. The file appears whole or not at all, replacing an older one.
    Raises OutputError or AudioError when it cannot be written; missing folders are not created.
    """
    write_blocks(path, split(audio.samples), audio.sample_rate)
