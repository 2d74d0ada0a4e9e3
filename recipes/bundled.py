"""Train a model without teachers: a phone recogniser, the encoders, the autoencoder, the vocoder.

    python recipes/bundled.py --corpora ~/corpora --transcripts ~/corpora/transcripts

`--corpora` is a folder that holds any of these, each unpacked as its makers publish it (`vcae.corpora` lists
the layouts); corpora that are not there are skipped:

    vcc2016           Voice Conversion Challenge 2016         Edinburgh DataShare, 10283/2211
    librispeech       train-clean-100                         OpenSLR 12
    speechocean762    read English of Mandarin speakers       OpenSLR 101
    cmu-arctic        cmu_us_*_arctic                         festvox.org
    ljspeech, vctk    LJSpeech-1.1, VCTK                      their official pages
    kathleen, nathalie, kerstin                               the Rhasspy voice sets
    speech-to-intent, dspspeech20, alphanumeric               their repositories
    festvox-ru        a Russian man                           the Debian package of that name
    libri-clips, mls-clips, vctk-sample                       single clips, where you have them

`--transcripts` is a folder of NAME.tsv (id, text) for corpora that come without text. English text becomes
phone labels, from which the recogniser and the content encoder learn. Speakers kept for testing
(`vcae.corpora.HELD_OUT_SPEAKERS`) are skipped, and the trainer refuses them.

A corpus beyond memory is first written as shards by `vcae shard`, and named by `--shards` in place of
`--corpora`.

On an H100 the defaults take 40 minutes. The same command continues a run that was stopped; with other
settings it is refused. `--start vcae/weights` begins with the weights in the package, in a new folder; add
`--stages recogniser autoencoder vocoder` to skip the stage that trains the encoders alone. `--tiny` trains a
toy on the sample voices in under two minutes, in a folder of its own, to see that everything works.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import tyro

from vcae.cli.console import err, in_one_line, track
from vcae.corpora.layouts import folder, read_corpora
from vcae.corpora.splits import split_by_speaker, trainable
from vcae.corpora.utterance import Utterance
from vcae.errors import VcaeError
from vcae.inference.checkpoint import load, load_autoencoder, load_vocoder
from vcae.model.autoencoder import Autoencoder
from vcae.model.config import PRESETS, AutoencoderConfig, MelConfig, VocoderConfig
from vcae.model.vocoder import Vocoder
from vcae.training.checkpoint import load_averaged
from vcae.training.config import (
    AutoencoderStageConfig,
    DecoderMilestones,
    EncodersStageConfig,
    HeadsConfig,
    RecogniserStageConfig,
    SamplerConfig,
    TrainConfig,
    VocoderStageConfig,
)
from vcae.training.data import Bank, Sampler
from vcae.training.devices import fabric_of
from vcae.training.heads import EncoderHeads
from vcae.training.labels import find_or_prepare
from vcae.training.recogniser import Recogniser, RecogniserConfig
from vcae.training.run import Run, phases_of
from vcae.training.shards import Shards, ShardSampler
from vcae.training.stages.autoencoder import AutoencoderStage
from vcae.training.stages.base import Stage
from vcae.training.stages.encoders import EncodersStage
from vcae.training.stages.recogniser import RecogniserStage
from vcae.training.stages.vocoder import VocoderStage
from vcae.training.table import append_row
from vcae.training.trainer import Trainer

SAMPLE_VOICES = Path(__file__).parent.parent / "demo" / "voices"
FEW = TrainConfig(steps=12, warm_up=2, validate_steps=6, validate_batches=1)
"""The training of a toy."""
_RecipeMel = tyro.conf.Suppress[tyro.conf.Fixed[MelConfig]]  # no flag: `Recipe.mel` is for all networks


@dataclass(frozen=True)
class RecogniserSizes(RecogniserConfig):
    """Sizes of the recogniser."""

    mel: _RecipeMel = field(default_factory=MelConfig)


@dataclass(frozen=True)
class AutoencoderSizes(AutoencoderConfig):
    """Sizes of the autoencoder."""

    mel: _RecipeMel = field(default_factory=MelConfig)


@dataclass(frozen=True)
class VocoderSizes(VocoderConfig):
    """Sizes of the vocoder."""

    mel: _RecipeMel = field(default_factory=MelConfig)


@dataclass(frozen=True)
class ValidationConfig:
    """Speech to validate with."""

    speakers: int = 24
    """Number of speakers that are not trained on."""
    seed: int = 1
    """Seed of their draw."""
    power: float = 0.3
    """Their speech is drawn in proportion to hours ** power."""


@dataclass(frozen=True)
class Recipe:
    """All settings; the defaults are for an H100."""

    name: ClassVar = "bundled"
    """Name of the recipe: in the files and the table of runs, and of the default folder."""
    corpora: Path = SAMPLE_VOICES
    """Folder of unpacked corpora."""
    transcripts: Path | None = None
    """Folder of NAME.tsv with transcripts."""
    shards: Path | None = None
    """Folder that `vcae shard` wrote, from which speech is read as it is needed, in place of --corpora."""
    window: int = 4
    """Number of shards in memory."""
    out: Path | None = None
    """Folder of all that is written; default: runs/ and the name of the recipe, or runs/tiny with --tiny."""
    start: Path | None = None
    """Folder of weights to begin with, such as vcae/weights; default: random weights."""
    tiny: bool = False
    """Train a toy, on the sample voices unless --corpora says otherwise."""
    stages: tuple[str, ...] = ("recogniser", "encoders", "autoencoder", "vocoder")
    """Stages to train; a stage that is finished in `out` is not trained again."""
    runs: Path | None = Path(__file__).parent / "runs.tsv"
    """Table to which each finished stage appends a row; None: no row. A toy appends none."""

    mel: Literal["16k", "24k"] = "16k"
    """The mel spectrogram of all networks: a preset, named by its sample rate."""
    validation: ValidationConfig = field(default_factory=ValidationConfig)

    recogniser: RecogniserSizes = field(default_factory=RecogniserSizes)
    recogniser_stage: RecogniserStageConfig = field(default_factory=RecogniserStageConfig)
    recogniser_sampler: SamplerConfig = field(default_factory=SamplerConfig)
    recogniser_training: TrainConfig = field(default_factory=lambda: TrainConfig(minutes=1.5, decay=0.4))

    autoencoder: AutoencoderSizes = field(default_factory=AutoencoderSizes)
    heads: HeadsConfig = field(default_factory=HeadsConfig)
    encoders_stage: EncodersStageConfig = field(default_factory=EncodersStageConfig)
    encoders_sampler: SamplerConfig = field(default_factory=SamplerConfig)
    encoders_training: TrainConfig = field(
        default_factory=lambda: TrainConfig(minutes=3, decay=1.0, weight_decay=0.02)
    )
    autoencoder_stage: AutoencoderStageConfig = field(default_factory=AutoencoderStageConfig)
    autoencoder_sampler: SamplerConfig = field(default_factory=SamplerConfig)
    autoencoder_training: TrainConfig = field(
        default_factory=lambda: TrainConfig(minutes=12, decay=0.375, weight_decay=0.02)
    )

    vocoder: VocoderSizes = field(default_factory=VocoderSizes)
    vocoder_stage: VocoderStageConfig = field(default_factory=VocoderStageConfig)
    vocoder_sampler: SamplerConfig = field(
        default_factory=lambda: SamplerConfig(batch_size=48, seconds=0.8, speeds=(1.0,))
    )
    vocoder_training: TrainConfig = field(
        default_factory=lambda: TrainConfig(minutes=20, learning_rate=5e-4, discriminator_rate=4.0)
    )

    @property
    def mel_config(self) -> MelConfig:
        """The preset that `mel` names."""
        return PRESETS[self.mel]

    def speech(self, out: Path) -> list[Utterance]:
        """The recordings to train on and to validate with. out: folder of all that is written."""
        if self.corpora == SAMPLE_VOICES:
            return folder(self.corpora, transcripts=self.corpora)
        return read_corpora(self.corpora, transcripts=self.transcripts)


def tiny(recipe: Recipe) -> Recipe:
    """The recipe for toy networks and a dozen steps."""
    short = SamplerConfig(batch_size=4, seconds=1.0, reference_seconds=1.0)
    return replace(
        recipe,
        runs=None,
        validation=replace(recipe.validation, speakers=1),
        recogniser=RecogniserSizes(width=32, stacks=2),
        recogniser_sampler=short,
        recogniser_training=FEW,
        autoencoder=AutoencoderSizes(
            content_width=32, prosody_width=32, speaker_width=32, speaker_dim=16, decoder_width=32
        ),
        encoders_sampler=short,
        encoders_training=FEW,
        autoencoder_stage=replace(recipe.autoencoder_stage, discriminator_channels=4),
        autoencoder_sampler=short,
        autoencoder_training=FEW,
        vocoder=VocoderSizes(width=32, hidden=64, blocks=2),
        vocoder_stage=replace(recipe.vocoder_stage, discriminator_channels=4),
        vocoder_sampler=replace(short, seconds=0.5, speeds=(1.0,)),
        vocoder_training=FEW,
    )


class Session:
    """A recipe with its folder and its data: what every stage needs."""

    def __init__(self, recipe: Recipe, out: Path) -> None:
        self.recipe, self.out = recipe, out
        self.device = fabric_of().device
        self.train: Bank | Shards
        if recipe.shards:
            self.train = Shards(recipe.shards / "train", recipe.mel_config)
            self.validation = Shards(recipe.shards / "validation", recipe.mel_config).all().to(self.device)
            self.validation.labelled[:] = False
        else:
            self.train, self.validation = banks(recipe, out)

    def samplers(self, config: SamplerConfig) -> list[Sampler]:
        """A sampler of speech to train on, and one of speech to validate with."""
        aside = replace(config, power=self.recipe.validation.power, at_most=())
        if isinstance(self.train, Shards):
            train: Sampler = ShardSampler(self.train, config, self.recipe.window, self.device)
        else:
            train = Sampler(self.train, config)
        return [train, Sampler(self.validation, aside)]

    def run(
        self, stages: Sequence[Stage[Any, Any]], training: TrainConfig, **others: list[dict[str, Any]]
    ) -> None:
        """Train the first stage, validate with the second one's data, and record what it came to."""
        trainer = Trainer(stages[0], self.out, training, stages[1], Run(describe(self.recipe), **others))
        result = trainer.run()
        append_row(self.recipe.runs, self.recipe.name, trainer, result)


