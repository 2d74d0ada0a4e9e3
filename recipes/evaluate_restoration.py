"""Evaluate `vcae denoise`, `vcae superres` and `vcae revoice`, and write the tables of RESTORATION.md.

    python recipes/evaluate_restoration.py --corpora ~/corpora --write-page

`--corpora` holds `librispeech`, whose readers of test-other are corrupted, and `esc10`, of which the classes
that training leaves out (`recipes/restore.py`) are the noise. `pip install '.[eval,restoration]'` brings the
metrics and the denoisers to compare with; rows and columns of packages that are missing are left out.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import denoisers
import evaluate_bundled
import numpy as np
import soundfile
import torch
import tyro
from evaluate_conditions import world_analysis
from restore import HELD_OUT_NOISE

from vcae.audio import Audio, Samples, read, resample
from vcae.cli import console
from vcae.corpora.layouts import esc10, read_corpora
from vcae.corpora.utterance import Utterance
from vcae.errors import VcaeError
from vcae.evaluation.metrics.base import Features, Metric, MetricError, Score
from vcae.evaluation.metrics.cache import FeatureCache, default_cache_folder
from vcae.evaluation.metrics.intelligibility import WER, Intelligibility
from vcae.evaluation.metrics.naturalness import Naturalness
from vcae.evaluation.metrics.pitch import Intonation
from vcae.evaluation.metrics.quality import SignalQuality
from vcae.evaluation.metrics.similarity import SpeakerSimilarity
from vcae.training.augment import add_noise
from vcae.training.corrupt import companding
from vcae.uses import restore

RATE = 16_000
PAGE = Path(__file__).parent / "RESTORATION.md"
SNRS = (0, 5, 10)
SECONDS = (3.0, 10.0)
"""Length of the recordings that are used."""


@dataclass(frozen=True)
class Options:
    """What to evaluate, and where to write."""

    corpora: Path
    """Folder with the unpacked corpora librispeech and esc10."""
    model: Path | None = None
    """Folder of weights that `recipes/restore.py` wrote; default: the bundled weights."""
    recordings: int = 1
    """Number of recordings of each reader."""
    set: str = "test"
    """Speakers: "test", which is reported, or "development", by which choices are made."""
    tasks: tuple[str, ...] = ("denoise", "superres", "revoice")
    """Tasks to evaluate."""
    systems: tuple[str, ...] = ()
    """Beginnings of the names of the systems to evaluate; default: all."""
    cache: Path | None = None
    """Folder for cached features; default: in the user's cache folder."""
    listen: Path | None = None
    """Folder to which the recordings of the first reader are written."""
    write_page: bool = False
    """Write the tables into RESTORATION.md."""


@dataclass(frozen=True)
class Case:
    """A recording as it was, and as it is seen."""

    condition: str
    name: str
    clean: Audio
    seen: Audio


System: TypeAlias = Callable[[Case], Audio]
Scores: TypeAlias = dict[str, Score]


def noisy_cases(clean: Mapping[str, Audio], noises: list[Path]) -> Iterator[Case]:
    """Each recording with a noise of its own at each signal-to-noise ratio."""
    order = np.random.default_rng(0).permutation(len(noises))
    for k, (name, audio) in enumerate(clean.items()):
        noise = read(noises[order[k % len(order)]], RATE).samples
        wav, added = (
            torch.from_numpy(x.copy())[None, None] for x in (audio.samples, noise_for(audio, noise))
        )
        for snr in SNRS:
            mixed = add_noise(wav, added, torch.tensor([float(snr)]))[0, 0].numpy()
            # Speech is at -25 dBFS or so; where a mixture clips, both are made softer.
            gain = np.float32(min(1.0, 0.99 / float(np.abs(mixed).max())))
            yield Case(f"{snr} dB", name, Audio(gain * audio.samples, RATE), Audio(gain * mixed, RATE))


