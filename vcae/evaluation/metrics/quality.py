"""Signal quality: mean opinion score predicted by DNSMOS."""

import warnings
from importlib.metadata import version as version_of
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from vcae.audio import Audio
from vcae.evaluation.metrics.base import RATE, Features, Measure, Metric, Score, loading, prepare, rating


class SignalQuality(Metric):
    """Mean opinion score (MOS) of speech and background noise together, from 1 to 5, predicted by DNSMOS.

    Features are the predicted MOS, (1,), called OVRL in the paper; no reference is needed. "DNSMOS P.835: A
    Non-Intrusive Perceptual Objective Speech Quality Metric to Evaluate Noise Suppressors" (Reddy et al.,
    2022, arXiv:2110.01763), trained on listener ratings of noise suppressors in Microsoft's DNS Challenge.
    Licence: MIT. Raises MetricError if the package is not installed.

    DNSMOS is sensitive to noise and to artefacts of noise suppression. It hardly reacts to a low-pass at
    2 kHz, so never report it without DistillMOS. It takes about 0.5 s for each second beyond the first nine.
    """

    name: ClassVar[str] = "quality"
    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "DNSMOS",
            higher_is_better=True,
            worst=1.0,
            about="mean opinion score of speech and noise, predicted by DNSMOS, 1 (bad) to 5 (excellent);"
            " hardly reacts to a low-pass",
        ),
    )

    _WINDOW = 144160  # samples of one model input, 9.01 s

    def __init__(self) -> None:
        with loading():
            from onnxruntime import InferenceSession, SessionOptions
            from speechmos import dnsmos
        folder = Path(dnsmos.__file__).parent / "dnsmos_models"
        paths = [str(folder / "sig_bak_ovr.onnx"), str(folder / "model_v8.onnx")]
        self._model = dnsmos.DNSMOS(*paths)
        # The package's own sessions use all cores.
        options = SessionOptions()
        options.intra_op_num_threads = 1
        self._model.onnx_sess, self._model.p808_onnx_sess = (
            InferenceSession(path, options, providers=["CPUExecutionProvider"]) for path in paths
        )
        self.version = f"speechmos-{version_of('speechmos')}"

    def extract(self, audio: Audio) -> npt.NDArray[np.float32]:
        """The predicted MOS: (1,), from 1 (bad) to 5 (excellent).

        Shorter recordings are repeated up to 9.01 s, the length of one model input. The package itself
        doubles them until they are longer; that takes up to nine times as long and differs by at most 0.05.
        """
        samples = prepare(audio)
        repeated = np.resize(samples, max(len(samples), self._WINDOW))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about empty mel filters
            ratings = self._model(repeated, RATE, is_personalized_MOS=False)
        return np.array([ratings["ovrl_mos"]], dtype=np.float32)

    def compare(self, features: Features | None, reference: Features | None = None) -> dict[str, Score]:
        """The predicted MOS; the reference is ignored."""
        return rating(self.measures, features)
