"""Naturalness: mean opinion score predicted by DistillMOS."""

from importlib.metadata import version as version_of
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch

from vcae.audio import Audio, Samples
from vcae.evaluation.metrics.base import Features, Measure, Metric, Score, loading, prepare, rating


class Naturalness(Metric):
    """Mean opinion score (MOS) of quality from 1 to 5, predicted by DistillMOS.

    Features are the predicted MOS, (1,); no reference is needed. "Distillation and Pruning for
    Scalable Self-Supervised Representation-Based Speech Quality Assessment" (Stahl and Gamper, 2025,
    arXiv:2502.05356), trained on rated speech of NISQA, VoiceMOS 2022 and the challenges on noise
    suppression, conferencing and packet loss. Licence: MIT. Raises MetricError if the package is missing.

    Compare only recordings of one sample rate. The model is sensitive to the band just below 8 kHz:
    resampling natural speech from 16 kHz to 24 kHz and back changed single scores by up to one point.
    """

    name: ClassVar[str] = "naturalness"
    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "DistillMOS",
            higher_is_better=True,
            worst=1.0,
            about="mean opinion score of quality, predicted by DistillMOS, 1 (bad) to 5 (excellent)",
        ),
    )

    def __init__(self) -> None:
        with loading():
            from distillmos import ConvTransformerSQAModel

            self._model = ConvTransformerSQAModel().eval()
        self.version = f"distillmos-{version_of('distillmos')}"

    def extract(self, audio: Audio) -> npt.NDArray[np.float32]:
        """The predicted MOS: (1,), from 1 (bad) to 5 (excellent)."""
        with torch.inference_mode():
            samples = torch.from_numpy(prepare(audio))[None]  # (1, N)
            predicted: Samples = self._model(samples).numpy()  # (1, 1)
        return predicted.reshape(1)

    def compare(self, features: Features | None, reference: Features | None = None) -> dict[str, Score]:
        """The predicted MOS; the reference is ignored."""
        return rating(self.measures, features)
