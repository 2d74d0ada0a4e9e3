"""The bandwidth extender: from speech of 16 kHz to the energies of the bands that it lacks."""

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.functional import resample

from vcae.model.alignment import in_step
from vcae.model.bandwidth import BandwidthExtender
from vcae.model.mel import LogMel
from vcae.model.spectrum import stft
from vcae.training.config import BandwidthStageConfig
from vcae.training.data import Batch, Sampler
from vcae.training.stages.base import Losses, Phase, Stage


@dataclass(frozen=True)
class BandwidthOutput:
    """Log-energies (B, bands, T) of the bands, predicted and wanted, and where they were recorded.

    recorded: (B, bands, 1), whether the recording holds the band.
    """

    predicted: Tensor
    wanted: Tensor
    recorded: Tensor


class BandwidthStage(Stage[Batch, BandwidthOutput]):
    """Trains a bandwidth extender on speech at its output rate, which it hears at its input rate.

    Recordings may hold less than the whole band: a band that is empty in a crop has no loss.
    """

    name = "bandwidth"

    def __init__(
        self, model: BandwidthExtender, sampler: Sampler, config: BandwidthStageConfig | None = None
    ) -> None:
        super().__init__()
        self.config = config or BandwidthStageConfig()
        self.model = model
        self.sampler = sampler
        self.configs = {"model": model.config, "stage": self.config, "sampler": sampler.config}
        self.log_mel = LogMel(model.config.mel)
        self.loss_weights = asdict(self.config.loss_weights)

    def generate(self, batch: Batch, phase: Phase) -> BandwidthOutput:
        """Resample the speech, and predict what is lost."""
        model = self.model
        with torch.no_grad():
            narrow = resample(
                batch.source, model.output_rate, model.sample_rate, lowpass_filter_width=32, rolloff=0.98
            )
            seen = stft(narrow, model.window)
            wanted = model.wide_energies(batch.source)
        predicted, wanted = in_step(model.predict(seen), wanted, model.config.delay)
        # The first windows hold the beginning of the crop, a click that fills all bands.
        predicted, wanted = predicted[..., 3:], wanted[..., 3:]
        loudest = wanted.quantile(0.95, 2, keepdim=True)  # (B, bands, 1); of a click four windows are louder
        least = loudest[:, :1] - self.config.empty_db * math.log(10) / 10
        full = loudest > least.clamp(min=math.log(self.config.floor))  # 16 bits have a noise of their own
        # A band next to an empty one may be half empty.
        recorded = full & torch.cat([full[:, 1:], full[:, -1:]], dim=1)
        return BandwidthOutput(predicted, wanted, recorded)

    def generator_losses(self, out: BandwidthOutput, phase: Phase) -> Losses:
        """L1 of the log-energies, and of the log of energies that are averaged over time."""
        floor, frames = self.config.floor, self.config.smoothing

        def smooth(x: Tensor) -> Tensor:
            return (F.avg_pool1d(x.exp(), frames, frames // 2) + floor).log()

        def distance(a: Tensor, b: Tensor) -> Tensor:
            mask = out.recorded.expand_as(a)
            return ((a - b).abs() * mask).sum() / mask.sum().clamp(min=1)

        predicted, wanted = ((x.exp() + floor).log() for x in (out.predicted, out.wanted))
        return {
            "energy": distance(predicted, wanted),
            "smooth": distance(smooth(out.predicted), smooth(out.wanted)),
        }

    def pictures(self, out: BandwidthOutput) -> dict[str, Tensor]:
        """Prediction and truth of the first example."""
        return {"predicted": out.predicted[0], "wanted": out.wanted[0]}

    @property
    def product(self) -> dict[str, nn.Module]:
        """The extender."""
        return {"bandwidth": self.model}
