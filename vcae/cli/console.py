"""Console output of the commands: progress bars, tables and errors."""

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

from vcae.errors import VcaeError
from vcae.progress import Progress

stdout = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


@contextmanager
def in_one_line() -> Iterator[None]:
    """Report a VcaeError in one line on stderr, without a traceback, and exit with status 2."""
    try:
        yield
    except VcaeError as error:
        err.print(str(error))
        sys.exit(2)


class Bar:
    """Progress bars for files, if there are several, and for a file that takes longer than two seconds.

    They are shown on a terminal only.
    """

    def __init__(self, files: int = 1) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        self.bars = rich.progress.Progress(*columns, console=err, transient=True, disable=not err.is_terminal)
        self._files = self.bars.add_task("files", total=files, visible=files > 1)
        self._position = self.bars.add_task("", visible=False)

    def __enter__(self) -> "Bar":
        self.bars.start()
        self._started = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def update(self, task: str, seconds: float, total: float | None) -> None:
        """Show the position in a recording, in seconds; a `Progress`."""
        position = f"{task} {timedelta(seconds=int(seconds))}"
        position += f" of {timedelta(seconds=int(total))}" if total else ""
        visible = time.monotonic() - self._started > 2
        self.bars.update(
            self._position, description=position, completed=seconds, total=total, visible=visible
        )

    def finish_file(self) -> None:
        """Show that a file is done."""
        self.bars.advance(self._files)
        self.bars.update(self._position, visible=False)
        self._started = time.monotonic()


def for_each(plan: list[tuple[Path, Path]], process: Callable[[Path, Path, Progress], None]) -> int:
    """Call `process` for every (source, output); returns how many failed, each with its error printed.

    Raises the error of a single file, and VcaeError where all files fail.
    """
    failed = 0
    with Bar(len(plan)) as bar:
        for source, path in plan:
            try:
                process(source, path, bar.update)
            except VcaeError as error:
                if len(plan) == 1:
                    raise
                err.print(f"vcae: {error}")
                failed += 1
            bar.finish_file()
    if failed == len(plan):
        raise VcaeError("none of the files could be used; see the reasons above")
    return failed


class Tracker:
    """A `Track` on a console: a bar on a terminal, else a line every `seconds`."""

    def __init__(self, console: Console, seconds: float = 60.0) -> None:
        self.console, self.seconds = console, seconds

    def __call__(self, items: Collection[Any], task: str) -> Iterable[Any]:
        """Yield the items and show the progress."""
        if self.console.is_terminal:
            return rich.progress.track(items, task, console=self.console, transient=True)
        return self._with_lines(items, task)

    def _with_lines(self, items: Collection[Any], task: str) -> Iterator[Any]:
        shown = time.monotonic()
        for done, item in enumerate(items):
            if time.monotonic() - shown >= self.seconds:
                self.console.print(f"{task}: {done} of {len(items)}", highlight=False, soft_wrap=True)
                shown = time.monotonic()
            yield item


track = Tracker(err)
"""The `Track` of the commands and recipes."""


def show(rows: list[list[str]]) -> None:
    """Print a table, whose first row is the header; without a terminal, as tab-separated lines."""
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
    """Exit with status 1 and a message if some files failed."""
    if failed:
        err.print(f"vcae: {failed} could not be used (see the reasons above); all others are done")
        sys.exit(1)
