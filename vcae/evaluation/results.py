"""Results of an evaluation: the scores of every trial, their means, and confidence intervals."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vcae.evaluation.metrics.base import Features, Measure, Score
from vcae.evaluation.trials import Trial
from vcae.files import replacing

RESAMPLES = 1000
"""Bootstrap resamples for an interval."""
Interval: TypeAlias = tuple[float, float, float]
"""A mean and the ends of its 95 % confidence interval."""


def format_interval(interval: Interval | None, form: str = ".2f") -> str:
    """A table cell such as "0.77 [0.74, 0.79]"; empty for a measure without scores. form: of each number."""
    if interval is None:
        return ""
    mean, low, high = (format(x, form) for x in interval)
    return f"{mean} [{low}, {high}]"


def _ends(means: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % interval of resampled means, without those that are NaN."""
    known = means[~np.isnan(means)]
    low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (np.nan, np.nan)
    return float(low), float(high)


@dataclass(frozen=True)
class Result:
    """The scores of one recording that a system made for a trial."""

    trial: Trial
    system: str
    audio: Path | None
    """The evaluated recording, or None if the system made none."""
    failure: str | None
    """Why the conversion failed, or None. Every score of a failure is the worst of its measure."""
    scores: dict[str, Score]
    """By name of the measure; undefined measures are left out."""
    transcript: str = ""
    """By Whisper."""
    embedding: Features | None = None
    """By Resemblyzer."""


@dataclass(frozen=True)
class Evaluation:
    """All results of an evaluation, with further data for the report."""

    results: Mapping[str, Sequence[Result]]
    """By system, each in the order of the trials."""
    measures: Sequence[Measure]
    about: Mapping[str, str] = field(default_factory=dict)
    """Names and values: trial list, version, weights, Whisper model."""
    natural_embeddings: Mapping[Path, Features] = field(default_factory=dict)
    """Resemblyzer embeddings of all natural recordings in the list."""
    speaker_codes: Mapping[Path, Features] = field(default_factory=dict)
    """Speaker codes, by the converter's encoder, of the natural recordings and of the first system's."""
    source_transcripts: Mapping[Path, str] = field(default_factory=dict)
    """Whisper transcripts of the English sources."""

    def summary(self, system: str) -> dict[str, Interval]:
        """Weighted mean of each measure that has scores, with its interval: measure name -> interval.

        The bootstrap resamples speakers, as sources and as targets at once. Trials that share a speaker are
        correlated, so an interval from resampled trials would be too narrow.
        """
        return {name: (mean, *_ends(means)) for name, (mean, means) in self._resampled(system).items()}

    def difference(self, system: str, baseline: str) -> dict[str, Interval]:
        """Mean of each measure less that of a baseline with the same trials: measure name -> interval.

        Both are resampled alike, so what is hard for both does not widen the interval.
        """
        ours, theirs = self._resampled(system), self._resampled(baseline)
        return {
            name: (ours[name][0] - mean, *_ends(ours[name][1] - means))
            for name, (mean, means) in theirs.items()
            if name in ours
        }

    def _resampled(self, system: str) -> dict[str, tuple[float, npt.NDArray[np.float64]]]:
        """The mean of each measure, and those of all resamples, NaN where none of the trials was drawn."""
        results = self.results[system]
        speakers = sorted({s for r in results for s in (r.trial.source_speaker, r.trial.target_speaker)})
        count = len(speakers)
        draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
        sources = draws[:, [speakers.index(r.trial.source_speaker) for r in results]]
        targets = draws[:, [speakers.index(r.trial.target_speaker) for r in results]]
        drawn = sources * targets  # (resamples, results): count of each trial
        found = {}
        for measure in self.measures:
            missing = Score(0.0, 0.0)
            scores = np.array([r.scores.get(measure.name, missing) for r in results])
            values, weights = scores[:, 0], scores[:, 1]
            if weights.any():
                totals = drawn @ weights
                sums = drawn @ (weights * values)
                means = np.divide(sums, totals, out=np.full(RESAMPLES, np.nan), where=totals > 0)
                found[measure.name] = float(np.average(values, weights=weights)), means
        return found

    def failures(self, system: str) -> int:
        """The number of failed conversions."""
        return sum(r.failure is not None for r in self.results[system])

    def table(self, measures: Collection[str] = ()) -> list[list[str]]:
        """A head and one row for each system: means with intervals, and the number of failures.

        measures: names of the columns, by default all measures. A measure without any score is left out.
        """
        summaries = {system: self.summary(system) for system in self.results}
        scored = [m.name for m in self.measures if any(m.name in s for s in summaries.values())]
        names = [name for name in scored if name in measures or not measures]
        rows = [["", *names, "failures"]]
        for system, summary in summaries.items():
            cells = [format_interval(summary.get(name)) for name in names]
            rows.append([system, *cells, str(self.failures(system))])
        return rows

    def write_json(self, path: Path) -> None:
        """Write all trials, results and summaries. Raises OutputError."""
        with replacing(path) as unfinished:
            text = json.dumps(self.to_json(), indent=1, default=str, ensure_ascii=False)
            unfinished.write_text(text, encoding="utf-8")

    def to_json(self) -> dict[str, Any]:
        """All trials, results and summaries as numbers and strings."""

        def result(r: Result) -> dict[str, Any]:
            return {
                "id": r.trial.id,
                "audio": r.audio and str(r.audio),
                "failure": r.failure,
                "transcript": r.transcript,
                "scores": {name: score._asdict() for name, score in r.scores.items()},
            }

        trials = [r.trial for r in next(iter(self.results.values()))]
        return {
            "about": dict(self.about),
            "measures": [asdict(measure) for measure in self.measures],
            "summary": {
                system: {n: dict(zip(("mean", "low", "high"), v, strict=True)) for n, v in s.items()}
                | {"failures": self.failures(system), "trials": len(self.results[system])}
                for system, s in ((system, self.summary(system)) for system in self.results)
            },
            "trials": [asdict(trial) for trial in trials],
            "results": {system: [result(r) for r in results] for system, results in self.results.items()},
        }
