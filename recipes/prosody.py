"""Train a prosody predictor, with which a model decodes units that come without prosody.

    python recipes/prosody.py --train runs/bundled/train-KEY.bank \
        --validation runs/bundled/validation-KEY.bank --model units

The banks are those that `recipes/bundled.py` writes, for the preset 16k; only their F0 labels are used. The
predictor belongs to the content encoder of `--model`, and must be trained again when that changes. It is
written beside the model: into a folder that training wrote, or into the package. Some minutes of a CPU core
are enough.
"""

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import tyro

from vcae.cli.console import in_one_line
from vcae.inference.checkpoint import fingerprint, load_autoencoder, model_files
from vcae.model.autoencoder import Autoencoder
from vcae.model.prosody import ProsodyPredictor, ProsodyPredictorConfig
from vcae.training.config import ProsodyPredictorStageConfig, SamplerConfig, TrainConfig
from vcae.training.data import Bank, Sampler
from vcae.training.devices import fabric_of
from vcae.training.run import Run, phases_of
from vcae.training.stages.prosody import ProsodyPredictorStage
from vcae.training.table import append_row
from vcae.training.trainer import Trainer


@dataclass(frozen=True)
class Recipe:
    """All settings; the defaults are for one CPU core."""

    train: Path
    """Bank of speech to train on."""
    validation: Path
    """Bank of other speakers."""
    model: str = "units"
    """units, which is bundled, or a folder that training wrote."""
    out: Path = Path("runs/prosody")
    """Folder of checkpoint and product."""
    runs: Path | None = Path(__file__).parent / "runs.tsv"
    """Table to which a finished run appends a row; None: no row."""

    predictor: ProsodyPredictorConfig = field(default_factory=ProsodyPredictorConfig)
    stage: ProsodyPredictorStageConfig = field(default_factory=ProsodyPredictorStageConfig)
    sampler: SamplerConfig = field(
        default_factory=lambda: SamplerConfig(
            batch_size=16, seconds=2.56, reference_seconds=0.04, speeds=(1.0,), gain_db=(0.0, 0.0)
        )
    )
    training: TrainConfig = field(
        default_factory=lambda: TrainConfig(minutes=5, warm_up=100, decay=0.5, precision="bf16-mixed")
    )


def main(recipe: Recipe) -> None:
    """Train, then write the predictor beside the model. Raises VcaeError."""
    torch.manual_seed(0)
    files = model_files(recipe.model)
    autoencoder = load_autoencoder(files.autoencoder)
    predictor = ProsodyPredictor(sizes(recipe, autoencoder))
    device = fabric_of().device
    samplers = [
        Sampler(Bank.load(recipe.train).to(device), recipe.sampler),
        Sampler(Bank.load(recipe.validation).to(device), replace(recipe.sampler, at_most=())),
    ]
    stages = [ProsodyPredictorStage(predictor, autoencoder, each, recipe.stage) for each in samplers]
    settings: dict[str, Any] = {"name": "prosody"}
    settings |= {name: getattr(recipe, name) for name in ("train", "validation", "model")}
    started_from = phases_of(files.autoencoder)
    trainer = Trainer(stages[0], recipe.out, recipe.training, stages[1], Run(settings, started_from))
    result = trainer.run()
    append_row(recipe.runs, "prosody", trainer, result)
    if result.finished:
        shutil.copyfile(recipe.out / "prosody.safetensors", files.prosody)


def sizes(recipe: Recipe, autoencoder: Autoencoder) -> ProsodyPredictorConfig:
    """The sizes of the predictor, with the model it belongs to."""
    config = autoencoder.config
    content = fingerprint(autoencoder.content, autoencoder.bottleneck)
    return replace(recipe.predictor, mel=config.mel, dim=config.content_dim, content=content)


if __name__ == "__main__":
    with in_one_line():
        main(tyro.cli(Recipe, description=__doc__))
