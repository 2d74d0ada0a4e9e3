"""The command that examines a corpus: doctor."""

import os
import sys
from pathlib import Path

from tyro.conf import Positional

from vcae.cli import console
from vcae.cli.console import err
from vcae.corpora.layouts import read_speech
from vcae.doctor import PROBLEMS, Examination, Limits, examine
from vcae.files import OutputError


def doctor(
    folder: Positional[Path],
    out: Path | None = None,
    speakers: str | None = None,
    corpus: str | None = None,
    transcripts: Path | None = None,
    exclude: tuple[str, ...] | None = None,
    texts: bool = True,
    processes: int = os.cpu_count() or 1,
    limits: Limits = Limits(),  # noqa: B008 -- frozen
) -> None:
    """Examine the recordings in FOLDER: is this corpus fit for training? Changes and deletes nothing.

    Writes report.html with pictures and players, findings.tsv, and exclude.tsv with the files to leave out,
    which recipes take. The exit status is 0 where training would start as it is, 1 where it would start
    without the files in exclude.tsv, and 2 where it would not.

    Args:
        folder: a corpus as published, a folder of several corpora, or your own recordings
        out: folder for the three files; default: NAME-doctor in the current folder
        speakers: how your own recordings name speakers: folder (one for each), none, a pattern with
            (?P<speaker>...), or a table .csv or .tsv with the columns file and speaker
        corpus: name of the corpus, if the name of FOLDER is another
        transcripts: folder of NAME.tsv with texts, for corpora without
        exclude: problems whose files are left out; default: those that damage training
        texts: compare English texts with their recordings
        processes: recordings to examine at the same time
    """
    from vcae.doctor.report import write_all

    out = out or Path(f"{folder.resolve().name}-doctor")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot be created ({error.strerror}); choose another --out") from None
    utterances = read_speech(folder, corpus, transcripts, speakers)
    examination = examine(folder, utterances, limits, exclude, texts, processes, console.track)
    write_all(out, examination)
    summarise(examination)
    err.print(f"written: {out / 'report.html'}, {out / 'exclude.tsv'} and {out / 'findings.tsv'}")
    sys.exit(examination.status)


def summarise(examination: Examination) -> None:
    """Print what was found: a table of the problems, and the verdict."""
    if counts := examination.counts():
        rows = [["problem", "found", "its files", "what it is"]]
        for name, count in counts.items():
            left_out = "left out" if name in examination.exclude else "kept"
            rows.append([name, str(count), left_out, PROBLEMS[name].about])
        console.show(rows)
    known = {each.speaker for each in examination.utterances if each.labelled}
    err.print(
        f"{examination.root}: {len(examination.utterances)} recordings, {examination.seconds / 3600:.2f} h,"
        f" {len(known)} speakers"
    )
    err.print(examination.verdict)
