"""Naturalness: mean opinion score predicted by DistillMOS."""

from importlib.metadata import version as version_of
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch

from vcae.audio import Audio, Samples
from vcae.evaluation.metrics.base import Features, Measure, Metric, Score, listen, loading, rating


class Naturalness(Metric):
    """Does it sound natural? DistillMOS predicts how listeners would rate the quality, from 1 to 5.

    Hears that figure, (1,); no reference is needed. "Distillation and Pruning for Scalable Self-Supervised
    Representation-Based Speech Quality Assessment" (Stahl and Gamper, 2025, arXiv:2502.05356), trained on
    rated speech of NISQA, VoiceMOS 2022 and the challenges of noise suppression, conferencing and lost
    packets. Licence: MIT. Raises MetricError if not installed.

    Compare only recordings of one sample rate: the model minds what is just below 8 kHz, so much that taking
    natural speech from 16 kHz to 24 kHz and back moved single scores by up to a point, either way.
    """

    name: ClassVar[str] = "naturalness"
    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "DistillMOS",
            higher_is_better=True,
            worst=1.0,
            about="quality as listeners would rate it, predicted by DistillMOS, 1 (bad) to 5 (excellent)",
        ),
    )

    def __init__(self) -> None:
        with loading():
            from distillmos import ConvTransformerSQAModel

            self._model = ConvTransformerSQAModel().eval()
        self.version = f"distillmos-{version_of('distillmos')}"

    def extract(self, audio: Audio) -> npt.NDArray[np.float32]:
        """Predict the mean opinion score: (1,), from 1 (bad) to 5 (excellent). See ``Metric``."""
        with torch.inference_mode():
            rating: Samples = self._model(torch.from_numpy(listen(audio))[None]).numpy()  # (1, N) -> (1, 1)
        return rating.reshape(1)

    def compare(self, features: Features | None, reference: Features | None = None) -> dict[str, Score]:
        """The rating; the reference is not minded. See ``Metric``."""
        return rating(self.measures, features)
