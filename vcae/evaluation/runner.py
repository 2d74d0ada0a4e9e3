"""Run systems on the trials of a list and evaluate what they make."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from vcae.audio import is_silent, write
from vcae.errors import VcaeError
from vcae.evaluation.metric_set import MetricSet
from vcae.evaluation.metrics.base import Features
from vcae.evaluation.report import write_report
from vcae.evaluation.results import Evaluation, Result
from vcae.evaluation.systems import EvaluationError, System, Systems, converted_files
from vcae.evaluation.trials import Trial, read_trials
from vcae.inference.converter import Converter
from vcae.progress import Track, untracked

LENGTH_TOLERANCE = 0.1
"""Largest difference between the lengths of conversion and source, as a share of the source's length."""


def evaluate(
    trials: Sequence[Trial],
    systems: Mapping[str, System],
    out: Path,
    metrics: MetricSet,
    about: Mapping[str, str] | None = None,
    track: Track = untracked,
    embed: Callable[[Path], Features] | None = None,
) -> Evaluation:
    """Run each system on each trial, write the recordings to `out`/SYSTEM/ID.flac, and evaluate these files.

    A conversion fails if the system raises VcaeError, or if the recording is silent or its length differs
    from the source's by more than LENGTH_TOLERANCE. A failure gets the worst scores and counts in all means.
    `track` shows progress; `embed` computes the speaker code of a file.
    """
    results: dict[str, list[Result]] = {}
    for name, system in systems.items():
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        results[name] = []
        for trial in track(trials, name):
            path, failure = _run(system, trial, folder / f"{trial.id}.flac", name, metrics)
            results[name].append(metrics.evaluate(trial, name, path, failure))
    natural = {path for trial in trials for path in trial.files}
    embeddings = {path: metrics.features(metrics.similarity, path) for path in sorted(natural)}
    english = {trial.source for trial in trials if trial.language == "en"}
    transcripts = {path: str(metrics.features(metrics.intelligibility, path)) for path in sorted(english)}
    first = next(iter(results.values()))
    converted = {r.audio for r in first if r.audio and r.failure is None}
    codes = {path: embed(path) for path in sorted(natural | converted)} if embed else {}
    return Evaluation(results, metrics.measures, about or {}, embeddings, codes, transcripts)


def _run(
    system: System, trial: Trial, path: Path, name: str, metrics: MetricSet
) -> tuple[Path | None, str | None]:
    """Run a system on a trial: the file it made, if any, and the reason for a failure, if it failed."""
    try:
        audio = system(trial)
    except VcaeError as error:
        return None, str(error)
    write(path, audio)
    if is_silent(audio.samples):
        return path, "is silent"
    length = metrics.read(trial.source).duration
    if name != "natural" and abs(audio.duration - length) > LENGTH_TOLERANCE * length:
        return path, f"is {audio.duration:.2f} s long, the source {length:.2f} s"
    return path, None


def evaluate_list(
    pairs: Path,
    out: Path,
    converter: Converter,
    metrics: Callable[[], MetricSet],
    systems: Sequence[str] = (),
    converted: Path | None = None,
    track: Track = untracked,
) -> Evaluation:
    """Evaluate the trials of a list file; write recordings, results.json and report.html to a new folder.

    metrics: creates the metrics; called after the arguments are checked, since loading takes some seconds.
    systems: names from `SYSTEMS`; by default "vcae", or none where `converted` is given.
    converted: a folder of files made by another system, named by trial: ID.wav.
    Raises VcaeError, for example if the folder is not empty.
    """
    from vcae import __version__

    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise EvaluationError(f"{out}: exists already; name a new folder, so that nothing is mixed or lost")
    trials = read_trials(pairs)
    available = Systems(converter).by_name
    unknown = [name for name in systems if name not in available]
    if unknown:
        raise EvaluationError(f"{unknown[0]}: no such system; there are {', '.join(available)}")
    chosen: dict[str, System] = {}
    if converted:
        chosen[converted.resolve().name] = converted_files(converted, trials)
    chosen |= {name: available[name] for name in systems or ([] if converted else ["vcae"])}
    metric_set = metrics()
    about = {
        "list": f"{pairs.name}, {len(trials)} trials",
        "vcae": __version__,
        "weights": converter.fingerprint,
        "Whisper": metric_set.intelligibility.version,
    }
    evaluation = evaluate(trials, chosen, out, metric_set, about, track, converter.embed)
    evaluation.write_json(out / "results.json")
    write_report(out / "report.html", evaluation)
    return evaluation
