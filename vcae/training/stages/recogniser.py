"""The phone recogniser."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from vcae.model.mel import LogMel
from vcae.training import augment, losses
from vcae.training.config import RecogniserStageConfig
from vcae.training.data import Batch, Sampler
from vcae.training.recogniser import Recogniser
from vcae.training.stages.base import Losses, Phase, Stage


@dataclass(frozen=True)
class RecogniserOutput:
    """seen: standardised input (B, n_mels, T). phones: logits (B, phones, T / 2)."""

    batch: Batch
    seen: Tensor
    phones: Tensor


class RecogniserStage(Stage[Batch, RecogniserOutput]):
    """Learns the phones of forced alignment from mels that are perturbed in every way, and masked."""

    name = "recogniser"

    def __init__(
        self, model: Recogniser, sampler: Sampler, config: RecogniserStageConfig | None = None
    ) -> None:
        super().__init__()
        self.config = config or RecogniserStageConfig()
        self.model = model
        self.sampler = sampler
        self.configs = {"model": model.config, "stage": self.config, "sampler": sampler.config}
        self.log_mel = LogMel(model.config.mel)
        self.loss_weights = asdict(self.config.loss_weights)

    def generate(self, batch: Batch, phase: Phase) -> RecogniserOutput:
        """Predict phones of perturbed sources."""
        mel_config, ranges, rng = self.model.config.mel, self.config.content, phase.rng
        with torch.no_grad():
            mel = self.log_mel(augment.perturb_wav(batch.source, ranges, mel_config, rng))
            mel = augment.perturb_mel(mel, ranges, mel_config, rng)
            mel = augment.mask(mel, self.config.mask, mel_config, rng)
        return RecogniserOutput(batch, mel_config.standardise(mel), self.model(mel).phones)

    def generator_losses(self, out: RecogniserOutput, phase: Phase) -> Losses:
        """Smoothed cross-entropy, and accuracy, over the frames that have a label."""
        logits, label = out.phones, out.batch.phones
        known = label >= 0
        right = (logits.argmax(1) == label) & known
        return {
            "phones": losses.known_cross_entropy(logits, label, smoothing=self.config.label_smoothing),
            "accuracy": right.sum() / known.sum().clamp(min=1),
        }

    def pictures(self, out: RecogniserOutput) -> dict[str, Tensor]:
        """The first input, and the probabilities of its phones."""
        return {"seen": out.seen[0], "phones": out.phones[0].softmax(0)}

    @property
    def product(self) -> dict[str, nn.Module]:
        """The recogniser."""
        return {"recogniser": self.model}
