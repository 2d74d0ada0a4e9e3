"""What the recipes of a corpus share: they train as `recipes/bundled.py`, on what the corpus doctor leaves.

The doctor examines the corpus first, and writes `doctor/report.html` and `doctor/exclude.tsv` to the folder
of the run. Files in that list are left out. The list may be edited; a run that continues takes it as it is.
"""

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path

import bundled

from vcae.cli.console import err, track
from vcae.cli.doctor import summarise
from vcae.corpora.exclude import leave_out, read_excluded
from vcae.corpora.utterance import Utterance
from vcae.doctor import Limits, examine
from vcae.doctor.report import write_all
from vcae.errors import VcaeError


@dataclass(frozen=True)
class DoctorConfig:
    """What the corpus doctor does."""

    exclude: tuple[str, ...] | None = None
    """Problems whose files are left out; default: those that damage training."""
    texts: bool = True
    """Compare English texts with their recordings."""
    processes: int = os.cpu_count() or 1
    """Recordings to examine at the same time."""
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, kw_only=True)
class CorpusRecipe(bundled.Recipe, ABC):
    """All settings; the defaults are for an H100."""

    corpora: Path
    """Folder of the corpus."""
    doctor: DoctorConfig = field(default_factory=DoctorConfig)

    @abstractmethod
    def read(self) -> list[Utterance]:
        """All recordings of the corpus. Raises CorpusError."""

    def speech(self, out: Path) -> list[Utterance]:
        """The recordings that the doctor's list leaves. Raises VcaeError if training would not start."""
        utterances, folder = self.read(), out / "doctor"
        excluded = folder / "exclude.tsv"
        if excluded.exists():
            err.print(f"{excluded}: taken as it is; delete it to examine the corpus again")
            return leave_out(utterances, self.corpora, read_excluded(excluded))
        d = self.doctor
        found = examine(self.corpora, utterances, d.limits, d.exclude, d.texts, d.processes, track)
        folder.mkdir(parents=True, exist_ok=True)
        write_all(folder, found)
        summarise(found)
        if found.status == 2:
            excluded.unlink()  # so that the next run examines the corpus again
            raise VcaeError(f"{self.corpora}: {found.verdict}; see {folder / 'report.html'}")
        return leave_out(utterances, self.corpora, found.excluded)