def noise_for(audio: Audio, noise: Samples) -> Samples:
    """Noise, repeated to the length of a recording."""
    return np.resize(noise, len(audio.samples))


def telephone_cases(clean: Mapping[str, Audio]) -> Iterator[Case]:
    """Each recording at 8 kHz: as it is, with G.711, and with narrow-band Opus."""
    for name, audio in clean.items():
        narrow = resample(audio.samples, RATE, 8000)
        companded = companding(torch.from_numpy(narrow)).numpy()
        for condition, samples in (
            ("8 kHz", narrow),
            ("G.711", companded),
            ("Opus", through_opus(narrow)),
        ):
            yield Case(condition, name, audio, Audio(samples, 8000))


def through_opus(narrow: Samples) -> Samples:
    """Samples at 8 kHz through Opus, which codes a narrow band at that rate."""
    file = BytesIO()
    soundfile.write(file, narrow, 8000, format="OGG", subtype="OPUS")
    file.seek(0)
    decoded, rate = soundfile.read(file, dtype="float32")
    return resample(decoded, rate, 8000)[: len(narrow)]


def voiceless_cases(clean: Mapping[str, Audio]) -> Iterator[Case]:
    """Each recording whispered (WORLD with full aperiodicity) and at a constant F0."""
    import pyworld

    for name, audio in clean.items():
        f0, envelope, aperiodicity = world_analysis(audio)
        level = np.exp(np.log(f0[f0 > 0]).mean())
        for condition, pitch, noise in (
            ("whisper", np.zeros_like(f0), np.ones_like(aperiodicity)),
            ("monotone", np.where(f0 > 0, level, 0), aperiodicity),
        ):
            made = pyworld.synthesize(pitch, envelope, noise, RATE)[: len(audio.samples)]
            yield Case(condition, name, audio, Audio(made.astype(np.float32), RATE))


class Judge:
    """Scores recordings by all metrics that a task needs."""

    def __init__(self, cache: FeatureCache) -> None:
        self.cache = cache
        self.similarity, self.words, self.pitch = SpeakerSimilarity(), Intelligibility(), Intonation()
        self.ratings: list[Metric] = [Naturalness(), SignalQuality()]

    def scores(self, task: str, case: Case, made: Audio) -> Scores:
        """The scores of a restored recording by the name of the measure."""
        result: Scores = {}
        for metric in self.ratings[: 2 if task == "denoise" else 1]:
            result |= metric.compare(self._features(metric, made), None)
        result |= self._against_clean(self.similarity, case, made)
        words = self._against_clean(self.words, case, made)[WER]
        result[WER] = words._replace(value=min(words.value, 1.0))  # Whisper may repeat itself without end
        if task == "denoise":
            result |= intrusive(case.clean, made)
        if task == "superres":
            result["LSD"] = Score(missing_band_distance(case.clean, made))
        if task == "revoice":
            result |= self._melody(case, made)
        return result

    def _features(self, metric: Metric, audio: Audio) -> Features | None:
        try:
            return self.cache.extract(metric, audio)
        except MetricError:  # such as silence: the worst score
            return None

    def _against_clean(self, metric: Metric, case: Case, made: Audio) -> Scores:
        return metric.compare(self._features(metric, made), self.cache.extract(metric, case.clean))

    def _melody(self, case: Case, made: Audio) -> Scores:
        """Voicing F1, F0 correlation, and the spread of log-F0 as a share of the natural one."""
        natural, spoken = (np.asarray(self.cache.extract(self.pitch, x)) for x in (case.clean, made))
        size = min(natural.shape[1], spoken.shape[1])
        (f0, voiced), (other, other_voiced) = ((x[0, :size], x[1, :size] >= 0.5) for x in (natural, spoken))
        hits = int((voiced & other_voiced).sum())
        result = {"voicing F1": Score(2 * hits / max(1, int(voiced.sum() + other_voiced.sum())))}
        correlation = self.pitch.compare(spoken, natural).get("F0 correlation")
        if correlation:
            result["F0 correlation"] = correlation
        spread = float(np.log(other[other_voiced]).std()) if other_voiced.sum() > 1 else 0.0
        result["F0 spread"] = Score(spread / max(1e-3, float(np.log(f0[voiced]).std())))
        return result