def main(recipe: Recipe) -> None:
    """Read corpora, then train one stage after the other."""
    if recipe.tiny:
        recipe = tiny(recipe)
    out = recipe.out or Path("runs", "tiny" if recipe.tiny else recipe.name)
    check(recipe, out)  # before minutes are spent on reading
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    session = Session(recipe, out)
    for name, train in STAGES.items():
        if name in recipe.stages:
            train(session)


def train_recogniser(session: Session) -> None:
    """The phone recogniser, which teaches the next two stages."""
    recipe = session.recipe
    model = Recogniser(sizes(recipe.recogniser, RecogniserConfig, recipe.mel_config))
    stages = [
        RecogniserStage(model, sampler, recipe.recogniser_stage)
        for sampler in session.samplers(recipe.recogniser_sampler)
    ]
    session.run(stages, recipe.recogniser_training)


def train_encoders(session: Session) -> None:
    """The encoders of the autoencoder."""
    recipe = session.recipe
    model = start_of(recipe, "autoencoder") or new_autoencoder(recipe)
    samplers = session.samplers(recipe.encoders_sampler)
    heads = EncoderHeads(recipe.heads, model.config, samplers[0].speakers)
    recogniser = teacher(session.out, recipe)
    stages = [EncodersStage(model, heads, s, recogniser, recipe.encoders_stage) for s in samplers]
    session.run(
        stages,
        recipe.encoders_training,
        started_from=phases_of(recipe.start / "autoencoder.safetensors") if recipe.start else [],
        teachers=phases_of(session.out / "recogniser.safetensors"),
    )


