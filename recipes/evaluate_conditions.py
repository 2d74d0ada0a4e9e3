"""Score the bundled weights under the conditions that users bring, and write that table of the model card.

    python recipes/evaluate_conditions.py --corpora CORPORA --out runs/conditions --write-card

Less reference and noisier reference, sources in noise, in a room and by telephone, from one kind of voice to
another, children, accents, other languages.
Every row is converted and compared with clean recordings of the target by the metrics of `vcae evaluate`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import evaluate_bundled
import numpy as np
import torch
import tyro
from scipy.signal import butter, fftconvolve, sosfilt

import vcae
from vcae.audio import Audio, read
from vcae.cli.console import in_one_line
from vcae.corpora.layouts import read_corpora
from vcae.corpora.utterance import Utterance
from vcae.errors import VcaeError
from vcae.evaluation.panel import FeatureCache, Panel
from vcae.evaluation.results import Evaluation
from vcae.evaluation.runner import evaluate
from vcae.evaluation.systems import System, Systems
from vcae.evaluation.trials import Trial, make_trials
from vcae.training.augment import add_noise, colour
from vcae.training.labels import f0_labels

MEASURES = ("cosine to target", "closer-to-target rate", "WER", "DistillMOS", "F0 correlation")
CHILDREN = ("speechocean762/5039", "speechocean762/9034")
"""Twelve and fifteen years old; among the speakers that training only validates with."""
LOW = 165.0
"""Hz: a speaker whose median F0 is below is taken for a low voice."""


@dataclass(frozen=True)
class Options:
    """What to score, and where to put it."""

    corpora: Path
    """Folder with the unpacked corpora: librispeech, asterisk, speechocean762, festvox-ru."""
    transcripts: Path | None = None
    """Folder of NAME.tsv with transcripts."""
    out: Path = Path("runs/conditions")
    """A new folder for recordings."""
    trials: int = 30
    """How many for each row."""
    cache: Path | None = None
    """Where features of recordings are cached; default: the user's cache folder."""
    write_card: bool = False
    """Write the table into the model card of the bundled weights."""


def references(converter: vcae.Converter) -> dict[str, System]:
    """Conversions of a trial with more or less, and better or worse, of its references."""

    def by(change: Callable[[list[Audio]], list[Audio]]) -> System:
        def convert(trial: Trial) -> Audio:
            recordings = [read(path, converter.sample_rate) for path in trial.references]
            return converter.convert(trial.source, converter.voice(change(recordings)))

        return convert

    def first(seconds: float) -> Callable[[list[Audio]], list[Audio]]:
        return lambda found: [Audio(found[0].samples[: round(seconds * rate)], rate)]

    rate = converter.sample_rate
    return {
        "reference: first 1.5 s of a recording": by(first(1.5)),
        "reference: first 3 s of a recording": by(first(3.0)),
        "reference: a recording": by(lambda found: found[:1]),
        "reference: three recordings": by(lambda found: found),
        "reference: three, with pink noise at 10 dB SNR": by(lambda found: [noisy(x, 10.0) for x in found]),
    }


def sources(converter: vcae.Converter) -> dict[str, System]:
    """Conversions of a trial whose source was recorded badly; its words are those of the clean source."""

    known = Systems(converter)

    def by(change: Callable[[Audio], Audio]) -> System:
        return lambda trial: converter.convert(change(known.identity(trial)), known.voice(trial.references))

    return {
        "source: with pink noise at 10 dB SNR": by(lambda clean: noisy(clean, 10.0)),
        "source: across a room": by(across_a_room),
        "source: by telephone": by(by_telephone),
    }


def noisy(audio: Audio, snr_db: float) -> Audio:
    """With pink noise."""
    wav = torch.from_numpy(audio.samples)[None, None]
    white = torch.randn(wav.shape, generator=torch.Generator().manual_seed(len(audio.samples)))
    pink = colour(white, torch.ones(1))
    return Audio(add_noise(wav, pink, torch.tensor([snr_db]))[0, 0].numpy(), audio.sample_rate)


def across_a_room(audio: Audio) -> Audio:
    """It rings for 0.6 s, as loud as what comes straight: noise that dies away by 60 dB (Moorer, 1979)."""
    rate = audio.sample_rate
    rng = np.random.default_rng(len(audio.samples))
    ring = rng.standard_normal(rate) * 10 ** (-3 * np.arange(rate) / (0.6 * rate))
    ring[0] = np.sqrt((ring[1:] ** 2).sum())
    features = fftconvolve(audio.samples, ring / ring[0])[: len(audio.samples)]
    return Audio(features.astype(np.float32), rate)


