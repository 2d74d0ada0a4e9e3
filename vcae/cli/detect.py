"""The command that looks for the watermark: detect."""

import sys
from json import dumps
from pathlib import Path

from vcae.audio import Detection
from vcae.audio import detect as detect_in
from vcae.cli import console, paths
from vcae.cli.options import Sources
from vcae.progress import Progress


def detect(sources: Sources, json: bool = False) -> None:
    """Look for the watermark of `vcae convert --watermark` and of the demo: was this converted by vcae?

    Prints a line for each file: the file, marked or not marked, and the score, which is 5.8 or more for
    marked ones. The exit status is 0 where all files are marked, 1 where one is not or could not be used, and
    2 where nothing was examined. That no mark is found does not prove that the speech is natural.

    Args:
        sources: recordings of a second or more, or folders of them
        json: print a list of objects as JSON instead, with the part of the file that has the best score
    """
    found: dict[Path, Detection] = {}

    def examine(path: Path, _: Path, progress: Progress) -> None:
        found[path] = detect_in(path, progress)
        if not json:
            answer = "marked" if found[path].found else "not marked"
            line = f"{console.printable(path)}\t{answer}\t{found[path].score:.1f}"
            print(line)  # noqa: T201 -- the result

    plan = [(path, path) for path, _ in paths.recordings(sources)]
    failed = console.for_each(plan, examine)
    if json:
        print(dumps([_about(path, each) for path, each in found.items()]))  # noqa: T201 -- the result
    console.report(failed)
    if not all(each.found for each in found.values()):
        sys.exit(1)


def _about(path: Path, detection: Detection) -> dict[str, object]:
    """A result as it is printed."""
    return {
        "file": str(path),
        "marked": detection.found,
        "score": round(detection.score, 2),
        "chance": detection.chance,
        "start": round(detection.start, 2),
        "end": round(detection.end, 2),
    }
