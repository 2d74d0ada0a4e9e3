"""An evaluation as one HTML file that opens offline: numbers, pictures, and recordings to listen to.

The page itself is `report.html` beside this file; here is worked out what it shows.
"""

import base64
import io
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from string import ascii_letters, digits
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from jinja2 import Environment, StrictUndefined, Template
from matplotlib import colormaps
from PIL import Image

from vcae.audio import Samples, read
from vcae.errors import AudioError
from vcae.evaluation.metrics.base import Features, Measure
from vcae.evaluation.results import RESAMPLES, Evaluation, Result
from vcae.files import check_output, replacing
from vcae.model.config import MelConfig
from vcae.model.mel import LogMel

Array: TypeAlias = npt.NDArray[np.float64]

KNOWN = {
    "vcae": "conversion by the weights at hand",
    "natural": "another recording of the target: nothing sounds more like the target",
    "identity": "the source as it was: what another person's voice scores",
    "reconstruct": "the source in its own voice: what encoder, decoder and vocoder lose without converting",
    "vocoder": "the source's own mel through the vocoder: what the vocoder alone loses",
    "griffinlim": "the source's own mel through Griffin-Lim, which has learned nothing",
    "world": "WORLD with the source's pitch moved to the target's mean, which has learned nothing",
}
"""What the rows of the summary are, where they are of this package's own making."""
SCALE = ("natural", "identity")
"""The systems that put a score to scale; outlined in the histograms."""
MAPPED = ("cosine to target", "closer-to-target rate", "WER", "DistillMOS", "F0 correlation")
"""The measures with a heat map."""
JUDGING = ("cosine to target", "WER", "DistillMOS", "DNSMOS", "F0 correlation", "MCD")
"""The measures whose best, median and worst trial can be played: one of each metric."""

FAILURES_LISTED = 20
FAILURES_HEARD = 3
BINS = 24
RATE = 16_000
MAX_SECONDS = 30
"""Longer recordings are played in part, so that the file stays small."""
LOUD, QUIET = 4.0, -5.0
"""Log magnitudes at the ends of the colours of a mel picture."""


