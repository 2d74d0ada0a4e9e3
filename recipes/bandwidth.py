"""Train the bandwidth extender, which `--sample-rate` above 16 kHz and `vcae superres` use.

    python recipes/bandwidth.py --corpora ~/corpora

`--corpora` is a folder of speech corpora as `recipes/bundled.py` lists them; only recordings at 22.05 kHz and
more are read, at 48 kHz. A recording need not fill that band: the bands that it lacks are left out. The
speakers in `--held-out` are kept for testing. Some minutes of a CPU core are enough; the same command
continues a run that was stopped.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bundled
import torch
import tyro

from vcae.audio import decode
from vcae.cli.console import in_one_line, track
from vcae.corpora.layouts import read_corpora
from vcae.corpora.splits import split_by_speaker, trainable
from vcae.corpora.utterance import Utterance
from vcae.inference.checkpoint import load
from vcae.model.bandwidth import BandwidthExtender, BandwidthExtenderConfig
from vcae.model.config import MelConfig
from vcae.training.config import BandwidthStageConfig, SamplerConfig, TrainConfig
from vcae.training.data import Sampler
from vcae.training.devices import fabric_of
from vcae.training.labels import find_or_prepare
from vcae.training.run import Run, phases_of
from vcae.training.stages.bandwidth import BandwidthStage
from vcae.training.table import append_row
from vcae.training.trainer import Trainer

HELD_OUT = ("vctk/p225", "vctk/p226", "vctk/p227", "vctk/p228")
"""Speakers that are not trained on."""
LEAST_RATE = 22_050
"""Of a recording that is read, in Hz."""


@dataclass(frozen=True)
class Recipe:
    """All settings; the defaults are for one CPU core."""

    corpora: Path
    """Folder of the unpacked corpora."""
    out: Path = Path("runs/bandwidth")
    """Folder of all that is written."""
    start: Path | None = None
    """A bandwidth.safetensors to begin with; default: random weights."""
    validation_speakers: int = 8
    """Number of speakers to validate with."""
    held_out: tuple[str, ...] = HELD_OUT
    """Speakers that are not trained on."""
    runs: Path | None = Path(__file__).parent / "runs.tsv"
    """Table to which a finished run appends a row; None: no row."""

    extender: BandwidthExtenderConfig = field(default_factory=BandwidthExtenderConfig)
    stage: BandwidthStageConfig = field(default_factory=BandwidthStageConfig)
    sampler: SamplerConfig = field(
        default_factory=lambda: SamplerConfig(
            batch_size=16,
            seconds=1.0,
            reference_seconds=0.04,  # references are not used
            speeds=(1.0,),
            gain_db=(-15.0, 6.0),
            # Most recordings end at 12 kHz; those that do not are drawn more often.
            at_most=(("alphanumeric", 0.2), ("kathleen", 0.08), ("nathalie", 0.08), ("ljspeech", 0.06)),
        )
    )
    training: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            minutes=15, learning_rate=2e-3, warm_up=100, decay=0.5, precision="bf16-mixed"
        )
    )


def main(recipe: Recipe) -> None:
    """Read full-band speech, then train."""
    torch.manual_seed(0)
    model = (
        load(recipe.start, BandwidthExtender, BandwidthExtenderConfig)
        if recipe.start
        else BandwidthExtender(recipe.extender)
    )
    recipe.out.mkdir(parents=True, exist_ok=True)
    with fabric_of().rank_zero_first():  # it prepares the banks, the other processes read them
        samplers = speech(recipe, model)
    stages = [BandwidthStage(model, each, recipe.stage) for each in samplers]
    settings: dict[str, Any] = {"name": "bandwidth"}
    settings |= {name: getattr(recipe, name) for name in ("corpora", "validation_speakers", "held_out")}
    run = Run(settings, phases_of(recipe.start) if recipe.start else [])
    trainer = Trainer(stages[0], recipe.out, recipe.training, stages[1], run)
    result = trainer.run()
    append_row(recipe.runs, "bandwidth", trainer, result)


def speech(recipe: Recipe, model: BandwidthExtender) -> list[Sampler]:
    """Samplers of speech to train on and to validate with. Raises VcaeError."""
    found = [u for u in trainable(read_corpora(recipe.corpora)) if u.speaker not in recipe.held_out]
    parts = split_by_speaker([u for u in found if is_wide(u)], recipe.validation_speakers, seed=1)
    rate = model.output_rate
    geometry = MelConfig(sample_rate=rate, win_length=rate // 25, hop_length=rate // 100, n_fft=rate // 20)
    samplers = []
    for name, part in zip(("train", "validation"), parts, strict=True):
        bank, skipped = find_or_prepare(recipe.out, name, part, geometry, os.cpu_count() or 1, track)
        bundled.report(skipped)
        samplers.append(Sampler(bank.to(fabric_of().device), recipe.sampler))
    return samplers


def is_wide(utterance: Utterance) -> bool:
    """Whether a recording may hold more than 8 kHz."""
    rate, _ = decode(utterance.path)
    return rate >= LEAST_RATE


if __name__ == "__main__":
    with in_one_line():
        main(tyro.cli(Recipe, description=__doc__))