def intrusive(clean: Audio, made: Audio) -> Scores:
    """Wide-band PESQ (ITU-T P.862.2) and STOI (Taal et al., 2011), of the packages that are installed."""
    size = min(len(clean.samples), len(made.samples))
    pair = clean.samples[:size], made.samples[:size]
    result: Scores = {}
    try:
        import pesq

        result["PESQ"] = Score(float(pesq.pesq(RATE, *pair, "wb")))
    except ImportError:
        pass
    try:
        import pystoi

        result["STOI"] = Score(float(pystoi.stoi(*pair, RATE)))
    except ImportError:
        pass
    return result


def missing_band_distance(clean: Audio, made: Audio) -> float:
    """Log-spectral distance in dB between 4 and 8 kHz, by windows of 32 ms."""
    return band_distance(clean.samples, made.samples, 512, slice(129, None))


def band_distance(clean: Samples, made: Samples, size: int, bins: slice) -> float:
    """Log-spectral distance in dB in some bins, the mean over the frames with speech in that band.

    Windows have `size` samples. Levels below -60 dB of the clean recording's loudest bin in the band count as
    these.
    """
    spectra = []
    for samples in (clean, made):
        windows = np.lib.stride_tricks.sliding_window_view(samples, size)[:: size // 2] * np.hanning(size)
        spectra.append(np.abs(np.fft.rfft(windows))[:, bins])
    frames = min(map(len, spectra))
    c, m = (s[:frames] for s in spectra)
    floor = c.max() / 1000
    active = c.max(1) > 3 * floor
    difference = 20 * np.log10(np.maximum(m, floor) / np.maximum(c, floor))
    return float(np.sqrt((difference[active] ** 2).mean(1)).mean())


def systems(task: str, restorer: restore.SpeechRestorer) -> dict[str, System]:
    """What is compared at a task, by name."""

    def upsampled(case: Case) -> Audio:
        return Audio(resample(case.seen.samples, case.seen.sample_rate, RATE), RATE)

    def known_pitch(case: Case) -> Audio:
        from vcae.training.labels import f0_labels

        f0 = f0_labels(case.clean.samples, RATE, 160)
        pitch = float(np.exp(np.log(f0[f0 > 0]).mean()))
        return restorer.restore(case.seen, "revoice", pitch)

    def ours(way: restore.Way | None = None, attenuation_limit: float = math.inf) -> System:
        return lambda case: restorer.restore(
            case.seen,
            task,  # type: ignore[arg-type]
            way=way,
            attenuation_limit=attenuation_limit,
        )

    def other(denoise: denoisers.Denoiser) -> System:
        return lambda case: Audio(denoise(case.seen.samples), RATE)

    if task == "denoise":
        others = {name: other(each) for name, each in denoisers.found().items()}
        return {
            "input": lambda case: case.seen,
            **others,
            "vcae, mask": ours("mask"),
            "vcae, mask limited by the mel": ours("limited"),
            "vcae, the same, attenuation limit 20 dB": ours("limited", 20.0),
            "vcae, vocoder": ours("vocoder"),
        }
    if task == "superres":
        return {
            "sinc resampling": upsampled,
            "vcae, vocoder above 3.5 kHz": ours("both"),
            "vcae, copy above 3.5 kHz": ours("copy"),
            "vcae, vocoder": ours("vocoder"),
        }
    return {"input": upsampled, "vcae": ours(), "vcae, mean F0 given": known_pitch}


def recordings_of(utterances: Sequence[Utterance], each: int) -> dict[str, Audio]:
    """The first so many recordings of a fitting length of each speaker, by speaker and id."""
    found: dict[str, Audio] = {}
    for speaker in sorted({u.speaker for u in utterances}):
        recordings = ((u.id, read(u.path, RATE)) for u in utterances if u.speaker == speaker)
        fit = ((name, audio) for name, audio in recordings if SECONDS[0] <= audio.duration <= SECONDS[1])
        found |= {f"{speaker}/{name}": audio for name, audio in islice(fit, each)}
    return found


def evaluate(options: Options) -> dict[str, str]:
    """A table for each task. Raises VcaeError."""
    restorer = restore.load(options.model)
    found = [
        u
        for u in read_corpora(options.corpora, ["librispeech", "asterisk", "speechocean762"])
        if u.held_out == options.set
    ]
    speakers = sorted({u.speaker for u in found})
    clean = recordings_of(found, options.recordings)
    if not clean:
        raise VcaeError(f"{options.corpora}: holds no speech of the {options.set} set; unpack it there")
    noises = [
        u.path for u in esc10(options.corpora / "esc10") if u.speaker.removeprefix("esc10/") in HELD_OUT_NOISE
    ]
    if not noises and "denoise" in options.tasks:
        raise VcaeError(f"{options.corpora}: holds no esc10; unpack ESC-10 there, for its noise")
    make = {
        "denoise": lambda: noisy_cases(clean, noises),
        "superres": lambda: telephone_cases(clean),
        "revoice": lambda: voiceless_cases(clean),
    }
    judge = Judge(FeatureCache(options.cache or default_cache_folder()))
    tables = {}
    for task in options.tasks:
        scored: dict[tuple[str, str], list[Scores]] = {}
        compared = systems(task, restorer)
        for case in console.track(list(make[task]()), task):
            natural = replace(case, condition="", seen=case.clean)
            for name, system in {"natural": lambda case: case.clean, **compared}.items():
                if options.systems and not name.startswith(options.systems):
                    continue
                key = ("", name) if name == "natural" else (case.condition, name)
                if name == "natural" and len(scored.get(key, [])) == len(clean):
                    continue
                made = system(natural if name == "natural" else case)
                if options.listen and case.name.startswith(speakers[0]):
                    write_example(options.listen, task, case, name, made)
                scored.setdefault(key, []).append(judge.scores(task, case, made))
        tables[task] = table(scored)
    return tables


def write_example(folder: Path, task: str, case: Case, system: str, made: Audio) -> None:
    """Write a recording to listen to."""
    folder.mkdir(parents=True, exist_ok=True)
    name = "-".join((task, case.condition, case.name.replace("/", "-"), system)).replace(" ", "-")
    made.write(folder / f"{name}.wav")


def table(scored: Mapping[tuple[str, str], list[Scores]]) -> str:
    """Weighted means as a table in Markdown, a row for each condition and system."""
    names = list(dict.fromkeys(name for rows in scored.values() for row in rows for name in row))
    conditions = list(dict.fromkeys(condition for condition, _ in scored))
    lines = ["| | | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(names)]
    for condition in conditions:
        for (at, system), rows in scored.items():
            if at == condition:
                cells = [f"{mean(rows, name):.2f}" for name in names]
                lines.append(f"| {condition} | {system} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def mean(rows: list[Scores], name: str) -> float:
    """The weighted mean of a measure; NaN without any score."""
    scores = [row[name] for row in rows if name in row]
    weights = sum(score.weight for score in scores)
    return sum(score.value * score.weight for score in scores) / weights if weights else float("nan")


def main(options: Options) -> None:
    """Evaluate, print, and write the page. Raises VcaeError."""
    if options.write_page and (options.systems or options.set != "test"):
        raise VcaeError(
            "--write-page: the page has all systems on the test set; leave out --systems and --set"
        )
    for task, text in evaluate(options).items():
        print(f"{task}\n\n{text}\n")
        if options.write_page:
            evaluate_bundled.write_part(task, text, PAGE)


if __name__ == "__main__":
    with console.in_one_line():
        main(tyro.cli(Options, description=__doc__))
