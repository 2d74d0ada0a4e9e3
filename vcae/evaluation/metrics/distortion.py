"""Mel-cepstral distortion against a parallel recording."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from vcae.audio import Audio
from vcae.evaluation.metrics.base import RATE, Features, Measure, Metric, Score, prepare, worst_scores


class CepstralDistortion(Metric):
    """Mel-cepstral distortion (MCD) in dB between a recording and the target speaker's recording of it.

    Features are mel-cepstra (13, T), one frame every 10 ms. The reference is a recording in which the target
    speaker says the same words, so the metric needs a parallel corpus. Dynamic time warping aligns the two.
    MCD is the mean over the warping path of 10 / ln 10 * sqrt(2 sum d^2), where d are the differences of
    coefficients 1 to 13; it equals the RMS difference of the smoothed log spectra. Silence at both ends and
    coefficient 0 (energy) are excluded. Memory grows with the product of the two lengths.

    "Mel-cepstral distance measure for objective speech quality assessment" (Kubichek, 1993) defines it
    on mel bands; 13 coefficients and warping are those of "Towards End-to-End Prosody Transfer" (Skerry-Ryan
    et al., 2018, arXiv:1803.09047). Values computed in other ways, such as from 24 coefficients of WORLD's
    envelope, are not comparable. There is no model; librosa (licence ISC) computes the cepstra.

    For scale, on sentences of the Voice Conversion Challenge 2016: 6.1 between two speakers who say the same
    sentence, 8.0 between different sentences.
    """

    name: ClassVar[str] = "distortion"
    version: str = "mfcc13"
    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "MCD",
            higher_is_better=False,
            worst=12.0,  # MCD of a flat spectrum to those sentences: mean 12.2, range 10 to 14
            about="mel-cepstral distortion to the target's recording of the same sentence, in dB; 0 is best",
        ),
    )

    _BANDS = 40
    _COEFFICIENTS = 13
    _FLOOR = 60.0  # dB below the loudest band; lower band levels are raised to this floor

    def extract(self, audio: Audio) -> npt.NDArray[np.float32]:
        """Mel-cepstra (13, T), scaled so that the Euclidean distance of two frames is in dB."""
        from librosa import power_to_db
        from librosa.effects import trim
        from librosa.feature import melspectrogram, mfcc

        speech, _ = trim(prepare(audio), top_db=40, frame_length=400, hop_length=160)
        power = melspectrogram(
            y=speech, sr=RATE, n_fft=512, win_length=400, hop_length=160, n_mels=self._BANDS
        )
        decibels = power_to_db(power, ref=np.max, top_db=self._FLOOR)  # (40, T)
        cepstra = mfcc(S=decibels, n_mfcc=1 + self._COEFFICIENTS)[1:]
        # For the orthonormal DCT, c = ln 10 / 20 * sqrt(2 / bands) * cepstra; the formula then reduces to:
        scaled: npt.NDArray[np.float32] = (cepstra / np.sqrt(self._BANDS)).astype(np.float32)
        return scaled

    def compare(self, features: Features | None, reference: Features | None) -> dict[str, Score]:
        """MCD in dB; the reference is the target's parallel recording."""
        if reference is None:
            return {}
        if features is None:
            return worst_scores(self.measures, {"MCD": 1})
        from librosa.sequence import dtw

        costs, path = dtw(features, reference, metric="euclidean")
        return {"MCD": Score(float(costs[-1, -1] / len(path)))}