def train_autoencoder(session: Session) -> None:
    """Encoders and decoder, from the encoders that are trained in the same folder, else from `start`."""
    recipe, before = session.recipe, session.out / "encoders.ckpt"
    config, start = recipe.autoencoder_stage, recipe.start
    if start:  # its decoder is trained already
        config = replace(config, milestones=DecoderMilestones(0.0, 0.0, 0.0))
    model = start_of(recipe, "autoencoder") or new_autoencoder(recipe)
    samplers = session.samplers(recipe.autoencoder_sampler)
    heads = EncoderHeads(recipe.heads, model.config, samplers[0].speakers)
    weights = before.with_suffix(".safetensors")
    if before.exists():
        load_averaged(before, {"encoders": model, "heads": heads})
    elif start:
        weights = start / "autoencoder.safetensors"
    recogniser = teacher(session.out, recipe)
    stages = [AutoencoderStage(model, heads, s, recogniser, config) for s in samplers]
    session.run(
        stages,
        recipe.autoencoder_training,
        started_from=phases_of(weights),
        teachers=phases_of(session.out / "recogniser.safetensors"),
    )


def train_vocoder(session: Session) -> None:
    """The vocoder."""
    recipe = session.recipe
    vocoder = start_of(recipe, "vocoder") or Vocoder(sizes(recipe.vocoder, VocoderConfig, recipe.mel_config))
    stages = [
        VocoderStage(vocoder, sampler, recipe.vocoder_stage)
        for sampler in session.samplers(recipe.vocoder_sampler)
    ]
    session.run(
        stages,
        recipe.vocoder_training,
        started_from=phases_of(recipe.start / "vocoder.safetensors") if recipe.start else [],
    )