def write_report(path: Path, evaluation: Evaluation) -> None:
    """Write one HTML file (.html) that needs nothing else, about the first system before all others.

    The same evaluation gives the same bytes. A recording that cannot be read is told in its place.
    Raises OutputError.
    """
    check_output(path, [".html"])
    page = _template().render(_contents(evaluation))
    with replacing(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")


@dataclass(frozen=True)
class Scale:
    """A range of values that is drawn from one end to the other."""

    low: float
    high: float
    below: bool
    """Whether there are lower values, which are drawn at the low end."""
    above: bool

    @classmethod
    def of(cls, values: Iterable[float], outliers: bool = True) -> "Scale":
        """From the lowest to the highest finite value; never empty.

        Without outliers, it reaches beyond the middle 80 % by at most three times their range, lest one odd
        trial press all others together.
        """
        finite = np.array([value for value in values if np.isfinite(value)] or [0.0])
        low, high = float(finite.min()), float(finite.max())
        most = np.quantile(finite, [0.1, 0.9]).tolist()
        room = 3 * (most[1] - most[0])
        if room and not outliers:
            low, high = max(low, most[0] - room), min(high, most[1] + room)
        if low == high:
            low, high = low - 0.5, high + 0.5
        return cls(low, high, bool((finite < low).any()), bool((finite > high).any()))

    def __call__(self, value: float) -> float:
        """Where a value lies: 0 at the low end to 1 at the high end."""
        return float(np.clip((value - self.low) / (self.high - self.low), 0, 1))


@dataclass(frozen=True)
class Heat:
    """A measure of every pair of speakers; nan where there is none."""

    measure: Measure
    cells: Array
    """(S + 1, T + 1): a row for each source, a column for each target; the last ones are means."""
    failed: Array
    """As many: how many trials of a pair failed."""
    scale: Scale
    """Of the pairs without a failure."""

    def goodness(self, value: float) -> float:
        """0 is the worst shown, 1 the best."""
        where = self.scale(value)
        return where if self.measure.higher_is_better else 1 - where


@dataclass(frozen=True)
class Histogram:
    """How the trials of a system spread over a measure, and the outlines of others."""

    measure: Measure
    scale: Scale
    bars: list[tuple[float, float, int]]
    """Edges and count of each bin."""
    outlines: dict[str, list[float]]
    """By system, the height of each bin; the highest is 1."""
    median: float


@dataclass(frozen=True)
class Place:
    """A voice on the map."""

    x: float
    y: float
    speaker: int
    title: str


@dataclass(frozen=True)
class VoiceMap:
    """Voices in two dimensions; each unit is as long in both."""

    width: float
    height: float
    kept: float
    """The share of the natural voices' variance that these two dimensions show."""
    natural: list[Place]
    converted: list[Place]
    centres: dict[int, list[float]]
    """Where the natural voices of a speaker have their mean."""
    tops: dict[int, float]
    """Where the uppermost of them is."""


@dataclass(frozen=True)
class Clip:
    """A recording with its mel picture and player."""

    seconds: float
    sound: str
    """As a data URI: MP3, which every browser plays."""
    picture: str
    """As a data URI: the mel, a pixel a frame."""
    cut: bool
    """Whether it goes on for longer."""


@dataclass(frozen=True)
class Card:
    """A trial to look at and listen to."""

    number: int
    """Its place among the trials."""
    result: Result
    badges: list[str]
    clips: list[tuple[str, str, Clip | str]]
    """What it is, the name of its file, and the recording or why there is none."""
    said: str
    """What the source says, by a human transcript or else by Whisper; "" if unknown."""
    transcript: list[tuple[str, str]]
    """What Whisper transcribes of the conversion: "same", "wrong" or "lost", and words."""

    @property
    def longest(self) -> float:
        """Seconds of its longest recording, which is as wide as there is room; 0 where there is none."""
        return max((clip.seconds for _, _, clip in self.clips if isinstance(clip, Clip)), default=0.0)


Clips: TypeAlias = Callable[[Path | None], Clip | str]


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters["number"] = _number
    return environment.from_string(
        files("vcae.evaluation").joinpath("report.html").read_text(encoding="utf-8")
    )


def _contents(evaluation: Evaluation) -> dict[str, Any]:
    """All that the page shows, by the names it uses."""
    main = next(iter(evaluation.results))
    results = evaluation.results[main]
    summaries = {system: evaluation.summary(system) for system in evaluation.results}
    measures = [m for m in evaluation.measures if any(m.name in s for s in summaries.values())]
    sources = sorted({r.trial.source_speaker for r in results})
    targets = sorted({r.trial.target_speaker for r in results})
    speakers = sorted({*sources, *targets})
    taken = [m for m in measures if m.name in summaries[main]]
    beside = [s for s in SCALE if s in evaluation.results and s != main]
    chosen, clips = _chosen(results, taken), _clips()
    return {
        "main": main,
        "results": results,
        "evaluation": evaluation,
        "known": KNOWN,
        "measures": measures,
        "summaries": summaries,
        "scales": {
            m.name: Scale.of(x for s in summaries.values() for x in s.get(m.name, ())) for m in measures
        },
        "sources": sources,
        "targets": targets,
        "speakers": speakers,
        "short": dict(zip(speakers, _short(speakers), strict=True)),
        "heats": [_heat(results, m, sources, targets) for m in taken if m.name in MAPPED],
        "histograms": [h for m in taken if (h := _histogram(evaluation, m, main, beside))],
        "beside": beside,
        "maps": _voice_maps(evaluation, results, speakers),
        "chosen": chosen,
        "cards": [_card(evaluation, k, results[k], b, clips) for k, b in _badges(chosen, results).items()],
        "failed": {s: [r for r in rs if r.failure is not None] for s, rs in evaluation.results.items()},
        "failures_listed": FAILURES_LISTED,
        "max_seconds": MAX_SECONDS,
        "resamples": RESAMPLES,
    }


def _number(value: float | None) -> str:
    if value is None or not np.isfinite(value):
        return "\N{EN DASH}"
    return f"{value:z.2f}" if abs(value) < 100 else f"{value:.0f}"  # z: no minus before zero


def _short(names: Sequence[str]) -> list[str]:
    """Names without the part that they all begin with, up to a separator."""
    shared = os.path.commonprefix(names) if len(names) > 1 else ""  # noqa: RUF071 -- letter by letter
    start = len(shared.rstrip(ascii_letters + digits))
    return [name[start:] or name for name in names]


def _heat(
    results: Sequence[Result], measure: Measure, sources: Sequence[str], targets: Sequence[str]
) -> Heat:
    totals, weights, failed = np.zeros((3, len(sources) + 1, len(targets) + 1))
    for r in results:
        s, t = sources.index(r.trial.source_speaker), targets.index(r.trial.target_speaker)
        value, weight = r.scores.get(measure.name, (0.0, 0.0))
        failed[s, t] += r.failure is not None
        for cell in ((s, t), (s, -1), (-1, t), (-1, -1)):
            totals[cell] += value * weight
            weights[cell] += weight
    cells = np.divide(totals, weights, out=np.full_like(totals, np.nan), where=weights > 0)
    pairs = (slice(-1), slice(-1))
    return Heat(measure, cells, failed, Scale.of(cells[pairs][failed[pairs] == 0], outliers=False))


def _histogram(
    evaluation: Evaluation, measure: Measure, main: str, beside: Sequence[str]
) -> Histogram | None:
    """None where the main system has no score but for failures."""

    def values(system: str) -> Array:
        taken = [r for r in evaluation.results[system] if r.failure is None and measure.name in r.scores]
        return np.array([r.scores[measure.name].value for r in taken])

    shown = {system: x for system in (main, *beside) if len(x := values(system))}
    if main not in shown:
        return None
    scale = Scale.of(np.concatenate(list(shown.values())), outliers=False)
    ends = (scale.low, scale.high)
    counts = {s: np.histogram(x.clip(*ends), BINS, ends)[0] for s, x in shown.items()}
    edges = np.linspace(*ends, BINS + 1).tolist()
    return Histogram(
        measure,
        scale,
        [(a, b, n) for (a, b), n in zip(pairwise(edges), counts[main].tolist(), strict=True)],
        {system: (count / count.max()).tolist() for system, count in counts.items() if system != main},
        float(np.median(shown[main])),
    )


def _voice_maps(
    evaluation: Evaluation, results: Sequence[Result], speakers: Sequence[str]
) -> dict[str, VoiceMap]:
    """Whose eyes see the voices so -> a map; without those for which too little is known."""
    codes = evaluation.codes
    evaluated = [(r, r.voice) for r in results if r.voice is not None]
    coded = [(r, codes[r.audio]) for r in results if r.audio and r.audio in codes]
    maps = {
        "the metric of speakers": _voice_map(evaluation.natural_voices, evaluated, results, speakers),
        "vcae's own speaker encoder": _voice_map(codes, coded, results, speakers),
    }
    return {name: voice_map for name, voice_map in maps.items() if voice_map}


def _voice_map(
    voices: Mapping[Path, Features],
    spoken: Sequence[tuple[Result, Features]],
    results: Sequence[Result],
    speakers: Sequence[str],
) -> VoiceMap | None:
    """The two principal components of the natural voices, and in them the converted ones.

    None where there are not three natural voices that differ.
    """
    owner: dict[Path, str] = {}
    for trial in (r.trial for r in results):
        owner |= dict.fromkeys([trial.source, *trial.source_references], trial.source_speaker)
        theirs = [*trial.references, trial.target, trial.parallel]
        owner |= {path: trial.target_speaker for path in theirs if path}
    names = [path for path in voices if path in owner]
    if len(names) < 3:
        return None
    natural = np.array([voices[path] for path in names], dtype=float)  # (N, E)
    mean = natural.mean(axis=0)
    _, strengths, axes = np.linalg.svd(natural - mean, full_matrices=False)
    if not strengths[1] > 1e-6:
        return None
    points = (np.array([*natural, *(voice for _, voice in spoken)], dtype=float) - mean) @ axes[
        :2
    ].T  # (N + M, 2)
    points -= points.min(axis=0)
    points /= points.max()  # the longer side is 1
    numbers = [speakers.index(owner[path]) for path in names]
    numbers += [speakers.index(r.trial.target_speaker) for r, _ in spoken]
    titles = [path.name for path in names] + [r.trial.id for r, _ in spoken]
    places = [Place(x, y, n, t) for (x, y), n, t in zip(points.tolist(), numbers, titles, strict=True)]
    own = np.array(numbers[: len(names)])
    clouds = {n: points[: len(names)][own == n] for n in sorted(set(own.tolist()))}
    return VoiceMap(
        width=float(points[:, 0].max()),
        height=float(points[:, 1].max()),
        kept=float((strengths[:2] ** 2).sum() / (strengths**2).sum()),
        natural=places[: len(names)],
        converted=places[len(names) :],
        centres={n: cloud.mean(axis=0).tolist() for n, cloud in clouds.items()},
        tops={n: float(cloud[:, 1].min()) for n, cloud in clouds.items()},
    )


def _chosen(results: Sequence[Result], measures: Sequence[Measure]) -> dict[str, dict[str, int]]:
    """By measure, the numbers of the best, the median and the worst trial.

    Failures share the worst score, so that they would hide the worst conversion; they are left out.
    """
    chosen = {}
    for measure in (m for m in measures if m.name in JUDGING):
        ranked = [k for k, r in enumerate(results) if r.failure is None and measure.name in r.scores]
        ranked.sort(key=lambda k: results[k].scores[measure.name].value, reverse=measure.higher_is_better)
        if ranked:
            chosen[measure.name] = {
                "best": ranked[0],
                "median": ranked[(len(ranked) - 1) // 2],
                "worst": ranked[-1],
            }
    return chosen


def _badges(chosen: dict[str, dict[str, int]], results: Sequence[Result]) -> dict[int, list[str]]:
    """What each trial with a player was chosen for, by its number; the first failures last."""
    badges: dict[int, list[str]] = {}
    for name, places in chosen.items():
        for place, k in places.items():
            badges.setdefault(k, []).append(f"{place} {name}")
    failed = [k for k, r in enumerate(results) if r.failure is not None]
    return badges | {k: ["failure"] for k in failed[:FAILURES_HEARD]}


def _card(
    evaluation: Evaluation,
    number: int,
    result: Result,
    badges: list[str],
    clip: Clips,
) -> Card:
    trial = result.trial
    shown = [("Source", trial.source), ("Converted", result.audio), ("Target", trial.references[0])]
    said = trial.text or evaluation.transcripts.get(trial.source, "")
    return Card(
        number,
        result,
        badges,
        [(what, path.name if path else "", clip(path)) for what, path in shown],
        said,
        _compare(said, result.transcript),
    )


def _compare(text: str, transcript: str) -> list[tuple[str, str]]:
    """Words of the transcript ("same" or "wrong") and between them those of the text that are "lost".

    All is "same" where nothing is known of what was text.
    """
    left, right = (text or transcript).split(), transcript.split()

    def plain(words: list[str]) -> list[str]:
        return [re.sub(r"[^\w]", "", word.lower()) for word in words]

    parts: list[tuple[str, str]] = []
    for kind, i, j, k, n in SequenceMatcher(None, plain(left), plain(right), autojunk=False).get_opcodes():
        lost, new = " ".join(left[i:j]), " ".join(right[k:n])
        parts += [("same", new)] if kind == "equal" else [("lost", lost), ("wrong", new)]
    return [(how, words) for how, words in parts if words]


def _clips() -> Clips:
    """Reads recordings for the page, each file once; gives the reason where one cannot be read."""
    log_mel = LogMel(MelConfig(hop_length=320))  # 50 pixels a second
    palette = (colormaps["magma"](np.arange(256))[:, :3] * 255).astype(np.uint8)

    @cache
    def clip(path: Path | None) -> Clip | str:
        if path is None:
            return "there is no recording"
        try:
            samples = read(path, RATE).samples
        except AudioError as error:
            return str(error)
        played = samples[: MAX_SECONDS * RATE]
        mel = log_mel(torch.from_numpy(played)[None, None])[0].numpy()
        levels = np.clip((mel - QUIET) / (LOUD - QUIET), 0, 1) * 255
        image = Image.fromarray(levels[::-1].astype(np.uint8))
        image.putpalette(palette.tobytes())
        picture = io.BytesIO()
        image.save(picture, "PNG", optimize=True)
        return Clip(
            len(played) / RATE,
            _data_uri("audio/mpeg", _mp3(played)),
            _data_uri("image/png", picture.getvalue()),
            len(played) < len(samples),
        )

    return clip


def _mp3(samples: Samples) -> bytes:
    sound = io.BytesIO()
    soundfile.write(sound, samples.clip(-1, 1), RATE, format="MP3", subtype="MPEG_LAYER_III")
    return sound.getvalue()


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
