"""What a command shows: progress on a terminal, tables, and what could not be used."""

import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import rich.progress
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from vcae.audio import Progress
from vcae.errors import VcaeError

stdout = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


@contextmanager
def in_one_line() -> Iterator[None]:
    """What a user did wrong is told in one line on stderr, without a traceback: exit status 2."""
    try:
        yield
    except VcaeError as error:
        err.print(str(error))
        sys.exit(2)


class Bar:
    """Where in a recording the work is, once that takes two seconds, and how many files are done.

    Shown on a terminal only.
    """

    def __init__(self, files: int = 1) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        self._bars = rich.progress.Progress(
            *columns, console=err, transient=True, disable=not err.is_terminal
        )
        self._files = self._bars.add_task("files", total=files, visible=files > 1)
        self._one = self._bars.add_task("", visible=False)

    def __enter__(self) -> "Bar":
        self._bars.start()
        self._begun = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def told(self, doing: str, seconds: float, total: float | None) -> None:
        """Show the position in a recording."""
        position = f"{doing} {timedelta(seconds=int(seconds))}"
        position += f" of {timedelta(seconds=int(total))}" if total else ""
        late = time.monotonic() - self._begun > 2
        self._bars.update(self._one, description=position, completed=seconds, total=total, visible=late)

    def next(self) -> None:
        """Show that a file is done."""
        self._bars.advance(self._files)
        self._bars.update(self._one, visible=False)
        self._begun = time.monotonic()


def each(plan: list[tuple[Path, Path]], do: Callable[[Path, Path, Progress], None]) -> int:
    """Do it for every source; how many failed and were told. Raises where there is but one, or none works."""
    failed = 0
    with Bar(len(plan)) as bar:
        for source, path in plan:
            try:
                do(source, path, bar.told)
            except VcaeError as error:
                if len(plan) == 1:
                    raise
                err.print(f"vcae: {error}")
                failed += 1
            bar.next()
    if failed == len(plan):
        raise VcaeError("none of the files could be used")
    return failed


def track(items: Collection[Any], task: str) -> Iterable[Any]:
    """Go through items with a bar."""
    return rich.progress.track(items, task, console=err, disable=not err.is_terminal, transient=True)


def show(rows: list[list[str]]) -> None:
    """A table with a head on standard output; as tab-separated lines where that is no terminal."""
    out = Console(highlight=False)
    if not out.is_terminal:
        for row in rows:
            print("\t".join(row))  # noqa: T201 -- the result itself
        return
    table = Table(*rows[0])
    for row in rows[1:]:
        table.add_row(*(escape(cell.replace(" [", "\n[")) for cell in row))
    out.print(table)


def report(failed: int) -> None:
    """Where some files failed, say how many, and exit with 1."""
    if failed:
        err.print(f"vcae: {failed} could not be used, see above; the others are done")
        sys.exit(1)
