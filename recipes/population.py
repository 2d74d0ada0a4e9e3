"""Make the statistical model of voices that invented voices are drawn from, `vcae convert --anonymize`.

    python recipes/population.py --corpora ~/corpora

Computes a voice of each speaker of the corpora who is not kept for tests, leaves out noisy and narrow-band
ones, and fits the model. Run it again when the speaker encoder changes.
"""

import random
import warnings
from dataclasses import dataclass
from pathlib import Path

import tyro

import vcae
from vcae.cli.console import in_one_line, track
from vcae.corpora.layouts import read_corpora
from vcae.corpora.splits import trainable
from vcae.errors import AudioWarning, VcaeError
from vcae.inference.anonymizer import POPULATION, Population


@dataclass(frozen=True)
class Options:
    """What to take voices from, and where to write."""

    corpora: Path
    """Folder of unpacked corpora."""
    names: tuple[str, ...] = (
        *("librispeech", "vctk", "vcc2016", "cmu-arctic", "libri-clips", "ljspeech"),
        *("kathleen", "nathalie", "kerstin"),
    )
    """Corpora of adults with licences that admit bundled weights."""
    recordings: int = 1
    """Recordings of each speaker, drawn at random."""
    components: int = 40
    """Principal components that are kept."""
    out: Path = POPULATION


UNFIT = {"noisy", "clipped", "two voices", "narrow band", "another voice"}
"""Doubts about recordings whose voices are left out."""


def main(options: Options) -> None:
    """Compute the voices, and fit. Raises VcaeError."""
    vc = vcae.load()
    found: dict[str, list[Path]] = {}
    for each in trainable(read_corpora(options.corpora, options.names)):
        if each.labelled:
            found.setdefault(each.speaker, []).append(each.path)
    voices = []
    draw = random.Random(0)  # noqa: S311 -- reproducible
    for speaker in track(sorted(found), "voices"):
        files = draw.sample(found[speaker], min(len(found[speaker]), options.recordings))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AudioWarning)
            try:
                voice = vc.voice(files)
            except VcaeError as error:
                print(f"{speaker}: left out ({error})")
                continue
        if not UNFIT & {*voice.doubts}:
            voices.append(voice)
    data = f"{options.recordings} recordings of each of {len(voices)} speakers of public corpora"
    Population.of(voices, options.components).save(options.out, {"stage": "population", "data": data})
    print(f"{len(voices)} of {len(found)} speakers; {options.out.stat().st_size} bytes")


if __name__ == "__main__":
    with in_one_line():
        main(tyro.cli(Options, description=__doc__))
