"""Measure the corpus doctor: plant faults in real corpora, count those that it finds, and false alarms.

    python recipes/evaluate_doctor.py --corpora ~/corpora --transcripts ~/corpora/transcripts

writes `recipes/DOCTOR.md`. Of each corpus, up to `files` recordings are copied to a temporary folder; a share
of them get one fault each, and the doctor examines the copy. A clean recording with a finding is a false
alarm, also where it really has that fault. Labels are judged apart: two people joined, one person split,
single recordings under another label, of the speakers that the bundled speaker encoder knows and of those
that it has never seen.
"""

import csv
import random
import shutil
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import tyro
from scipy.signal import butter, sosfiltfilt

from vcae.audio import Audio, Samples, loudness, read, write
from vcae.cli.console import in_one_line, track
from vcae.corpora.layouts import READERS, by_table
from vcae.corpora.utterance import Utterance
from vcae.doctor import Examination, examine, measure
from vcae.errors import AudioError
from vcae.files import replacing


@dataclass(frozen=True)
class Evaluation:
    """What to measure, and where to write it."""

    corpora: Path
    """Folder of unpacked corpora."""
    transcripts: Path | None = None
    """Folder of NAME.tsv with transcripts."""
    names: tuple[str, ...] = ()
    """Corpora to plant faults in; default: all that are there."""
    files: int = 180
    """Recordings of each corpus."""
    share: float = 0.35
    """Share of them that get a fault."""
    processes: int = 2
    """Recordings to examine at the same time."""
    seed: int = 0
    """Seed of the draws."""
    out: Path | None = Path(__file__).parent / "DOCTOR.md"
    """The page of results; None: print it."""


# Faults. Each takes samples in [-1, 1] and their rate, and returns samples.


def narrow(x: Samples, rate: int, rng: np.random.Generator) -> Samples:
    """A telephone line: nothing above 3.4 kHz."""
    return sosfiltfilt(butter(10, 3400, fs=rate, output="sos"), x).astype(np.float32)


def clipped(x: Samples, rate: int, rng: np.random.Generator) -> Samples:
    """Gain, until 1 to 5 % of the samples are beyond full scale, then a lower level."""
    limit = np.quantile(np.abs(x), 1 - rng.uniform(0.01, 0.05))
    return (x / limit).clip(-1, 1).astype(np.float32) * np.float32(rng.uniform(0.5, 0.99))


def noisy(x: Samples, rate: int, rng: np.random.Generator) -> Samples:
    """White noise, 0 to 8 dB below the speech."""
    noise = 10 ** ((loudness(x, rate) - rng.uniform(0, 8)) / 20) * rng.standard_normal(len(x))
    return _fit(x + noise)


def hum(x: Samples, rate: int, rng: np.random.Generator) -> Samples:
    """50 or 60 Hz with four harmonics, 20 to 26 dB below the speech."""
    times, mains = np.arange(len(x)) / rate, rng.choice([50, 60])
    tone = sum(np.sin(2 * np.pi * k * mains * times + rng.uniform(0, 6)) / k for k in range(1, 6))
    return _fit(x + 10 ** ((loudness(x, rate) - rng.uniform(20, 26)) / 20) * tone)


def dc(x: Samples, rate: int, rng: np.random.Generator) -> Samples:
    """An offset of 0.02 to 0.1."""
    return _fit(x + rng.choice([-1, 1]) * rng.uniform(0.02, 0.1))


def quiet(x: Samples, rate: int, rng: np.random.Generator) -> Samples:
    """20 to 30 dB less."""
    return x * np.float32(10 ** (-rng.uniform(20, 30) / 20))


def silent(x: Samples, rate: int, rng: np.random.Generator) -> Samples:
    """Noise below -70 dBFS, or zeros."""
    return (rng.choice([0, 1e-4]) * rng.standard_normal(len(x))).astype(np.float32)


def short(x: Samples, rate: int, rng: np.random.Generator) -> Samples:
    """The loudest 0.1 to 0.2 seconds."""
    middle, half = int(np.abs(x).argmax()), round(rng.uniform(0.05, 0.1) * rate)
    return x[max(0, middle - half) : middle + half]


