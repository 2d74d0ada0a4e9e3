"""What came of an evaluation: the scores of every trial, their means, and how sure these are."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from vcae.evaluation.metrics.base import Features, Measure, Score
from vcae.evaluation.trials import Trial
from vcae.files import replacing

RESAMPLES = 1000
Interval: TypeAlias = tuple[float, float, float]
"""A mean and the ends of its 95 % interval."""


@dataclass(frozen=True)
class Result:
    """What the metrics say of one recording of one system."""

    trial: Trial
    system: str
    audio: Path | None
    """The recording that was evaluated, or None where there is none."""
    failure: str | None
    """Why it counts as a failure: each score is then the worst there is."""
    scores: dict[str, Score]
    """By the name of the measure; those that could not be taken are left out."""
    transcript: str = ""
    voice: Features | None = None
    """Its voice as the metric of speakers embeds it."""


@dataclass(frozen=True)
class Evaluation:
    """All results, and what was evaluated how."""

    results: Mapping[str, Sequence[Result]]
    """By system, each in the order of the trials."""
    measures: Sequence[Measure]
    about: Mapping[str, str] = field(default_factory=dict)
    """What was evaluated: weights, version, list."""
    natural_voices: Mapping[Path, Features] = field(default_factory=dict)
    """The voices of all natural recordings in the list, as the metric of speakers embeds them."""
    codes: Mapping[Path, Features] = field(default_factory=dict)
    """The speaker codes of these, and of what the first system made, by the converter's own encoder."""
    transcripts: Mapping[Path, str] = field(default_factory=dict)
    """What the metric of words hears in the sources that are English."""

    def summary(self, system: str) -> dict[str, Interval]:
        """Weighted mean of each measure that was taken, with its interval.

        From bootstrap resamples of the speakers, as sources and as targets at once: trials that share a
        speaker are alike, so that resampling trials would promise too much.
        """
        results = self.results[system]
        speakers = sorted({s for r in results for s in (r.trial.source_speaker, r.trial.target_speaker)})
        count = len(speakers)
        draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
        sources = draws[:, [speakers.index(r.trial.source_speaker) for r in results]]
        targets = draws[:, [speakers.index(r.trial.target_speaker) for r in results]]
        drawn = sources * targets  # (resamples, results): how often each trial is there
        summary: dict[str, Interval] = {}
        for measure in self.measures:
            missing = Score(0.0, 0.0)
            scores = np.array([r.scores.get(measure.name, missing) for r in results])
            values, weights = scores[:, 0], scores[:, 1]
            if not weights.any():
                continue
            totals = drawn @ weights
            means = (drawn @ (weights * values))[totals > 0] / totals[totals > 0]
            low, high = np.quantile(means, [0.025, 0.975]) if len(means) else (np.nan, np.nan)
            summary[measure.name] = (float(np.average(values, weights=weights)), float(low), float(high))
        return summary

    def failures(self, system: str) -> int:
        """How many conversions failed."""
        return sum(r.failure is not None for r in self.results[system])

    def table(self) -> list[list[str]]:
        """A head, and a row for each system; measures that no system has are left out."""
        summaries = {system: self.summary(system) for system in self.results}
        names = [m.name for m in self.measures if any(m.name in s for s in summaries.values())]
        rows = [["", *names, "failures"]]
        for system, summary in summaries.items():
            cells = [f"{v[0]:.2f} [{v[1]:.2f}, {v[2]:.2f}]" if (v := summary.get(n)) else "" for n in names]
            rows.append([system, *cells, str(self.failures(system))])
        return rows

    def write_json(self, path: Path) -> None:
        """Write every trial and the summary. Raises OutputError."""
        with replacing(path) as unfinished:
            text = json.dumps(self.to_json(), indent=1, default=str, ensure_ascii=False)
            unfinished.write_text(text, encoding="utf-8")

    def to_json(self) -> dict[str, Any]:
        """Every trial and the summary, as plain numbers and strings."""

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
