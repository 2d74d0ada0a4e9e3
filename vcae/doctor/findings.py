"""What is wrong with a corpus, by what was measured of its recordings."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vcae.corpora.utterance import Utterance
from vcae.doctor.measure import LONGEST, Array, Measurement
from vcae.inference.reference import split_in_two, unit

_PADDING = 0.12  # seconds that an encoder may add
_NEARER = 0.2  # how much nearer another speaker must be, in cosine


class Problem(NamedTuple):
    """A kind of problem."""

    excluded: bool
    """Whether its files are on the list of excluded files, unless a user says otherwise."""
    about: str


PROBLEMS = {
    "unreadable": Problem(True, "the file cannot be decoded"),
    "empty": Problem(True, "the file holds no samples"),
    "truncated": Problem(True, "the file ends before its container says, or is damaged inside"),
    "silent": Problem(True, "no sample is above -60 dBFS, or nothing stands out of the noise"),
    "short": Problem(True, "too little sound to learn from"),
    "long": Problem(False, "longer than the limit; usually several utterances in one file"),
    "duplicate": Problem(True, "the same recording as another file, perhaps in another format or level"),
    "clipped": Problem(True, "the peaks are cut off"),
    "noisy": Problem(False, "little distance between speech and noise"),
    "level": Problem(False, "much louder or quieter than the other recordings of the corpus"),
    "narrow": Problem(False, "no speech in the upper part of the band that its sample rate allows"),
    "low rate": Problem(False, "a sample rate below that of training"),
    "dc": Problem(False, "the mean of the samples is far from zero"),
    "hum": Problem(False, "a steady tone of the mains"),
    "text": Problem(False, "the text does not fit the recording; the recipes do not use it"),
    "other speaker": Problem(False, "sounds like another speaker than its label says"),
    "two people": Problem(False, "a speaker whose recordings are probably of two people"),
    "one person": Problem(False, "two speakers who are probably one person"),
    "mixed rates": Problem(False, "several sample rates in one corpus"),
    "not read": Problem(False, "audio files in the folder that the reader of the corpus does not list"),
}
"""All problems that the doctor knows, by name. The first ones prevent reading at all."""


@dataclass(frozen=True)
class Limits:
    """Where a measurement becomes a problem."""

    rate: int = 16_000
    """Sample rate of training in Hz; files below are of low rate."""
    shortest: float = 0.3
    """Seconds of sound that a recording needs."""
    longest: float = 60.0
    """Seconds; longer recordings are too long."""
    clipped: float = 0.001
    """Share of the samples at the peak, from which on a recording is clipped."""
    snr: float = 12.0
    """Level over noise in dB that a recording needs."""
    level: float = 15.0
    """Distance in dB to the median level of the corpus."""
    bandwidth: float = 0.55
    """Share of the band, up to half the rate of training at most, that speech must reach."""
    dc: float = 0.01
    """Mean of the samples, 1 is full scale."""
    hum: float = 15.0
    """How far a steady tone of the mains stands out, in dB."""
    text: float = 3.5
    """How far the score of a text may be below the median of the corpus, in units of the score's spread."""
    similarity: float = 0.93
    """Cosine of the fingerprints of duplicates."""
    one_person: float = 0.7
    """Cosine of the speaker codes of two labels that are probably one person."""
    two_people: float = 0.5
    """Cosine of the speaker codes of two groups of recordings that are probably two people."""
    other_speaker: float = 0.4
    """Cosine of the speaker code of a recording and its label's, where it is nearer to another label's."""


@dataclass(frozen=True)
class Finding:
    """A problem, and what it concerns."""

    problem: str
    """A key of PROBLEMS."""
    detail: str
    """What was found, with numbers."""
    number: int | None = None
    """Index of the recording; None for a finding about speakers or the corpus."""
    speakers: tuple[str, ...] = ()