def _fit(x: Any) -> Samples:
    return (x / max(1.0, np.abs(x).max() / 0.99)).astype(np.float32)


SAMPLES: dict[str, tuple[str, Callable[[Samples, int, np.random.Generator], Samples]]] = {
    "narrow": ("narrow", narrow),
    "clipped": ("clipped", clipped),
    "noisy": ("noisy", noisy),
    "hum": ("hum", hum),
    "dc": ("dc", dc),
    "quiet": ("level", quiet),
    "silent": ("silent", silent),
    "short": ("short", short),
}
"""Faults of samples: name -> the problem that the doctor should name, and what to do."""
FILES = {
    "not audio": "unreadable",
    "empty": "empty",
    "cut WAV": "truncated",
    "cut FLAC": "truncated",
    "cut Ogg": "truncated",
    "copy": "duplicate",
    "copy as MP3, 6 dB less": "duplicate",
    "another text": "text",
}
"""Faults of files and texts: name -> the problem that the doctor should name."""
SPEAKERS = {"two joined": "two people", "one split": "one person", "one file elsewhere": "other speaker"}
"""Faults of labels: name -> the problem that the doctor should name."""
PROBLEM_OF = {**{name: problem for name, (problem, _) in SAMPLES.items()}, **FILES, **SPEAKERS}
UNSEEN = ", unseen speakers"
"""Ends the name of a fault of labels of speakers whom the speaker encoder was not trained on."""


@dataclass
class Tally:
    """Counts over all corpora."""

    planted: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    """By fault: those with the problem that they should have."""
    clean: int = 0
    alarms: Counter[str] = field(default_factory=Counter)
    """By problem: clean recordings, or labels, that have it."""
    alarmed: int = 0
    """Clean recordings with any finding that leaves them out."""
    labels: int = 0
    corpora: dict[str, tuple[int, float, int]] = field(default_factory=dict)
    """Name -> clean recordings, hours, and those that were left out."""
    seconds: float = 0.0
    spent: float = 0.0


def main(evaluation: Evaluation) -> None:
    """Plant, examine, count, write."""
    warnings.simplefilter("ignore")
    tally = Tally()
    names = evaluation.names or [n for n in READERS if (evaluation.corpora / n).is_dir()]
    for name in track(list(names), "Corpora"):
        rng = random.Random(f"{evaluation.seed} {name}")  # noqa: S311
        utterances = READERS[name](evaluation.corpora / name, evaluation.transcripts)
        files = _chosen(utterances, evaluation.files, rng)
        measure_speed(rng.sample(files, min(10, len(files))), tally)
        with tempfile.TemporaryDirectory() as folder:
            plant_files(Path(folder) / name, name, files, evaluation, tally, rng)
        for held_out in (False, True):
            people = [u for u in utterances if u.labelled and (u.held_out is not None) == held_out]
            for _ in range(5 if held_out else 1):  # there are few of them, so they are drawn repeatedly
                with tempfile.TemporaryDirectory() as folder:
                    some = _chosen(people, evaluation.files, rng)
                    plant_labels(
                        Path(folder) / name, some, UNSEEN if held_out else "", evaluation, tally, rng
                    )
    page = _page(tally)
    if evaluation.out is None:
        print(page)
    else:
        with replacing(evaluation.out) as unfinished:
            unfinished.write_text(page, encoding="utf-8")


