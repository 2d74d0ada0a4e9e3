"""Signal quality: mean opinion score predicted by DNSMOS."""

import warnings
from importlib.metadata import version as version_of
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from vcae.audio import Audio
from vcae.evaluation.metrics.base import RATE, Features, Measure, Metric, Score, listen, loading, rating


class SignalQuality(Metric):
    """Is it clean? DNSMOS predicts how listeners would rate speech and background together, from 1 to 5.

    Hears that figure, (1,), which the paper calls OVRL; no reference is needed. "DNSMOS P.835: A
    Non-Intrusive Perceptual Objective Speech Quality Metric to Evaluate Noise Suppressors" (Reddy et al.,
    2022, arXiv:2110.01763), trained on what listeners said of noise suppressors in Microsoft's DNS
    Challenge. Licence: MIT. Raises MetricError if not installed.

    It knows noise and what suppressors leave of speech. It hardly notices that everything above 2 kHz is
    missing, so it must never stand alone: look at DistillMOS beside it. It takes about half a second for
    every second beyond the first nine.
    """

    name: ClassVar[str] = "quality"
    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "DNSMOS",
            higher_is_better=True,
            worst=1.0,
            about="quality as listeners would rate it, predicted by DNSMOS (OVRL), 1 (bad) to 5 (excellent);"
            " hardly notices missing treble",
        ),
    )

    _WINDOW = 144160  # samples that the model hears at a time, 9.01 s

    def __init__(self) -> None:
        with loading():
            from onnxruntime import InferenceSession, SessionOptions
            from speechmos import dnsmos
        folder = Path(dnsmos.__file__).parent / "dnsmos_models"
        paths = [str(folder / "sig_bak_ovr.onnx"), str(folder / "model_v8.onnx")]
        self._model = dnsmos.DNSMOS(*paths)
        # The package's own sessions would take every core.
        options = SessionOptions()
        options.intra_op_num_threads = 1
        self._model.onnx_sess, self._model.p808_onnx_sess = (
            InferenceSession(path, options, providers=["CPUExecutionProvider"]) for path in paths
        )
        self.version = f"speechmos-{version_of('speechmos')}"

    def extract(self, audio: Audio) -> npt.NDArray[np.float32]:
        """Predict the mean opinion score: (1,), from 1 (bad) to 5 (excellent). See ``Metric``.

        Shorter recordings are repeated up to the 9.01 s that the model takes. (The package by itself doubles
        them until they are longer, which takes up to nine times as long and gives the same within 0.05.)
        """
        samples = listen(audio)
        repeated = np.resize(samples, max(len(samples), self._WINDOW))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its mel filters, some are empty
            ratings = self._model(repeated, RATE, is_personalized_MOS=False)
        return np.array([ratings["ovrl_mos"]], dtype=np.float32)

    def compare(self, features: Features | None, reference: Features | None = None) -> dict[str, Score]:
        """The rating; the reference is not minded. See ``Metric``."""
        return rating(self.measures, features)
