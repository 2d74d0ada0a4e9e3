"""Trials: fixed lists of conversions, each of one source recording to one target speaker.

A list is a TSV file with a head and one trial in each line, so that every system runs the same conversions.
Required columns: `id` (name of the converted file), `source` (a recording), `source_speaker`,
`target_speaker`, `references` (recordings of the target, separated by ";"). Optional columns:
`source_references` (other recordings of the source speaker), `target` (a natural recording of the target,
not a reference), `parallel` (a recording of the target with the sentence of the source), `text` (of the
source), `language` (of the source, ISO 639; default en). File names are relative to the folder of the list.
"""

import csv
import os
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import permutations
from pathlib import Path

from vcae.audio import read
from vcae.corpora.utterance import Utterance
from vcae.errors import VcaeError
from vcae.files import check_output, replacing

LIST_SEPARATOR = ";"
MIN_SECONDS, MAX_SECONDS = 2.0, 12.0
"""Limits of a recording in a trial. Metrics are unreliable below and slow above."""


class TrialError(VcaeError):
    """A list of trials that cannot be read or made. One line that names the place and the remedy."""


@dataclass(frozen=True)
class Trial:
    """One conversion: of `source` to the speaker of `references`."""

    id: str
    source: Path
    source_speaker: str
    target_speaker: str
    references: tuple[Path, ...]
    source_references: tuple[Path, ...] = ()
    """Other recordings of the source speaker, as many as `references`, so that both are estimated alike."""
    target: Path | None = None
    """A natural recording of the target speaker that is not a reference."""
    parallel: Path | None = None
    """A recording in which the target speaker says the sentence of the source."""
    text: str | None = None
    language: str = "en"

    @property
    def files(self) -> list[Path]:
        """All recordings of the trial."""
        single = [path for path in (self.source, self.target, self.parallel) if path]
        return [*single, *self.references, *self.source_references]


COLUMNS = [field.name for field in fields(Trial)]
REQUIRED = COLUMNS[:5]


