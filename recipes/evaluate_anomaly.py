"""Measure `vcae anomaly`: plant faults, fakes and intruders among natural recordings, and write ANOMALY.md.

    python recipes/evaluate_anomaly.py --corpora ~/corpora --write-page

`--corpora` holds librispeech, whose readers of test-other are reported, and esc10, which is not speech. With
`--fit PATH`, it first fits what is normal to recordings of all other corpora there. `pip install '.[eval]'`
brings what it compares with.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import evaluate_bundled
import evaluate_doctor
import librosa
import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

from vcae.audio import Audio, Samples, is_silent, loudness, read, resample, speech_seconds
from vcae.audio.level import frame_powers
from vcae.audio.measures import noise_level
from vcae.cli import console
from vcae.corpora.layouts import READERS, esc10, read_corpora
from vcae.corpora.utterance import Utterance
from vcae.errors import AudioError, VcaeError
from vcae.inference.converter import Converter, load
from vcae.model.vocoder import griffin_lim
from vcae.uses.anomaly import WEIGHTS, Detector, Profile, fit

RATE = 16_000
PAGE = Path(__file__).parent / "ANOMALY.md"
SETS = {"test": ["librispeech"], "development": ["asterisk", "speechocean762"]}
SECONDS = (2.0, 8.0)
"""Length of the recordings that are used."""
FALSE_ALARMS = 0.05
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Options:
    """What to measure, and where to write."""

    corpora: Path
    """Folder of the unpacked corpora."""
    set: str = "test"
    """Speakers: "test", which is reported, or "development", by which choices are made."""
    recordings: int = 6
    """Natural recordings of each speaker."""
    planted: int = 2
    """Those of them that get each fault."""
    normal: int = 20
    """Recordings of each other corpus to which the others are fitted."""
    fit: Path | None = None
    """Fit what is normal, and write it to this file."""
    fitted: int = 130
    """Recordings of each corpus to fit that to."""
    write_page: bool = False
    """Write the tables into ANOMALY.md."""


# What is planted. Each function takes samples at RATE and returns samples.

Plant = Callable[[Samples, np.random.Generator], Samples]


def clipped(x: Samples, rng: np.random.Generator) -> Samples:
    """1 to 5 % of the samples beyond full scale."""
    return evaluate_doctor.clipped(x, RATE, rng)


def dropped(x: Samples, rng: np.random.Generator) -> Samples:
    """One in twenty packets of 20 ms is zero."""
    lost = np.repeat(rng.random(-(-len(x) // 320)) < 0.05, 320)[: len(x)]
    return np.where(lost, np.float32(0), x)


def hum(x: Samples, rng: np.random.Generator) -> Samples:
    """50 or 60 Hz with four harmonics, 20 to 26 dB below the speech."""
    return evaluate_doctor.hum(x, RATE, rng)


def wrong_speed(x: Samples, rng: np.random.Generator) -> Samples:
    """Played at 0.67, 0.69, 1.38 or 1.5 times the speed, as by a wrong sample rate."""
    return resample(x, RATE, int(rng.choice([10_667, 11_025, 22_050, 24_000])))


def truncated(x: Samples, rng: np.random.Generator) -> Samples:
    """Ends in the middle of speech."""
    powers = frame_powers(x, RATE)
    loud = np.flatnonzero(powers > 0.01 * powers.max())
    inner = loud[(loud > 0.4 * len(powers)) & (loud < 0.9 * len(powers))]
    return x[: 320 * int(rng.choice(inner if len(inner) else loud)) + 160]


def world(x: Samples, rng: np.random.Generator) -> Samples:
    """WORLD analysis and synthesis, unchanged."""
    import pyworld

    wav = x.astype(np.float64)
    f0, times = pyworld.dio(wav, RATE)
    f0 = pyworld.stonemask(wav, f0, times, RATE)
    envelope, aperiodicity = pyworld.cheaptrick(wav, f0, times, RATE), pyworld.d4c(wav, f0, times, RATE)
    return pyworld.synthesize(f0, envelope, aperiodicity, RATE)[: len(x)].astype(np.float32)


class Planter:
    """Makes each condition of natural recordings."""

    def __init__(self, converter: Converter, natural: Mapping[str, list[Path]], others: list[Path]) -> None:
        """natural: recordings by speaker. others: sounds that are not speech."""
        self.converter, self.natural, self.others = converter, natural, others

    def made(self, speaker: str, path: Path, number: int) -> Iterator[tuple[str, Audio]]:
        """Name and recording of each condition."""
        x = read(path, RATE).samples
        for name, plant in PLANTED.items():
            yield name, Audio(plant(x, np.random.default_rng(number)), RATE)
        yield "non-speech", read(self.others[number % len(self.others)], RATE)
        yield "Griffin-Lim", Audio(self.griffin_lim(x), RATE)
        names = sorted(self.natural)
        target = names[(names.index(speaker) + 1 + number % (len(names) - 1)) % len(names)]
        yield "converted", self.converter.convert(Audio(x, RATE), list(self.natural[target][:2]))

    @torch.inference_mode()
    def griffin_lim(self, x: Samples) -> Samples:
        """The mel of a recording through Griffin-Lim."""
        mel = self.converter.log_mel(torch.from_numpy(np.pad(x, (0, RATE // 20)))[None, None])
        return griffin_lim(mel, self.converter.autoencoder.config.mel)[0, 0].numpy()[: len(x)]


PLANTED: dict[str, Plant] = {
    "clipping": clipped,
    "dropped packets": dropped,
    "hum": hum,
    "wrong speed": wrong_speed,
    "truncation": truncated,
    "WORLD": world,
}
KINDS = {
    "faults": ["clipping", "dropped packets", "hum", "wrong speed", "truncation", "non-speech"],
    "fraud": ["WORLD", "Griffin-Lim", "converted"],
    "intrusion": ["another speaker"],
}


# What they are compared with.


def mfcc_statistics(x: Samples) -> Array:
    """Mean and standard deviation of 20 MFCC and of their changes."""
    mfcc = librosa.feature.mfcc(y=x, sr=RATE, n_mfcc=20)
    rows = [f(each, axis=1) for each in (mfcc, np.diff(mfcc, axis=1)) for f in (np.mean, np.std)]
    return np.concatenate(rows).astype(np.float64)


def level_statistics(x: Samples) -> Array:
    """Level, level over noise, crest factor, and share of the time that is no pause."""
    level = loudness(x, RATE)
    peak = 20 * np.log10(float(np.abs(x).max()) + 1e-9)
    return np.array(
        [level, level - noise_level(x, RATE), peak - level, speech_seconds(x, RATE) * RATE / len(x)]
    )


@dataclass(frozen=True)
class Case:
    """A recording, measured by all systems."""

    condition: str
    speaker: str
    fold: int
    profile: Profile
    mfcc: Array
    levels: Array


def measured(detector: Detector, audio: Audio, condition: str, speaker: str, fold: int) -> Case | None:
    """Measure a recording; None for one that is silent."""
    if is_silent(audio.samples):
        return None
    x = audio.samples
    profile = detector.profile(audio)
    return Case(condition, speaker, fold, profile, mfcc_statistics(x), level_statistics(x))


Scorer = Callable[[Case], float]


def forest(known: Sequence[Array]) -> Callable[[Array], float]:
    """scikit-learn's IsolationForest, fitted to normal recordings."""
    model = IsolationForest(random_state=0).fit(np.stack(known))
    return lambda row: -float(model.score_samples(row[None])[0])


