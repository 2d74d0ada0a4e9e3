"""Evaluate the bundled weights under adverse conditions, and update that table of the model card.

    python recipes/evaluate_conditions.py --corpora CORPORA --out runs/conditions --write-card

The conditions are: short or noisy references; sources with noise, hum, reverberation or telephone bandwidth;
low and high voices; children; accents; other languages. Each row is scored by the metrics of `vcae evaluate`
against clean recordings of the source and of the target.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import evaluate_bundled
import numpy as np
import numpy.typing as npt
import torch
import tyro
from scipy.signal import butter, fftconvolve, sosfilt

import vcae
from vcae.audio import Audio, read
from vcae.cli import console
from vcae.corpora.layouts import read_corpora
from vcae.corpora.utterance import Utterance
from vcae.errors import VcaeError
from vcae.evaluation.metric_set import MetricSet
from vcae.evaluation.metrics.cache import FeatureCache, default_cache_folder
from vcae.evaluation.results import Evaluation, format_interval
from vcae.evaluation.runner import evaluate
from vcae.evaluation.systems import System, Systems
from vcae.evaluation.trials import Trial, make_trials
from vcae.training.augment import add_noise, colour
from vcae.training.labels import f0_labels

Array = npt.NDArray[np.float64]
MEASURES = (
    "SECS to target",
    "closer-to-target rate",
    "WER",
    "WER (Whisper normaliser)",
    "DistillMOS",
    "F0 correlation",
)
CHILDREN = ("speechocean762/5039", "speechocean762/9034")
"""Twelve and fifteen years old; both are in the validation set of the training."""
LOW = 165.0
"""A speaker with a median F0 below this, in Hz, counts as a low voice."""


@dataclass(frozen=True)
class Emotion:
    """How emotion changes speech, as Scherer (2003) summarises it; factors, but for the tilt."""

    pitch: float
    """Of mean F0."""
    range: float
    """Of the deviation of log-F0 from its mean."""
    tempo: float
    tilt_db: float
    """Gain of the spectrum for each octave above 500 Hz, up to 4 kHz: the effort of the voice."""


EXCITED = Emotion(pitch=1.35, range=1.6, tempo=1.2, tilt_db=3.0)
SAD = Emotion(pitch=0.9, range=0.5, tempo=0.8, tilt_db=-3.0)


@dataclass(frozen=True)
class Options:
    """What to evaluate, and where to write."""

    corpora: Path
    """Folder with the unpacked corpora: librispeech, asterisk, speechocean762, festvox-ru."""
    model: str = "studio"
    """studio or live, which are bundled, or a folder that training wrote."""
    transcripts: Path | None = None
    """Folder of NAME.tsv with transcripts."""
    out: Path = Path("runs/conditions")
    """A new folder for recordings."""
    trials: int = 30
    """Maximum number of trials of each row."""
    cache: Path | None = None
    """Folder for cached features; default: in the user's cache folder."""
    write_card: bool = False
    """Write the table into the model card of the bundled weights."""


def references(converter: vcae.Converter) -> dict[str, System]:
    """Systems that convert with more or fewer, or with noisy, references of a trial."""

    def with_references(change: Callable[[list[Audio]], list[Audio]]) -> System:
        def convert(trial: Trial) -> Audio:
            recordings = [read(path, converter.sample_rate) for path in trial.references]
            return converter.convert(trial.source, converter.voice(change(recordings)))

        return convert

    def first(seconds: float) -> Callable[[list[Audio]], list[Audio]]:
        return lambda recordings: [Audio(recordings[0].samples[: round(seconds * rate)], rate)]

    rate = converter.sample_rate
    return {
        "reference: first 1.5 s of a recording": with_references(first(1.5)),
        "reference: first 3 s of a recording": with_references(first(3.0)),
        "reference: one recording": with_references(lambda recordings: recordings[:1]),
        "reference: three recordings": with_references(lambda recordings: recordings),
        "reference: three, with pink noise at 10 dB SNR": with_references(
            lambda recordings: [noisy(each, 10.0) for each in recordings]
        ),
        "reference: three, spoken as if excited": with_references(
            lambda recordings: [moved(each, EXCITED) for each in recordings]
        ),
        "reference: three, spoken as if sad": with_references(
            lambda recordings: [moved(each, SAD) for each in recordings]
        ),
    }


