"""The autoencoder: encoders and decoder together."""

import copy

from torch import nn

from vcae.model.autoencoder import Autoencoder
from vcae.training.config import AutoencoderStageConfig
from vcae.training.data import Sampler
from vcae.training.ema import follow
from vcae.training.heads import EncoderHeads
from vcae.training.recogniser import Recogniser
from vcae.training.stages.base import Losses, Phase
from vcae.training.stages.decoder import DecoderOutput, DecoderStage
from vcae.training.teachers.perceptual import WhisperRecogniser


class AutoencoderStage(DecoderStage):
    """Trains all of an autoencoder but its prosody encoder, whose encoders are trained already.

    In addition to `DecoderStage`, heads teach the codes. Averages of the trained speaker encoder are the
    judges of converted mels.
    """

    name = "autoencoder"
    config: AutoencoderStageConfig

    def __init__(
        self,
        model: Autoencoder,
        heads: EncoderHeads,
        sampler: Sampler,
        recogniser: Recogniser | WhisperRecogniser,
        config: AutoencoderStageConfig | None = None,
    ) -> None:
        # The second average stops at "conversion": an encoder that trains beside the decoder comes to accept
        # what the decoder makes.
        averages = [copy.deepcopy(model.speaker) for _ in range(2)]
        super().__init__(model, sampler, recogniser, averages, config or AutoencoderStageConfig())
        self.model.requires_grad_(True)
        self.model.prosody.requires_grad_(False)
        self.frozen = (self.recogniser, self.judges)
        self.constant = (self.recogniser,)
        self.heads = heads
        self.configs["heads"] = heads.config

    def before_step(self, phase: Phase) -> None:
        """Move the averaged speaker encoders towards the trained one."""
        for slow in self.judges[:1] if "conversion" in phase.started else self.judges:
            current = self.model.speaker.state_dict().values()
            follow(slow.state_dict().values(), current, self.config.speaker_ema_rate)

    def generator_losses(self, out: DecoderOutput, phase: Phase) -> Losses:
        """Losses of the codes, and of the decoded mel."""
        batch = out.batch
        of_codes = self.heads.losses(
            out.code.z, out.speaker.embedding, batch.speaker, batch.phones, out.recognised.phones
        )
        return {"bottleneck": out.code.loss, **of_codes, **super().generator_losses(out, phase)}

    @property
    def product(self) -> dict[str, nn.Module]:
        """The autoencoder."""
        return {"autoencoder": self.model}

    @property
    def averaged(self) -> dict[str, nn.Module]:
        """The autoencoder and the heads."""
        return {"autoencoder": self.model, "heads": self.heads}
