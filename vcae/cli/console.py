"""Console output of the commands: progress bars, tables and errors."""

import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import rich.progress
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from vcae.errors import AudioWarning, PartialWarning, VcaeError
from vcae.progress import Progress

Plan = list[tuple[Path, Path]]
"""Sources and outputs."""
R = TypeVar("R")
Process = Callable[[Path, Path, Progress], R]
"""Does a source, and returns what is to be known of it. Raises VcaeError for a file that cannot be used."""
Outcomes = Generator[tuple[Path, R | VcaeError], None, None]
"""Sources, as they are done, each with the result or the error."""

stdout = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


@contextmanager
def in_one_line() -> Iterator[None]:
    """Report a VcaeError in one line on stderr, without a traceback, and exit with status 2."""
    try:
        yield
    except VcaeError as error:
        err.print(printable(error))
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


class _Stopped(BaseException):
    """Ends the work of a thread."""


class Workers(Protocol):
    """Workers elsewhere than in threads of this process, such as `vcae.cli.cluster.Cluster`."""

    def map(self, plan: Plan, process: Process[R]) -> Outcomes[R]:
        """Call `process` for every (source, output), and yield what came of it, in any order."""


def for_each(
    plan: Plan,
    process: Process[R],
    jobs: int = 1,
    workers: Workers | None = None,
    take: Callable[[Path, R], object] | None = None,
) -> int:
    """Call `process` for every (source, output), several at a time; returns how many failed.

    workers: that call it; default: `jobs` threads. take: called here with each source that is done, and what
    `process` returned. Prints the error of each. Raises the error of a single file, and VcaeError where all
    files fail.
    """
    failed = 0
    with Bar(len(plan)) as bar:
        outcomes = workers.map(plan, process) if workers else _in_threads(plan, process, jobs, bar)
        with closing(outcomes):
            for source, result in outcomes:
                if isinstance(result, VcaeError):
                    if len(plan) == 1:
                        raise result
                    err.print(f"vcae: {printable(result)}")
                    failed += 1
                elif take:
                    take(source, result)
                bar.finish_file()
    if failed == len(plan):
        raise VcaeError("none of the files could be used; see the reasons above")
    return failed


def _in_threads(plan: Plan, process: Process[R], jobs: int, bar: Bar) -> Outcomes[R]:
    stop = threading.Event()

    def one(paths: tuple[Path, Path]) -> tuple[Path, R | VcaeError]:
        try:
            return paths[0], process(*paths, progress)
        except VcaeError as error:
            return paths[0], error

    def progress(task: str, seconds: float, total: float | None) -> None:
        if stop.is_set():
            raise _Stopped
        if jobs == 1:
            bar.update(task, seconds, total)

    with ThreadPoolExecutor(jobs, initializer=partial(share_cores, jobs)) as pool:
        try:
            yield from pool.map(one, plan) if jobs > 1 else map(one, plan)
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def share_cores(jobs: int) -> None:
    """Let torch use this thread's share of the cores."""
    import torch

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // jobs))


def printable(message: object) -> str:
    """A message in one line, whatever the names of files in it: control characters are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(message))


def _print(message: Warning | str) -> None:
    err.print(f"vcae: {printable(message)}")


class Notices:
    """Prints the warnings of recordings, each once."""

    def __init__(self) -> None:
        self._printed: set[str] = set()
        self._partial: set[str] = set()

    @property
    def partial(self) -> bool:
        """Whether a part of a recording is missing."""
        return bool(self._partial)

    def is_partial(self, path: Path) -> bool:
        """Whether a part of this recording is missing, as far as it was read."""
        return any(message.startswith(f"{path}: ") for message in self._partial)

    @contextmanager
    def printed(self, print_: Callable[[Warning | str], object] = _print) -> Iterator[None]:
        """Print within a `with` statement, or do something else with the warnings."""
        self._printed.clear()
        self._partial.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("always", AudioWarning)
            others = warnings.showwarning

            def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
                if not issubclass(category, AudioWarning):
                    others(message, category, *where, **more)
                    return
                if issubclass(category, PartialWarning):
                    self._partial.add(str(message))
                if str(message) not in self._printed:
                    self._printed.add(str(message))
                    print_(message)

            setattr(warnings, "showwarning", show)  # noqa: B010 -- of a wider type
            yield


notices = Notices()
"""Of this process."""


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
