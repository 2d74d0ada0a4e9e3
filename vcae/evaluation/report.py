"""An evaluation as one HTML file that opens offline: scores, pictures and recordings.

This module computes the content; the template is `report.html` in the same folder.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from string import ascii_letters, digits
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, StrictUndefined, Template

from vcae.evaluation.clips import MAX_SECONDS, Clip, Clips, clip_reader
from vcae.evaluation.metrics.base import Features, Measure
from vcae.evaluation.results import RESAMPLES, Evaluation, Result
from vcae.evaluation.systems import SYSTEMS
from vcae.files import check_output, replacing

Array: TypeAlias = npt.NDArray[np.float64]

SCALE = ("natural", "identity")
"""Reference systems; the histograms show their outlines."""
MAPPED = ("SECS to target", "closer-to-target rate", "WER", "DistillMOS", "F0 correlation")
"""Measures with a heat map of speaker pairs."""
RANKED = ("SECS to target", "WER", "DistillMOS", "DNSMOS", "F0 correlation", "MCD")
"""Measures whose best, median and worst trial have players: one of each metric."""

FAILURES_LISTED = 20
FAILURES_PLAYED = 3
BINS = 24


def write_report(path: Path, evaluation: Evaluation) -> None:
    """Write one self-contained HTML file (.html). Its main system is the first of the evaluation.

    The same evaluation gives the same bytes. A recording that cannot be read is replaced by the reason.
    Raises OutputError.
    """
    check_output(path, [".html"])
    page = _template().render(_contents(evaluation))
    with replacing(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")


@dataclass(frozen=True)
class Scale:
    """The range of values of an axis or a colour scale."""

    low: float
    high: float
    below: bool
    """Whether there are lower values; they are drawn at the low end."""
    above: bool

    @classmethod
    def of(cls, values: Iterable[float], outliers: bool = True) -> "Scale":
        """The range of the finite values; never empty.

        Without outliers, the range extends beyond the middle 80 % of the values by at most three times the
        width of these 80 %, so that one extreme trial does not compress the others.
        """
        finite = np.array([value for value in values if np.isfinite(value)] or [0.0])
        low, high = float(finite.min()), float(finite.max())
        most = np.quantile(finite, [0.1, 0.9]).tolist()
        room = 3 * (most[1] - most[0])
        if room and not outliers:
            low, high = max(low, most[0] - room), min(high, most[1] + room)
        if low == high:
            low, high = low - 0.5, high + 0.5
        return cls(low, high, bool((finite < low).any()), bool((finite > high).any()))

    def __call__(self, value: float) -> float:
        """The position of a value: 0 at the low end, 1 at the high end."""
        return float(np.clip((value - self.low) / (self.high - self.low), 0, 1))


@dataclass(frozen=True)
class Heat:
    """A measure for every pair of speakers; nan where there are no scores."""

    measure: Measure
    cells: Array
    """(S + 1, T + 1): a row for each source, a column for each target; the last row and column are means."""
    failed: Array
    """(S + 1, T + 1): number of failed trials."""
    scale: Scale
    """Range of the pairs without a failure."""

    def goodness(self, value: float) -> float:
        """The position of a value between the worst (0) and the best (1) end of the scale."""
        position = self.scale(value)
        return position if self.measure.higher_is_better else 1 - position


@dataclass(frozen=True)
class Histogram:
    """The distribution of a measure over the trials of the main system, and outlines of reference systems."""

    measure: Measure
    scale: Scale
    bars: list[tuple[float, float, int]]
    """Edges and count of each bin."""
    outlines: dict[str, list[float]]
    """System -> height of each bin; the highest bin is 1."""
    median: float


@dataclass(frozen=True)
class Point:
    """A recording on the map of embeddings."""

    x: float
    y: float
    speaker: int
    title: str


@dataclass(frozen=True)
class EmbeddingMap:
    """Speaker embeddings in two dimensions, with equal units on both axes."""

    width: float
    height: float
    explained: float
    """The share of the variance of the natural recordings that the two dimensions explain."""
    natural: list[Point]
    converted: list[Point]
    centres: dict[int, list[float]]
    """Speaker -> mean of the natural recordings."""
    tops: dict[int, float]
    """Speaker -> y of the uppermost natural recording, for the label."""


@dataclass(frozen=True)
class Card:
    """A trial with players."""

    number: int
    """Index among the trials."""
    result: Result
    badges: list[str]
    clips: list[tuple[str, str, Clip | str]]
    """Role, file name, and the recording or the reason why there is none."""
    text: str
    """The words of the source: the text of the trial, or else the Whisper transcript; "" if unknown."""
    transcript: list[tuple[str, str]]
    """Words of the conversion compared with `text`: "same", "wrong" or "lost", and the words."""

    @property
    def longest(self) -> float:
        """Seconds of the longest recording, which fills the width of the page; 0 without recordings."""
        return max((clip.seconds for _, _, clip in self.clips if isinstance(clip, Clip)), default=0.0)


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters["number"] = _number
    return environment.from_string(
        files("vcae.evaluation").joinpath("report.html").read_text(encoding="utf-8")
    )


def _contents(evaluation: Evaluation) -> dict[str, Any]:
    """The variables of the template."""
    main = next(iter(evaluation.results))
    results = evaluation.results[main]
    summaries = {system: evaluation.summary(system) for system in evaluation.results}
    measures = [m for m in evaluation.measures if any(m.name in s for s in summaries.values())]
    sources = sorted({r.trial.source_speaker for r in results})
    targets = sorted({r.trial.target_speaker for r in results})
    speakers = sorted({*sources, *targets})
    scored = [m for m in measures if m.name in summaries[main]]
    compared = [s for s in SCALE if s in evaluation.results and s != main]
    chosen, clips = _chosen(results, scored), clip_reader()
    return {
        "main": main,
        "results": results,
        "evaluation": evaluation,
        "about_systems": {name: SYSTEMS[name].about for name in summaries if name in SYSTEMS},
        "measures": measures,
        "summaries": summaries,
        "scales": {
            m.name: Scale.of(x for s in summaries.values() for x in s.get(m.name, ())) for m in measures
        },
        "sources": sources,
        "targets": targets,
        "speakers": speakers,
        "short": dict(zip(speakers, _short(speakers), strict=True)),
        "heats": [_heat(results, m, sources, targets) for m in scored if m.name in MAPPED],
        "histograms": [h for m in scored if (h := _histogram(evaluation, m, main, compared))],
        "compared": compared,
        "maps": _embedding_maps(evaluation, results, speakers),
        "chosen": chosen,
        "cards": [_card(evaluation, k, results[k], b, clips) for k, b in _badges(chosen, results).items()],
        "failed": {s: [r for r in rs if r.failure is not None] for s, rs in evaluation.results.items()},
        "failures_listed": FAILURES_LISTED,
        "max_seconds": MAX_SECONDS,
        "resamples": RESAMPLES,
    }


def _number(value: float | None) -> str:
    if value is None or not np.isfinite(value):
        return "\N{EN DASH}"
    return f"{value:z.2f}" if abs(value) < 100 else f"{value:.0f}"  # z: no minus before zero


def _short(names: Sequence[str]) -> list[str]:
    """Names without their common prefix, up to a separator."""
    shared = os.path.commonprefix(names) if len(names) > 1 else ""  # noqa: RUF071 -- letter by letter
    start = len(shared.rstrip(ascii_letters + digits))
    return [name[start:] or name for name in names]


def _heat(
    results: Sequence[Result], measure: Measure, sources: Sequence[str], targets: Sequence[str]
) -> Heat:
    totals, weights, failed = np.zeros((3, len(sources) + 1, len(targets) + 1))
    for r in results:
        s, t = sources.index(r.trial.source_speaker), targets.index(r.trial.target_speaker)
        value, weight = r.scores.get(measure.name, (0.0, 0.0))
        failed[s, t] += r.failure is not None
        for cell in ((s, t), (s, -1), (-1, t), (-1, -1)):
            totals[cell] += value * weight
            weights[cell] += weight
    cells = np.divide(totals, weights, out=np.full_like(totals, np.nan), where=weights > 0)
    pairs = (slice(-1), slice(-1))
    return Heat(measure, cells, failed, Scale.of(cells[pairs][failed[pairs] == 0], outliers=False))


def _histogram(
    evaluation: Evaluation, measure: Measure, main: str, compared: Sequence[str]
) -> Histogram | None:
    """None where all scores of the main system are of failures."""

    def values(system: str) -> Array:
        scored = [r for r in evaluation.results[system] if r.failure is None and measure.name in r.scores]
        return np.array([r.scores[measure.name].value for r in scored])

    shown = {system: x for system in (main, *compared) if len(x := values(system))}
    if main not in shown:
        return None
    scale = Scale.of(np.concatenate(list(shown.values())), outliers=False)
    ends = (scale.low, scale.high)
    counts = {s: np.histogram(x.clip(*ends), BINS, ends)[0] for s, x in shown.items()}
    edges = np.linspace(*ends, BINS + 1).tolist()
    return Histogram(
        measure,
        scale,
        [(a, b, n) for (a, b), n in zip(pairwise(edges), counts[main].tolist(), strict=True)],
        {system: (count / count.max()).tolist() for system, count in counts.items() if system != main},
        float(np.median(shown[main])),
    )


def _embedding_maps(
    evaluation: Evaluation, results: Sequence[Result], speakers: Sequence[str]
) -> dict[str, EmbeddingMap]:
    """Encoder -> map of its embeddings; an encoder with too few embeddings is left out."""
    codes = evaluation.speaker_codes
    embedded = [(r, r.embedding) for r in results if r.embedding is not None]
    coded = [(r, codes[r.audio]) for r in results if r.audio and r.audio in codes]
    maps = {
        "Resemblyzer": _embedding_map(evaluation.natural_embeddings, embedded, results, speakers),
        "the speaker encoder of vcae": _embedding_map(codes, coded, results, speakers),
    }
    return {encoder: found for encoder, found in maps.items() if found}


def _embedding_map(
    natural_embeddings: Mapping[Path, Features],
    converted: Sequence[tuple[Result, Features]],
    results: Sequence[Result],
    speakers: Sequence[str],
) -> EmbeddingMap | None:
    """Embeddings in the plane of the first two principal components of the natural recordings.

    None unless at least three natural embeddings differ.
    """
    owner: dict[Path, str] = {}
    for trial in (r.trial for r in results):
        owner |= dict.fromkeys([trial.source, *trial.source_references], trial.source_speaker)
        of_target = [*trial.references, trial.target, trial.parallel]
        owner |= {path: trial.target_speaker for path in of_target if path}
    names = [path for path in natural_embeddings if path in owner]
    if len(names) < 3:
        return None
    natural = np.array([natural_embeddings[path] for path in names], dtype=float)  # (N, E)
    mean = natural.mean(axis=0)
    _, strengths, axes = np.linalg.svd(natural - mean, full_matrices=False)
    if not strengths[1] > 1e-6:
        return None
    points = (np.array([*natural, *(embedding for _, embedding in converted)], dtype=float) - mean) @ axes[
        :2
    ].T  # (N + M, 2)
    points -= points.min(axis=0)
    points /= points.max()  # the longer side is 1
    numbers = [speakers.index(owner[path]) for path in names]
    numbers += [speakers.index(r.trial.target_speaker) for r, _ in converted]
    titles = [path.name for path in names] + [r.trial.id for r, _ in converted]
    placed = [Point(x, y, n, t) for (x, y), n, t in zip(points.tolist(), numbers, titles, strict=True)]
    speaker = np.array(numbers[: len(names)])
    clouds = {n: points[: len(names)][speaker == n] for n in sorted(set(speaker.tolist()))}
    return EmbeddingMap(
        width=float(points[:, 0].max()),
        height=float(points[:, 1].max()),
        explained=float((strengths[:2] ** 2).sum() / (strengths**2).sum()),
        natural=placed[: len(names)],
        converted=placed[len(names) :],
        centres={n: cloud.mean(axis=0).tolist() for n, cloud in clouds.items()},
        tops={n: float(cloud[:, 1].min()) for n, cloud in clouds.items()},
    )


def _chosen(results: Sequence[Result], measures: Sequence[Measure]) -> dict[str, dict[str, int]]:
    """Measure name -> indices of the best, the median and the worst trial.

    Failures are left out: all of them have the worst score and would hide the worst conversion.
    """
    chosen = {}
    for measure in (m for m in measures if m.name in RANKED):
        ranked = [k for k, r in enumerate(results) if r.failure is None and measure.name in r.scores]
        ranked.sort(key=lambda k: results[k].scores[measure.name].value, reverse=measure.higher_is_better)
        if ranked:
            chosen[measure.name] = {
                "best": ranked[0],
                "median": ranked[(len(ranked) - 1) // 2],
                "worst": ranked[-1],
            }
    return chosen


def _badges(chosen: dict[str, dict[str, int]], results: Sequence[Result]) -> dict[int, list[str]]:
    """Index of a trial with players -> the reasons why it has them; the first failures come last."""
    badges: dict[int, list[str]] = {}
    for name, places in chosen.items():
        for place, k in places.items():
            badges.setdefault(k, []).append(f"{place} {name}")
    failed = [k for k, r in enumerate(results) if r.failure is not None]
    return badges | {k: ["failure"] for k in failed[:FAILURES_PLAYED]}


def _card(
    evaluation: Evaluation,
    number: int,
    result: Result,
    badges: list[str],
    clip: Clips,
) -> Card:
    trial = result.trial
    shown = [("Source", trial.source), ("Converted", result.audio), ("Target", trial.references[0])]
    text = trial.text or evaluation.source_transcripts.get(trial.source, "")
    return Card(
        number,
        result,
        badges,
        [(what, path.name if path else "", clip(path)) for what, path in shown],
        text,
        _compare(text, result.transcript),
    )


def _compare(text: str, transcript: str) -> list[tuple[str, str]]:
    """Words of the transcript, "same" or "wrong", and between them the "lost" words of the text.

    All words are "same" where the text is unknown.
    """
    left, right = (text or transcript).split(), transcript.split()

    def plain(words: list[str]) -> list[str]:
        return [re.sub(r"[^\w]", "", word.lower()) for word in words]

    parts: list[tuple[str, str]] = []
    for kind, i, j, k, n in SequenceMatcher(None, plain(left), plain(right), autojunk=False).get_opcodes():
        lost, new = " ".join(left[i:j]), " ".join(right[k:n])
        parts += [("same", new)] if kind == "equal" else [("lost", lost), ("wrong", new)]
    return [(how, words) for how, words in parts if words]