def rules(known: Sequence[Array]) -> Callable[[Array], float]:
    """The largest deviation from the mean of normal recordings, in standard deviations."""
    mean, std = np.mean(known, axis=0), np.std(known, axis=0) + 0.1
    return lambda row: float((np.abs(row - mean) / std).max())


def scorers(known: Sequence[Case], detector: Detector, one_speaker: bool = False) -> dict[str, Scorer]:
    """Score by system, where these recordings are known to be normal."""
    detector.know([case.profile for case in known], one_speaker)
    by_mfcc, by_level = forest([case.mfcc for case in known]), rules([case.levels for case in known])
    return {
        "vcae": lambda case: detector.score(case.profile).total,
        "MFCC, IsolationForest": lambda case: by_mfcc(case.mfcc),
        "energy and SNR rules": lambda case: by_level(case.levels),
    }


# The measurement.


def drawn(utterances: Sequence[Utterance], each: int) -> dict[str, list[Path]]:
    """Paths of the first recordings of a fitting length of each speaker."""
    import soundfile

    groups: dict[str, list[Path]] = defaultdict(list)
    for u in sorted(utterances, key=lambda u: str(u.path)):
        fits = SECONDS[0] <= soundfile.info(str(u.path)).duration <= SECONDS[1]
        if fits and len(groups[u.speaker]) < each:
            groups[u.speaker].append(u.path)
    return {speaker: paths for speaker, paths in groups.items() if len(paths) == each}


