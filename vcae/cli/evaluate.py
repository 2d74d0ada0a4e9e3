"""Commands that measure: trials, evaluate, probe, bench."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, arg

from vcae.cli import console
from vcae.cli.console import err
from vcae.cli.options import Device, Model, load_converter
from vcae.evaluation.systems import SYSTEMS
from vcae.files import check_output

if TYPE_CHECKING:
    from vcae.evaluation.probes import Probes

SystemNames = Annotated[tuple[str, ...], arg(help=f"systems to run: {', '.join(SYSTEMS)}; default: vcae")]


def trials(
    folder: Positional[Path],
    out: Path,
    count: int | None = None,
    per_pair: int = 1,
    references: int = 3,
    language: str | None = None,
    seed: int = 0,
    corpus: str | None = None,
    transcripts: Path | None = None,
) -> None:
    """Write a list of trials: conversions between all ordered pairs of the speakers in FOLDER.

    Args:
        folder: a corpus as published, a folder of several corpora, or a folder with one folder per speaker
        out: the list to write, NAME.tsv
        count: number of trials, drawn at random; default: all
        per_pair: sentences of each ordered pair of speakers
        references: reference recordings of each speaker
        language: language of the sources, such as en; default: any
        seed: seed of the random choices
        corpus: name of the corpus, if the name of FOLDER is another
        transcripts: folder of NAME.tsv with texts, for corpora without
    """
    from vcae.corpora.layouts import read_speech
    from vcae.evaluation.trials import make_trials, write_trials

    check_output(out, [".tsv"])
    made = make_trials(read_speech(folder, corpus, transcripts), count, per_pair, references, language, seed)
    write_trials(out, made)
    speakers = {trial.target_speaker for trial in made}
    err.print(f"{out}: {len(made)} trials of {len(speakers)} speakers")


def evaluate(
    pairs: Path,
    out: Path,
    system: SystemNames = (),
    converted: Path | None = None,
    whisper: str | None = None,
    cache: Path | None = None,
    model: Model = "studio",
    device: Device = "cpu",
) -> None:
    """Run systems on a list of trials and score the recordings: SECS, WER, MOS, F0 correlation, MCD.

    Writes results.json, report.html and all recordings to --out, and a table to the console.

    Args:
        pairs: the list of trials, made by `vcae trials`
        out: a new folder
        converted: folder of files that another system made, named by trial: ID.wav
        whisper: name or folder of a Whisper model; default: tiny.en
        cache: folder for cached features; default: in the user's cache folder
    """
    from vcae.evaluation.metric_set import MetricSet
    from vcae.evaluation.metrics.cache import FeatureCache, default_cache_folder
    from vcae.evaluation.runner import evaluate_list

    def load_metrics() -> MetricSet:
        return MetricSet.load(FeatureCache(cache or default_cache_folder()), whisper)

    converter = load_converter(model, device)
    evaluation = evaluate_list(pairs, out, converter, load_metrics, system, converted, console.track)
    console.show(evaluation.table())
    err.print(f"written: {out / 'results.json'} and {out / 'report.html'}")


def probe(
    folder: Positional[Path],
    out: Path | None = None,
    corpus: str | None = None,
    transcripts: Path | None = None,
    model: Model = "studio",
    device: Device = "cpu",
) -> None:
    """Measure the leakage of speaker, F0 and phones in the codes of FOLDER, and the EER of speaker codes.

    Use speakers who were not in the training data. The table compares each code with the mel.

    Args:
        folder: a corpus as published, or a folder with one folder per speaker
        out: file for all results, NAME.json
        corpus: name of the corpus, if the name of FOLDER is another
        transcripts: folder of NAME.tsv with texts, for corpora without; default: Whisper transcripts
    """
    from vcae.corpora.layouts import read_speech
    from vcae.evaluation import probes

    if out:
        check_output(out, [".json"])
    utterances = read_speech(folder, corpus, transcripts)
    data = probes.extract_codes(utterances, load_converter(model, device), track=console.track)
    with err.status("Training probes") if err.is_terminal else nullcontext():
        result = probes.train_probes(data)
    for line in result.skipped:
        err.print(f"vcae: {line}")
    Console().print(probe_table(result))
    if out:
        result.write(out)
    console.report(len(result.skipped))


def probe_table(result: "Probes") -> Table:
    """The results of probes as a table for the console."""
    head, *rows = result.table()
    caption = "\n".join(result.notes())
    table = Table(*head, title=result.title(), caption=caption, caption_justify="left")
    for row in rows:
        table.add_row(*row)
    return table


def bench(hour: bool = False, quick: bool = False, json: bool = False, model: Model = "studio") -> None:
    """Measure speed, latency, memory and size on this machine.

    Args:
        hour: measure the memory for a recording of one hour too, which takes some minutes
        quick: one round with a short signal
        json: write JSON instead of a table
    """
    import dataclasses
    from json import dumps

    from vcae.evaluation.bench import bench as measure

    seconds = [10] if quick else [10, 600]
    with err.status("Measuring") if err.is_terminal else nullcontext():
        measured = measure(model, [*seconds, 3600] if hour else seconds, quick)
    if json:
        print(dumps(dataclasses.asdict(measured), indent=1))  # noqa: T201 -- the result itself
    else:
        console.show([["what", "value"], *measured.rows()])
