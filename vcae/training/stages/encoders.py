"""The encoders, without the decoder."""

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcae.model.alignment import in_step, label_delay
from vcae.model.autoencoder import Autoencoder
from vcae.model.bottleneck import Code
from vcae.model.layers import Conv1d, Pointwise
from vcae.model.mel import LogMel
from vcae.model.prosody import LOG_MIDDLE, ProsodyEncoder
from vcae.model.speaker import SpeakerCode
from vcae.training import augment, corrupt, losses
from vcae.training.config import EncodersStageConfig
from vcae.training.data import Batch, Sampler
from vcae.training.heads import EncoderHeads
from vcae.training.recogniser import Recognised, Recogniser
from vcae.training.stages.base import Losses, Phase, Stage
from vcae.training.stages.views import envelope, views_of
from vcae.training.teachers.perceptual import WhisperRecogniser


@dataclass(frozen=True)
class EncodersOutput:
    """Codes of a batch, and their targets.

    target: standardised mel of the source (B, n_mels, T). recognised: the recogniser's phones of it. pitch,
    voicing: log-odds (B, bins, T) and (B, 1, T), `delay` frames late.
    """

    batch: Batch
    target: Tensor
    recognised: Recognised
    code: Code
    speaker: SpeakerCode
    pitch: Tensor
    voicing: Tensor


class EncodersStage(Stage[Batch, EncodersOutput]):
    """Trains content, speaker and prosody encoder of an autoencoder, and leaves its decoder as it is.

    The content encoder sees a perturbed source, the speaker encoder other speech of the same speaker over
    another microphone. In place of the decoder, a network of one hidden layer predicts the spectral envelope
    of the clean source from both codes, so that a step takes a fraction of the time. A trained recogniser
    teaches phones where there is no text.
    """

    name = "encoders"

    def __init__(
        self,
        model: Autoencoder,
        heads: EncoderHeads,
        sampler: Sampler,
        recogniser: Recogniser | WhisperRecogniser,
        config: EncodersStageConfig | None = None,
    ) -> None:
        super().__init__()
        self.config = c = config or EncodersStageConfig()
        self.model = model
        self.model.requires_grad_(True)
        self.model.decoder.requires_grad_(False)
        self.heads = heads
        self.sampler = sampler
        self.configs = {"model": model.config, "heads": heads.config, "stage": c, "sampler": sampler.config}
        self.log_mel = LogMel(model.config.mel)
        self.sketch = Sketch(model.config.content_dim, model.config.speaker_dim, c.sketch_width)
        self.recogniser = recogniser.requires_grad_(False)
        self.frozen = (self.recogniser,)
        self.loss_weights = asdict(c.loss_weights)

    def generate(self, batch: Batch, phase: Phase) -> EncodersOutput:
        """Encode."""
        c, model, config, rng = self.config, self.model, self.model.config.mel, phase.rng
        views = views_of(batch, self.log_mel, self.recogniser, c, rng)
        code = model.bottleneck(model.content(views.perturbed))
        speaker = model.speaker.encode(views.reference)
        with torch.no_grad():
            mel = augment.perturb_mel(self.log_mel(self._heard(batch.source, rng)), c.prosody, config, rng)
        pitch, voicing = model.prosody.logits(mel)
        target = config.standardise(views.target)
        return EncodersOutput(batch, target, views.recognised, code, speaker, pitch, voicing)

    def _heard(self, wav: Tensor, rng: torch.Generator) -> Tensor:
        """What the prosody encoder hears: noisy, some of it by telephone; (B, 1, N) -> (B, 1, N)."""
        c, config = self.config, self.model.config.mel
        noisy = augment.perturb_wav(wav, c.prosody, config, rng)
        first = math.ceil(c.telephoned * len(wav))
        telephoned = corrupt.telephone(noisy[:first], c.telephone, config.sample_rate, rng)
        return torch.cat([telephoned, noisy[first:]])

    def generator_losses(self, out: EncodersOutput, phase: Phase) -> Losses:
        """Speakers, phones, prosody, and the envelope from both codes."""
        batch, z, embedding = out.batch, out.code.z, out.speaker.embedding
        result = {
            "bottleneck": out.code.loss,
            **self.heads.losses(z, embedding, batch.speaker, batch.phones, out.recognised.phones),
        }
        config = self.model.config
        late = self.model.prosody.look_ahead + label_delay(config.mel)
        pitch, f0 = in_step(out.pitch, batch.f0, late)
        voicing, voiced = in_step(out.voicing[:, 0], (batch.f0 > 0).float(), late)
        result["pitch"], result["voicing"] = prosody_losses(self.model.prosody, pitch, voicing, f0, voiced)
        sketch, target = in_step(self.sketch(z, embedding), envelope(out.target), config.delay)
        return result | {"sketch": F.l1_loss(sketch, target)}

    @property
    def product(self) -> dict[str, nn.Module]:
        """The autoencoder with trained encoders."""
        return {"encoders": self.model}

    @property
    def averaged(self) -> dict[str, nn.Module]:
        """The autoencoder and the heads."""
        return {"encoders": self.model, "heads": self.heads}


class Sketch(nn.Module):
    """Predicts what `envelope` gives from a code z (B, D, T / 2) and a speaker's embedding (B, E)."""

    def __init__(self, dim: int, embedding_dim: int, width: int = 192) -> None:
        super().__init__()
        self.code = Conv1d(dim, width, 3)
        self.speaker = nn.Linear(embedding_dim, width)
        self.output = Pointwise(width, 2 * augment.QUEFRENCIES)

    def forward(self, z: Tensor, speaker: Tensor) -> Tensor:
        """(B, D, T / 2), (B, E) -> (B, QUEFRENCIES, T)."""
        out: Tensor = self.output(F.gelu(self.code(z) + self.speaker(speaker).unsqueeze(2)))
        return out.unflatten(1, (2, -1)).movedim(1, 3).flatten(2)  # (B, QUEFRENCIES, T / 2, 2) before


def prosody_losses(
    encoder: ProsodyEncoder, pitch: Tensor, voicing: Tensor, f0: Tensor, voiced: Tensor
) -> tuple[Tensor, Tensor]:
    """Losses of F0 and voicing: logits (B, bins, T), (B, T) against F0 in Hz and voicing, (B, T) each."""
    voicing_loss = F.binary_cross_entropy_with_logits(voicing.float(), voiced)
    return losses.pitch_loss(pitch, f0, encoder.pitches + LOG_MIDDLE), voicing_loss