def some_normal(corpora: Path, each: int) -> list[Utterance]:
    """So many recordings of each corpus that may be trained on."""
    rng, chosen = random.Random(23), []  # noqa: S311 -- reproducible
    for name in READERS:
        if name != "esc10" and (corpora / name).is_dir():
            found = [u for u in READERS[name](corpora / name, None) if not u.held_out]
            chosen += rng.sample(found, min(each, len(found)))
    return chosen


def fitted(converter: Converter, options: Options) -> Detector:
    """What is normal, from recordings that may be trained on."""
    profiles, collections, speakers = [], [], []
    empty = Detector(converter, {}, {}, np.zeros(1))
    for u in console.track(some_normal(options.corpora, options.fitted), "Fit"):
        try:
            profiles.append(empty.profile(read(u.path, RATE)))
        except AudioError:
            continue
        collections.append(u.corpus)
        speakers.append(u.speaker)
    return fit(converter, profiles, collections, speakers)


def auc(normal: Sequence[float], unusual: Sequence[float]) -> float:
    """Area under the receiver operating characteristic."""
    return float(roc_auc_score([0] * len(normal) + [1] * len(unusual), [*normal, *unusual]))


def evaluate(options: Options) -> dict[str, str]:
    """The tables of the page. Raises VcaeError."""
    converter = load()
    if options.fit:
        fitted(converter, options).save(options.fit, {"stage": "normal", "data": "all corpora of recipes"})
    weights = options.fit or WEIGHTS
    found = [u for u in read_corpora(options.corpora, SETS[options.set]) if u.held_out == options.set]
    natural = drawn(found, options.recordings)
    others = [u.path for u in esc10(options.corpora / "esc10")]
    random.Random(0).shuffle(others)  # noqa: S311 -- reproducible
    if len(natural) < 2 or not others:
        raise VcaeError(f"{options.corpora}: lacks librispeech or esc10; unpack them there")
    detector, planter = Detector.of(converter, weights), Planter(converter, natural, others)
    cases: list[Case] = []
    files = [(speaker, k, path) for speaker, paths in natural.items() for k, path in enumerate(paths)]
    for number, (speaker, k, path) in enumerate(console.track(files, "Recordings")):
        made = [("natural", read(path, RATE))]
        made += planter.made(speaker, path, number) if k < options.planted else []
        for condition, audio in made:
            if case := measured(detector, audio, condition, speaker, k % 2):
                cases.append(case)
    elsewhere = []
    for u in console.track(some_normal(options.corpora, options.normal), "Normal speech"):
        x = read(u.path, RATE).samples
        if not is_silent(x):
            elsewhere.append((mfcc_statistics(x), level_statistics(x)))
    return {
        "unknown": table(scores_unknown(cases, detector, elsewhere)),
        "parts": parts_table(cases, detector),
        "alarms": alarms(cases, detector),
        "known": table(scores_known(cases, detector)),
    }


def planted_scores(cases: Sequence[Case], score: Scorer) -> dict[str, list[float]]:
    """Scores by condition."""
    found: dict[str, list[float]] = defaultdict(list)
    for case in cases:
        found[case.condition].append(score(case))
    return found


def scores_unknown(
    cases: Sequence[Case], detector: Detector, elsewhere: Sequence[tuple[Array, Array]]
) -> dict[str, dict[str, float]]:
    """AUC by system and condition, where nothing is known of the recordings."""
    by_mfcc, by_level = forest([m for m, _ in elsewhere]), rules([level for _, level in elsewhere])
    systems: dict[str, Scorer] = {
        "vcae": lambda case: detector.score(case.profile).total,
        "MFCC, IsolationForest": lambda case: by_mfcc(case.mfcc),
        "energy and SNR rules": lambda case: by_level(case.levels),
    }
    result = {}
    for name, system in systems.items():
        found = planted_scores(cases, system)
        result[name] = {c: auc(found["natural"], found[c]) for c in found if c != "natural"}
    return result


