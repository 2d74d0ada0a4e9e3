"""Score the bundled weights on speakers whom nobody trained on, and write the model card's tables.

    python recipes/evaluate_bundled.py --corpora CORPORA --out runs/evaluation --write-card

Two lists of trials, always the same: LibriSpeech test-other, every ordered pair of its ten readers, which is
what is reported; and the development set, 300 trials among speakers of Asterisk and speechocean762, by which
experiments are decided: of what they read, sentences that Whisper transcribes as they are written. Each
is `vcae evaluate` with all systems that put the scores to scale; then `vcae probe` on test-other. Features of
recordings are cached, so that a second run computes only what has changed.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import tyro
from rich.console import Console
from rich.progress import track

import vcae
from vcae.audio import read
from vcae.cli.console import in_one_line
from vcae.corpora.layouts import read_corpora
from vcae.corpora.utterance import Utterance
from vcae.errors import VcaeError
from vcae.evaluation.metrics.intelligibility import Intelligibility
from vcae.evaluation.panel import FeatureCache
from vcae.evaluation.probes import probe
from vcae.evaluation.results import Evaluation
from vcae.evaluation.runner import evaluate_list
from vcae.evaluation.trials import Trial, make_trials, write_trials
from vcae.files import replacing
from vcae.inference.checkpoint import BUNDLED

CARD = BUNDLED / "README.md"
CLEAR = 0.15
"""The word error rate of a development sentence, as recorded, up to which it is one."""
SYSTEMS = ("vcae", "natural", "identity", "reconstruct", "vocoder", "griffinlim", "world")
CALLED = {
    "vcae": "**converted**",
    "natural": "natural target",
    "identity": "source unchanged",
    "reconstruct": "source, encoded and decoded",
    "vocoder": "source, vocoder copy",
    "griffinlim": "source, Griffin-Lim copy",
    "world": "WORLD pitch shift",
}


@dataclass(frozen=True)
class Options:
    """What to score, and where to put it."""

    corpora: Path
    """Folder with the unpacked corpora: librispeech; for the development set asterisk and speechocean762."""
    transcripts: Path | None = None
    """Folder of NAME.tsv with transcripts."""
    out: Path = Path("runs/evaluation")
    """A new folder for lists, recordings, results and reports."""
    weights: Path | None = None
    """Folder with other weights than the bundled ones."""
    sets: tuple[str, ...] = ("test-other", "development")
    systems: tuple[str, ...] = SYSTEMS
    trials: int | None = None
    """Metric only so many trials of each set, drawn at random, for a quick look."""
    cache: Path | None = None
    """Where features of recordings are cached; default: the user's cache folder."""
    probes: bool = True
    """Look for what the codes give away, too."""
    write_card: bool = False
    """Write the tables into the model card of the bundled weights."""


def speakers_of(name: str, options: Options) -> list[Utterance]:
    """The utterances of a set."""
    if name == "test-other":
        names, kept_for = ["librispeech"], "test"
    elif name == "development":
        names, kept_for = ["asterisk", "speechocean762"], "development"
    else:
        raise VcaeError(f"{name}: no such set; there are test-other and development")
    utterances = read_corpora(options.corpora, names, options.transcripts)
    return [u for u in utterances if u.held_out == kept_for]


def trials_of(name: str, options: Options) -> list[Trial]:
    """The list of a set. Raises VcaeError where too little can be made of the corpora."""
    utterances = speakers_of(name, options)
    if name == "test-other":
        return make_trials(utterances, options.trials, language="en")
    words, memory = Intelligibility(), FeatureCache.kept(options.cache)

    @cache
    def is_clear(source: Path, text: str | None) -> bool:
        # What is misheard already in the source is misheard anew in whatever is made of it.
        return text is None or words.compare(memory.extract(words, read(source)), text)["WER"].value <= CLEAR

    trials = [t for t in make_trials(utterances, None, 20, language="en") if is_clear(t.source, t.text)]
    count = options.trials or 300
    if count > len(trials):
        raise VcaeError(f"{options.corpora}: only {len(trials)} development trials can be made, not {count}")
    drawn = random.Random(0).sample(range(len(trials)), count)  # noqa: S311 -- reproducible
    return [trials[k] for k in sorted(drawn)]


def score(name: str, converter: vcae.Converter, options: Options) -> Evaluation:
    """Make the list of a set, and evaluate it."""
    list_path = options.out / f"{name}.tsv"
    trials = trials_of(name, options)
    options.out.mkdir(parents=True, exist_ok=True)
    write_trials(list_path, trials)
    console = Console(stderr=True)
    return evaluate_list(
        list_path,
        options.out / name,
        converter,
        options.systems,
        cache=options.cache,
        track=lambda items, task: track(items, task, console=console, disable=not console.is_terminal),
    )


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A head and rows as a table."""
    head, *body = rows
    named = [[CALLED.get(name, name), *cells] for name, *cells in body]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *named])


def write_part(name: str, text: str) -> None:
    """Put text on the model card between the markers of that name. Raises VcaeError where there are none."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    try:
        before, rest = CARD.read_text(encoding="utf-8").split(start)
        _, after = rest.split(end)
    except (FileNotFoundError, ValueError):
        raise VcaeError(f"{CARD}: no place for {name}; put {start} and {end} there, once") from None
    with replacing(CARD) as unfinished:
        unfinished.write_text(f"{before}{start}\n{text}\n{end}{after}", encoding="utf-8")


def main(options: Options) -> None:
    """Both sets, then the probes. Raises VcaeError."""
    if options.write_card and (options.weights or options.trials or options.systems != SYSTEMS):
        raise VcaeError(
            "--write-card: the card shows all there is of the bundled weights; leave the rest out"
        )
    converter = vcae.load(options.weights)
    for name in options.sets:
        table = markdown(score(name, converter, options).table())
        print(f"{name}\n\n{table}\n")
        if options.write_card:
            write_part(name, table)
    if options.probes:
        found = probe(speakers_of("test-other", options), converter)
        text = f"{markdown(found.rows())}\n\n{' '.join(found.notes())}"
        print(text)
        if options.write_card:
            write_part("probes", text)


if __name__ == "__main__":
    with in_one_line():
        main(tyro.cli(Options, description=__doc__))
