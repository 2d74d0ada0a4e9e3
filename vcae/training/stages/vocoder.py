"""The vocoder."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from vcae.model.mel import LogMel
from vcae.model.prosody import from_labels
from vcae.model.vocoder import Vocoder
from vcae.training import losses
from vcae.training.data import Batch, Sampler
from vcae.training.discriminators import SpectrumDiscriminator
from vcae.training.stages.base import Losses, Phase, Stage


class VocoderStage(Stage):
    """Mel and F0 labels to sound.

    Natural mels only: from decoded ones, whose pitch is guessed, it learns not to follow either.
    """

    name = "vocoder"

    def __init__(self, model: Vocoder, sampler: Sampler, adversary_channels: int = 32) -> None:
        super().__init__()
        self.model = model
        self.sampler = sampler
        self.log_mel = LogMel(model.config.mel)
        # Over a band noise is as loud as it is meant to be; in a single bin it never is.
        others = [
            LogMel(
                replace(model.config.mel, n_fft=max(n, 512), win_length=n, hop_length=n // 4, n_mels=bands)
            )
            for n, bands in ((128, 20), (256, 40), (1024, 100), (2048, 160))
        ]
        self.log_mels = nn.ModuleList([self.log_mel, *others])
        self.adversary = SpectrumDiscriminator(channels=adversary_channels)
        # One that has not learned to see anything yet is soon fooled for good.
        self.milestones = {"adversary": 0.3, "contest": 0.35}
        self.weights = {"stft": 1.0, "mel": 20.0, "adversary": 1.0, "matching": 2.0, "discriminator": 1.0}

    def batch(self, generator: torch.Generator) -> Batch:
        """Crops of speech."""
        return self.sampler.batch(generator)

    def generate(self, batch: Batch, phase: Phase) -> dict[str, Any]:
        """Make sound of a mel."""
        with torch.no_grad():
            mel = self.log_mel(batch.source)
        wav = self.model(mel, from_labels(batch.f0, mel, self.model.config.mel))[..., self.model.delay :]
        return {"wav": wav, "target": batch.source[..., : wav.shape[-1]]}

    def generator_losses(self, out: dict[str, Any], phase: Phase) -> Losses:
        """Spectral distances; later the adversary."""
        wav, target = out["wav"], out["target"]
        result = {
            "stft": losses.stft_loss(wav, target),
            "mel": losses.distance(*([log_mel(x) for log_mel in self.log_mels] for x in (wav, target))),
        }
        if "contest" in phase.started:
            fake = self.adversary(wav)
            with torch.no_grad():
                real = self.adversary(target)
            result["adversary"] = losses.hinge_generator(fake)
            result["matching"] = losses.feature_matching(real[1], fake[1])
        return result

    def discriminator_losses(self, out: dict[str, Any], phase: Phase) -> Losses:
        """Natural sound against made."""
        real, fake = self.adversary(out["target"]), self.adversary(out["wav"].detach())
        return {"discriminator": losses.hinge_discriminator(real, fake)}

    def pictures(self, out: dict[str, Any]) -> dict[str, Tensor]:
        """Mels of the first target and of the sound made."""
        return {"target": self.log_mel(out["target"])[0], "made": self.log_mel(out["wav"])[0]}

    def sounds(self, out: dict[str, Any]) -> dict[str, Tensor]:
        """The first target and the sound made."""
        return {"target": out["target"][0, 0], "made": out["wav"][0, 0]}

    @property
    def product(self) -> dict[str, nn.Module]:
        """The vocoder."""
        return {"vocoder": self.model}
