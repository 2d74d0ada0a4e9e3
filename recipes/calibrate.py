"""Calibrate likeness: what a cosine of speaker codes says about how alike two voices are.

    python recipes/calibrate.py --corpora FOLDER

Writes `vcae/weights/likeness.json`, which `vcae similarity` and the demo read, and the tables of README.md.
Run it again when the bundled weights change. Needs the extra `eval`.

- The answers same, different and unsure are set on pairs of recordings of development speakers, on whom
  nothing was trained. They are tested on the readers of LibriSpeech test-other, beside Resemblyzer.
- Likeness is measured on conversions of development speakers at several strengths. Each result is compared
  with its source and its target twice: by the speaker codes of the bundled weights, and by Resemblyzer, which
  had no part in training. 0 is Resemblyzer's mean for two people, 1 that for two recordings of one person.
"""

import json
import random
from itertools import combinations, islice
from pathlib import Path
from typing import Any, TypeAlias

import evaluate_bundled
import numpy as np
import tyro
from numpy.typing import NDArray

import vcae
from vcae.audio import read
from vcae.cli import console
from vcae.corpora.utterance import Utterance
from vcae.evaluation.metrics.similarity import SpeakerSimilarity
from vcae.evaluation.probes import equal_error_rate
from vcae.files import replacing
from vcae.inference.checkpoint import BUNDLED

OUT = BUNDLED / "likeness.json"
README = Path(__file__).parents[1] / "README.md"
SHORTEST, LONGEST = 2.0, 12.0  # seconds of a recording
LONG = 5.0  # seconds of a long one
STRENGTHS = [0.0, 0.3, 0.6, 1.0]
BINS = 12  # points of the curve
ERRORS = 1.0  # per cent of the development pairs that are answered wrongly, of one and of two speakers
SYSTEMS = ("vcae", "Resemblyzer")

Codes: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Speaker codes of a recording: ours, and Resemblyzer's."""
Pairs: TypeAlias = NDArray[np.float64]
"""(n, 2): cosine of our speaker codes, cosine of Resemblyzer's, of two recordings each."""


class Recordings:
    """Recordings of labelled speakers, and their codes."""

    def __init__(self, utterances: list[Utterance], count: int, vc: vcae.Converter) -> None:
        draw = random.Random(0)  # noqa: S311 -- reproducible, not secret
        metric = SpeakerSimilarity()
        paths: dict[str, list[Path]] = {}
        for each in utterances:
            paths.setdefault(each.speaker, []).append(each.path)

        def codes(sound: vcae.Audio) -> Codes:
            embedding = np.asarray(metric.extract(sound))
            return vc.embed(sound), embedding / np.linalg.norm(embedding)

        self.codes_of = codes
        self.sounds: dict[str, list[vcae.Audio]] = {}
        for speaker, files in sorted(paths.items()):
            in_order = (read(path, vc.sample_rate) for path in draw.sample(files, len(files)))
            fitting = (sound for sound in in_order if SHORTEST <= sound.duration <= LONGEST)
            self.sounds[speaker] = list(islice(fitting, count))
        self.codes = {speaker: [codes(sound) for sound in each] for speaker, each in self.sounds.items()}

    def pairs(self, shortest: float = SHORTEST) -> tuple[Pairs, Pairs]:
        """All pairs of one speaker, and all pairs of two speakers, of recordings from so many seconds on."""
        items = [
            (speaker, codes)
            for speaker in self.sounds
            for sound, codes in zip(self.sounds[speaker], self.codes[speaker], strict=True)
            if sound.duration >= shortest
        ]
        same: list[tuple[float, float]] = []
        different: list[tuple[float, float]] = []
        for (speaker, a), (other, b) in combinations(items, 2):
            (same if speaker == other else different).append(compare(a, b))
        return np.array(same), np.array(different)


def compare(a: Codes, b: Codes) -> tuple[float, float]:
    """Cosines of the speaker codes of two recordings: ours and Resemblyzer's."""
    ours, judged = (float(x @ y) for x, y in zip(a, b, strict=True))
    return ours, judged


