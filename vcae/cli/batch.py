"""Recordings that a command turns into other recordings: outputs, formats, what is done already."""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from vcae.audio import comment, encoding_of
from vcae.cli import console, paths
from vcae.errors import VcaeError
from vcae.progress import Progress

MIN_RATE, MAX_RATE = 1_000, 192_000


class Batch:
    """Recordings to convert, each to a file. Checks the options, before the weights are loaded.

    out: a file or a folder, as `paths.outputs` takes it, or several folders that each get all outputs. keep:
    other inputs, which are not overwritten. workers: instead of `jobs` threads.
    """

    def __init__(
        self,
        sources: tuple[Path, ...],
        out: str | Sequence[str],
        format: str | None,
        sample_rate: int | None,
        subtype: str | None,
        jobs: int,
        keep: tuple[Path, ...] = (),
        workers: console.Workers | None = None,
    ) -> None:
        if jobs < 1:
            raise VcaeError(f"--jobs must be 1 or more, not {jobs}")
        if sample_rate is not None and not MIN_RATE <= sample_rate <= MAX_RATE:
            raise VcaeError(f"--sample-rate must be from {MIN_RATE} to {MAX_RATE} Hz, not {sample_rate}")
        outs = [out] if isinstance(out, str) else out
        plans = [paths.outputs(sources, each, format and f".{format}", keep) for each in outs]
        self.plan = [pair for plan in plans for pair in plan]
        encoding_of(self.plan[0][1], subtype)
        self.sample_rate, self.subtype, self.jobs, self.workers = sample_rate, subtype, jobs, workers

    def run(self, process: Callable[..., None], options: Callable[[Path, Path], object]) -> None:
        """Convert what has not been converted with the same options.

        process: called with source, output, `progress` and `inference.output.Encoding`. options: called with
        source and output; all that the output depends on beside source and encoding, as an object with a
        `repr` that tells.
        """
        # Workers are sent `one` and what it names: not the batch, whose plan may be of millions of files.
        sample_rate, subtype = self.sample_rate, self.subtype

        def one(source: Path, path: Path, progress: Progress) -> bool:
            """Whether the output was there already."""
            note = _note(source, options(source, path), sample_rate, subtype)
            if note and path.is_file() and note in comment(path):
                return True
            process(
                source,
                path,
                progress=progress,
                sample_rate=sample_rate,
                subtype=subtype,
                # What was made from a part of a source is not finished: the next run tells it again.
                note=lambda: "" if console.notices.is_partial(source) else note,
            )
            return False

        kept: list[bool] = []
        failed = console.for_each(
            self.plan, one, self.jobs, self.workers, take=lambda _, was_there: kept.append(was_there)
        )
        if any(kept):
            console.err.print(f"vcae: {sum(kept)} of {len(self.plan)} were converted before, and are kept")
        console.report(failed)


def _note(source: Path, options: object, sample_rate: int | None, subtype: str | None) -> str:
    """A mark of all that an output depends on, for its metadata; empty for a source that is missing."""
    try:
        status = source.stat()
    except (OSError, ValueError):
        return ""
    about = (os.fsencode(source.absolute()), status.st_size, status.st_mtime_ns, sample_rate, subtype)
    digest = hashlib.sha256(repr((options, about)).encode())
    return f"job {digest.hexdigest()[:16]}"