def scores_known(cases: Sequence[Case], detector: Detector) -> dict[str, dict[str, float]]:
    """AUC by system and condition, where half of the natural recordings are known.

    Intrusion: of each speaker, all recordings but one are known, and that one is compared with one of each
    other speaker.
    """
    pooled: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for fold in (0, 1):
        known = [case for case in cases if case.condition == "natural" and case.fold != fold]
        for name, system in scorers(known, detector).items():
            for condition, found in planted_scores([c for c in cases if c.fold == fold], system).items():
                pooled[name][condition] += found
    result = {
        name: {c: auc(found["natural"], found[c]) for c in found if c != "natural"}
        for name, found in pooled.items()
    }
    people: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        if case.condition == "natural":
            people[case.speaker].append(case)
    own: dict[str, list[float]] = defaultdict(list)
    foreign: dict[str, list[float]] = defaultdict(list)
    for speaker, group in people.items():
        for name, system in scorers(group[1:], detector, one_speaker=True).items():
            own[name].append(system(group[0]))
            foreign[name] += [system(other[0]) for each, other in people.items() if each != speaker]
    for name in own:
        result[name]["another speaker"] = auc(own[name], foreign[name])
    return result


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """AUC as a table in Markdown, with the mean of each kind."""
    lines = ["| | " + " | ".join(found) + " |", "|---|" + "---|" * len(found)]
    for kind, conditions in KINDS.items():
        there = [c for c in conditions if all(c in each for each in found.values())]
        for condition in there:
            lines.append(
                f"| {condition} | " + " | ".join(f"{each[condition]:.2f}" for each in found.values()) + " |"
            )
        if len(there) > 1:
            means = [np.mean([each[c] for c in there]) for each in found.values()]
            lines.append(f"| **{kind}, mean** | " + " | ".join(f"**{mean:.2f}**" for mean in means) + " |")
    means = [np.mean(list(each.values())) for each in found.values()]
    lines.append("| **mean of all** | " + " | ".join(f"**{mean:.2f}**" for mean in means) + " |")
    return "\n".join(lines)


def parts_table(cases: Sequence[Case], detector: Detector) -> str:
    """AUC of each part alone, where nothing is known of the recordings."""
    names = list(detector.score(cases[0].profile).parts)
    found = {}
    for name in names:
        scores = planted_scores(cases, partial(score_of_part, detector, name))
        found[name] = {c: auc(scores["natural"], scores[c]) for c in scores if c != "natural"}
    return table(found)


def score_of_part(detector: Detector, name: str, case: Case) -> float:
    """The score of one part."""
    return detector.score(case.profile).parts[name]


def alarms(cases: Sequence[Case], detector: Detector) -> str:
    """Shares of recordings above the threshold of FALSE_ALARMS, where nothing is known and where half is."""
    shares: dict[str, list[list[bool]]] = defaultdict(lambda: [[], []])
    for case in cases:
        above = detector.score(case.profile).total > detector.threshold(FALSE_ALARMS)
        shares[case.condition][0].append(above)
    for fold in (0, 1):
        detector.know([c.profile for c in cases if c.condition == "natural" and c.fold != fold])
        limit = detector.threshold(FALSE_ALARMS)
        for case in cases:
            if case.fold == fold:
                shares[case.condition][1].append(detector.score(case.profile).total > limit)
    lines = ["| | recordings | unknown | known |", "|---|---|---|---|"]
    for condition, columns in shares.items():
        cells = [f"{np.mean(column):.0%}" for column in columns]
        lines.append(f"| {condition} | {len(columns[0])} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(options: Options) -> None:
    """Measure, print, and write the page. Raises VcaeError."""
    if options.write_page and options.set != "test":
        raise VcaeError("--write-page: the page is of the test set; leave out --set")
    for name, text in evaluate(options).items():
        print(f"{name}\n\n{text}\n")
        if options.write_page:
            evaluate_bundled.write_part(name, text, PAGE)


if __name__ == "__main__":
    with console.in_one_line():
        main(tyro.cli(Options, description=__doc__))