def sources(converter: vcae.Converter) -> dict[str, System]:
    """Systems that convert a degraded source of a trial; WER refers to the clean source."""
    systems = Systems(converter)

    def with_source(change: Callable[[Audio], Audio]) -> System:
        return lambda trial: converter.convert(
            change(systems.identity(trial)), systems.voice(trial.references)
        )

    return {
        "source: with pink noise at 10 dB SNR": with_source(lambda clean: noisy(clean, 10.0)),
        "source: with mains hum at 10 dB SNR": with_source(lambda clean: humming(clean, 10.0)),
        "source: with reverberation": with_source(reverberant),
        "source: telephone bandwidth": with_source(telephone),
    }


def noisy(audio: Audio, snr_db: float) -> Audio:
    """The recording with pink noise."""
    size = len(audio.samples)
    white = torch.randn(1, 1, size, generator=torch.Generator().manual_seed(size))
    return mixed(audio, colour(white, torch.ones(1)), snr_db)


def humming(audio: Audio, snr_db: float) -> Audio:
    """The recording with hum of 60 Hz, whose overtones fall by 12 dB an octave."""
    order = np.arange(1, 6)[:, None]
    cycles = 60 * order * np.arange(len(audio.samples)) / audio.sample_rate
    hum = (np.sin(2 * np.pi * cycles) / order**2).sum(0).astype(np.float32)
    return mixed(audio, torch.from_numpy(hum)[None, None], snr_db)


def mixed(audio: Audio, noise: torch.Tensor, snr_db: float) -> Audio:
    """The recording with noise (1, 1, N)."""
    wav = torch.from_numpy(audio.samples)[None, None]
    return Audio(add_noise(wav, noise, torch.tensor([snr_db]))[0, 0].numpy(), audio.sample_rate)


def moved(audio: Audio, emotion: Emotion) -> Audio:
    """The recording with the pitch, range, tempo and effort of an emotion, by WORLD; the level is kept."""
    import pyworld

    rate, (f0, envelope, aperiodicity) = audio.sample_rate, world_analysis(audio)
    voiced = f0 > 0
    log_f0 = np.log(f0[voiced])
    f0[voiced] = emotion.pitch * np.exp(log_f0.mean() + emotion.range * (log_f0 - log_f0.mean()))
    hertz = np.linspace(0, rate / 2, envelope.shape[1])
    octaves = np.log2(hertz.clip(500, 4000) / 500)
    envelope *= 10 ** (emotion.tilt_db * octaves / 10)
    y = pyworld.synthesize(f0, envelope, aperiodicity, rate, pyworld.default_frame_period / emotion.tempo)
    y *= np.sqrt(np.square(audio.samples.astype(np.float64)).mean() / np.square(y).mean())
    return Audio(y.astype(np.float32), rate)


def world_analysis(audio: Audio) -> tuple[Array, Array, Array]:
    """F0 in Hz (T,), spectral envelope (T, bins) and aperiodicity (T, bins), every 5 ms, by WORLD.

    Morise et al., 2016; F0 by harvest.
    """
    import pyworld

    rate, x = audio.sample_rate, audio.samples.astype(np.float64)
    f0, times = pyworld.harvest(x, rate)
    return f0, pyworld.cheaptrick(x, f0, times, rate), pyworld.d4c(x, f0, times, rate)


def reverberant(audio: Audio) -> Audio:
    """The recording with reverberation as loud as the direct sound, and a reverberation time of 0.6 s.

    The impulse response is exponentially decaying noise (Moorer, 1979).
    """
    rate = audio.sample_rate
    rng = np.random.default_rng(len(audio.samples))
    impulse_response = rng.standard_normal(rate) * 10 ** (-3 * np.arange(rate) / (0.6 * rate))
    impulse_response[0] = np.sqrt((impulse_response[1:] ** 2).sum())
    wet = fftconvolve(audio.samples, impulse_response / impulse_response[0])[: len(audio.samples)]
    return Audio(wet.astype(np.float32), rate)


def telephone(audio: Audio) -> Audio:
    """The recording in the telephone band of ITU-T G.712, 300 to 3400 Hz."""
    band = butter(6, (300, 3400), "bandpass", fs=audio.sample_rate, output="sos")
    return Audio(sosfilt(band, audio.samples).astype(np.float32), audio.sample_rate)


