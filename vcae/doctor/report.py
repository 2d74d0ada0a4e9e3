"""What the doctor writes: an HTML file that opens offline, all findings, and the files to leave out.

This module computes the content; the template of the page is `report.html` in the same folder.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined, Template

from vcae.corpora.exclude import below, write_excluded
from vcae.doctor.examination import Examination
from vcae.doctor.findings import PROBLEMS, Finding
from vcae.evaluation.clips import Clip, Clips, clip_reader
from vcae.files import check_output, replacing

PLAYED = 4
"""Recordings with players, for each problem."""
LISTED = 50
"""Findings listed, for each problem; findings.tsv holds all."""
CLIP_SECONDS = 8.0
BINS = 32


@dataclass(frozen=True)
class Histogram:
    """How a measurement is distributed over the recordings."""

    name: str
    unit: str
    bars: list[tuple[float, float, int]]
    """Edges and count of each bin."""


@dataclass(frozen=True)
class Group:
    """The findings of a problem."""

    problem: str
    about: str
    excluded: bool
    """Whether its files are left out."""
    findings: list[tuple[str, str]]
    """What it concerns, and the detail; the first LISTED."""
    count: int
    clips: list[tuple[str, Clip | str]]
    """File, and the recording or the reason why there is none; the first PLAYED."""


def write_all(folder: Path, examination: Examination) -> None:
    """Write exclude.tsv, findings.tsv and report.html to an existing folder. Raises OutputError."""
    write_excluded(folder / "exclude.tsv", examination.excluded)
    write_findings(folder / "findings.tsv", examination)
    write_report(folder / "report.html", examination)


def write_report(path: Path, examination: Examination) -> None:
    """Write one self-contained HTML file. Raises OutputError."""
    check_output(path, [".html"])
    page = _template().render(_contents(examination))
    with replacing(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")


def write_findings(path: Path, examination: Examination) -> None:
    """Write all findings as a table with tabs: problem, file, speakers, detail. Raises OutputError."""
    rows = [["problem", "file", "speakers", "detail"]]
    for f in examination.findings:
        rows.append([f.problem, _file(examination, f), " ".join(f.speakers), " ".join(f.detail.split())])
    rows += [["not read", below(examination.root, each), "", ""] for each in examination.not_read]
    text = io.StringIO()
    csv.writer(text, "excel-tab", lineterminator="\n").writerows(rows)
    with replacing(path) as unfinished:
        unfinished.write_text(text.getvalue(), encoding="utf-8")


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    return environment.from_string(files("vcae.doctor").joinpath("report.html").read_text(encoding="utf-8"))


def _contents(examination: Examination) -> dict[str, Any]:
    """The variables of the template."""
    measured = [m for m in examination.measurements if not m.error]
    histograms = [
        _histogram("duration", "s", [m.seconds for m in measured]),
        _histogram("level", "dBFS", [m.level for m in measured]),
        _histogram("level over noise", "dB", [m.snr for m in measured]),
        _histogram("bandwidth", "Hz", [m.bandwidth for m in measured]),
    ]
    clips = clip_reader(CLIP_SECONDS)
    return {
        "examination": examination,
        "groups": [_group(examination, name, clips) for name in examination.counts()],
        "healthy": [name for name in PROBLEMS if name not in examination.counts()],
        "speakers": examination.speakers(),
        "histograms": [h for h in histograms if h],
        "listed": LISTED,
    }


def _group(examination: Examination, problem: str, clips: Clips) -> Group:
    found = [f for f in examination.findings if f.problem == problem]
    numbers = [f.number for f in found if f.number is not None]
    heard = [number for number in numbers if not examination.measurements[number].error][:PLAYED]
    paths = [examination.utterances[number].path for number in heard]
    return Group(
        problem,
        PROBLEMS[problem].about,
        problem in examination.exclude,
        [(_file(examination, f) or ", ".join(f.speakers), f.detail) for f in found[:LISTED]],
        len(found),
        [(below(examination.root, path), clips(path)) for path in paths],
    )


def _file(examination: Examination, finding: Finding) -> str:
    """The file of a finding; "" for a finding about speakers or the corpus."""
    if finding.number is None:
        return ""
    return below(examination.root, examination.utterances[finding.number].path)


def _histogram(name: str, unit: str, values: Sequence[float]) -> Histogram | None:
    """None where there is nothing to show. The outermost hundredth of the values is in the last bins."""
    finite = np.array([x for x in values if np.isfinite(x)])
    if len(finite) < 2:
        return None
    low, high = np.quantile(finite, [0.005, 0.995]).tolist()
    if low == high:
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(finite.clip(low, high), BINS, (low, high))
    bars = [(a, b, int(n)) for (a, b), n in zip(pairwise(edges.tolist()), counts, strict=True)]
    return Histogram(name, unit, bars)