def _chosen(utterances: Sequence[Utterance], count: int, rng: random.Random) -> list[Utterance]:
    """Up to so many recordings, twelve of a speaker, and more where there are few speakers."""
    groups = defaultdict(list)
    for each in utterances:
        groups[each.speaker].append(each)
    names = rng.sample(sorted(groups), len(groups))
    most = max(12, count // max(len(names), 1))
    drawn = [each for name in names for each in rng.sample(groups[name], min(most, len(groups[name])))]
    return drawn[:count]


def plant_files(
    root: Path,
    corpus: str,
    files: list[Utterance],
    evaluation: Evaluation,
    tally: Tally,
    rng: random.Random,
) -> None:
    """Copy recordings, give some a fault of file, samples or text, and count what the doctor finds."""
    root.mkdir(parents=True)
    faults = [*SAMPLES, *FILES]
    rows: list[tuple[str, Utterance, str | None, str | None]] = []  # name, utterance, fault, text
    chosen = set(rng.sample(range(len(files)), round(evaluation.share * len(files))))
    offset = rng.randrange(len(faults))
    for number, each in enumerate(files):
        fault = faults[(offset + number) % len(faults)] if number in chosen else None
        if fault == "another text" and (not each.text or each.language != "en"):
            fault = None
        try:
            rows += _write(root, number, each, fault, files, rng)
        except AudioError:
            continue  # too short for this fault
    examination = _examine(root, [(n, u.speaker, t, u.language) for n, u, _, t in rows], evaluation, tally)
    problems = defaultdict(set)
    for f in examination.findings:
        if f.number is not None:
            problems[examination.utterances[f.number].path.name].add(f.problem)
    of_speakers = set(SPEAKERS.values())
    clean = left_out = 0
    for name, _, fault, _ in rows:
        if fault is None:
            clean += 1
            tally.alarms.update(problems[name] - of_speakers)
            left_out += bool(problems[name] & examination.exclude)
        elif fault != "original":
            tally.planted[fault] += 1
            tally.found[fault] += {**FILES, **{n: p for n, (p, _) in SAMPLES.items()}}[fault] in problems[
                name
            ]
    tally.clean += clean
    tally.alarmed += left_out
    tally.corpora[corpus] = (clean, examination.seconds / 3600, left_out)


def _write(
    root: Path, number: int, each: Utterance, fault: str | None, files: list[Utterance], rng: random.Random
) -> list[tuple[str, Utterance, str | None, str | None]]:
    """Write a recording, with its fault; the name sorts after that of an original that is copied."""
    same = f"{number:04d}{each.path.suffix}"
    if fault is None:
        shutil.copyfile(each.path, root / same)
        return [(same, each, None, each.text)]
    if fault == "another text":
        texts = sorted({u.text for u in files if u.text and u.text != each.text})
        shutil.copyfile(each.path, root / same)
        return [(same, each, fault, rng.choice(texts))]
    if fault in ("not audio", "empty"):
        (root / same).write_bytes(b"" if fault == "empty" else rng.randbytes(30_000))
        return [(same, each, fault, None)]
    audio = read(each.path)
    if fault in SAMPLES:
        name = f"{number:04d}{rng.choice(['.wav', '.flac'])}"
        made = SAMPLES[fault][1](audio.samples, audio.sample_rate, np.random.default_rng(number))
        write(root / name, Audio(made, audio.sample_rate))
        return [(name, each, fault, each.text)]
    if fault.startswith("cut"):
        name = f"{number:04d}.{fault.split()[1].lower()}"
        write(root / name, audio)
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: round(rng.uniform(0.5, 0.95) * len(content))])
        return [(name, each, fault, None)]
    copy = f"{number:04d}-copy" + (".mp3" if "MP3" in fault else ".flac")
    shutil.copyfile(each.path, root / same)
    soundfile.write(root / copy, audio.samples * (0.5 if "MP3" in fault else 1), audio.sample_rate)
    return [(same, each, "original", each.text), (copy, each, fault, each.text)]


