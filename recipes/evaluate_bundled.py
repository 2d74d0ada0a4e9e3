"""Score the bundled weights on the ten speakers of LibriSpeech test-other, whom nobody trained on.

    python recipes/evaluate_bundled.py --corpora CORPORA --out runs/evaluation

Each speaker lends four utterances: one is the source that is converted to the nine other voices, three
are the reference of the speaker's own voice. Each of the 90 conversions is judged by

- cosine to target and cosine to source: the conversion's voice beside the target's three references and
  beside the source utterance;
- nearer to target: whether the conversion is nearer to the target's references than to the source
  speaker's three references, so that both sides are treated alike;
- WER: against what Whisper hears in the unconverted source; "WER to text" against the corpus' own text,
  where there is one; both over all words of all trials;
- DistillMOS: predicted quality from 1 to 5.

Two rows put this to scale, in the same 90 pairs: the source unchanged, which is what another person's
voice scores, and a natural recording of the target, beside whose score there is little to gain.
"""

import json
import random
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, islice, permutations
from pathlib import Path
from typing import TypeVar

import numpy as np
import tyro
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

import vcae
from vcae.audio import Audio, read
from vcae.checkpoint import BUNDLED
from vcae.corpora import Utterance, read_corpora
from vcae.errors import VcaeError
from vcae.judges import Embedding, Intelligibility, Naturalness, SpeakerSimilarity, word_errors
from vcae.output import replacing

SEED = 0
SECONDS = (3.0, 12.0)  # what is shorter is hard to judge, what is longer is slow
CARD = BUNDLED / "README.md"
MARKERS = ("<!-- scores -->", "<!-- /scores -->")

Summary = dict[str, tuple[float, float, float] | None]
T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """What to score, and where to put it."""

    corpora: Path
    """Folder with the unpacked corpora; librispeech must be among them."""
    out: Path = Path("runs/evaluation")
    """Folder for the converted recordings and scores.json."""
    weights: Path | None = None
    """Folder with other weights than the bundled ones."""
    pairs: int | None = None
    """Judge only so many pairs, drawn at random, for a quick look."""
    write_card: bool = False
    """Write the table into the model card of the bundled weights."""


@dataclass(frozen=True)
class Heard:
    """What the judges make of one recording."""

    voice: Embedding
    words: str
    naturalness: float


class Panel:
    """The three judges, asked together."""

    def __init__(self) -> None:
        self.similarity, self.intelligibility = SpeakerSimilarity(), Intelligibility()
        self.naturalness = Naturalness()

    def hear(self, audio: Audio) -> Heard:
        """Ask all three about one recording."""
        return Heard(
            self.similarity.embed(audio), self.intelligibility.transcribe(audio), self.naturalness.rate(audio)
        )


@dataclass(frozen=True)
class Speaker:
    """A speaker's natural recordings and what the judges make of them."""

    name: str
    source: Utterance
    references: Sequence[Utterance]
    heard: Heard
    """The source."""
    voice: Embedding
    """The references."""


@dataclass(frozen=True)
class Trial:
    """The scores of one recording, taken for the words of one speaker in the voice of another."""

    system: str
    source: str
    target: str
    to_target: float
    to_source: float
    to_source_speaker: float
    nearer_to_target: bool
    errors: int
    words: int
    text_errors: int
    text_words: int
    """0 where the corpus has no text."""
    naturalness: float
    transcript: str


# Each is a quotient, summed over the trials above and below: WER counts by words, the others by trials.
MEASURES: dict[str, Callable[[Trial], tuple[float, float]]] = {
    "cosine to target": lambda trial: (trial.to_target, 1),
    "cosine to source": lambda trial: (trial.to_source, 1),
    "nearer to target": lambda trial: (trial.nearer_to_target, 1),
    "WER": lambda trial: (trial.errors, trial.words),
    "WER to text": lambda trial: (trial.text_errors, trial.text_words),
    "DistillMOS": lambda trial: (trial.naturalness, 1),
}


