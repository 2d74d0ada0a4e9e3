"""Train the restorer, the one network behind `vcae denoise`, `vcae superres` and `vcae revoice`.

    python recipes/restore.py --corpora ~/corpora

`--corpora` is a folder of speech corpora as `recipes/bundled.py` lists them, and of `esc10`, the noise:
ESC-10 (github.com/karoldvl/ESC-10), of which the classes in `--held-out` are kept for testing. `--noise` adds
other folders of noise, such as MUSAN or DEMAND, with a folder for each kind. `--train` and `--validation`
name banks of speech that `recipes/bundled.py` wrote, which saves reading the corpora again. `--whisper` names
the weights of Whisper base (`vcae.training.teachers.whisper`): with a loss of its features, the denoiser
loses fewer words, and takes twice as long to train.

The same command continues a run that was stopped. `--tiny` trains a toy on the sample voices in a minute, to
see that everything works; without `esc10`, the other voices are its noise.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import bundled
import torch
import tyro

from vcae.cli.console import in_one_line, track
from vcae.corpora.layouts import esc10, folder, folder_per_speaker, read_corpora
from vcae.corpora.splits import split_by_speaker, trainable
from vcae.corpora.utterance import Utterance
from vcae.errors import VcaeError
from vcae.inference.checkpoint import BUNDLED, load, load_autoencoder, load_vocoder
from vcae.model.restorer import Restorer, RestorerConfig
from vcae.training.config import RestorationStageConfig, SamplerConfig, TrainConfig
from vcae.training.data import Bank, Sampler
from vcae.training.devices import fabric_of
from vcae.training.labels import find_or_prepare
from vcae.training.run import Run, phases_of
from vcae.training.stages.restoration import RestorationSampler, RestorationStage
from vcae.training.table import append_row
from vcae.training.teachers import load_whisper
from vcae.training.trainer import Trainer

HELD_OUT_NOISE = ("chainsaw", "rain", "rooster")
"""Classes of ESC-10 that nothing is trained on: mechanical, steady, and short noise."""
LABELLER = BUNDLED / "live.safetensors"
"""The autoencoder whose prosody encoder labels F0 and voicing."""
VALIDATION_FOLD = "5-"
"""Clips whose names begin so are to validate with. A recording's clips are all in one of ESC-10's folds."""


@dataclass(frozen=True)
class Recipe:
    """All settings; the defaults are for one CPU core with bfloat16."""

    corpora: Path = bundled.SAMPLE_VOICES
    """Folder of unpacked corpora."""
    train: Path | None = None
    """Bank of speech to train on; default: made of the corpora."""
    validation: Path | None = None
    """Bank of other speakers; default: made of the corpora."""
    validation_speakers: int = 24
    """Number of speakers of the corpora that are not trained on."""
    noise: tuple[Path, ...] = ()
    """More folders of noise to train on, each with a folder for each kind of sound."""
    held_out: tuple[str, ...] = HELD_OUT_NOISE
    """Classes of ESC-10 that are not trained on."""
    out: Path | None = None
    """Folder of all that is written; default: runs/restore, or runs/restore-tiny with --tiny."""
    whisper: tuple[Path, ...] = ()
    """Weights of Whisper base, a file or its parts in order, for a loss of its features; default: without."""
    start: Path | None = None
    """A restorer.safetensors to begin with, and with its sizes; default: random weights."""
    tiny: bool = False
    """Train a toy, on the sample voices unless --corpora says otherwise."""
    runs: Path | None = Path(__file__).parent / "runs.tsv"
    """Table to which a finished run appends a row; None: no row. A toy appends none."""

    restorer: RestorerConfig = field(default_factory=RestorerConfig)
    stage: RestorationStageConfig = field(default_factory=RestorationStageConfig)
    sampler: SamplerConfig = field(
        default_factory=lambda: SamplerConfig(
            batch_size=16,
            seconds=2.0,
            reference_seconds=0.04,  # references are not used
            gain_db=(-8.0, 6.0),
            # Corpora with noise of their own are bad examples of clean speech.
            at_most=(
                *(("speechocean762", 0.1), ("speech-to-intent", 0.05)),
                *(("alphanumeric", 0.05), ("dspspeech20", 0.04)),
            ),
        )
    )
    noise_speeds: tuple[float, ...] = (1.0, 0.7, 0.84, 1.19, 1.41)
    """Playback speeds of noise."""
    training: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            minutes=120, learning_rate=1.5e-3, warm_up=200, decay=0.65, precision="bf16-mixed"
        )
    )


def tiny(recipe: Recipe) -> Recipe:
    """The recipe for a toy network and a dozen steps."""
    return replace(
        recipe,
        runs=None,
        validation_speakers=1,
        restorer=RestorerConfig(width=32, hidden=64, dilations=(1, 2)),
        sampler=SamplerConfig(batch_size=8, seconds=1.0, reference_seconds=0.04),
        training=TrainConfig(steps=12, warm_up=2, validate_steps=6, validate_batches=1),
    )


def main(recipe: Recipe) -> None:
    """Read speech and noise, then train."""
    recipe = tiny(recipe) if recipe.tiny else recipe
    torch.manual_seed(0)
    model = (
        load(recipe.start, Restorer, RestorerConfig) if recipe.start else Restorer(recipe.restorer)
    )  # before minutes are spent on reading
    labeller = load_autoencoder(LABELLER).prosody
    whisper = load_whisper(*recipe.whisper) if recipe.whisper else None
    if labeller.mel != model.config.mel:
        raise VcaeError("the bundled prosody encoder, which labels F0, needs the default mel")
    out = recipe.out or Path("runs/restore-tiny" if recipe.tiny else "runs/restore")
    out.mkdir(parents=True, exist_ok=True)
    with fabric_of().rank_zero_first():  # it prepares the banks, the other processes read them
        samplers = [
            RestorationSampler(*pair) for pair in zip(speech(recipe, out), noise(recipe, out), strict=True)
        ]
    vocoder = load_vocoder()
    stages = [RestorationStage(model, each, labeller, vocoder, whisper, recipe.stage) for each in samplers]
    trainer = Trainer(stages[0], out, recipe.training, stages[1], describe(recipe))
    result = trainer.run()
    append_row(recipe.runs, "restore", trainer, result)


def speech(recipe: Recipe, out: Path) -> list[Sampler]:
    """Samplers of speech to train on and to validate with. Raises VcaeError."""
    if recipe.train and recipe.validation:
        banks = [Bank.load(path).to(fabric_of().device) for path in (recipe.train, recipe.validation)]
    else:
        samples = recipe.corpora == bundled.SAMPLE_VOICES
        found = trainable((folder if samples else read_corpora)(recipe.corpora))
        parts = split_by_speaker(found, recipe.validation_speakers, seed=1)
        banks = [bank(out, name, part, recipe) for name, part in zip(NAMES, parts, strict=True)]
    aside = replace(recipe.sampler, power=0.3, at_most=())
    return [Sampler(each, c) for each, c in zip(banks, (recipe.sampler, aside), strict=True)]


def noise(recipe: Recipe, out: Path) -> list[Sampler]:
    """Samplers of noise to train on and to validate with, or of the sample voices in a toy without noise."""
    found = esc10(recipe.corpora / "esc10") if (recipe.corpora / "esc10").is_dir() else []
    if not found and not recipe.tiny:
        raise VcaeError(f"{recipe.corpora}: holds no esc10; unpack ESC-10 there, for its noise")
    found = [u for u in found if u.speaker.removeprefix("esc10/") not in recipe.held_out]
    parts = [[u for u in found if u.id.startswith(VALIDATION_FOLD) == aside] for aside in (False, True)]
    train, validation = parts if found else [folder(recipe.corpora)] * 2
    train = [*train, *(u for root in recipe.noise for u in folder_per_speaker(root))]
    config = replace(recipe.sampler, speeds=recipe.noise_speeds, gain_db=(-1.0, 0.0), power=0.3, at_most=())
    return [
        Sampler(bank(out, f"noise-{name}", part, recipe), config)
        for name, part in zip(NAMES, (train, validation), strict=True)
    ]


NAMES = ("train", "validation")


def bank(out: Path, name: str, utterances: Sequence[Utterance], recipe: Recipe) -> Bank:
    """A bank of these recordings, kept in `out`."""
    made, skipped = find_or_prepare(out, name, utterances, recipe.restorer.mel, os.cpu_count() or 1, track)
    bundled.report(skipped)
    return made.to(fabric_of().device)


def describe(recipe: Recipe) -> Run:
    """What the trainer cannot know of this run."""
    names = ("corpora", "train", "validation", "validation_speakers", "noise", "held_out")
    settings: dict[str, Any] = {"name": "restore", **{name: getattr(recipe, name) for name in names}}
    teachers = phases_of(LABELLER)
    return Run(settings, phases_of(recipe.start) if recipe.start else [], teachers)


if __name__ == "__main__":
    with in_one_line():
        main(tyro.cli(Recipe, description=__doc__))