def main(
    corpora: Path, recordings: int = 20, conversions: int = 240, out: Path = OUT, readme: Path = README
) -> None:
    """Measure, and write the calibration and the tables.

    Args:
        corpora: folder that holds the corpora asterisk, speechocean762 and librispeech
        recordings: number of recordings of each speaker
        conversions: number of conversions between two development speakers
        out: file of the calibration
        readme: page of the tables
    """
    vc, options = vcae.load(), evaluate_bundled.Options(corpora)
    sets = {
        name: Recordings(evaluate_bundled.utterances_of(name, options), recordings, vc)
        for name in ("development", "test-other")
    }
    development = sets["development"]
    same, different = development.pairs()
    limits = [float(np.percentile(same[:, 0], ERRORS)), float(np.percentile(different[:, 0], 100 - ERRORS))]
    below, above = sorted(round(limit, 3) for limit in limits)
    answers = {name: _answers(each, below, above) for name, each in sets.items()}
    rates = {
        f"{name}, {shortest:g} to {LONGEST:g} s": {
            system: round(equal_error_rate(*(pairs[:, k] for pairs in each.pairs(shortest))), 4)
            for k, system in enumerate(SYSTEMS)
        }
        for name, each in sets.items()
        for shortest in (SHORTEST, LONG)
    }
    measured = {
        "fingerprint": vc.fingerprint,
        "made_by": vc.made_by,
        "answer": {"different_below": below, "same_from": above, "shares": answers},
        "equal_error_rate": rates,
        **_likeness(development, vc, conversions),
    }
    with replacing(out) as unfinished:
        unfinished.write_text(json.dumps(measured, indent=1) + "\n", "utf-8")
    evaluate_bundled.write_part("equal error rates", _error_table(rates), readme)
    evaluate_bundled.write_part("answers", _answer_table(answers["test-other"]), readme)


def _answers(recordings: Recordings, below: float, above: float) -> dict[str, dict[str, float]]:
    """Shares of the answers for pairs of one speaker and of two."""
    shares = {}
    for kind, pairs in zip(("one_speaker", "two_speakers"), recordings.pairs(), strict=True):
        ours = pairs[:, 0]
        found = {"same": ours >= above, "unsure": (ours >= below) & (ours < above), "different": ours < below}
        shares[kind] = {name: round(float(each.mean()), 4) for name, each in found.items()}
    return shares


def _error_table(rates: dict[str, dict[str, float]]) -> str:
    rows = [["equal error rate", *SYSTEMS]]
    rows += [[name, *(f"{100 * rate:.1f} %" for rate in each.values())] for name, each in rates.items()]
    return evaluate_bundled.markdown(rows)


def _answer_table(shares: dict[str, dict[str, float]]) -> str:
    one, two = shares["one_speaker"], shares["two_speakers"]
    rows = [["answer", "pairs of one speaker", "pairs of two speakers"]]
    rows += [[answer, f"{100 * one[answer]:.1f} %", f"{100 * two[answer]:.1f} %"] for answer in one]
    return evaluate_bundled.markdown(rows)


def _likeness(recordings: Recordings, vc: vcae.Converter, conversions: int) -> dict[str, Any]:
    """The curve from a cosine of speaker codes to likeness, and what it is based on."""
    draw = random.Random(0)  # noqa: S311 -- reproducible, not secret
    sounds, natural = recordings.sounds, recordings.codes
    same, other = recordings.pairs()
    to_voice, to_source = [], []
    for number in range(conversions):
        source, target = draw.sample(sorted(sounds), 2)
        i, j = draw.randrange(len(sounds[source])), draw.randrange(len(sounds[target]))
        strength = STRENGTHS[number % len(STRENGTHS)]
        result = recordings.codes_of(vc.convert(sounds[source][i], sounds[target][j], strength=strength))
        to_voice.append(compare(result, natural[target][j]))
        to_source.append(compare(result, natural[source][i]))
    stranger, oneself = float(other[:, 1].mean()), float(same[:, 1].mean())
    full = np.array(to_voice[len(STRENGTHS) - 1 :: len(STRENGTHS)])
    converted = np.array(to_voice + to_source)
    judged = (converted[:, 1] - stranger) / (oneself - stranger)
    return {
        "speakers": len(sounds),
        "recordings": sum(map(len, sounds.values())),
        "conversions": conversions,
        "resemblyzer": {"different_speakers": round(stranger, 3), "same_speaker": round(oneself, 3)},
        "correlation": round(float(np.corrcoef(converted.T)[0, 1]), 3),
        "cosine": {
            "same_speaker": _spread(same),
            "different_speakers": _spread(other),
            "result_to_voice_at_full_strength": _spread(full),
        },
        "curve": _curve(np.stack([converted[:, 0], judged], axis=1)),
    }


def _spread(pairs: Pairs) -> dict[str, float]:
    return {f"p{p}": round(float(np.percentile(pairs[:, 0], p)), 3) for p in (5, 50, 95)}


def _curve(points: Pairs) -> list[tuple[float, float]]:
    """Means of bins with equally many points, made to rise: (cosine, likeness) each."""
    bins = np.array_split(points[points[:, 0].argsort()], BINS)
    cosines, likeness = np.array([each.mean(0) for each in bins]).T
    rising = (np.maximum.accumulate(likeness) + np.minimum.accumulate(likeness[::-1])[::-1]) / 2
    return [(round(float(x), 3), round(float(y), 3)) for x, y in zip(cosines, rising, strict=True)]


if __name__ == "__main__":
    with console.in_one_line():
        tyro.cli(main, description=__doc__)
