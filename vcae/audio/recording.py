"""A recording of any length, read in blocks as often as needed."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from itertools import dropwhile
from pathlib import Path
from typing import TypeAlias

import numpy as np

from vcae.audio.blocks import Samples, concatenate, cut, split
from vcae.audio.highpass import HighPass
from vcae.audio.level import frame_powers, frame_size, is_silent, level_of
from vcae.audio.mix import Mix
from vcae.audio.reader import AudioFile, checked
from vcae.audio.resampler import resampled
from vcae.audio.waveform import Audio
from vcae.errors import AudioError, AudioWarning
from vcae.progress import Progress

Source: TypeAlias = str | Path | Audio
"""A recording: a file of any sample rate and format, or samples with their rate."""

_SHORT_SECONDS = 600  # recordings up to this length are held in memory


class Recording:
    """A recording of any length, which can be read repeatedly in mono blocks at one sample rate.

    It is freed of offset and rumble by a `HighPass`. The constructor reads it once to measure length and
    level. Files longer than ten minutes are decoded again for each reading instead of being held in memory.
    Raises and warns as `read` does.
    """

    length: int
    """In samples at `sample_rate`."""
    level: float
    """`loudness` of the whole recording, in dBFS."""
    silent: bool
    """`is_silent` of the whole recording."""

    def __init__(self, source: Source, sample_rate: int, progress: Progress | None = None) -> None:
        if not isinstance(source, str | Path | Audio):
            raise AudioError(
                f"a recording cannot be of type {type(source).__name__}; "
                "give the path of a file, or vcae.Audio(samples, sample_rate)"
            )
        self.name = "the recording" if isinstance(source, Audio) else str(source)
        self.sample_rate = sample_rate
        self._progress = progress
        self._read = self._reader(source)
        self.length, self.silent = 0, True
        powers: list[Samples] = []  # of each frame: 7 MB for ten hours
        in_memory: list[Samples] = []
        frame = frame_size(sample_rate)
        for block in cut(self._with_progress("reading", self._read(), None), 100 * frame):
            if len(block) >= frame or not powers:  # a shorter tail is ignored
                powers.append(frame_powers(block, sample_rate))
            self.length += len(block)
            self.silent &= is_silent(block)
            if self.length <= _SHORT_SECONDS * sample_rate:
                in_memory.append(block)
        if self.length <= _SHORT_SECONDS * sample_rate:
            samples = concatenate(in_memory)
            self._read = lambda: split(samples)
        self.level = level_of(np.concatenate(powers) if powers else np.zeros(0, dtype=np.float32))

    def blocks(self, task: str) -> Iterator[Samples]:
        """Read the recording from its beginning. task: name of the purpose, for the progress report."""
        return self._with_progress(task, self._read(), self.length / self.sample_rate)

    def _reader(self, source: Source) -> Callable[[], Iterator[Samples]]:
        """A function that reads the source from its beginning."""
        if isinstance(source, Audio):
            rate, samples = source.sample_rate, source.samples[:, None]
            mix = Mix.of(split(samples), rate, unscaled=True)
            if mix.told:
                warnings.warn(f"{self.name}: {mix.told}", AudioWarning, stacklevel=2)

            def decoded() -> Iterator[Samples]:
                return checked(self.name, map(mix, split(samples)))

        else:
            file = AudioFile(source)
            rate, decoded = file.sample_rate, file.blocks

        def read() -> Iterator[Samples]:
            filtered = map(HighPass(rate).feed, decoded())
            return filtered if rate == self.sample_rate else resampled(filtered, rate, self.sample_rate)

        return read

    def _with_progress(
        self, task: str, blocks: Iterable[Samples], seconds: float | None
    ) -> Iterator[Samples]:
        """The same blocks, with a progress report after each."""
        processed = 0
        for block in blocks:
            yield block
            processed += len(block)
            if self._progress:
                self._progress(task, processed / self.sample_rate, seconds)


def beginning(source: Source, seconds: float) -> Audio:
    """The first seconds of a recording, from its first block with sound, at its own rate and unfiltered.

    Raises AudioError.
    """
    if isinstance(source, Audio):
        rate, blocks = source.sample_rate, split(source.samples)
    else:
        file = AudioFile(source)
        rate, blocks = file.sample_rate, file.blocks()
    found: list[Samples] = []
    missing = round(seconds * rate)
    for block in dropwhile(is_silent, blocks):
        found.append(block[:missing])
        missing -= len(found[-1])
        if not missing:
            break
    return Audio(concatenate(found), rate)