def find_all(
    utterances: Sequence[Utterance], measurements: Sequence[Measurement], limits: Limits
) -> list[Finding]:
    """All findings about recordings, speakers and corpora, in the order of PROBLEMS."""
    usable = [k for k, m in enumerate(measurements) if not m.error and not m.silent]
    found = [
        *(f for k, m in enumerate(measurements) for f in _of_one(k, m, limits)),
        *duplicates(utterances, measurements, usable, limits.similarity),
        *_outliers(utterances, measurements, usable, limits),
        *speaker_findings(utterances, measurements, usable, limits),
        *_mixed_rates(utterances, measurements, usable),
    ]
    order = list(PROBLEMS)
    return sorted(found, key=lambda f: (order.index(f.problem), f.number is None, f.number or 0, f.speakers))


def _of_one(number: int, m: Measurement, limits: Limits) -> Iterator[Finding]:
    """Problems that a recording has by itself."""

    def finding(problem: str, detail: str) -> Finding:
        return Finding(problem, detail, number)

    if m.error:
        if m.truncated:
            yield finding("truncated", m.error)
        elif f"{LONGEST / 60:g} minutes" in m.error:
            yield finding("long", m.error)
        else:
            empty = "0 bytes" in m.error or "no samples" in m.error
            yield finding("empty" if empty else "unreadable", m.error)
        return
    if m.truncated:
        yield finding("truncated", f"ends after {m.seconds:.1f} s, before its container says")
    if m.silent:
        yield finding("silent", f"{m.seconds:.1f} s without a sample above -60 dBFS")
        return
    if m.speech < limits.shortest:
        yield finding("short", f"{m.speech:.2f} s of sound")
    if m.seconds > limits.longest:
        yield finding("long", f"{m.seconds:.0f} s")
    if m.clipped > limits.clipped:
        yield finding("clipped", f"{m.clipped:.1%} of the samples at the peak of {m.peak:.1f} dBFS")
    if m.snr < limits.snr:
        yield finding("noisy", f"speech at {m.level:.0f}, noise at {m.noise:.0f} dBFS")
    if m.rate < limits.rate:
        yield finding("low rate", f"{m.rate} Hz")
    if m.bandwidth < limits.bandwidth * min(m.rate, limits.rate) / 2:
        yield finding("narrow", f"{m.rate} Hz, but no speech above {m.bandwidth:.0f} Hz")
    if abs(m.dc) > limits.dc:
        yield finding("dc", f"mean of {m.dc:+.3f}")
    if m.hum > limits.hum:
        yield finding("hum", f"a steady tone, {m.hum:.0f} dB over its surroundings")


def duplicates(
    utterances: Sequence[Utterance],
    measurements: Sequence[Measurement],
    usable: Sequence[int],
    similarity: float,
) -> Iterator[Finding]:
    """Recordings of the same content as an earlier one: equal samples, or nearly equal mel and length."""
    order = sorted(usable, key=lambda k: measurements[k].seconds)
    prints = [measurements[k].fingerprint for k in order]
    original: dict[int, int] = {}
    first: dict[bytes, int] = {}
    for k in sorted(usable):
        original[k] = first.setdefault(measurements[k].digest, k)
    with_print = [i for i, each in enumerate(prints) if len(each)]
    order = [order[i] for i in with_print]
    matrix = np.array([prints[i] for i in with_print], dtype=np.float32)
    seconds = np.array([measurements[k].seconds for k in order])
    for start in range(0, len(order), 512):  # against those that are at most 2 % longer
        stop = min(start + 512, len(order))
        end = int(np.searchsorted(seconds, 1.02 * seconds[stop - 1] + _PADDING, side="right"))
        alike = matrix[start:stop] @ matrix[start:end].T > similarity
        for i, j in zip(*np.nonzero(alike), strict=True):
            if i < j and seconds[start + j] <= 1.02 * seconds[start + i] + _PADDING:
                a, b = sorted((order[start + i], order[start + j]))
                original[b] = min(original[b], original[a])
    for k, same in sorted(original.items()):
        if k != same:
            yield Finding("duplicate", f"the same as {utterances[same].path}", k)