def plant_labels(
    root: Path, people: list[Utterance], kind: str, evaluation: Evaluation, tally: Tally, rng: random.Random
) -> None:
    """Copy recordings, change some labels, and count the findings about speakers. kind: "" or UNSEEN."""
    groups = defaultdict(list)
    for number, each in enumerate(people):
        groups[each.speaker].append(number)
    names = [name for name in rng.sample(sorted(groups), len(groups)) if len(groups[name]) >= 8]
    if len(names) < 5:
        return
    root.mkdir(parents=True)
    label = {number: each.speaker for number, each in enumerate(people)}
    faulty: dict[str, list[tuple[str, ...]]] = {fault: [] for fault in SPEAKERS}
    moved: set[int] = set()
    touched: set[str] = set()
    while len(names) >= 5:
        a, b, c, d, e = (names.pop() for _ in range(5))
        label |= dict.fromkeys(groups[b], a)
        faulty["two joined"].append((a,))
        half = groups[c][: len(groups[c]) // 2]
        label |= dict.fromkeys(half, f"{c}-2")
        faulty["one split"].append((c, f"{c}-2"))
        label[groups[d][0]] = e
        moved.add(groups[d][0])
        touched.add(f"{root.name}/{e}")
    rows = []
    for number, each in enumerate(people):
        name = f"{number:04d}{each.path.suffix}"
        shutil.copyfile(each.path, root / name)
        rows.append((name, label[number], None, each.language))
    examination = _examine(root, rows, evaluation, tally)
    corpus = root.name
    pairs = {(f.problem, *sorted(f.speakers)) for f in examination.findings if f.number is None}
    for fault in ("two joined", "one split"):
        for speakers in faulty[fault]:
            key = (SPEAKERS[fault], *sorted(f"{corpus}/{s}" for s in speakers))
            tally.planted[fault + kind] += 1
            tally.found[fault + kind] += key in pairs
            pairs.discard(key)
    elsewhere = {f.number for f in examination.findings if f.problem == "other speaker"}
    there = {k for k, u in enumerate(examination.utterances) if int(u.path.stem) in moved}
    tally.planted["one file elsewhere" + kind] += len(there)
    tally.found["one file elsewhere" + kind] += len(there & elsewhere)
    joined = {f"{corpus}/{a}" for (a,) in faulty["two joined"]}
    wrong = {k for k in elsewhere - there if examination.utterances[k or 0].speaker not in joined}
    tally.alarms["other speaker"] += len(wrong)
    pairs = {pair for pair in pairs if pair[0] in SPEAKERS.values() and not touched & set(pair[1:])}
    tally.alarms.update(problem for problem, *_ in pairs)
    tally.labels += len(set(label.values()))


def _examine(
    root: Path, rows: Sequence[Sequence[str | None]], evaluation: Evaluation, tally: Tally
) -> Examination:
    with (root / "list.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["file", "speaker", "text", "language"], *rows])
    return examine(root, by_table(root, root / "list.csv"), processes=evaluation.processes)


def measure_speed(files: Sequence[Utterance], tally: Tally) -> None:
    """Add the processor time of this one process for some recordings, once everything is loaded."""
    measure(next((each for each in files if each.text), files[0]))
    begin = time.process_time()
    tally.seconds += sum(measure(each).seconds for each in files)
    tally.spent += time.process_time() - begin


def _page(tally: Tally) -> str:
    """The page of results."""
    lines = [
        "# What the corpus doctor finds",
        "",
        "Written by `python recipes/evaluate_doctor.py`, which plants faults in real corpora, and says how.",
        "",
        "| fault | should be called | planted | found |",
        "|---|---|---|---|",
    ]
    for fault in (f + end for f in PROBLEM_OF for end in ("", UNSEEN) if tally.planted[f + end]):
        planted, found = tally.planted[fault], tally.found[fault]
        problem = PROBLEM_OF[fault.removesuffix(UNSEEN)]
        lines.append(f"| {fault} | {problem} | {planted} | {found} ({found / planted:.0%}) |")
    lines += [
        "",
        "False alarms: findings about what was left as it is. A real fault of a corpus counts as one, too.",
        "Labels are judged by recordings with a second of speech, of which dspspeech20 has hardly any.",
        "",
        f"Of {tally.clean} recordings, {tally.alarmed} ({tally.alarmed / max(tally.clean, 1):.2%}) would be"
        " left out."
        f" Labels of speakers: {tally.labels}.",
        "",
        "| finding | number | share of recordings (of labels) |",
        "|---|---|---|",
    ]
    for problem, count in sorted(tally.alarms.items()):
        of = tally.labels if problem in ("two people", "one person") else tally.clean
        lines.append(f"| {problem} | {count} | {count / max(of, 1):.2%} |")
    lines += ["", "| corpus | recordings as they are | hours | left out |", "|---|---|---|---|"]
    for name, (clean, hours, out) in sorted(tally.corpora.items()):
        lines.append(f"| {name} | {clean} | {hours:.2f} | {out} |")
    rate = tally.seconds / max(tally.spent, 1e-9)
    lines += [
        "",
        f"Speed: {rate:.0f} times real time on one core, texts included, once everything is loaded.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    with in_one_line():
        main(tyro.cli(Evaluation, description=__doc__))
