"""Fine-tune a voice to one person, in a few minutes on a CPU.

    python recipes/finetune_voice.py anna/ --out anna.voice        # files, or folders of them
    vcae convert talk.wav --voice anna.voice --out talk-anna.wav

The networks stay as they are; the voice file holds low-rank changes of the decoder (LoRA), 250 kB. It can be
used with the model that it is tuned for (--model), streamed and mixed. The last tenth of the speech is held
out: training ends early when its loss no longer falls. A run that is stopped continues.

With CAM++ (`--campplus`; `recipes/content.py` says where from), conversions come out nearer to the person
than with the model's own speaker encoder as the judge (`recipes/evaluate_finetuning.py`).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import tyro
from bundled import SAMPLE_VOICES, report

import vcae
from vcae.cli import paths
from vcae.cli.console import in_one_line, track
from vcae.corpora.utterance import Utterance
from vcae.errors import VcaeError
from vcae.files import check_output
from vcae.inference.checkpoint import load, load_autoencoder, model_files
from vcae.model.autoencoder import Autoencoder
from vcae.model.decoder import Adapter
from vcae.training.config import (
    FrontEndFitConfig,
    SamplerConfig,
    SpeakerLabelsConfig,
    TrainConfig,
    VoiceStageConfig,
)
from vcae.training.data import Bank, Sampler
from vcae.training.devices import fabric_of
from vcae.training.labels import prepare
from vcae.training.stages.voice import Judge, VoiceAdapter, VoiceAdapterConfig, VoiceSampler, VoiceStage
from vcae.training.teachers import CamPlusPlus, load_campplus
from vcae.training.teachers.front_ends import FrontEndConfig, find_or_fit
from vcae.training.teachers.labels import speaker_embeddings
from vcae.training.teachers.perceptual import SpeakerPerception
from vcae.training.trainer import Trainer

LEAST_SECONDS = 20
"""Shortest speech that a voice is tuned to, and shortest speech of others."""


@dataclass(frozen=True)
class Recipe:
    """All settings; the defaults are for one CPU core."""

    recordings: tyro.conf.Positional[tuple[Path, ...]]
    """Recordings of the person, or folders of them."""
    out: Path
    """The voice to write, NAME.voice."""
    model: str = "studio"
    """studio or live, which are bundled, or a folder that training wrote."""
    others: Path = SAMPLE_VOICES
    """A folder of recordings of other people, each of one speaker, who are converted during the tuning."""
    kept: float = 0.5
    """Share of the changes that the voice holds, 0 to 1. On the first person, half came as near as all, and
    sounded more natural."""
    campplus: Path | None = None
    """Weights of CAM++, which then judges the conversions; default: the model's own speaker encoder does."""
    run: Path | None = None
    """Folder of checkpoint and curves; default: runs/ and the name of the voice."""
    embeddings: SpeakerLabelsConfig = field(default_factory=lambda: SpeakerLabelsConfig(crops=12))
    """Speech of which CAM++ embeds a speaker."""
    front_end: FrontEndFitConfig = field(default_factory=FrontEndFitConfig)
    """Training of the network that predicts the input of CAM++ from a mel."""
    stage: VoiceStageConfig = field(default_factory=VoiceStageConfig)
    sampler: SamplerConfig = field(
        default_factory=lambda: SamplerConfig(
            batch_size=4, seconds=1.92, reference_seconds=0.04, speeds=(1.0,), gain_db=(0.0, 0.0)
        )
    )
    training: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=150,
            learning_rate=2e-3,
            warm_up=10,
            decay=0.5,
            weight_decay=0.0,
            ema=0.97,
            patience=3,
            validate_steps=25,
        )
    )


def main(recipe: Recipe) -> None:
    """Compute the voice, tune it, and write it. Raises VcaeError."""
    check_output(recipe.out, [".voice"])
    if not 0 <= recipe.kept <= 1:
        raise VcaeError(f"--kept is a share from 0 to 1, not {recipe.kept}")
    torch.manual_seed(0)
    teacher = load_campplus(recipe.campplus) if recipe.campplus else None  # before minutes of work
    converter = vcae.load(recipe.model)
    model = load_autoencoder(model_files(recipe.model).autoencoder)
    files, others = paths.references(recipe.recordings), paths.audio_in(recipe.others)
    voice = converter.voice(files)
    own = bank([(Path(str(path)), "person") for path in files], model)
    speech = bank([(path, str(k)) for k, path in enumerate(others)], model)
    voices = [converter.voice(others[int(name)]) for name in speech.speaker_names]
    folder = recipe.run or Path("runs") / recipe.out.stem
    judge = judged_by(teacher, recipe, own, speech, folder) if teacher else None
    begin = round(0.9 * len(own.samples))
    stages = [
        VoiceStage(
            model,
            voice,
            voices,
            VoiceSampler(Sampler(part, recipe.sampler), Sampler(speech, recipe.sampler)),
            recipe.stage,
            judge,
        )
        for part in (own.part(0, begin), own.part(begin, len(own.samples)))
    ]
    Trainer(stages[0], folder, recipe.training, stages[1]).run()
    tuned = load(folder / "voice.safetensors", VoiceAdapter, VoiceAdapterConfig)
    adapter = Adapter.sum([Adapter(*(x.detach() for x in tuned()))], [recipe.kept])
    replace(voice, adapter=adapter, tuned_for=converter.decoder).save(recipe.out)


def judged_by(teacher: CamPlusPlus, recipe: Recipe, own: Bank, others: Bank, folder: Path) -> Judge:
    """CAM++ as the judge; what it needs to hear mels is kept in the run's folder. Raises VcaeError."""
    teacher.to(own.samples.device)
    embeddings = speaker_embeddings(teacher, others, config=recipe.embeddings)[:, 0]
    person = speaker_embeddings(teacher, own, config=recipe.embeddings)[0, 0]
    folder.mkdir(parents=True, exist_ok=True)
    crops = Sampler(others, replace(recipe.sampler, seconds=1.28))
    path, config = folder / "front-end.safetensors", FrontEndConfig("campplus")
    front_end = find_or_fit(path, config, crops, recipe.front_end, track)
    return Judge(SpeakerPerception(front_end, teacher), person, embeddings)


def bank(recordings: Sequence[tuple[Path, str]], model: Autoencoder) -> Bank:
    """Recordings with the names of their speakers as a bank. Raises VcaeError for less than 20 seconds."""
    utterances = [Utterance(path, speaker, path.stem, "own") for path, speaker in recordings]
    made, skipped = prepare(utterances, model.config.mel, os.cpu_count() or 1, track)
    report(skipped)
    if 3600 * made.hours < LEAST_SECONDS:
        raise VcaeError(
            f"{recordings[0][0]}: {3600 * made.hours:.0f} seconds of speech are too few; give {LEAST_SECONDS}"
            " or more, better some minutes"
        )
    return made.to(fabric_of().device)


if __name__ == "__main__":
    with in_one_line():
        main(tyro.cli(Recipe, description=__doc__))