def draw(items: Sequence[T], count: int) -> list[T]:
    """So many of the items, the same ones every time."""
    return random.Random(SEED).sample(items, count)  # noqa: S311 -- reproducible, not secret


def meet(utterances: Sequence[Utterance], panel: Panel) -> Speaker:
    """Draw a speaker's source and references, and have them judged."""
    drawn = draw(utterances, len(utterances))
    recordings = ((each, read(each.path)) for each in drawn)
    fitting = (pair for pair in recordings if SECONDS[0] <= pair[1].duration <= SECONDS[1])
    chosen = list(islice(fitting, 4))
    name = utterances[0].speaker
    if len(chosen) < 4:
        raise VcaeError(f"{name}: has no four utterances of {SECONDS[0]:g} to {SECONDS[1]:g} s; unpack them")
    (source, audio), *references = chosen
    return Speaker(
        name,
        source,
        [utterance for utterance, _ in references],
        panel.hear(audio),
        panel.similarity.embed(*(recording for _, recording in references)),
    )


def judge(system: str, heard: Heard, source: Speaker, target: Speaker, said: Speaker) -> Trial:
    """Compare what was heard with the two voices, and with the words of whoever said them."""
    cosine = SpeakerSimilarity.similarity
    to_target, to_source_speaker = cosine(heard.voice, target.voice), cosine(heard.voice, source.voice)
    errors, words = word_errors(said.heard.words, heard.words)
    text = said.source.text
    text_errors, text_words = word_errors(text, heard.words) if text else (0, 0)
    return Trial(
        system=system,
        source=source.source.id,
        target=target.source.id,
        to_target=to_target,
        to_source=cosine(heard.voice, source.heard.voice),
        to_source_speaker=to_source_speaker,
        nearer_to_target=to_target > to_source_speaker,
        errors=errors,
        words=words,
        text_errors=text_errors,
        text_words=text_words,
        naturalness=heard.naturalness,
        transcript=heard.words,
    )


def summarise(trials: Sequence[Trial]) -> Summary:
    """Mean of each measure, and the ends of its 95 % interval; None where it was not taken.

    From 1000 bootstrap resamples of the speakers, as sources and as targets at once: trials that share a
    speaker are alike, so resampling trials would promise too much.
    """
    sources, targets = [each.source for each in trials], [each.target for each in trials]
    speakers = sorted({*sources, *targets})
    count = len(speakers)
    draws = np.random.default_rng(SEED).multinomial(count, np.full(count, 1 / count), size=1000)
    weights = (
        draws[:, [speakers.index(each) for each in sources]]
        * draws[:, [speakers.index(each) for each in targets]]
    )
    summary: Summary = {}
    for name, measure in MEASURES.items():
        above, below = np.array([measure(each) for each in trials], dtype=float).T
        drawn = weights @ below > 0
        if not drawn.any():
            summary[name] = None
            continue
        resampled = (weights @ above)[drawn] / (weights @ below)[drawn]
        low, high = np.quantile(resampled, [0.025, 0.975])
        summary[name] = (float(above.sum() / below.sum()), float(low), float(high))
    return summary


def tabulate(summaries: Mapping[str, Summary]) -> list[list[str]]:
    """The head, then a row for each system; measures that no system has are left out."""
    names = [name for name in MEASURES if any(summary[name] for summary in summaries.values())]
    rows = [["", *names]]
    for system, summary in summaries.items():
        values = (summary[name] for name in names)
        rows.append(
            [system, *("n/a" if v is None else f"{v[0]:.2f} [{v[1]:.2f}, {v[2]:.2f}]" for v in values)]
        )
    return rows


def show(rows: Sequence[Sequence[str]]) -> None:
    """Print the table."""
    head, *body = rows
    shown = Table(*head, title="Mean [95 % interval over speakers]")
    for row in body:
        shown.add_row(*(escape(cell.replace(" [", "\n[")) for cell in row))
    Console().print(shown)


