"""Train a decoder under a content encoder that `recipes/content.py` trained, with losses by teachers.

    python recipes/decoder.py --train runs/bundled/train-KEY.bank \
        --validation runs/bundled/validation-KEY.bank --whisper model.bin --campplus campplus.safetensors \
        --content runs/content/content.safetensors --start vcae/weights/studio.safetensors

The other options are those of `recipes/content.py`, whose labels of the bank are used again. All of the
autoencoder but its content encoder comes from `--start`; without `--content`, that too. Only its decoder is
trained, unless `--stage.train-content` or `--stage.train-speaker` say otherwise. What is decoded must give
the features that Whisper finds in the source, and for conversions the embedding that CAM++ finds in the
target. `--bundle studio` writes the result into the package.

On one CPU core with bfloat16, an hour makes some 1,400 steps.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from taught import TaughtRecipe, beside

from vcae.cli.console import in_one_line, track
from vcae.inference.checkpoint import BUNDLED, load, load_autoencoder, read_header, save_without_speaker
from vcae.model.autoencoder import Autoencoder
from vcae.training.config import (
    CONTENT,
    DecoderLossWeights,
    DecoderMilestones,
    DecoderStageConfig,
    FrontEndFitConfig,
    SamplerConfig,
    TrainConfig,
)
from vcae.training.data import Bank, Sampler
from vcae.training.devices import fabric_of
from vcae.training.run import Run, phases_of
from vcae.training.stages.decoder import DecoderStage
from vcae.training.student import ContentStudent, ContentStudentConfig
from vcae.training.table import append_row
from vcae.training.teachers.front_ends import FrontEndConfig, find_or_fit
from vcae.training.teachers.perceptual import SpeakerPerception, WhisperRecogniser
from vcae.training.teachers.phones import fit_phones
from vcae.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class Recipe(TaughtRecipe):
    """All settings; the defaults are for one CPU core with bfloat16."""

    start: Path
    """Autoencoder to begin with."""
    content: Path | None = None
    """content.safetensors, a content encoder of the same sizes as that of `start`; default: that one."""
    out: Path = Path("runs/decoder")
    """Folder of checkpoint and product."""
    bundle: Literal["studio", "live"] | None = None
    """At the end, write the autoencoder into the package, as this model."""

    front_ends: FrontEndFitConfig = field(default_factory=FrontEndFitConfig)
    stage: DecoderStageConfig = field(
        default_factory=lambda: DecoderStageConfig(
            content=replace(CONTENT, low_hz=(60.0, 400.0)),
            discriminator_channels=24,
            milestones=DecoderMilestones(discriminator=0.02, adversarial=0.1, conversion=0.0),
            # A teacher's gradient at the decoded mel is a hundred times that of an L1 of equal weight.
            loss_weights=DecoderLossWeights(
                mel=4.0,
                loudness=8.0,
                envelope=2.0,
                recogniser_features=1.0,
                converted_features=0.5,
                phone_kl=0.4,
                target_speaker=0.8,
                source_speaker=0.5,
            ),
        )
    )
    sampler: SamplerConfig = field(
        default_factory=lambda: SamplerConfig(
            batch_size=16,
            seconds=2.56,
            at_most=(("speechocean762", 0.25), ("speech-to-intent", 0.1), ("dspspeech20", 0.04)),
        )
    )
    training: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            minutes=120,
            learning_rate=7e-4,
            discriminator_rate=2.0,
            warm_up=50,
            decay=0.6,
            weight_decay=0.02,
            ema=0.997,
            precision="bf16-mixed",
        )
    )


def main(recipe: Recipe) -> None:
    """Prepare the teachers, then train."""
    torch.manual_seed(0)
    model = autoencoder(recipe)  # before minutes are spent on labels
    fabric = fabric_of()
    train, validation = (Bank.load(path).to(fabric.device) for path in (recipe.train, recipe.validation))
    with fabric.rank_zero_first():  # it makes the labels, the other processes read them
        recogniser, judge = teachers(recipe, train)
    aside = replace(recipe.sampler, power=0.3, at_most=())
    samplers = [Sampler(train, recipe.sampler), Sampler(validation, aside)]
    stages = [DecoderStage(model, each, recogniser, [judge], recipe.stage) for each in samplers]
    trainer = Trainer(stages[0], recipe.out, recipe.training, stages[1], describe(recipe))
    result = trainer.run()
    append_row(recipe.runs, "decoder", trainer, result)
    if recipe.bundle and result.finished:
        product = recipe.out / "decoder.safetensors"
        notes = read_header(product).notes
        save_without_speaker(BUNDLED / f"{recipe.bundle}.safetensors", load_autoencoder(product), notes)


def autoencoder(recipe: Recipe) -> Autoencoder:
    """The autoencoder as training starts. Raises CheckpointError, and RuntimeError for other sizes."""
    before = load_autoencoder(recipe.start)
    if recipe.content is None:
        return before
    student = load(recipe.content, ContentStudent, ContentStudentConfig)
    model = Autoencoder(
        replace(
            before.config,
            delay=student.config.delay,
            prosody_look_ahead=before.prosody.look_ahead,
            bottleneck=student.config.bottleneck,
        )
    )
    model.content.load_state_dict(student.encoder.state_dict())
    model.bottleneck.load_state_dict(student.bottleneck.state_dict())
    for part in ("prosody", "speaker", "decoder"):
        getattr(model, part).load_state_dict(getattr(before, part).state_dict())
    return model


def teachers(recipe: Recipe, bank: Bank) -> tuple[WhisperRecogniser, SpeakerPerception]:
    """Whisper and CAM++ as teachers of decoded mels; what they need is kept beside the bank.

    Raises VcaeError.
    """
    device, path = bank.samples.device, recipe.train
    whisper, campplus = recipe.load_whisper().to(device), recipe.load_campplus().to(device)
    labels, embeddings = recipe.labels(path, bank, lambda: whisper, lambda: campplus)
    phones = fit_phones(labels, bank.phones.cpu(), recipe.phones)
    crops = Sampler(bank, replace(recipe.sampler, seconds=1.28, reference_seconds=0.04))
    front_ends = [
        find_or_fit(beside(path, kind), FrontEndConfig(kind), crops, recipe.front_ends, track)
        for kind in ("whisper", "campplus")
    ]
    recogniser = WhisperRecogniser(front_ends[0], whisper, labels.codebook, phones)
    judge = SpeakerPerception(front_ends[1], campplus, embeddings[:, 0].mean(0))
    return recogniser.to(device), judge.to(device)


def describe(recipe: Recipe) -> Run:
    """What the trainer cannot know of this run."""
    names = ("train", "validation", "content", "start", "codebook", "phones", "speakers", "front_ends")
    settings: dict[str, Any] = {"name": "decoder", **{name: getattr(recipe, name) for name in names}}
    started_from = phases_of(recipe.start)
    if recipe.content:  # it may have begun with the same phases
        started_from += [phase for phase in phases_of(recipe.content) if phase not in started_from]
    return Run(settings, started_from, recipe.teachers)


if __name__ == "__main__":
    with in_one_line():
        main(tyro.cli(Recipe, description=__doc__))