def median_f0(utterances: Sequence[Utterance]) -> float:
    """Median F0 of the first utterances of a speaker in Hz."""
    f0 = np.concatenate([f0_labels(read(u.path, 16_000).samples, 16_000, 160) for u in utterances[:5]])
    return float(np.median(f0[f0 > 0]))


def speaker_groups(options: Options) -> dict[str, list[Trial]]:
    """Trials between groups of speakers: low and high voices, children, accents, other languages."""
    everyone = read_corpora(
        options.corpora, ["librispeech", "asterisk", "speechocean762", "festvox-ru"], options.transcripts
    )
    readers = [u for u in everyone if u.held_out == "test"]
    by_reader = {s: [u for u in readers if u.speaker == s] for s in sorted({u.speaker for u in readers})}
    low = {speaker for speaker, utterances in by_reader.items() if median_f0(utterances) < LOW}

    def drawn(name: str, wanted: Callable[[Trial], bool], utterances: Sequence[Utterance]) -> list[Trial]:
        found = [t for t in make_trials(utterances, references=3) if wanted(t)]
        if not found:
            raise VcaeError(f"{options.corpora}: no speech for '{name}'; unpack all corpora")
        order = np.random.default_rng(0).permutation(len(found))
        return [found[k] for k in order[: options.trials]]

    children = [u for u in everyone if u.speaker in CHILDREN]
    half = [u for speaker in islice(by_reader, 5) for u in by_reader[speaker]]  # five readers are enough
    foreign = [u for u in everyone if u.language in ("es", "fr", "it", "ru")]
    accented = [u for u in everyone if u.held_out == "development" and u.corpus == "speechocean762"]
    groups: dict[str, tuple[Callable[[Trial], bool], list[Utterance]]] = {
        "low voice to high": (lambda t: t.source_speaker in low and t.target_speaker not in low, readers),
        "high voice to low": (lambda t: t.source_speaker not in low and t.target_speaker in low, readers),
        "low to low, high to high": (
            lambda t: (t.source_speaker in low) == (t.target_speaker in low),
            readers,
        ),
        "child to reader": (
            lambda t: t.source_speaker in CHILDREN and t.target_speaker in by_reader,
            children + half,
        ),
        "reader to child": (
            lambda t: t.source_speaker in by_reader and t.target_speaker in CHILDREN,
            children + half,
        ),
        "Mandarin accent to reader": (
            lambda t: t.source_speaker not in by_reader and t.target_speaker in by_reader,
            accented + half,
        ),
        "reader to Mandarin accent": (
            lambda t: t.source_speaker in by_reader and t.target_speaker not in by_reader,
            accented + half,
        ),
        "Spanish, French, Italian, Russian to reader": (
            lambda t: t.language != "en" and t.target_speaker in by_reader,
            foreign + half,
        ),
    }
    return {name: drawn(name, wanted, utterances) for name, (wanted, utterances) in groups.items()}


def row(name: str, evaluation: Evaluation) -> list[str]:
    """The row of a condition, which is a system of the evaluation."""
    summary = evaluation.summary(name)
    cells = [format_interval(summary.get(measure)) for measure in MEASURES]
    return [name, str(len(evaluation.results[name])), *cells]


def main(options: Options) -> None:
    """Evaluate all conditions. Raises VcaeError."""
    librispeech = read_corpora(options.corpora, ["librispeech"], options.transcripts)
    readers = [u for u in librispeech if u.held_out == "test"]
    converter = vcae.load(options.model)
    metrics = MetricSet.load(FeatureCache(options.cache or default_cache_folder()))
    rows = [["", "trials", *MEASURES]]
    degraded = references(converter) | sources(converter)
    trials = make_trials(readers, options.trials)
    evaluation = evaluate(trials, degraded, options.out, metrics, track=console.track)
    rows += [row(name, evaluation) for name in degraded]
    convert = Systems(converter).vcae
    for name, group in speaker_groups(options).items():
        rows.append(row(name, evaluate(group, {name: convert}, options.out, metrics, track=console.track)))
    table = evaluate_bundled.markdown(rows)
    print(table)
    if options.write_card:
        evaluate_bundled.write_part(f"conditions of {options.model}", table)


if __name__ == "__main__":
    with console.in_one_line():
        main(tyro.cli(Options, description=__doc__))
