"""The command that finds unusual recordings: anomaly."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from vcae.cli import console, paths
from vcae.cli.console import err
from vcae.cli.options import Device, check_device
from vcae.errors import VcaeError
from vcae.files import OutputError
from vcae.progress import Progress

if TYPE_CHECKING:
    from vcae.uses.anomaly import Detector, Profile

FalseAlarms = Annotated[float, arg(help="share of normal recordings that may be called unusual")]


def anomaly(
    folder: Positional[Path],
    out: Path | None = None,
    normal: Path | None = None,
    one_speaker: bool = False,
    false_alarms: FalseAlarms = 0.01,
    device: Device = "cpu",
) -> None:
    """Find the recordings in FOLDER, and the seconds of them, that are unlike normal speech.

    Writes report.html with pictures and players, files.csv and seconds.csv. The exit status is 0 where
    nothing is unusual, 1 where something is or a file could not be used, and 2 where nothing was examined.

    Args:
        folder: the recordings, or one of them
        out: folder for the three files; default: NAME-anomalies in the current folder
        normal: recordings that are as they should be, five or more, of the same microphone and people
        one_speaker: all should be of the one person in --normal
    """
    from vcae.evaluation.anomalies import Judged, write_page, write_scores
    from vcae.uses.anomaly import Detector

    if one_speaker and normal is None:
        raise VcaeError("--one-speaker needs recordings of this person; give them with --normal")
    check_device(device)
    found = paths.recordings([folder], without=out)
    known = paths.recordings([normal]) if normal else []
    detector = Detector.load(device)
    threshold = detector.threshold(false_alarms)
    out = out or Path(f"{folder.resolve().stem}-anomalies")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot be created ({error.strerror}); choose another --out") from None
    failed = 0
    if known:
        profiles, failed = _profiles(detector, [path for path, _ in known])
        detector.know(list(profiles.values()), one_speaker)
        threshold = detector.threshold(false_alarms)
    profiles, failed_too = _profiles(detector, [path for path, _ in found])
    names = dict(found)
    judged = [Judged(path, str(names[path]), detector.score(p)) for path, p in profiles.items()]
    write_scores(out, judged, threshold)
    write_page(out / "report.html", folder.resolve().name, judged, threshold, false_alarms)
    unusual = [each for each in judged if each.scores.total > threshold]
    if unusual:
        rows = [[str(each.path), f"{each.scores.total:.2f}", each.scores.reason] for each in unusual]
        console.show([["file", "score", "reason"], *sorted(rows, key=lambda row: -float(row[1]))])
    err.print(f"vcae: {len(unusual)} of {len(judged)} recordings are unusual; see {out / 'report.html'}")
    console.report(failed + failed_too)
    if unusual:
        sys.exit(1)


def _profiles(detector: "Detector", files: list[Path]) -> tuple[dict[Path, "Profile"], int]:
    """What is measured of the files that can be used, and how many cannot."""
    profiles = {}

    def measure(path: Path, _: Path, progress: Progress) -> None:
        profiles[path] = detector.profile(path, progress)

    return profiles, console.for_each([(path, path) for path in files], measure) or 0