def read_card() -> tuple[str, str]:
    """What stands on the model card before and after the scores."""
    try:
        before, rest = CARD.read_text(encoding="utf-8").split(MARKERS[0])
        _, after = rest.split(MARKERS[1])
    except (FileNotFoundError, ValueError):
        raise VcaeError(f"{CARD}: no place for the table; put {' and '.join(MARKERS)} there, once") from None
    return before, after


def write_card(rows: Sequence[Sequence[str]], count: int) -> None:
    """Put the table on the model card in place of the last one."""
    before, after = read_card()
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|---" * len(rows[0]) + "|")
    caption = f"LibriSpeech test-other, {count} pairs of speakers; mean [95 % interval over speakers]."
    table = "\n".join([caption, "", *lines])
    with replacing(CARD) as unfinished:
        unfinished.write_text(f"{before}{MARKERS[0]}\n{table}\n{MARKERS[1]}{after}", encoding="utf-8")


def progress(items: Collection[T], task: str) -> Iterable[T]:
    """Show a bar on a terminal, and nothing elsewhere."""
    console = Console(stderr=True)
    return track(items, task, console=console, disable=not console.is_terminal)


def evaluate(options: Options) -> None:
    """Score the weights on LibriSpeech test-other; raises VcaeError."""
    if options.write_card and (options.weights or options.pairs):
        raise VcaeError("--write-card: the card shows all pairs of the bundled weights; leave the rest out")
    if options.pairs is not None and options.pairs < 1:
        raise VcaeError(f"--pairs {options.pairs}: give at least 1, or leave it out for all")
    if options.write_card:
        read_card()  # fails now rather than after all the work
    by_speaker: dict[str, list[Utterance]] = {}
    for utterance in read_corpora(options.corpora, ["librispeech"]):
        if utterance.held_out == "test":
            by_speaker.setdefault(utterance.speaker, []).append(utterance)
    if len(by_speaker) < 2:
        raise VcaeError(
            f"{options.corpora / 'librispeech'}: fewer than two speakers of test-other; unpack it"
        )
    panel = Panel()
    converter = vcae.load(options.weights)
    options.out.mkdir(parents=True, exist_ok=True)

    speakers = [meet(each, panel) for each in progress(by_speaker.values(), "Natural recordings")]
    pairs = list(permutations(speakers, 2))
    if options.pairs is not None:
        pairs = draw(pairs, min(options.pairs, len(pairs)))
    voices = {each.name: converter.voice([r.path for r in each.references]) for each in speakers}
    trials = []
    for source, target in progress(pairs, "Conversions"):
        audio = converter.convert(source.source.path, voice=voices[target.name])
        audio.write(options.out / f"{source.source.id}-to-{target.name.rpartition('/')[2]}.wav")
        trials.append(judge("converted", panel.hear(audio), source, target, said=source))
    trials += [judge("source unchanged", s.heard, s, t, said=s) for s, t in pairs]
    trials += [judge("natural target", t.heard, s, t, said=t) for s, t in pairs]

    summaries = {
        system: summarise(list(group)) for system, group in groupby(trials, lambda trial: trial.system)
    }
    scores = {
        "weights": str(options.weights or "bundled"),
        "speakers": {s.name: [each.id for each in (s.source, *s.references)] for s in speakers},
        "summary": summaries,
        "trials": [asdict(trial) for trial in trials],
    }
    with replacing(options.out / "scores.json") as unfinished:
        unfinished.write_text(json.dumps(scores, indent=1), encoding="utf-8")
    rows = tabulate(summaries)
    show(rows)
    if options.write_card:
        write_card(rows, len(pairs))


if __name__ == "__main__":
    try:
        evaluate(tyro.cli(Options, description=__doc__))
    except VcaeError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