STAGES = {
    "recogniser": train_recogniser,
    "encoders": train_encoders,
    "autoencoder": train_autoencoder,
    "vocoder": train_vocoder,
}


def check(recipe: Recipe, out: Path) -> None:
    """Refuse what would fail later. Raises VcaeError."""
    if unknown := set(recipe.stages) - STAGES.keys():
        raise VcaeError(f"--stages: {min(unknown)} is none of {', '.join(STAGES)}")
    for name in ("autoencoder", "vocoder"):
        start_of(recipe, name)
    taught = {"encoders", "autoencoder"} & set(recipe.stages)
    if taught and "recogniser" not in recipe.stages:
        teacher(out, recipe)
    if "autoencoder" in recipe.stages and "encoders" not in recipe.stages and not recipe.start:
        phases_of(out / "encoders.safetensors")


def start_of(recipe: Recipe, name: str) -> Any:
    """The weights of that name that the recipe starts from, if any. Raises CheckpointError or VcaeError."""
    if recipe.start is None:
        return None
    path = recipe.start / f"{name}.safetensors"
    model: Any = (load_autoencoder if name == "autoencoder" else load_vocoder)(path)
    return with_the_mel_of(recipe, model, path)


def teacher(out: Path, recipe: Recipe) -> Recogniser:
    """The recogniser that is trained in the folder. Raises CheckpointError or VcaeError."""
    path = out / "recogniser.safetensors"
    return with_the_mel_of(recipe, load(path, Recogniser, RecogniserConfig), path)


def with_the_mel_of(recipe: Recipe, model: Any, path: Path) -> Any:
    """The model, if its mel is the recipe's. Raises VcaeError."""
    if model.config.mel != recipe.mel_config:
        raise VcaeError(f"{path}: was trained for another mel than --mel names; name the same")
    return model


def new_autoencoder(recipe: Recipe) -> Autoencoder:
    """An autoencoder with random weights."""
    return Autoencoder(sizes(recipe.autoencoder, AutoencoderConfig, recipe.mel_config))


def sizes(chosen: Any, kind: type, mel: MelConfig) -> Any:
    """A network's own configuration: the chosen sizes, and the recipe's mel."""
    return kind(**vars(chosen) | {"mel": mel})


def describe(recipe: Recipe) -> dict[str, Any]:
    """The settings that belong to no single stage, for the files of each stage."""
    names = ("corpora", "transcripts", "shards", "window", "start", "tiny", "validation", "mel")
    return {"name": recipe.name, **{name: getattr(recipe, name) for name in names}}


def banks(recipe: Recipe, out: Path) -> tuple[Bank, Bank]:
    """Speech to train on and to validate with, kept in `out`; on a GPU if there is one."""
    with fabric_of().rank_zero_first():  # it prepares the banks, the other processes read them
        return _banks(recipe, out)


def _banks(recipe: Recipe, out: Path) -> tuple[Bank, Bank]:
    found = trainable(recipe.speech(out))
    aside, everyone = recipe.validation.speakers, len({u.speaker for u in found})
    if aside >= everyone:
        raise VcaeError(
            f"{recipe.corpora}: has {everyone} speakers, of whom {aside} are to validate with;"
            " give more corpora, or fewer --validation.speakers"
        )
    parts = split_by_speaker(found, aside, seed=recipe.validation.seed)
    made = []
    for name, part in zip(("train", "validation"), parts, strict=True):
        bank, skipped = find_or_prepare(out, name, part, recipe.mel_config, os.cpu_count() or 1, track)
        report(skipped)
        made.append(bank.to(fabric_of().device))
    train, validation = made
    validation.labelled[:] = False  # its speakers are not among those that are classified
    return train, validation


def report(skipped: Iterable[str]) -> None:
    """Print the recordings that could not be used."""
    for line in skipped:
        err.print(f"skipped: {line}")


if __name__ == "__main__":
    with in_one_line():
        main(tyro.cli(Recipe, description=__doc__))
