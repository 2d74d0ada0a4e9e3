"""A recording of any length, read in blocks as often as needed."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from vcae.audio.blocks import Progress, Samples, concatenate, cut, split
from vcae.audio.level import frame_powers, frame_size, is_silent, level_of
from vcae.audio.reader import checked, decode
from vcae.audio.resampler import resampled
from vcae.audio.waveform import Audio

_SHORT_SECONDS = 600  # what is no longer than this is kept in memory


class Recording:
    """A recording of any length, to be heard in mono blocks at one sample rate as often as wanted.

    The first time, as it is made, tells its length and level. A file of more than ten minutes is decoded
    anew each time, so that little of it is ever in memory. Raises AudioError as `read` does.
    """

    length: int
    """In samples at `sample_rate`."""
    level: float
    """What `loudness` says of the whole, in dBFS."""
    silent: bool
    """What `is_silent` says of the whole."""

    def __init__(
        self, source: str | Path | Audio, sample_rate: int, progress: Progress | None = None
    ) -> None:
        self.name = "the recording" if isinstance(source, Audio) else str(source)
        self.sample_rate = sample_rate
        self._source, self._progress = source, progress
        self.length, self.silent = 0, True
        powers: list[Samples] = []  # of each frame: 7 MB for ten hours
        short: list[Samples] = []
        frame = frame_size(sample_rate)
        for block in cut(self._told("reading", self._decoded(), None), 100 * frame):
            if len(block) >= frame or not powers:  # a shorter tail is left out
                powers.append(frame_powers(block, sample_rate))
            self.length += len(block)
            self.silent &= is_silent(block)
            if self.length <= _SHORT_SECONDS * sample_rate:
                short.append(block)
        if self.length <= _SHORT_SECONDS * sample_rate:
            self._source = Audio(concatenate(short), sample_rate)
        self.level = level_of(np.concatenate(powers) if powers else np.zeros(0, dtype=np.float32))

    def blocks(self, doing: str) -> Iterator[Samples]:
        """The recording from its beginning; `doing` names what for, for the progress that is told."""
        return self._told(doing, self._decoded(), self.length / self.sample_rate)

    def _decoded(self) -> Iterator[Samples]:
        if isinstance(self._source, Audio):
            rate, blocks = self._source.sample_rate, checked(self.name, split(self._source.samples))
        else:
            rate, blocks = decode(Path(self._source))
        return blocks if rate == self.sample_rate else resampled(blocks, rate, self.sample_rate)

    def _told(self, doing: str, blocks: Iterable[Samples], seconds: float | None) -> Iterator[Samples]:
        heard = 0
        for block in blocks:
            yield block
            heard += len(block)
            if self._progress:
                self._progress(doing, heard / self.sample_rate, seconds)
