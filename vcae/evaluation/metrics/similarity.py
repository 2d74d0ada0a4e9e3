"""Speaker similarity: cosine of Resemblyzer embeddings (SECS)."""

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
    loading,
    prepare,
    worst_scores,
)


class SpeakerSimilarity(Metric):
    """Speaker encoder cosine similarity (SECS) of two recordings, by Resemblyzer.

    Features are a speaker embedding (256,) of unit norm. The reference is the embedding of the target
    speaker, best pooled over several recordings. The encoder is that of "Generalized End-to-End Loss for
    Speaker Verification" (Wan et al., 2018, arXiv:1710.10467), trained on LibriSpeech train-other and
    VoxCeleb. Licence: Apache-2.0.

    Typical values: 0.9 for the same speaker, 0.55 for different speakers. Recordings shorter than 1.6 s
    give unreliable values. Raises MetricError if Resemblyzer is not installed.
    """

    name: ClassVar[str] = "similarity"
    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "SECS",
            higher_is_better=True,
            worst=0.0,
            about="cosine of the Resemblyzer embeddings of recording and target speaker, 0 to 1",
        ),
    )

    def __init__(self) -> None:
        with loading():
            from resemblyzer import VoiceEncoder, preprocess_wav

            self._encoder = VoiceEncoder("cpu", verbose=False)
        self._preprocess = preprocess_wav
        self.version = f"resemblyzer-{version_of('resemblyzer')}"

    def extract(self, audio: Audio) -> Embedding:
        """The speaker embedding: (256,) float32 of unit norm."""
        samples = prepare(audio)
        speech = self._preprocess(samples)
        # The package removes non-speech, and fails where nothing is left.
        embedding: Embedding = self._encoder.embed_utterance(speech if len(speech) else samples)
        return embedding

    def compare(self, features: Features | None, reference: Features | None) -> dict[str, Score]:
        """The cosine. It lies in [0, 1], since no element of an embedding is negative."""
        if reference is None:
            return {}
        if features is None:
            return worst_scores(self.measures, {"SECS": 1})
        return {"SECS": Score(float(np.dot(features, reference)))}

    @staticmethod
    def pool(embeddings: Iterable[Features]) -> Embedding:
        """Mean embedding of several recordings of one speaker, at unit norm: n times (256,) -> (256,)."""
        mean = np.mean([np.asarray(each) for each in embeddings], axis=0)
        pooled: Embedding = mean / np.linalg.norm(mean)
        return pooled
