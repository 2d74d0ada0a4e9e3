"""Systems speak the trials of a list, metrics hear them, and a failure counts like anything else."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from vcae.audio import is_silent, write
from vcae.errors import VcaeError
from vcae.evaluation.metrics.base import Features
from vcae.evaluation.panel import FeatureCache, Panel
from vcae.evaluation.report import write_report
from vcae.evaluation.results import Evaluation, Result
from vcae.evaluation.systems import EvaluationError, System, Systems, converted_by_others
from vcae.evaluation.trials import Trial, read_trials
from vcae.inference.converter import Converter

LENGTH_TOLERANCE = 0.1
"""By what share of its length a conversion may differ from the source before it counts as a failure."""


Track: TypeAlias = Callable[[Collection[Any], str], Iterable[Any]]
"""Goes through items of a task and shows how far it is."""


def untracked(items: Collection[Any], task: str) -> Iterable[Any]:
    """Shows nothing."""
    return items


def evaluate(
    trials: Sequence[Trial],
    systems: Mapping[str, System],
    out: Path,
    panel: Panel,
    about: Mapping[str, str] | None = None,
    track: Track = untracked,
    embed: Callable[[Path], Features] | None = None,
) -> Evaluation:
    """Let each system speak each trial and have it evaluated; recordings go to `out`/SYSTEM/ID.flac.

    A system that raises VcaeError, gives silence, or another length than the source by more than
    LENGTH_TOLERANCE, has failed that trial: it gets the worst scores, and counts. What is evaluated is the
    written file. `track` shows progress; `embed` gives the speaker code of a file.
    """
    results: dict[str, list[Result]] = {}
    for system, speak in systems.items():
        folder = out / system
        folder.mkdir(parents=True, exist_ok=True)
        results[system] = []
        for trial in track(trials, system):
            path, failure = _speak(speak, trial, folder / f"{trial.id}.flac", system, panel)
            results[system].append(panel.measure(trial, system, path, failure))
    natural = {path for trial in trials for path in trial.files}
    voices = {path: panel.extract(panel.voices, path) for path in sorted(natural)}
    spoken = {trial.source for trial in trials if trial.language == "en"}
    transcripts = {path: str(panel.extract(panel.words, path)) for path in sorted(spoken)}
    first = next(iter(results.values()))
    converted = {r.audio for r in first if r.audio and r.failure is None}
    codes = {path: embed(path) for path in sorted(natural | converted)} if embed else {}
    return Evaluation(results, panel.measures, about or {}, voices, codes, transcripts)


def _speak(
    speak: System, trial: Trial, path: Path, system: str, panel: Panel
) -> tuple[Path | None, str | None]:
    """The file that a system made of a trial, and why it counts as a failure, if it does."""
    try:
        audio = speak(trial)
    except VcaeError as error:
        return None, str(error)
    write(path, audio)
    if is_silent(audio.samples):
        return path, "is silent"
    length = panel.read(trial.source).duration
    if system != "natural" and abs(audio.duration - length) > LENGTH_TOLERANCE * length:
        return path, f"is {audio.duration:.2f} s long, the source {length:.2f} s"
    return path, None


def evaluate_list(
    pairs: Path,
    out: Path,
    converter: Converter,
    systems: Sequence[str] = (),
    converted: Path | None = None,
    whisper: str | Path | None = None,
    cache: Path | None = None,
    track: Track = untracked,
) -> Evaluation:
    """Evaluate a list of trials and write all of it to a new folder, with a report for the browser.

    systems: names of `Systems`, "vcae" if none is given and nothing was `converted` by others.
    Raises VcaeError, among others where the folder is not new.
    """
    from vcae import __version__

    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise EvaluationError(f"{out}: exists already; name a new folder, so that nothing is mixed or lost")
    trials = read_trials(pairs)
    known = Systems(converter).by_name
    unknown = [name for name in systems if name not in known]
    if unknown:
        raise EvaluationError(f"{unknown[0]}: no such system; there are {', '.join(known)}")
    chosen: dict[str, System] = {}
    if converted:
        chosen[converted.resolve().name] = converted_by_others(converted, trials)
    chosen |= {name: known[name] for name in systems or ([] if converted else ["vcae"])}
    panel = Panel.complete(FeatureCache.kept(cache), whisper)
    about = {
        "list": f"{pairs.name}, {len(trials)} trials",
        "vcae": __version__,
        "weights": converter.made_by,
        "Whisper": panel.words.version,
    }
    evaluation = evaluate(trials, chosen, out, panel, about, track, converter.embed)
    evaluation.write_json(out / "results.json")
    write_report(out / "report.html", evaluation)
    return evaluation
