"""Mel-cepstral distortion against a parallel recording."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from vcae.audio import Audio
from vcae.evaluation.metrics.base import RATE, Features, Measure, Metric, Score, listen, worst_scores


class CepstralDistortion(Metric):
    """How far is the spectrum from the target's, speaking the same sentence? Mel-cepstral distortion in dB.

    Hears mel-cepstra (13, T) every 10 ms; the reference is a recording of the target speaker that says the
    same words, so this metric is for parallel corpora only. The two are aligned by dynamic time warping, and
    10 / ln 10 * sqrt(2 sum d^2), d being the differences of the coefficients 1 to 13, is averaged over the
    path: the RMS difference of the smoothed spectra. Silence at both ends is left out, and so is the energy,
    which is coefficient 0. For utterances: memory grows with the product of the lengths.

    "Mel-cepstral distance measure for objective speech quality assessment" (Kubichek, 1993), on mel bands as
    there, with 13 coefficients and warping as in "Towards End-to-End Prosody Transfer" (Skerry-Ryan et al.,
    2018, arXiv:1803.09047). Figures by other recipes, such as WORLD's envelope with 24 coefficients, are not
    comparable. It has no model: computed by librosa, licence ISC.

    For scale, sentences of the Voice Conversion Challenge 2016: two speakers saying the same 6.1, saying
    different things 8.0.
    """

    name: ClassVar[str] = "distortion"
    version: str = "mfcc13"
    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "MCD",
            higher_is_better=False,
            worst=12.0,  # of silence, a flat spectrum: 12.2 on average over those sentences, from 10 to 14
            about="mel-cepstral distortion to the target saying the same, in dB; 0 is best",
        ),
    )

    _BANDS = 40
    _COEFFICIENTS = 13
    _FLOOR = 60.0  # dB; what is quieter by more than this than the loudest band is not features

    def extract(self, audio: Audio) -> npt.NDArray[np.float32]:
        """Mel-cepstra (13, T), of which the Euclidean distance of two frames is in dB. See ``Metric``."""
        from librosa import power_to_db
        from librosa.effects import trim
        from librosa.feature import melspectrogram, mfcc

        speech, _ = trim(listen(audio), top_db=40, frame_length=400, hop_length=160)
        power = melspectrogram(
            y=speech, sr=RATE, n_fft=512, win_length=400, hop_length=160, n_mels=self._BANDS
        )
        decibels = power_to_db(power, ref=np.max, top_db=self._FLOOR)  # (40, T)
        cepstra = mfcc(S=decibels, n_mfcc=1 + self._COEFFICIENTS)[1:]
        # By the orthonormal DCT, c = ln 10 / 20 * sqrt(2 / bands) * cepstra; the formula above leaves this.
        scaled: npt.NDArray[np.float32] = (cepstra / np.sqrt(self._BANDS)).astype(np.float32)
        return scaled

    def compare(self, features: Features | None, reference: Features | None) -> dict[str, Score]:
        """The distortion in dB. See ``Metric``."""
        if reference is None:
            return {}
        if features is None:
            return worst_scores(self.measures, {"MCD": 1})
        from librosa.sequence import dtw

        costs, path = dtw(features, reference, metric="euclidean")
        return {"MCD": Score(float(costs[-1, -1] / len(path)))}
