"""Calibrate the page's likeness: what a cosine of speaker codes says about how alike two voices sound.

`python -m demo.calibrate --corpora FOLDER` converts recordings of development speakers, on whom nothing was
trained, at several strengths. It compares each result with its source and its target twice: by the speaker
codes of the bundled weights, and by Resemblyzer, which had no part in training. It writes
`demo/likeness.json`, which the page reads: from a cosine to likeness, where 0 is Resemblyzer's mean for two
people and 1 its mean for two recordings of one person. Run it again when the bundled weights change. Needs
the extra `eval`.
"""

import json
import random
from itertools import combinations, islice
from pathlib import Path
from typing import TypeAlias

import numpy as np
import tyro
from numpy.typing import NDArray

import vcae
from vcae.audio import read
from vcae.corpora import read_corpora
from vcae.evaluation.metrics.similarity import SpeakerSimilarity
from vcae.files import replacing

OUT = Path(__file__).parent / "likeness.json"
CORPORA = ["asterisk", "speechocean762"]  # where the development speakers are
SHORTEST, LONGEST = 2.0, 12.0  # seconds of a recording
STRENGTHS = [0.0, 0.3, 0.6, 1.0]
BINS = 12  # points of the curve

Codes: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Speaker codes of a recording: ours, and Resemblyzer's."""
Pairs: TypeAlias = list[tuple[float, float]]
"""(cosine of our speaker codes, cosine of Resemblyzer) of two recordings each."""


def main(corpora: Path, recordings: int = 12, conversions: int = 240, out: Path = OUT) -> None:
    """Write the curve from a cosine of speaker codes to likeness.

    Args:
        corpora: folder that holds the corpora asterisk and speechocean762
        recordings: number of recordings of each speaker
        conversions: number of conversions between two of these speakers
        out: file to write
    """
    vc, metric = vcae.load(), SpeakerSimilarity()
    draw = random.Random(0)  # noqa: S311 -- reproducible, not secret
    paths: dict[str, list[Path]] = {}
    for each in read_corpora(corpora, CORPORA):
        if each.held_out == "development":
            paths.setdefault(each.speaker, []).append(each.path)

    def codes(sound: vcae.Audio) -> Codes:
        heard = np.asarray(metric.extract(sound))
        return vc.embed(sound), heard / np.linalg.norm(heard)

    def compare(a: Codes, b: Codes) -> tuple[float, float]:
        ours, judged = (float(x @ y) for x, y in zip(a, b, strict=True))
        return ours, judged

    sounds = {}
    for speaker, files in sorted(paths.items()):
        read_ones = (read(path, vc.sample_rate) for path in draw.sample(files, len(files)))
        fitting = (sound for sound in read_ones if SHORTEST <= sound.duration <= LONGEST)
        sounds[speaker] = list(islice(fitting, recordings))
    natural = {speaker: [codes(sound) for sound in each] for speaker, each in sounds.items()}
    same = [compare(a, b) for each in natural.values() for a, b in combinations(each, 2)]
    other = [
        compare(a, b)
        for x, y in combinations(natural, 2)
        for a, b in zip(natural[x], natural[y], strict=False)
    ]
    to_voice, to_source = [], []
    for number in range(conversions):
        source, target = draw.sample(sorted(sounds), 2)
        i, j = draw.randrange(len(sounds[source])), draw.randrange(len(sounds[target]))
        strength = STRENGTHS[number % len(STRENGTHS)]
        result = codes(vc.convert(sounds[source][i], sounds[target][j], strength=strength))
        to_voice.append(compare(result, natural[target][j]))
        to_source.append(compare(result, natural[source][i]))
    full = to_voice[len(STRENGTHS) - 1 :: len(STRENGTHS)]
    stranger, oneself = (float(np.mean([judged for _, judged in pairs])) for pairs in (other, same))
    curve = _curve([(x, (y - stranger) / (oneself - stranger)) for x, y in to_voice + to_source])
    measured = {
        "fingerprint": vc.fingerprint,
        "speakers": len(sounds),
        "recordings": sum(map(len, sounds.values())),
        "conversions": conversions,
        "resemblyzer": {"different_speakers": round(stranger, 3), "same_speaker": round(oneself, 3)},
        "correlation": round(float(np.corrcoef(np.transpose(to_voice + to_source))[0, 1]), 3),
        "cosine": {
            "same_speaker": _spread(same),
            "different_speakers": _spread(other),
            "result_to_voice_at_full_strength": _spread(full),
        },
        "curve": curve,
    }
    with replacing(out) as unfinished:
        unfinished.write_text(json.dumps(measured, indent=1) + "\n", "utf-8")


def _spread(pairs: Pairs) -> dict[str, float]:
    return {f"p{p}": round(float(np.percentile([ours for ours, _ in pairs], p)), 3) for p in (5, 50, 95)}


def _curve(points: Pairs) -> list[tuple[float, float]]:
    """Means of bins with equally many points, made to rise: (cosine, likeness) each."""
    bins = np.array_split(np.array(sorted(points)), BINS)
    cosines, likeness = np.array([each.mean(0) for each in bins]).T
    rising = (np.maximum.accumulate(likeness) + np.minimum.accumulate(likeness[::-1])[::-1]) / 2
    return [(round(float(x), 3), round(float(y), 3)) for x, y in zip(cosines, rising, strict=True)]


if __name__ == "__main__":
    tyro.cli(main)