def _outliers(
    utterances: Sequence[Utterance],
    measurements: Sequence[Measurement],
    usable: Sequence[int],
    limits: Limits,
) -> Iterator[Finding]:
    """Recordings whose level or text score is far from those of their corpus."""
    for corpus in sorted({utterances[k].corpus for k in usable}):
        of_corpus = [k for k in usable if utterances[k].corpus == corpus]
        levels = np.array([measurements[k].level for k in of_corpus])
        middle = float(np.nanmedian(levels))
        for k, level in zip(of_corpus, levels, strict=True):
            if abs(level - middle) > limits.level:
                yield Finding("level", f"{level:.0f} dBFS, where {corpus} has {middle:.0f}", k)
        scored = [(k, score) for k in of_corpus if (score := measurements[k].text) is not None]
        finite = np.array([score for _, score in scored if np.isfinite(score)])
        if not len(finite):
            continue
        worst = float(np.median(finite) - limits.text * _spread(finite))
        for k, score in scored:
            if score < worst:
                fit = f"scores {score:.0f}" if np.isfinite(score) else "cannot be aligned"
                yield Finding("text", f"{fit}, where {corpus} has {np.median(finite):.0f}", k)


def _spread(values: Array) -> float:
    """Standard deviation by the median absolute deviation, which outliers do not move; 2 at least."""
    return max(1.4826 * float(np.median(np.abs(values - np.median(values)))), 2.0)


def speaker_findings(
    utterances: Sequence[Utterance],
    measurements: Sequence[Measurement],
    usable: Sequence[int],
    limits: Limits,
) -> Iterator[Finding]:
    """Labels that are two people, pairs of labels that are one, and recordings of another speaker."""
    groups = defaultdict(list)
    for k in usable:
        if utterances[k].labelled and len(measurements[k].code) and measurements[k].speech >= 1.0:
            groups[utterances[k].speaker].append(k)
    names = sorted(name for name, group in groups.items() if len(group) >= 2)
    codes = {name: np.array([measurements[k].code for k in groups[name]], np.float32) for name in names}
    for name in names:
        if len(codes[name]) >= 4:
            second, cosine = split_in_two(codes[name])
            if cosine < limits.two_people and min(second.sum(), (~second).sum()) >= 2:
                part = [utterances[groups[name][i]].path.name for i in np.flatnonzero(second)]
                detail = f"cosine {cosine:.2f} between {len(part)} files, such as {part[0]}, and the rest"
                yield Finding("two people", detail, speakers=(name,))
    if len(names) < 2:
        return
    centres = np.array([unit(codes[name].mean(axis=0)) for name in names])
    alike = centres @ centres.T
    for i, j in zip(*np.nonzero(np.triu(alike > limits.one_person, 1)), strict=True):
        yield Finding("one person", f"cosine {alike[i, j]:.2f}", speakers=(names[i], names[j]))
    for at, name in enumerate(names):
        nearness = codes[name] @ centres.T
        best = np.where(np.arange(len(names)) == at, -1, nearness).argmax(axis=1)
        for row, k in enumerate(groups[name]):
            others = unit(np.delete(codes[name], row, axis=0).mean(axis=0))
            own, other = float(codes[name][row] @ others), float(nearness[row, best[row]])
            if own < limits.other_speaker and other > own + _NEARER:
                detail = f"cosine {own:.2f} to {name}, {other:.2f} to {names[best[row]]}"
                yield Finding("other speaker", detail, k, (name, names[best[row]]))


def _mixed_rates(
    utterances: Sequence[Utterance], measurements: Sequence[Measurement], usable: Iterable[int]
) -> Iterator[Finding]:
    rates: dict[str, Counter[int]] = defaultdict(Counter)
    for k in usable:
        rates[utterances[k].corpus][measurements[k].rate] += 1
    for corpus, counts in sorted(rates.items()):
        if len(counts) > 1:
            shown = ", ".join(f"{count} files at {rate} Hz" for rate, count in counts.most_common())
            yield Finding("mixed rates", f"{corpus}: {shown}")
