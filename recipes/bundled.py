"""Make the weights in the package: a recogniser of phones, which teaches the autoencoder; then the vocoder.

    python recipes/bundled.py --corpora ~/corpora --transcripts ~/corpora/transcripts

`--corpora` is a folder with any of these in it, each unpacked as its makers publish it (vcae.corpora lists
the layouts); what is not there is left out:

    vcc2016           Voice Conversion Challenge 2016         Edinburgh DataShare, 10283/2211
    librispeech       train-clean-100                         OpenSLR 12
    speechocean762    read English of Mandarin speakers       OpenSLR 101
    cmu-arctic        cmu_us_*_arctic                         festvox.org
    ljspeech, vctk    LJSpeech-1.1, VCTK                      their official pages
    kathleen, nathalie, kerstin                               the Rhasspy voice sets
    speech-to-intent, dspspeech20, alphanumeric               their repositories
    festvox-ru        a Russian man                           the Debian package of that name
    libri-clips, mls-clips, vctk-sample                       single clips, where you have them

`--transcripts` holds NAME.tsv (id, text) for corpora that come without text: English text becomes phone
labels, from which the recogniser and the content encoder learn. Speakers kept for testing
(vcae.corpora.HELD_OUT_SPEAKERS) are left out, and the trainer refuses them.

On an H100 the defaults take 40 minutes. Run again to go on where it was stopped; `--start vcae/weights`
begins with the weights in the package, in a new folder. `--tiny` trains a toy on the sample voices in under
two minutes, to see that everything works.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import tyro

from vcae.cli.console import in_one_line
from vcae.corpora.layouts import folder, read_corpora
from vcae.corpora.splits import split_by_speaker, trainable
from vcae.inference.checkpoint import BUNDLED, load, load_autoencoder, load_vocoder
from vcae.model.autoencoder import Autoencoder
from vcae.model.config import AutoencoderConfig, VocoderConfig
from vcae.model.vocoder import Vocoder
from vcae.training.config import TrainConfig
from vcae.training.data import Bank, Sampler
from vcae.training.labels import prepare
from vcae.training.recogniser import Recogniser, RecogniserConfig
from vcae.training.stages.autoencoder import AutoencoderStage
from vcae.training.stages.recogniser import RecogniserStage
from vcae.training.stages.vocoder import VocoderStage
from vcae.training.trainer import Trainer

SAMPLE_VOICES = Path(__file__).parent.parent / "demo" / "voices"


@dataclass(frozen=True)
class Recipe:
    """Everything that can be set; the defaults are for an H100."""

    corpora: Path = SAMPLE_VOICES
    """Folder of unpacked corpora."""
    transcripts: Path | None = None
    """Folder of NAME.tsv with transcripts."""
    out: Path = Path("runs/bundled")
    """Where everything is written, and found again by the next run."""
    start: Path | None = None
    """Folder of weights to begin with, such as vcae/weights; default: from nothing."""
    bundle: bool = False
    """In the end, put the weights into the package."""
    tiny: bool = False
    """A toy, on the sample voices unless --corpora says otherwise."""
    stages: tuple[str, ...] = ("recogniser", "autoencoder", "vocoder")
    """What to train; a stage that is done already is not done again."""
    validation_speakers: int = 24
    """How many speakers to keep aside."""

    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    vocoder: VocoderConfig = field(default_factory=VocoderConfig)
    adversary_channels: int = 32
    recogniser: RecogniserConfig = field(default_factory=RecogniserConfig)

    recogniser_training: TrainConfig = field(default_factory=lambda: TrainConfig(minutes=1.5, decay=0.4))
    autoencoder_training: TrainConfig = field(
        default_factory=lambda: TrainConfig(minutes=15, decay=0.5, weight_decay=0.02)
    )
    autoencoder_batch: int = 128
    autoencoder_seconds: float = 2.5
    reference_seconds: float = 3.0
    vocoder_training: TrainConfig = field(
        default_factory=lambda: TrainConfig(minutes=20, learning_rate=5e-4, adversary_rate=4.0)
    )
    vocoder_batch: int = 48
    vocoder_seconds: float = 0.8


def tiny(recipe: Recipe) -> Recipe:
    """The same in small: a dozen steps of toy networks."""
    few = TrainConfig(steps=12, warm_up=2, validate_steps=6, validate_batches=1)
    return replace(
        recipe,
        validation_speakers=1,
        recogniser=RecogniserConfig(width=32, stacks=2),
        autoencoder=AutoencoderConfig(
            content_width=32, prosody_width=32, speaker_width=32, speaker_dim=16, decoder_width=32
        ),
        vocoder=VocoderConfig(width=32, hidden=64, blocks=2),
        adversary_channels=4,
        recogniser_training=few,
        autoencoder_training=few,
        autoencoder_batch=4,
        autoencoder_seconds=1.0,
        reference_seconds=1.0,
        vocoder_training=few,
        vocoder_batch=4,
        vocoder_seconds=0.5,
    )


def main(recipe: Recipe) -> None:
    """Corpora, then one stage after the other."""
    if recipe.tiny:
        recipe = tiny(recipe)
    recipe.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    given = recipe.start and (  # before minutes are spent on reading
        load_autoencoder(recipe.start / "autoencoder.safetensors"),
        load_vocoder(recipe.start / "vocoder.safetensors"),
    )
    taught = recipe.out / "recogniser.safetensors"
    if "autoencoder" in recipe.stages and "recogniser" not in recipe.stages:
        load(taught, Recogniser, RecogniserConfig)  # likewise
    train, validation = banks(recipe)
    # A few big corpora of short or accented clips must not crowd out the rest.
    weights = train.speaker_weights(power=0.5, at_most={"speechocean762": 0.25, "speech-to-intent": 0.1})

    def samplers(batch: int, seconds: float, reference: float, speeds: Sequence[float]) -> list[Sampler]:
        return [
            Sampler(train, weights, batch, seconds, reference, speeds),
            Sampler(validation, validation.speaker_weights(), batch, seconds, reference, speeds),
        ]

    sizes = (recipe.autoencoder_batch, recipe.autoencoder_seconds, recipe.reference_seconds)
    if "recogniser" in recipe.stages:
        recogniser = Recogniser(recipe.recogniser)
        learn, check = (RecogniserStage(recogniser, s) for s in samplers(*sizes, Sampler.speeds))
        Trainer(learn, recipe.out, recipe.recogniser_training, check).run()

    if "autoencoder" in recipe.stages:
        model = given[0] if given else Autoencoder(recipe.autoencoder)
        recogniser = load(taught, Recogniser, RecogniserConfig)
        stages = [
            AutoencoderStage(model, s, recogniser, recipe.adversary_channels)
            for s in samplers(*sizes, Sampler.speeds)
        ]
        if given:  # there is a decoder worth hearing already
            stages[0].milestones = dict.fromkeys(stages[0].milestones, 0.0)
        Trainer(stages[0], recipe.out, recipe.autoencoder_training, stages[1]).run()

    if "vocoder" in recipe.stages:
        sizes = (recipe.vocoder_batch, recipe.vocoder_seconds, recipe.reference_seconds)
        both = samplers(*sizes, speeds=(1.0,))  # no pseudo-speakers
        vocoder = given[1] if given else Vocoder(recipe.vocoder)
        train_stage, check_stage = (VocoderStage(vocoder, s, recipe.adversary_channels) for s in both)
        Trainer(train_stage, recipe.out, recipe.vocoder_training, check_stage).run()

    if recipe.bundle:
        for name in ("autoencoder.safetensors", "vocoder.safetensors"):
            shutil.copyfile(recipe.out / name, BUNDLED / name)


def banks(recipe: Recipe) -> tuple[Bank, Bank]:
    """All speech to train on and to validate with, read once and kept in `out`; on a GPU if there is one."""
    paths = [recipe.out / "train.bank", recipe.out / "validation.bank"]
    if not all(path.exists() for path in paths):
        if recipe.corpora == SAMPLE_VOICES:
            utterances = folder(recipe.corpora, transcripts=recipe.corpora)
        else:
            utterances = read_corpora(recipe.corpora, transcripts=recipe.transcripts)
        parts = split_by_speaker(trainable(utterances), recipe.validation_speakers, seed=1)
        for part, path in zip(parts, paths, strict=True):
            prepare(part, recipe.autoencoder.mel, processes=os.cpu_count() or 1).save(path)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train, validation = (Bank.load(path).to(device) for path in paths)
    validation.labelled[:] = False  # its speakers are not among those that are classified
    return train, validation


if __name__ == "__main__":
    with in_one_line():
        main(tyro.cli(Recipe, description=__doc__))
