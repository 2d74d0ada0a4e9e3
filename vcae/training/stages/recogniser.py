"""The phone recogniser."""

from typing import Any

import torch
from torch import Tensor, nn

from vcae.model.mel import LogMel
from vcae.training import augment, losses
from vcae.training.data import Batch, Sampler
from vcae.training.recogniser import Recogniser
from vcae.training.stages.base import Losses, Phase, Stage


class RecogniserStage(Stage):
    """Phones, as forced alignment labels them, from mels that are perturbed in every way, and masked."""

    name = "recogniser"

    def __init__(self, model: Recogniser, sampler: Sampler) -> None:
        super().__init__()
        self.model = model
        self.sampler = sampler
        self.log_mel = LogMel(model.config.mel)
        self.adversary = nn.Module()  # there is none
        self.milestones = {}
        self.weights = {"phones": 1.0}

    def batch(self, generator: torch.Generator) -> Batch:
        """Crops of speech."""
        return self.sampler.batch(generator)

    def generate(self, batch: Batch, phase: Phase) -> dict[str, Any]:
        """Hear crops."""
        mel_config, g = self.model.config.mel, phase.generator
        with torch.no_grad():
            mel = self.log_mel(augment.perturb_wav(batch.source, augment.CONTENT, mel_config, g))
            mel = augment.mask(augment.perturb_mel(mel, augment.CONTENT, mel_config, g), mel_config, g)
        return {"batch": batch, "seen": mel_config.standardise(mel), "phones": self.model(mel).phones}

    def generator_losses(self, out: dict[str, Any], phase: Phase) -> Losses:
        """Cross-entropy, smoothed since alignments are off by a frame here and there; and what is right."""
        logits, label = out["phones"], out["batch"].phones
        known = label >= 0
        right = (logits.argmax(1) == label) & known
        return {
            "phones": losses.known_cross_entropy(logits, label, smoothing=0.1),
            "accuracy": right.sum() / known.sum().clamp(min=1),
        }

    def pictures(self, out: dict[str, Any]) -> dict[str, Tensor]:
        """What was heard, and what was made of it."""
        return {"seen": out["seen"][0], "phones": out["phones"][0].softmax(0)}

    @property
    def product(self) -> dict[str, nn.Module]:
        """The recogniser."""
        return {"recogniser": self.model}
