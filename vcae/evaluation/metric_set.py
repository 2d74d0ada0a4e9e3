"""All metrics applied to one trial, with a cache on disk of what is slow to compute."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from vcae.audio import Audio, read
from vcae.evaluation.metrics.base import Features, Measure, Metric, MetricError, Score
from vcae.evaluation.metrics.distortion import CepstralDistortion
from vcae.evaluation.metrics.intelligibility import Intelligibility
from vcae.evaluation.metrics.naturalness import Naturalness
from vcae.evaluation.metrics.pitch import Intonation
from vcae.evaluation.metrics.quality import SignalQuality
from vcae.evaluation.metrics.similarity import SpeakerSimilarity
from vcae.evaluation.results import Result
from vcae.evaluation.trials import Trial
from vcae.files import replacing


class FeatureCache:
    """Features of recordings on disk, by metric and by content of the recording. Nothing is ever removed."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    @classmethod
    def kept(cls, folder: Path | None) -> "FeatureCache":
        """In a folder; by default in the user's cache."""
        from platformdirs import user_cache_path

        return cls(folder or user_cache_path("vcae") / "features")

    def extract(self, metric: Metric, audio: Audio) -> Features:
        """The features of a recording, computed now or read from the cache. Raises MetricError."""
        if self.folder is None:
            return metric.extract(audio)
        content = hashlib.sha256(audio.samples.tobytes() + str(audio.sample_rate).encode()).hexdigest()
        path = self.folder / f"{metric.name}-{metric.version}" / content[:2] / content[2:]
        text, array = path.with_suffix(".txt"), path.with_suffix(".npy")
        if text.exists():
            return text.read_text(encoding="utf-8")
        if array.exists():
            kept: Features = np.load(array, allow_pickle=False)
            return kept
        features = metric.extract(audio)
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(features, str):
            with replacing(text) as unfinished:
                unfinished.write_text(features, encoding="utf-8")
        else:
            with replacing(array) as unfinished, unfinished.open("wb") as file:
                np.save(file, features, allow_pickle=False)
        return features


TO_TARGET = Measure(
    "cosine to target", True, 0.0, "Resemblyzer's cosine to the references of the target, 0 to 1"
)
TO_SOURCE = Measure("cosine to source", False, 1.0, "Resemblyzer's cosine to the source itself, 0 to 1")
CLOSER = Measure(
    "closer-to-target rate",
    True,
    0.0,
    "share of conversions closer to the target's recordings than to the source speaker's, 0 to 1",
)
TO_TEXT = Measure(
    "WER to text", False, 1.0, "word error rate against the text of the source, where the list brings one"
)


class Panel:
    """All metrics, asked together about the trials of one list."""

    def __init__(
        self,
        memory: FeatureCache,
        voices: SpeakerSimilarity,
        words: Metric,
        melody: Metric,
        cepstrum: Metric,
        alone: Sequence[Metric],
    ) -> None:
        self.memory = memory
        self.voices, self.words, self.melody, self.cepstrum, self.alone = (
            voices,
            words,
            melody,
            cepstrum,
            alone,
        )
        self.read = lru_cache(maxsize=256)(read)

    @classmethod
    def complete(cls, memory: FeatureCache, whisper: str | Path | None = None) -> "Panel":
        """All the metrics there are. Raises MetricError where one cannot be had."""
        alone = [Naturalness(), SignalQuality()]
        return cls(
            memory, SpeakerSimilarity(), Intelligibility(whisper), Intonation(), CepstralDistortion(), alone
        )

    @property
    def measures(self) -> list[Measure]:
        """All that is measured, in the order of a table's columns."""
        metrics = [self.words, *self.alone, self.melody, self.cepstrum]
        return [TO_TARGET, TO_SOURCE, CLOSER, *(m for metric in metrics for m in metric.measures), TO_TEXT]

    def extract(self, metric: Metric, path: Path) -> Features:
        """The features of a natural recording. Raises MetricError, which names the file."""
        try:
            return self.memory.extract(metric, self.read(path))
        except MetricError as error:
            raise MetricError(f"{path}: {error}") from None

    def voice(self, paths: Sequence[Path]) -> Features:
        """The voice of a speaker in some natural recordings."""
        return self.voices.pool([self.extract(self.voices, path) for path in paths])

    def measure(self, trial: Trial, system: str, path: Path | None, failure: str | None) -> Result:
        """Ask all metrics what a system made of a trial. Raises MetricError for its natural recordings."""
        audio = read(path) if path and not failure else None
        metrics = [self.voices, self.words, self.melody, self.cepstrum, *self.alone]
        try:
            features = {
                metric.name: self.memory.extract(metric, audio) if audio else None for metric in metrics
            }
        except MetricError as error:  # too short, say: nothing that could be evaluated
            return self.measure(trial, system, path, str(error))
        scores = self._similarity(trial, features[self.voices.name])
        transcript = features[self.words.name]
        if system != "natural":  # which says something else
            if trial.language == "en":
                scores |= self.words.compare(transcript, self.extract(self.words, trial.source))
                to_text = self.words.compare(transcript, trial.text).get("WER")
                if to_text:
                    scores[TO_TEXT.name] = to_text
            scores |= self.melody.compare(features[self.melody.name], self.extract(self.melody, trial.source))
        for metric in self.alone:
            scores |= metric.compare(features[metric.name], None)
        if trial.parallel and (system != "natural" or trial.target != trial.parallel):
            reference = self.extract(self.cepstrum, trial.parallel)
            scores |= self.cepstrum.compare(features[self.cepstrum.name], reference)
        return Result(trial, system, path, failure, scores, str(transcript or ""), features[self.voices.name])

    def _similarity(self, trial: Trial, voice: Features | None) -> dict[str, Score]:
        def cosine(paths: Sequence[Path]) -> float:
            return self.voices.compare(voice, self.voice(paths))["SECS"].value

        if voice is None:
            return {measure.name: Score(measure.worst) for measure in (TO_TARGET, TO_SOURCE, CLOSER)}
        target = cosine(trial.references)
        nearer = target > cosine(trial.source_references or [trial.source])
        values = {TO_TARGET.name: target, TO_SOURCE.name: cosine([trial.source]), CLOSER.name: float(nearer)}
        return {name: Score(value) for name, value in values.items()}
