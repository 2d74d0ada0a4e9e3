"""What `vcae anomaly` writes: scores of recordings and of seconds, and a page with the worst seconds."""

import csv
import io
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jinja2 import Environment, StrictUndefined, Template

from vcae.evaluation.clips import clip_reader
from vcae.files import replacing
from vcae.uses.anomaly import Scores

LISTED = 100
"""Recordings on the page; files.csv holds all."""
PLAYED = 24
"""Seconds with pictures and players."""
CLIP_SECONDS = 3.0
"""Length of a picture: the second, the one before and the one after."""


class Judged(NamedTuple):
    """A recording and its scores."""

    path: Path
    name: str
    """Of the file, below the folder."""
    scores: Scores


def write_scores(folder: Path, judged: Sequence[Judged], threshold: float) -> None:
    """Write files.csv, the most unusual first, and seconds.csv. Raises OutputError."""
    ranked = _ranked(judged)
    parts = list(ranked[0].scores.parts)
    rows: list[list[object]] = [["file", "score", "unusual", "reason", "worst second", *parts]]
    seconds: list[list[object]] = [["file", "second", "score", "reason"]]
    for path, _, scores in ranked:
        by_second, of_second = scores.by_second, list(scores.seconds)
        values = [f"{scores.parts[part]:.3f}" for part in parts]
        unusual = int(scores.total > threshold)
        rows.append([path, f"{scores.total:.3f}", unusual, scores.reason, int(by_second.argmax()), *values])
        reasons = np.stack([scores.seconds[part] for part in of_second]).argmax(0)
        for second, (score, reason) in enumerate(zip(by_second.tolist(), reasons.tolist(), strict=True)):
            seconds.append([path, second, f"{score:.3f}", of_second[reason]])
    _write_csv(folder / "files.csv", rows)
    _write_csv(folder / "seconds.csv", seconds)


def write_page(path: Path, name: str, judged: Sequence[Judged], threshold: float, rate: float) -> None:
    """Write one self-contained HTML file about the folder of this name. Raises OutputError."""
    ranked = _ranked(judged)
    unusual = [each for each in ranked if each.scores.total > threshold]
    worst = [
        (float(score), second, each)
        for each in unusual or ranked[:1]
        for second, score in enumerate(each.scores.by_second)
    ]
    worst = sorted(worst, key=lambda found: -found[0])[:PLAYED]
    clips = clip_reader(CLIP_SECONDS)
    page = _template().render(
        name=name,
        files=ranked,
        unusual=unusual,
        threshold=threshold,
        rate=rate,
        parts=list(ranked[0].scores.parts),
        listed=LISTED,
        clips=[
            (f"{each.name}, second {second}, score {score:.2f}", clips(each.path, max(0.0, second - 1.0)))
            for score, second, each in worst
        ],
    )
    with replacing(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")


def _ranked(judged: Sequence[Judged]) -> list[Judged]:
    return sorted(judged, key=lambda each: -each.scores.total)


def _write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    with replacing(path) as unfinished:
        unfinished.write_text(text.getvalue(), encoding="utf-8")


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    text = files("vcae.evaluation").joinpath("anomalies.html").read_text(encoding="utf-8")
    return environment.from_string(text)
