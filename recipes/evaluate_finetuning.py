"""Measure what fine-tuning a voice is worth, on unseen speakers with long clean recordings.

    python recipes/evaluate_finetuning.py --corpora CORPORA --out runs/finetuning

For each target of Asterisk and each amount of speech, the voice computed from that speech (zero-shot) and the
voice that `recipes/finetune_voice.py` tunes to it convert one sentence of each development reader of
speechocean762. Scores are those of `vcae evaluate`; the target's references are recordings that neither voice
has seen.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import finetune_voice
import tyro

import vcae
from vcae.audio import Audio, read
from vcae.cli.console import in_one_line, show, track
from vcae.corpora.layouts import read_corpora
from vcae.corpora.utterance import Utterance
from vcae.errors import VcaeError
from vcae.evaluation.metric_set import MetricSet
from vcae.evaluation.metrics.cache import FeatureCache, default_cache_folder
from vcae.evaluation.results import Evaluation, format_interval
from vcae.evaluation.runner import evaluate
from vcae.evaluation.systems import System
from vcae.evaluation.trials import MAX_SECONDS, MIN_SECONDS, Trial
from vcae.training.config import VoiceStageConfig

REFERENCES = 20
"""Recordings of a target that its conversions are compared with."""
MEASURES = ("SECS to target", "SECS to source", "closer-to-target rate", "WER", "DistillMOS", "DNSMOS")


@dataclass(frozen=True)
class Options:
    """What to measure."""

    corpora: Path
    """Folder with the unpacked corpora asterisk and speechocean762."""
    out: Path
    """Folder for voices, recordings and results.json."""
    targets: tuple[str, ...] = ("en-es", "fr", "it")
    """Speakers of Asterisk."""
    minutes: tuple[float, ...] = (1.0, 3.0, 10.0)
    """Amounts of speech; where a speaker has less, all of it."""
    sources: int = 12
    """Number of source speakers."""
    campplus: Path | None = None
    """Weights of CAM++, as for `recipes/finetune_voice.py`."""
    model: str = "studio"
    """studio, live or a folder that training wrote."""
    stage: VoiceStageConfig = field(default_factory=VoiceStageConfig)


def main(options: Options) -> None:
    """Tune, convert, score. Raises VcaeError."""
    converter = vcae.load(options.model)
    by_speaker = recordings(options.corpora)
    spoken = {t: by_speaker[f"asterisk/{t}"] for t in options.targets}
    readers = [s for s in sorted(by_speaker) if s.startswith("speechocean762/")][: options.sources]
    trials = [trial(target, by_speaker[reader], own) for target, own in spoken.items() for reader in readers]
    systems: dict[str, System] = {}
    for minutes in options.minutes:
        plain, tuned = {}, {}
        for target, own in spoken.items():
            files = first(own[REFERENCES:], minutes)
            out = options.out / f"{target}-{minutes:g}.voice"
            out.parent.mkdir(parents=True, exist_ok=True)
            recipe = finetune_voice.Recipe(
                recordings=tuple(files),
                out=out,
                model=options.model,
                campplus=options.campplus,
                run=options.out / out.stem,
                stage=options.stage,
            )
            finetune_voice.main(recipe)
            plain[target], tuned[target] = converter.voice(files), vcae.Voice.load(out)
        systems[f"zero-shot, {minutes:g} min"] = into(plain, converter)
        systems[f"fine-tuned, {minutes:g} min"] = into(tuned, converter)
    metrics = MetricSet.load(FeatureCache(default_cache_folder()))
    found = evaluate(trials, systems, options.out / "converted", metrics, track=track)
    found.write_json(options.out / "results.json")
    show(found.table(MEASURES))
    show(gains(found, options.minutes))


def gains(found: Evaluation, minutes: Sequence[float]) -> list[list[str]]:
    """The table of the differences that fine-tuning makes, with intervals, in the same trials."""
    rows = [["fine-tuned less zero-shot", *MEASURES]]
    for each in minutes:
        change = found.difference(f"fine-tuned, {each:g} min", f"zero-shot, {each:g} min")
        rows.append([f"{each:g} min", *(format_interval(change.get(name), "+.3f") for name in MEASURES)])
    return rows


def into(voices: dict[str, vcae.Voice], converter: vcae.Converter) -> System:
    """A system that converts to the voice of each trial's target."""

    def convert(trial: Trial) -> Audio:
        return converter.convert(trial.source, voices[trial.target_speaker])

    return convert


def recordings(corpora: Path) -> dict[str, list[Path]]:
    """Recordings of the development speakers, within the lengths of trials, in a fixed random order."""
    found: dict[str, list[Path]] = {}
    held_out = [u for u in read_corpora(corpora, ["asterisk", "speechocean762"]) if is_held_out(u)]
    for utterance in random.Random(0).sample(held_out, len(held_out)):  # noqa: S311 -- reproducible
        if MIN_SECONDS <= read(utterance.path).duration <= MAX_SECONDS:
            found.setdefault(utterance.speaker, []).append(utterance.path)
    if not found:
        raise VcaeError(f"{corpora}: holds no development speakers; unpack asterisk and speechocean762 there")
    return found


def is_held_out(utterance: Utterance) -> bool:
    """Whether this is a development speaker."""
    return utterance.held_out == "development"


def trial(target: str, source: list[Path], own: list[Path]) -> Trial:
    """The conversion of a source speaker's first recording."""
    name = f"{source[0].stem}-{target}"
    others = tuple(source[1:4])
    speaker = source[0].parent.name
    return Trial(name, source[0], speaker, target, tuple(own[:REFERENCES]), others)


def first(files: list[Path], minutes: float) -> list[Path]:
    """The first recordings that make up so many minutes, or all of them."""
    chosen, seconds = [], 0.0
    for path in files:
        if seconds >= 60 * minutes:
            break
        chosen.append(path)
        seconds += read(path).duration
    return chosen


if __name__ == "__main__":
    with in_one_line():
        main(tyro.cli(Options, description=__doc__))
