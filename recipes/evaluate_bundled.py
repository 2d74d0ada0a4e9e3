"""Evaluate the bundled weights on held-out speakers, write a report, and update the tables of the model card.

    python recipes/evaluate_bundled.py --corpora CORPORA --out runs/evaluation --write-card

There are two fixed lists of trials. `test-other` has every ordered pair of the ten readers of LibriSpeech
test-other; its results are on the model card. `development` has 300 trials among the speakers of Asterisk and
speechocean762; experiments are decided by it. Its sources are sentences that Whisper transcribes correctly.
All systems of `vcae evaluate` run on each list, and `vcae probe` on the readers of test-other. The report,
report.md, has all tables. Features are cached, so that a second run computes only what has changed.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import tyro

import vcae
from vcae.audio import read
from vcae.cli import console
from vcae.corpora.layouts import read_corpora
from vcae.corpora.utterance import Utterance
from vcae.errors import VcaeError
from vcae.evaluation.metric_set import MetricSet
from vcae.evaluation.metrics.base import Metric
from vcae.evaluation.metrics.cache import FeatureCache, default_cache_folder
from vcae.evaluation.probes import probe
from vcae.evaluation.results import Evaluation
from vcae.evaluation.runner import evaluate_list
from vcae.evaluation.systems import SYSTEMS
from vcae.evaluation.trials import Trial, make_trials, write_trials
from vcae.files import load_tensors, replacing
from vcae.inference.checkpoint import BUNDLED, MODELS, model_files

CARD = BUNDLED / "README.md"
CARD_MEASURES = (
    "SECS to target",
    "SECS to source",
    "closer-to-target rate",
    "WER",
    "WER (Whisper normaliser)",
    "WER to text",
    "WER to text (Whisper normaliser)",
    "DistillMOS",
    "DNSMOS",
    "F0 correlation",
)
"""Columns of the results on the model card; the report has all measures."""
MAX_SOURCE_WER = 0.15
"""Largest WER of a natural recording that is a source of the development set."""
MAX_CELL = 80
"""Longest text in a cell of the phase table."""


@dataclass(frozen=True)
class Options:
    """What to evaluate, and where to write."""

    corpora: Path
    """Folder with the unpacked corpora: librispeech; for the development set asterisk and speechocean762."""
    transcripts: Path | None = None
    """Folder of NAME.tsv with transcripts."""
    out: Path = Path("runs/evaluation")
    """A new folder for trial lists, recordings, results and reports."""
    model: str = "studio"
    """studio or live, which are bundled, or a folder that training wrote."""
    sets: tuple[str, ...] = ("test-other", "development")
    systems: tuple[str, ...] = tuple(SYSTEMS)
    trials: int | None = None
    """Number of trials of each set, drawn at random, for a quick estimate; default: all."""
    cache: Path | None = None
    """Folder for cached features; default: in the user's cache folder."""
    probes: bool = True
    """Run the probes of speaker, F0 and phone leakage."""
    write_card: bool = False
    """Write the tables of results and training phases into the model card of the bundled weights."""


def utterances_of(name: str, options: Options) -> list[Utterance]:
    """The utterances of a set. Raises VcaeError."""
    if name == "test-other":
        corpora, held_out = ["librispeech"], "test"
    elif name == "development":
        corpora, held_out = ["asterisk", "speechocean762"], "development"
    else:
        raise VcaeError(f"{name}: no such set; there are test-other and development")
    utterances = read_corpora(options.corpora, corpora, options.transcripts)
    return [u for u in utterances if u.held_out == held_out]


def trials_of(
    name: str,
    utterances: Sequence[Utterance],
    count: int | None,
    intelligibility: Metric,
    features: FeatureCache,
) -> list[Trial]:
    """The trials of a set. Raises VcaeError where the corpora have too few recordings."""
    if name == "test-other":
        return make_trials(utterances, count, language="en")

    @cache
    def is_intelligible(source: Path, text: str | None) -> bool:
        # Words that Whisper gets wrong in the natural recording would count as errors of the conversion.
        if text is None:
            return True
        transcript = features.extract(intelligibility, read(source))
        return intelligibility.compare(transcript, text)["WER"].value <= MAX_SOURCE_WER

    every = make_trials(utterances, None, 20, language="en")
    usable = [trial for trial in every if is_intelligible(trial.source, trial.text)]
    wanted = count or 300
    if wanted > len(usable):
        raise VcaeError(f"only {len(usable)} development trials can be made, not {wanted}")
    drawn = random.Random(0).sample(range(len(usable)), wanted)  # noqa: S311 -- reproducible
    return [usable[k] for k in sorted(drawn)]


