"""Intonation: F0 correlation and voicing agreement, by SwiftF0."""

from importlib.metadata import version as version_of
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from vcae.audio import Audio
from vcae.evaluation.metrics.base import (
    RATE,
    Features,
    Measure,
    Metric,
    Score,
    loading,
    prepare,
    worst_scores,
)


class Intonation(Metric):
    """Correlation of log-F0 and voicing agreement between a conversion and its source, by SwiftF0.

    Features are (2, T): F0 in Hz and the confidence that the frame is voiced, one frame every 16 ms. A frame
    with a confidence of 0.5 or more is voiced. The reference is the source; frames are compared at equal
    times. Frames missing at the end of the conversion count as unvoiced; surplus frames are ignored. The
    weight is the number of frames of the reference, for the correlation the number of its voiced frames.

    "F0 correlation" is Pearson's correlation over the frames that are voiced in both recordings. It does not
    depend on pitch range or mean. It is 0 where too few frames are voiced in both or F0 is constant; where
    that holds for the reference, the measure is left out. Octave errors of the tracker lower it, so creaky
    voices correlate less.

    "SwiftF0: Fast and Accurate Monophonic Pitch Detection" (Nieradzik, 2025, arXiv:2508.18440); from
    release 0.2 on a smaller network, trained on PTDB-TUG, MOCHA-TIMIT, CMU Arctic and music. Training labels
    of this package come from WORLD, another F0 estimator. Licence: MIT. Raises MetricError if the package is
    not installed.
    """

    name: ClassVar[str] = "intonation"
    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "F0 correlation",
            higher_is_better=True,
            worst=0.0,
            about="correlation of log-F0 with the source, over frames voiced in both, -1 to 1",
        ),
        Measure(
            "voicing agreement",
            higher_is_better=True,
            worst=0.0,
            about="share of 16 ms frames with the voiced/unvoiced decision of the source, 0 to 1",
        ),
    )

    _RANGE = (50.0, 600.0)  # Hz, F0 of speech
    _VOICED = 0.5  # confidence threshold of the package
    _MIN_FRAMES = 10  # for a correlation
    _MIN_STD = 1e-3  # of log-F0: a sixtieth of a semitone

    def __init__(self) -> None:
        with loading():
            from swift_f0 import SwiftF0
        self._detector = SwiftF0(threads=1)
        self.version = f"swift-f0-{version_of('swift-f0')}"

    def extract(self, audio: Audio) -> npt.NDArray[np.float32]:
        """F0 in Hz and voicing confidence in [0, 1], one frame every 256 samples at 16 kHz: (2, T)."""
        pitch = self._detector.detect(prepare(audio), RATE, *self._RANGE)
        return np.stack([pitch.pitch_hz, pitch.confidence]).astype(np.float32)

    def compare(self, features: Features | None, reference: Features | None) -> dict[str, Score]:
        """F0 correlation and voicing agreement with the source."""
        if reference is None:
            return {}
        f0, voiced = self._read(reference)
        weights = {"voicing agreement": len(voiced)}
        if self._varies(f0[voiced]):
            weights["F0 correlation"] = int(voiced.sum())
        if features is None:
            return worst_scores(self.measures, weights)
        other_f0, other_voiced = self._read(features, frames=len(voiced))
        both = voiced & other_voiced
        values = {"voicing agreement": float(np.mean(voiced == other_voiced)), "F0 correlation": 0.0}
        if self._varies(f0[both]) and self._varies(other_f0[both]):
            values["F0 correlation"] = float(np.corrcoef(np.log(f0[both]), np.log(other_f0[both]))[0, 1])
        return {name: Score(values[name], weight) for name, weight in weights.items()}

    def _read(
        self, features: Features, frames: int | None = None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """F0 and voicing, cut or padded to a number of frames: (2, T) -> (frames,), (frames,)."""
        contour = np.asarray(features)[:, :frames]
        missing = 0 if frames is None else frames - contour.shape[1]
        f0, confidence = np.pad(contour, ((0, 0), (0, missing)))
        return f0, confidence >= self._VOICED

    def _varies(self, f0: npt.NDArray[np.float32]) -> bool:
        """Whether F0 (n,) in Hz has enough frames and enough variation for a correlation."""
        return len(f0) >= self._MIN_FRAMES and bool(np.log(f0).std() > self._MIN_STD)
