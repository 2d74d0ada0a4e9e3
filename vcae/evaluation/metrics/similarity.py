"""Speaker similarity: cosine of Resemblyzer embeddings, "SECS"."""

from collections.abc import Iterable
from importlib.metadata import version as version_of
from typing import ClassVar

import numpy as np

from vcae.audio import Audio
from vcae.evaluation.metrics.base import (
    Embedding,
    Features,
    Measure,
    Metric,
    Score,
    listen,
    loading,
    worst_scores,
)


class SpeakerSimilarity(Metric):
    """Does it sound like this person? Cosine of Resemblyzer's voice embeddings, "SECS".

    Hears an embedding, (256,) of unit norm; the reference is that of the target speaker, best pooled over
    several recordings. The encoder of "Generalized End-to-End Loss for Speaker Verification" (Wan et al.,
    2018, arXiv:1710.10467), trained on LibriSpeech train-other and VoxCeleb. Licence: Apache-2.0.

    About 0.9 is the same person, 0.55 another. Recordings shorter than 1.6 s are evaluated badly.
    Raises MetricError if not installed.
    """

    name: ClassVar[str] = "similarity"
    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "SECS",
            higher_is_better=True,
            worst=0.0,
            about="cosine of Resemblyzer's embeddings of the voice and of the target's, 0 to 1",
        ),
    )

    def __init__(self) -> None:
        with loading():
            from resemblyzer import VoiceEncoder, preprocess_wav

            self._encoder = VoiceEncoder("cpu", verbose=False)
        self._preprocess = preprocess_wav
        self.version = f"resemblyzer-{version_of('resemblyzer')}"

    def extract(self, audio: Audio) -> Embedding:
        """Embed the voice: (256,) float32 of unit norm. See ``Metric``."""
        samples = listen(audio)
        speech = self._preprocess(samples)
        # The package drops what it takes for no speech; were that everything, it would fail.
        embedding: Embedding = self._encoder.embed_utterance(speech if len(speech) else samples)
        return embedding

    def compare(self, features: Features | None, reference: Features | None) -> dict[str, Score]:
        """The cosine, in [0, 1], as no element of an embedding is negative. See ``Metric``."""
        if reference is None:
            return {}
        if features is None:
            return worst_scores(self.measures, {"SECS": 1})
        return {"SECS": Score(float(np.dot(features, reference)))}

    @staticmethod
    def pool(embeddings: Iterable[Features]) -> Embedding:
        """The voice of several recordings: n times (256,) -> (256,), the mean, at unit norm."""
        mean = np.mean([np.asarray(each) for each in embeddings], axis=0)
        voice: Embedding = mean / np.linalg.norm(mean)
        return voice