def evaluate_set(
    name: str, trials: Sequence[Trial], converter: vcae.Converter, metrics: MetricSet, options: Options
) -> Evaluation:
    """Write the list of a set and evaluate all systems on it."""
    options.out.mkdir(parents=True, exist_ok=True)
    pairs = options.out / f"{name}.tsv"
    write_trials(pairs, trials)
    return evaluate_list(
        pairs, options.out / name, converter, lambda: metrics, options.systems, track=console.track
    )


def phase_table(files: Sequence[Path]) -> list[list[str]]:
    """A head and one row for each training phase, from the notes in weight files.

    Older files have no `phases` in their notes, but one count of steps and minutes. Columns without any value
    are left out.
    """
    keys = {
        "stage": "stage",
        "steps": "steps",
        "minutes": "minutes",
        "hours": "hours of audio",
        "device": "device",
        "vcae": "vcae",
        "git": "git",
        "data": "data",
    }
    rows = []
    for path in files:
        notes: Mapping[str, Any] = load_tensors(path)[1].get("notes") or {}
        for phase in notes.get("phases") or [{"stage": "not recorded", **notes}]:
            rows.append([path.name, *(_cell(phase.get(key)) for key in keys)])
    head = ["file", *keys.values()]
    used = [k for k in range(len(head)) if any(row[k] for row in rows)]
    return [[row[k] for k in used] for row in [head, *rows]]


def _cell(value: Any) -> str:
    """A value of a phase's metadata as the text of a table cell."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        value = ", ".join(f"{key} {_cell(each)}" for key, each in value.items())
    text = " ".join(str(value).replace("|", "/").split())
    return text if len(text) <= MAX_CELL else f"{text[: MAX_CELL - 1]}…"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A head and rows as a table. The first cells may be names of systems."""
    head, *body = rows
    titles = {name: info.title for name, info in SYSTEMS.items()} | {"vcae": f"**{SYSTEMS['vcae'].title}**"}
    titled = [[titles.get(name, name), *cells] for name, *cells in body]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *titled])


def write_part(name: str, text: str) -> None:
    """Replace the part of the model card between the markers of a name. Raises VcaeError without markers."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    try:
        before, rest = CARD.read_text(encoding="utf-8").split(start)
        _, after = rest.split(end)
    except (FileNotFoundError, ValueError):
        raise VcaeError(f"{CARD}: no place for {name}; put {start} and {end} there, once") from None
    with replacing(CARD) as unfinished:
        unfinished.write_text(f"{before}{start}\n{text}\n{end}{after}", encoding="utf-8")


def main(options: Options) -> None:
    """Evaluate the sets, run the probes, and write the report. Raises VcaeError."""
    whole = options.model in MODELS and not options.trials and options.systems == tuple(SYSTEMS)
    if options.write_card and not whole:
        raise VcaeError("--write-card: needs a bundled model, all trials and all systems")
    sets = {name: utterances_of(name, options) for name in options.sets}
    readers = utterances_of("test-other", options) if options.probes else []
    converter = vcae.load(options.model)
    features = FeatureCache(options.cache or default_cache_folder())
    metrics = MetricSet.load(features)
    parts = [f"# Evaluation of the weights {converter.fingerprint}"]
    for name, utterances in sets.items():
        trials = trials_of(name, utterances, options.trials, metrics.intelligibility, features)
        evaluation = evaluate_set(name, trials, converter, metrics, options)
        link = f"[{name}/report.html]({name}/report.html)"
        parts.append(f"## {name}\n\n{markdown(evaluation.table())}\n\nDetails: {link}")
        if options.write_card and name == "test-other":
            write_part(f"results of {options.model}", markdown(evaluation.table(CARD_MEASURES)))
    if options.probes:
        result = probe(readers, converter, track=console.track)
        notes = "\n".join(f"- {line}" for line in result.notes())
        parts.append(f"## Probes on test-other: {result.title()}\n\n{markdown(result.table())}\n\n{notes}")
    bundled = options.model in MODELS
    files = sorted(BUNDLED.glob("*.safetensors")) if bundled else model_files(options.model).all
    phases = markdown(phase_table(files))
    parts.append(f"## Training phases\n\n{phases}")
    if options.write_card:
        write_part("phases", phases)
    report = "\n\n".join(parts)
    print(report)
    options.out.mkdir(parents=True, exist_ok=True)
    with replacing(options.out / "report.md") as unfinished:
        unfinished.write_text(report + "\n", encoding="utf-8")


if __name__ == "__main__":
    with console.in_one_line():
        main(tyro.cli(Options, description=__doc__))
