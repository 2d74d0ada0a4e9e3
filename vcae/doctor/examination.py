"""Examine a corpus: measure recordings in parallel, find problems, say whether training would start."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import torch

from vcae.audio import find_audio
from vcae.corpora.exclude import Excluded, below
from vcae.corpora.utterance import CorpusError, Utterance
from vcae.doctor.findings import PROBLEMS, Finding, Limits, find_all
from vcae.doctor.measure import Measurement, measure
from vcae.progress import Track, untracked

LEAST_SECONDS = 10.0
"""Seconds of usable speech below which training would not start."""


class SpeakerRow(NamedTuple):
    """What there is of a speaker."""

    name: str
    files: int
    seconds: float
    left_out: int
    """Files on the list of excluded files."""
    level: float
    """Median, in dBFS."""


@dataclass(frozen=True)
class Examination:
    """A corpus and what is wrong with it."""

    root: Path
    utterances: list[Utterance]
    measurements: list[Measurement]
    findings: list[Finding]
    exclude: frozenset[str]
    """Problems whose files are left out."""
    not_read: list[Path]
    """Audio files in the folder that the reader does not list."""

    @cached_property
    def excluded(self) -> list[Excluded]:
        """The files to leave out, each with its first problem."""
        lines: dict[int, Excluded] = {}
        for f in self.findings:
            if f.number is not None and f.problem in self.exclude and f.number not in lines:
                file = below(self.root, self.utterances[f.number].path)
                lines[f.number] = Excluded(file, f.problem, f.detail)
        return [lines[number] for number in sorted(lines)]

    @cached_property
    def kept(self) -> list[int]:
        """Indices of the recordings that are not left out."""
        names = {line.file for line in self.excluded}
        paths = (below(self.root, each.path) for each in self.utterances)
        return [k for k, name in enumerate(paths) if name not in names]

    @property
    def seconds(self) -> float:
        """Length of all recordings that can be read."""
        return sum(m.seconds for m in self.measurements)

    @property
    def usable_seconds(self) -> float:
        """Length of the recordings that are not left out."""
        return sum(self.measurements[k].seconds for k in self.kept)

    @property
    def status(self) -> int:
        """0: training would start as it is; 1: it would start without the excluded files; 2: it would not."""
        if self.usable_seconds < LEAST_SECONDS:
            return 2
        return 1 if self.excluded else 0

    @property
    def verdict(self) -> str:
        """The status in a sentence."""
        if self.status == 2:
            return f"training would not start: {self.usable_seconds:.0f} s of usable speech"
        usable = f"{len(self.kept)} recordings, {self.usable_seconds / 3600:.2f} h"
        left_out = f"; {len(self.excluded)} files are left out" if self.excluded else ""
        return f"training would start with {usable}{left_out}"

    def speakers(self) -> list[SpeakerRow]:
        """Files, seconds and level by speaker; all that are not labelled count as one, "(unknown)"."""
        kept, groups = set(self.kept), defaultdict(list)
        for k, each in enumerate(self.utterances):
            groups[each.speaker if each.labelled else "(unknown)"].append(k)
        rows = []
        for name, group in sorted(groups.items()):
            measured = [self.measurements[k] for k in group]
            levels = torch.tensor([m.level for m in measured])
            seconds, gone = sum(m.seconds for m in measured), sum(k not in kept for k in group)
            rows.append(SpeakerRow(name, len(group), seconds, gone, float(levels.nanmedian())))
        return rows

    def counts(self) -> dict[str, int]:
        """Findings by problem, in the order of PROBLEMS."""
        found = [f.problem for f in self.findings]
        return {name: found.count(name) for name in PROBLEMS if name in found}


def examine(
    root: Path,
    utterances: Sequence[Utterance],
    limits: Limits | None = None,
    exclude: Collection[str] | None = None,
    texts: bool = True,
    processes: int = 1,
    track: Track = untracked,
) -> Examination:
    """Measure recordings below `root` and find what is wrong with them.

    exclude: problems whose files are left out, keys of PROBLEMS; default: those that PROBLEMS says. texts:
    whether texts are compared with recordings; needs the extra `doctor`. Raises CorpusError for an unknown
    problem, for no recordings, and where a process was ended from outside.
    """
    chosen = {n for n, p in PROBLEMS.items() if p.excluded} if exclude is None else set(exclude)
    if unknown := chosen - PROBLEMS.keys():
        raise CorpusError(f"{min(unknown)}: no such problem; there are {', '.join(PROBLEMS)}")
    if not utterances:
        raise CorpusError(f"{root}: holds no recordings; give the folder of a corpus")
    utterances = list(utterances)
    measurements = _measure_all(utterances, texts, processes, track)
    listed = {each.path.absolute() for each in utterances}
    not_read = [path for path in find_audio(root) if path.absolute() not in listed]
    findings = find_all(utterances, measurements, limits or Limits())
    if not_read:
        findings.append(Finding("not read", f"{len(not_read)} files, such as {not_read[0]}"))
    return Examination(root, utterances, measurements, findings, frozenset(chosen), not_read)


def _measure_all(utterances: list[Utterance], texts: bool, processes: int, track: Track) -> list[Measurement]:
    with ProcessPoolExecutor(processes, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        results: Iterable[Measurement] = pool.map(partial(measure, texts=texts), utterances, chunksize=8)
        try:
            return [m for _, m in zip(track(utterances, "Examining"), results, strict=True)]
        except BrokenProcessPool:
            raise CorpusError(
                "a process was ended while it examined recordings, perhaps for want of memory;"
                " use fewer --processes"
            ) from None
