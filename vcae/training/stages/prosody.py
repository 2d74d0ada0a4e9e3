"""The prosody predictor: from the content code of an autoencoder to the prosody to be expected with it."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcae.model.alignment import in_step
from vcae.model.autoencoder import Autoencoder
from vcae.model.mel import LogMel
from vcae.model.prosody import LOG_MIDDLE, ProsodyPredictor, from_labels
from vcae.training.config import ProsodyPredictorStageConfig
from vcae.training.data import Batch, Sampler
from vcae.training.stages.base import Losses, Phase, Stage


@dataclass(frozen=True)
class ProsodyPredictorOutput:
    """Logits of the predictor (B, 3, T), and the prosody of the speech (B, 3, T), one frame for each of both.

    code: (B, D, T), the predictor's input.
    """

    batch: Batch
    code: Tensor
    predicted: Tensor
    wanted: Tensor


class ProsodyPredictorStage(Stage[Batch, ProsodyPredictorOutput]):
    """Trains a prosody predictor on the code of an autoencoder that is trained already."""

    name = "prosody"

    def __init__(
        self,
        model: ProsodyPredictor,
        autoencoder: Autoencoder,
        sampler: Sampler,
        config: ProsodyPredictorStageConfig | None = None,
    ) -> None:
        super().__init__()
        self.config = config or ProsodyPredictorStageConfig()
        self.model = model
        self.autoencoder = autoencoder.requires_grad_(False)
        self.sampler = sampler
        self.configs = {"model": model.config, "stage": self.config, "sampler": sampler.config}
        self.log_mel = LogMel(model.config.mel)
        self.frozen = self.constant = (autoencoder,)
        self.loss_weights = asdict(self.config.loss_weights)

    def generate(self, batch: Batch, phase: Phase) -> ProsodyPredictorOutput:
        """Encode clean speech, and predict its prosody from the code."""
        config, stride = self.model.config.mel, self.autoencoder.content.stride
        with torch.no_grad():
            mel = self.log_mel(batch.source)
            code = self.autoencoder.bottleneck(self.autoencoder.content(mel)).z
            log_f0, voicing, energy = from_labels(batch.f0, mel, config).split(1, dim=1)  # (B, 1, 2 T) each
            sums = [F.avg_pool1d(x, stride) for x in (log_f0 * voicing, voicing, energy)]  # (B, 1, T) each
            wanted = torch.cat([sums[0] / sums[1].clamp(min=1e-3), *sums[1:]], dim=1)
            code, wanted = in_step(code, wanted, self.autoencoder.alignment.code_delay)
        return ProsodyPredictorOutput(batch, code, self.model.logits(code), wanted)

    def generator_losses(self, out: ProsodyPredictorOutput, phase: Phase) -> Losses:
        """L1 of log-F0 over its mean, of voiced frames, and of log-energy; cross-entropy of voicing."""
        log_f0, voicing, energy = out.predicted.float().unbind(1)  # (B, T) each
        wanted_f0, wanted_voicing, wanted_energy = out.wanted.unbind(1)
        total = wanted_voicing.sum(1, keepdim=True).clamp(min=1e-3)

        def mean(x: Tensor) -> Tensor:  # over voiced frames, (B, T) -> (B, 1)
            return (x * wanted_voicing).sum(1, keepdim=True) / total

        # The mean of F0 is the speaker's own, which the code does not tell.
        error = (0.4 * (log_f0 - mean(log_f0)) - (wanted_f0 - mean(wanted_f0))).abs()
        return {
            "f0": (error * wanted_voicing).sum() / total.sum(),
            "f0_mean": mean(log_f0).abs().mean(),
            "voicing": F.binary_cross_entropy_with_logits(voicing, wanted_voicing),
            "energy": F.l1_loss(2 * energy, wanted_energy),
        }

    def pictures(self, out: ProsodyPredictorOutput) -> dict[str, Tensor]:
        """Code, prediction and prosody of the first example."""
        scale = out.wanted.new_tensor([[LOG_MIDDLE], [0.0], [0.0]])
        return {"code": out.code[0], "predicted": out.predicted[0], "prosody": out.wanted[0] - scale}

    @property
    def product(self) -> dict[str, nn.Module]:
        """The predictor."""
        return {"prosody": self.model}
