"""Lists of files that are not to be trained on, which the doctor writes and recipes take."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from vcae.corpora.layouts import read_table
from vcae.corpora.utterance import CorpusError, Utterance
from vcae.files import replacing


class Excluded(NamedTuple):
    """A line of the list."""

    file: str
    """Path below the folder of the corpora, with forward slashes."""
    problem: str
    """Why, in a word, such as "silent"."""
    detail: str
    """What was found."""


def write_excluded(path: Path, lines: Iterable[Excluded]) -> None:
    """Write a table with tabs and the header file, problem, detail. Raises OutputError."""
    rows = [Excluded._fields, *((each.file, each.problem, " ".join(each.detail.split())) for each in lines)]
    with replacing(path) as unfinished:
        unfinished.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")


def read_excluded(path: Path) -> list[Excluded]:
    """Read what `write_excluded` wrote, or a list by hand; detail may be missing. Raises CorpusError."""
    return [
        Excluded(row["file"], row["problem"], row.get("detail", ""))
        for row in read_table(path, ("file", "problem"))
    ]


def leave_out(utterances: Sequence[Utterance], root: Path, excluded: Iterable[Excluded]) -> list[Utterance]:
    """The utterances whose files, below root, are not in the list. Raises CorpusError if none is left."""
    names = {line.file for line in excluded}
    kept = [each for each in utterances if below(root, each.path) not in names]
    if utterances and not kept:
        raise CorpusError(f"{root}: the list of excluded files leaves nothing to train on")
    return kept


def below(root: Path, path: Path) -> str:
    """A path as the list names it: below the root, with forward slashes."""
    try:
        return path.absolute().relative_to(root.absolute()).as_posix()
    except ValueError:
        return path.absolute().as_posix()