def by_telephone(audio: Audio) -> Audio:
    """300 to 3400 Hz, the band of ITU-T G.712."""
    band = butter(6, (300, 3400), "bandpass", fs=audio.sample_rate, output="sos")
    return Audio(sosfilt(band, audio.samples).astype(np.float32), audio.sample_rate)


def median_f0(utterances: Sequence[Utterance]) -> float:
    """Of a speaker, in Hz."""
    f0 = np.concatenate([f0_labels(read(u.path, 16_000).samples, 16_000, 160) for u in utterances[:5]])
    return float(np.median(f0[f0 > 0]))


def kinds(options: Options) -> dict[str, list[Trial]]:
    """Trials from one kind of voice to another."""
    everyone = read_corpora(
        options.corpora, ["librispeech", "asterisk", "speechocean762", "festvox-ru"], options.transcripts
    )
    readers = [u for u in everyone if u.held_out == "test"]
    of = {s: [u for u in readers if u.speaker == s] for s in sorted({u.speaker for u in readers})}
    low = {speaker for speaker, said in of.items() if median_f0(said) < LOW}

    def drawn(name: str, wanted: Callable[[Trial], bool], utterances: Sequence[Utterance]) -> list[Trial]:
        found = [t for t in make_trials(utterances, references=3) if wanted(t)]
        if not found:
            raise VcaeError(f"{options.corpora}: nothing there for '{name}'; unpack all corpora")
        order = np.random.default_rng(0).permutation(len(found))
        return [found[k] for k in order[: options.trials]]

    children = [u for u in everyone if u.speaker in CHILDREN]
    # Half of them: enough to be spoken by, and to speak to.
    some = [u for speaker in islice(of, 5) for u in of[speaker]]
    foreign = [u for u in everyone if u.language in ("es", "fr", "it", "ru")]
    accented = [u for u in everyone if u.held_out == "development" and u.corpus == "speechocean762"]
    lists: dict[str, tuple[Callable[[Trial], bool], list[Utterance]]] = {
        "low voice to high": (lambda t: t.source_speaker in low and t.target_speaker not in low, readers),
        "high voice to low": (lambda t: t.source_speaker not in low and t.target_speaker in low, readers),
        "low to low, high to high": (
            lambda t: (t.source_speaker in low) == (t.target_speaker in low),
            readers,
        ),
        "child to reader": (
            lambda t: t.source_speaker in CHILDREN and t.target_speaker in of,
            children + some,
        ),
        "reader to child": (
            lambda t: t.source_speaker in of and t.target_speaker in CHILDREN,
            children + some,
        ),
        "Mandarin accent to reader": (
            lambda t: t.source_speaker not in of and t.target_speaker in of,
            accented + some,
        ),
        "reader to Mandarin accent": (
            lambda t: t.source_speaker in of and t.target_speaker not in of,
            accented + some,
        ),
        "Spanish, French, Italian, Russian to reader": (
            lambda t: t.language != "en" and t.target_speaker in of,
            foreign + some,
        ),
    }
    return {name: drawn(name, wanted, said) for name, (wanted, said) in lists.items()}


def row(name: str, evaluation: Evaluation, system: str) -> list[str]:
    """What is measured of a system, on a line."""
    summary = evaluation.summary(system)
    cells = [f"{v[0]:.2f} [{v[1]:.2f}, {v[2]:.2f}]" if (v := summary.get(m)) else "" for m in MEASURES]
    return [name, str(len(evaluation.results[system])), *cells]


def main(options: Options) -> None:
    """All rows. Raises VcaeError."""
    converter = vcae.load()
    panel = Panel.complete(FeatureCache.kept(options.cache))
    test = [
        u for u in read_corpora(options.corpora, ["librispeech"], options.transcripts) if u.held_out == "test"
    ]
    rows = [["", "trials", *MEASURES]]
    systems = references(converter) | sources(converter)
    found = evaluate(make_trials(test, options.trials), systems, options.out, panel)
    rows += [row(name, found, name) for name in systems]
    plain = Systems(converter).vcae
    for name, trials in kinds(options).items():
        rows.append(row(name, evaluate(trials, {name: plain}, options.out, panel), name))
    table = evaluate_bundled.markdown(rows)
    print(table)
    if options.write_card:
        evaluate_bundled.write_part("conditions", table)


if __name__ == "__main__":
    with in_one_line():
        main(tyro.cli(Options, description=__doc__))