def read_trials(path: Path) -> list[Trial]:
    """Read a list. Raises TrialError if the list or one of its recordings is missing or malformed."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file, delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrialError(f"{path}: cannot be read ({error}); make a list with `vcae trials`") from None
    head = rows[0] if rows else []
    wrong = [f"has no column {name}" for name in REQUIRED if name not in head]
    wrong += [f"has an unknown column {name!r}" for name in head if name not in COLUMNS]
    wrong += [f"has the column {name} twice" for name in head if head.count(name) > 1]
    if wrong:
        raise TrialError(f"{path}: {wrong[0]}; columns are {', '.join(COLUMNS)}, separated by tabs")
    trials: list[Trial] = []
    lines: dict[str, int] = {}
    for line, row in enumerate(rows[1:], start=2):
        where = f"{path}, line {line}"
        if len(row) != len(head):
            raise TrialError(
                f"{where}: {len(row)} fields under {len(head)} columns; correct or remove the line"
            )
        trial = _parse(dict(zip(head, row, strict=True)), path.parent, where)
        if trial.id in lines:
            raise TrialError(
                f"{where}: {trial.id} is there twice, first in line {lines[trial.id]}; remove one"
            )
        lines[trial.id] = line
        for recording in trial.files:
            if not recording.is_file():
                raise TrialError(f"{where}: no such file: {recording}; correct the list, or make it again")
        trials.append(trial)
    if not trials:
        raise TrialError(f"{path}: lists no trials; make a list with `vcae trials`")
    return trials


def write_trials(path: Path, trials: Iterable[Trial]) -> None:
    """Write a list that `read_trials` reads. Raises OutputError."""
    check_output(path, [".tsv"])

    def name(file: Path) -> str:
        return os.path.relpath(file, path.parent)

    with replacing(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        for trial in trials:
            row = asdict(trial)
            for key, value in row.items():
                if isinstance(value, Path):
                    row[key] = name(value)
                elif isinstance(value, tuple):
                    row[key] = LIST_SEPARATOR.join(map(name, value))
            writer.writerow(row)


def make_trials(
    utterances: Iterable[Utterance],
    count: int | None = None,
    per_pair: int = 1,
    references: int = 3,
    language: str | None = None,
    seed: int = 0,
) -> list[Trial]:
    """Make trials of every ordered pair of speakers; the same arguments give the same list.

    count: number of trials, drawn at random; default: all.
    per_pair: sentences of each ordered pair. A speaker's sources are the same for all targets.
    references: recordings of each speaker, none of which has the sentence of the source.
    language: of the sources; default: any.
    Raises TrialError where there are too few recordings, and AudioError.
    """
    rng = random.Random(seed)  # noqa: S311 -- reproducible, not secret
    by_speaker: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        if utterance.labelled:
            by_speaker.setdefault(utterance.speaker, []).append(utterance)
    speakers = [
        _Speaker(name, rng.sample(of_one, len(of_one))) for name, of_one in sorted(by_speaker.items())
    ]
    if len(speakers) < 2:
        raise TrialError(f"{len(speakers)} labelled speakers; trials need two or more")
    trials = [
        trial
        for source, target in permutations(speakers, 2)
        for trial in _pair(source, target, per_pair, references, language)
    ]
    if not trials:
        raise TrialError(f"no speaker has recordings in {language!r}; choose another --language")
    if count is not None:
        if count > len(trials):
            raise TrialError(f"only {len(trials)} trials can be made, not {count}; raise --per-pair")
        chosen = set(rng.sample(range(len(trials)), count))
        trials = [trial for k, trial in enumerate(trials) if k in chosen]
    return trials


class _Speaker:
    """The recordings of a speaker within the length limits, in drawing order; lengths are read as needed."""

    def __init__(self, name: str, utterances: Sequence[Utterance]) -> None:
        self.name = name
        self._unread = iter(utterances)
        self._usable: list[Utterance] = []

    def first(
        self, count: int, avoid: Sequence[Utterance] = (), language: str | None = None
    ) -> list[Utterance]:
        """The first `count` recordings that share no sentence with `avoid`, or fewer if there are no more."""
        found: list[Utterance] = []
        k = 0
        while len(found) < count:
            if k == len(self._usable) and not self._more():
                break
            utterance = self._usable[k]
            k += 1
            if language in (None, utterance.language) and not any(_same(utterance, a) for a in avoid):
                found.append(utterance)
        return found

    def saying(self, sentence: Utterance) -> Utterance | None:
        """The recording of the same sentence, if there is one."""
        while self._more():
            pass
        return next((u for u in self._usable if _same(u, sentence)), None)

    def _more(self) -> bool:
        for utterance in self._unread:
            if MIN_SECONDS <= read(utterance.path).duration <= MAX_SECONDS:
                self._usable.append(utterance)
                return True
        return False


def _same(a: Utterance, b: Utterance) -> bool:
    """Whether two recordings have the same sentence: by text, or by id within a corpus."""
    by_text = bool(a.text and b.text) and _words(a.text) == _words(b.text)
    return by_text or (a.corpus == b.corpus and a.id == b.id and a.language == b.language)


def _words(text: str | None) -> list[str]:
    return re.findall(r"\w+", (text or "").lower())


def _pair(
    source: _Speaker, target: _Speaker, count: int, references: int, language: str | None
) -> Iterable[Trial]:
    for utterance in source.first(count, language=language):
        of_source = source.first(references, avoid=[utterance])
        of_target = target.first(references, avoid=[utterance])
        for speaker, found in ((source, of_source), (target, of_target)):
            if len(found) < references:
                raise TrialError(
                    f"{speaker.name}: has no {references} other recordings of {MIN_SECONDS:g} to "
                    f"{MAX_SECONDS:g} s; ask for fewer --references, or leave the speaker out"
                )
        parallel = target.saying(utterance)
        natural = [parallel] if parallel else target.first(1, avoid=of_target)
        name = f"{source.name}-{utterance.id}-to-{target.name}"
        yield Trial(
            id=re.sub(r"[^\w.-]+", ".", name),
            source=utterance.path,
            source_speaker=source.name,
            target_speaker=target.name,
            references=tuple(u.path for u in of_target),
            source_references=tuple(u.path for u in of_source),
            target=natural[0].path if natural else None,
            parallel=parallel.path if parallel else None,
            text=utterance.text,
            language=utterance.language,
        )


def _parse(row: dict[str, str], folder: Path, where: str) -> Trial:
    if not re.fullmatch(r"[\w.-]+", row["id"]) or row["id"].startswith("."):
        raise TrialError(f"{where}: {row['id']!r} cannot name a file; use letters, digits, '.', '_' and '-'")
    for name in REQUIRED:
        if not row[name]:
            raise TrialError(f"{where}: {name} is empty; fill it in or remove the line")

    def file(name: str) -> Path | None:
        return next(iter(files(name)), None)

    def files(name: str) -> tuple[Path, ...]:
        names = row.get(name, "").split(LIST_SEPARATOR)
        return tuple(Path(os.path.normpath(folder / n)) for n in names if n)

    return Trial(
        id=row["id"],
        source=files("source")[0],
        source_speaker=row["source_speaker"],
        target_speaker=row["target_speaker"],
        references=files("references"),
        source_references=files("source_references"),
        target=file("target"),
        parallel=file("parallel"),
        text=row.get("text") or None,
        language=row.get("language") or "en",
    )
