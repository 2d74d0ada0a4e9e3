"""The vocoder."""

from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn

from vcae.model.mel import LogMel
from vcae.model.prosody import from_labels
from vcae.model.vocoder import Vocoder
from vcae.training import losses
from vcae.training.config import VocoderStageConfig
from vcae.training.data import Batch, Sampler
from vcae.training.discriminators import WaveDiscriminator
from vcae.training.stages.base import Losses, Phase, Stage


@dataclass(frozen=True)
class VocoderOutput:
    """Waveforms (B, 1, N): the vocoder's, and the natural one, aligned."""

    wav: Tensor
    target: Tensor


class VocoderStage(Stage[Batch, VocoderOutput]):
    """Learns waveforms from natural mels and F0 labels.

    Decoded mels are not used: their F0 is predicted, and a vocoder that trains on wrong F0 learns to ignore
    it.
    """

    name = "vocoder"

    def __init__(self, model: Vocoder, sampler: Sampler, config: VocoderStageConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or VocoderStageConfig()
        self.model = model
        self.sampler = sampler
        self.configs = {"model": model.config, "stage": c, "sampler": sampler.config}
        mel = model.config.mel
        self.log_mel = LogMel(mel)
        # The level of noise is predictable in a band of a mel, and not in a single bin of an STFT.
        others = [
            LogMel(replace(mel, n_fft=max(size, 512), win_length=size, hop_length=size // 4, n_mels=bands))
            for size, bands in c.mel_sizes
        ]
        self.log_mels = nn.ModuleList([self.log_mel, *others])
        self.discriminator = WaveDiscriminator(
            c.discriminator_sizes, c.discriminator_channels, c.discriminator_periods, c.period_channels
        )
        self.milestones = asdict(c.milestones)
        self.loss_weights = asdict(c.loss_weights)

    def generate(self, batch: Batch, phase: Phase) -> VocoderOutput:
        """Make a waveform of the mel of each source."""
        with torch.no_grad():
            mel = self.log_mel(batch.source)
        wav = self.model(mel, from_labels(batch.f0, mel, self.model.config.mel))[..., self.model.delay :]
        return VocoderOutput(wav, batch.source[..., : wav.shape[-1]])

    def generator_losses(self, out: VocoderOutput, phase: Phase) -> Losses:
        """Spectral distances; later the adversarial losses."""
        wav, target = out.wav, out.target
        result = {
            "stft": losses.stft_loss(wav, target, self.config.stft_sizes),
            "mel": losses.distance(*([log_mel(x) for log_mel in self.log_mels] for x in (wav, target))),
        }
        if "adversarial" in phase.started:
            fake = self.discriminator(wav)
            with torch.no_grad():
                real = self.discriminator(target)
            result["adversarial"] = losses.hinge_generator(fake)
            result["feature_matching"] = losses.feature_matching(real[1], fake[1])
        return result

    def discriminator_losses(self, out: VocoderOutput, phase: Phase) -> Losses:
        """Natural waveforms against the vocoder's."""
        real, fake = self.discriminator(out.target), self.discriminator(out.wav.detach())
        return {"discriminator": losses.hinge_discriminator(real, fake)}

    def pictures(self, out: VocoderOutput) -> dict[str, Tensor]:
        """Mels of the first target and of the vocoder's waveform."""
        return {"target": self.log_mel(out.target)[0], "made": self.log_mel(out.wav)[0]}

    def sounds(self, out: VocoderOutput) -> dict[str, Tensor]:
        """The first target and the vocoder's waveform."""
        return {"target": out.target[0, 0], "made": out.wav[0, 0]}

    @property
    def product(self) -> dict[str, nn.Module]:
        """The vocoder."""
        return {"vocoder": self.model}
