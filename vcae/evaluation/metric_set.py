"""All metrics together, applied to the recording that a system made for a trial."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from vcae.audio import read
from vcae.evaluation.metrics.base import Features, Measure, Metric, MetricError, Score
from vcae.evaluation.metrics.cache import FeatureCache
from vcae.evaluation.metrics.distortion import CepstralDistortion
from vcae.evaluation.metrics.intelligibility import WER, WER_WHISPER, Intelligibility
from vcae.evaluation.metrics.naturalness import Naturalness
from vcae.evaluation.metrics.pitch import Intonation
from vcae.evaluation.metrics.quality import SignalQuality
from vcae.evaluation.metrics.similarity import SpeakerSimilarity
from vcae.evaluation.results import Result
from vcae.evaluation.trials import Trial

SECS_TO_TARGET = Measure(
    "SECS to target", True, 0.0, "cosine of Resemblyzer embeddings to the target's references, 0 to 1"
)
SECS_TO_SOURCE = Measure(
    "SECS to source", False, 1.0, "cosine of Resemblyzer embeddings to the source recording, 0 to 1"
)
CLOSER_TO_TARGET = Measure(
    "closer-to-target rate",
    True,
    0.0,
    "share of conversions with a higher SECS to the target's references than to the source speaker's, 0 to 1",
)
WER_TO_TEXT = Measure("WER to text", False, 1.0, "WER against the text of the source, where the list has one")
WER_WHISPER_TO_TEXT = Measure(
    f"{WER_TO_TEXT.name} (Whisper normaliser)",
    False,
    1.0,
    "WER against the text of the source, after Whisper's own English text normaliser",
)
SIMILARITY_MEASURES = (SECS_TO_TARGET, SECS_TO_SOURCE, CLOSER_TO_TARGET)
TEXT_MEASURES = {WER: WER_TO_TEXT, WER_WHISPER: WER_WHISPER_TO_TEXT}
"""Error rate against the transcript of the source -> the same against the text of the trial."""


class MetricSet:
    """The metrics of an evaluation, and the cache of the features that they extract.

    reference_free: metrics that need no reference recording.
    """

    def __init__(
        self,
        cache: FeatureCache,
        similarity: SpeakerSimilarity,
        intelligibility: Metric,
        intonation: Metric,
        distortion: Metric,
        reference_free: Sequence[Metric],
    ) -> None:
        self.cache = cache
        self.similarity = similarity
        self.intelligibility = intelligibility
        self.intonation = intonation
        self.distortion = distortion
        self.reference_free = reference_free
        self.read = lru_cache(maxsize=256)(read)

    @classmethod
    def load(cls, cache: FeatureCache, whisper: str | Path | None = None) -> "MetricSet":
        """Load all metrics, with another Whisper model if one is named. Raises MetricError."""
        return cls(
            cache,
            SpeakerSimilarity(),
            Intelligibility(whisper),
            Intonation(),
            CepstralDistortion(),
            [Naturalness(), SignalQuality()],
        )

    @property
    def measures(self) -> list[Measure]:
        """All measures, in the order of a table's columns."""
        metrics = [*self.reference_free, self.intonation, self.distortion]
        return [
            *SIMILARITY_MEASURES,
            *self.intelligibility.measures,
            *TEXT_MEASURES.values(),
            *(measure for metric in metrics for measure in metric.measures),
        ]

    def features(self, metric: Metric, path: Path) -> Features:
        """The features of a natural recording. Raises MetricError, which names the file."""
        try:
            return self.cache.extract(metric, self.read(path))
        except MetricError as error:
            raise MetricError(f"{path}: {error}") from None

    def speaker_embedding(self, paths: Sequence[Path]) -> Features:
        """The mean Resemblyzer embedding of natural recordings of one speaker."""
        return self.similarity.pool([self.features(self.similarity, path) for path in paths])

    def evaluate(self, trial: Trial, system: str, path: Path | None, failure: str | None) -> Result:
        """Score what a system made for a trial: the recording at `path`, or the reason why there is none.

        Raises MetricError where a natural recording of the trial cannot be evaluated.
        """
        audio = read(path) if path and not failure else None
        metrics = [
            self.similarity,
            self.intelligibility,
            self.intonation,
            self.distortion,
            *self.reference_free,
        ]
        try:
            features = {
                metric.name: self.cache.extract(metric, audio) if audio else None for metric in metrics
            }
        except MetricError as error:  # for example, the conversion is too short
            return self.evaluate(trial, system, path, str(error))
        embedding, transcript = features[self.similarity.name], features[self.intelligibility.name]
        scores = self._similarity_scores(trial, embedding)
        if system != "natural":  # a natural recording of the target has other words than the source
            if trial.language == "en":
                scores |= self._error_rates(trial, transcript)
            source_f0 = self.features(self.intonation, trial.source)
            scores |= self.intonation.compare(features[self.intonation.name], source_f0)
        for metric in self.reference_free:
            scores |= metric.compare(features[metric.name], None)
        if trial.parallel and (system != "natural" or trial.target != trial.parallel):
            parallel = self.features(self.distortion, trial.parallel)
            scores |= self.distortion.compare(features[self.distortion.name], parallel)
        return Result(trial, system, path, failure, scores, str(transcript or ""), embedding)

    def _similarity_scores(self, trial: Trial, embedding: Features | None) -> dict[str, Score]:
        if embedding is None:
            return {measure.name: Score(measure.worst) for measure in SIMILARITY_MEASURES}

        def secs(paths: Sequence[Path]) -> float:
            return self.similarity.compare(embedding, self.speaker_embedding(paths))["SECS"].value

        target = secs(trial.references)
        source_speaker = secs(trial.source_references or [trial.source])
        values = (target, secs([trial.source]), float(target > source_speaker))
        return {m.name: Score(value) for m, value in zip(SIMILARITY_MEASURES, values, strict=True)}

    def _error_rates(self, trial: Trial, transcript: Features | None) -> dict[str, Score]:
        """Error rates against the transcript of the source, and against the text if the trial has one."""
        scores = self.intelligibility.compare(transcript, self.features(self.intelligibility, trial.source))
        to_text = self.intelligibility.compare(transcript, trial.text)
        return scores | {
            measure.name: to_text[name] for name, measure in TEXT_MEASURES.items() if name in to_text
        }
