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
from dataclasses import dataclass, replace
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
from vcae.inference.checkpoint import load_autoencoder, model_files
from vcae.model.config import MelConfig
from vcae.training.config import VoiceTuningConfig
from vcae.training.data import Bank
from vcae.training.devices import fabric_of
from vcae.training.labels import prepare
from vcae.training.teachers import load_campplus
from vcae.training.tuning import tune

LEAST_SECONDS = 20
"""Shortest speech that a voice is tuned to, and shortest speech of others."""


@dataclass(frozen=True, kw_only=True)
class Recipe(VoiceTuningConfig):
    """All settings; the defaults are for one CPU core."""

    recordings: tyro.conf.Positional[tuple[Path, ...]]
    """Recordings of the person, or folders of them."""
    out: Path
    """The voice to write, NAME.voice."""
    model: str = "studio"
    """studio or live, which are bundled, or a folder that training wrote."""
    others: Path = SAMPLE_VOICES
    """A folder of recordings of other people, each of one speaker, who are converted during the tuning."""
    campplus: Path | None = None
    """Weights of CAM++, which then judges the conversions; default: the model's own speaker encoder does."""
    run: Path | None = None
    """Folder of checkpoint and curves; default: runs/ and the name of the voice."""


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
    own = bank([(Path(str(path)), "person") for path in files], model.config.mel)
    speech = bank([(path, str(k)) for k, path in enumerate(others)], model.config.mel)
    voices = [converter.voice(others[int(name)]) for name in speech.speaker_names]
    folder = recipe.run or Path("runs") / recipe.out.stem
    adapter = tune(model, voice, own, voices, speech, folder, recipe, teacher, track)
    replace(voice, adapter=adapter, tuned_for=converter.decoder).save(recipe.out)


def bank(recordings: Sequence[tuple[Path, str]], mel: MelConfig) -> Bank:
    """Recordings with the names of their speakers as a bank. Raises VcaeError for less than 20 seconds."""
    utterances = [Utterance(path, speaker, path.stem, "own") for path, speaker in recordings]
    made, skipped = prepare(utterances, mel, os.cpu_count() or 1, track)
    report(skipped)
    if 3600 * made.hours < LEAST_SECONDS:
        told = f"{3600 * made.hours:.0f} seconds of speech are too few; give {LEAST_SECONDS} or more"
        raise VcaeError(f"{recordings[0][0]}: {told}, better some minutes")
    return made.to(fabric_of().device)


if __name__ == "__main__":
    with in_one_line():
        main(tyro.cli(Recipe, description=__doc__))
