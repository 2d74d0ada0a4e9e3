"""Intonation: F0 correlation and voicing agreement, by SwiftF0."""

from importlib.metadata import version as version_of
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from vcae.audio import Audio
from vcae.evaluation.metrics.base import RATE, Features, Measure, Metric, Score, listen, loading, worst_scores


class Intonation(Metric):
    """Is the source's intonation kept? Correlation of log-F0, and agreement on what is voiced, by SwiftF0.

    Hears (2, T): F0 in Hz, and how sure it is that there is a voice of this F0, every 16 ms; from one half
    on a frame is voiced. The reference is the source, beside which a conversion runs frame by frame: what it
    lacks at its end counts as unvoiced, what it has too much is not features. Weights are frames of the
    reference, voiced ones for the correlation.

    "F0 correlation" is Pearson's, over the frames voiced in both, so it does not mind another range, nor a
    wider or narrower one; it is 0 where too few frames are voiced in both or F0 stands still, and is not
    taken where that is so of the reference. A tracker that errs by an octave pulls it down on both sides:
    creaky voices correlate less.

    "SwiftF0: Fast and Accurate Monophonic Pitch Detection" (Nieradzik, 2025, arXiv:2508.18440); since its
    release 0.2 a smaller network, trained on PTDB-TUG, MOCHA-TIMIT, CMU Arctic and music. The F0 labels that
    this package is trained on are WORLD's, so the metric is another one. Licence: MIT. Raises MetricError if
    not installed.
    """

    name: ClassVar[str] = "melody"
    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "F0 correlation",
            higher_is_better=True,
            worst=0.0,
            about="correlation of log-F0 with the source's where both are voiced, -1 to 1",
        ),
        Measure(
            "voicing agreement",
            higher_is_better=True,
            worst=0.0,
            about="share of 16 ms frames that are voiced, or not, as the source's are, 0 to 1",
        ),
    )

    _RANGE = (50.0, 600.0)  # Hz, of speech
    _VOICED = 0.5  # the confidence that the package means by it
    _FEWEST = 10  # frames that a correlation is taken over
    _STILL = 1e-3  # log-F0's standard deviation, a sixtieth of a semitone

    def __init__(self) -> None:
        with loading():
            from swift_f0 import SwiftF0
        self._detector = SwiftF0(threads=1)
        self.version = f"swift-f0-{version_of('swift-f0')}"

    def extract(self, audio: Audio) -> npt.NDArray[np.float32]:
        """F0 in Hz and confidence in [0, 1], a frame every 256 samples at 16 kHz: (2, T). See ``Metric``."""
        pitch = self._detector.detect(listen(audio), RATE, *self._RANGE)
        return np.stack([pitch.pitch_hz, pitch.confidence]).astype(np.float32)

    def compare(self, features: Features | None, reference: Features | None) -> dict[str, Score]:
        """Agreement with the source, frame by frame. See ``Metric``."""
        if reference is None:
            return {}
        f0, voiced = self._read(reference)
        weights = {"voicing agreement": len(voiced)}
        if self._moves(f0[voiced]):
            weights["F0 correlation"] = int(voiced.sum())
        if features is None:
            return worst_scores(self.measures, weights)
        other_f0, other_voiced = self._read(features, frames=len(voiced))
        both = voiced & other_voiced
        values = {"voicing agreement": float(np.mean(voiced == other_voiced)), "F0 correlation": 0.0}
        if self._moves(f0[both]) and self._moves(other_f0[both]):
            values["F0 correlation"] = float(np.corrcoef(np.log(f0[both]), np.log(other_f0[both]))[0, 1])
        return {name: Score(values[name], weight) for name, weight in weights.items()}

    def _read(
        self, features: Features, frames: int | None = None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """F0 and voicing of so many frames: (2, T) -> (frames,), (frames,)."""
        contour = np.asarray(features)[:, :frames]
        missing = 0 if frames is None else frames - contour.shape[1]
        f0, confidence = np.pad(contour, ((0, 0), (0, missing)))
        return f0, confidence >= self._VOICED

    def _moves(self, f0: npt.NDArray[np.float32]) -> bool:
        """Whether F0 (n,) in Hz is long and lively enough to correlate."""
        return len(f0) >= self._FEWEST and bool(np.log(f0).std() > self._STILL)
