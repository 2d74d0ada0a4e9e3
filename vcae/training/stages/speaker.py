"""The speaker student: a speaker encoder that learns from a teacher's embeddings."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcae.model.mel import LogMel
from vcae.model.speaker import SpeakerCode, SpeakerEncoder
from vcae.training import augment, losses
from vcae.training.config import SpeakerStageConfig
from vcae.training.stages.base import Losses, Phase, Stage
from vcae.training.teachers.sampler import SpeakerBatch, SpeakerSampler


@dataclass(frozen=True)
class SpeakerOutput:
    """The code of a batch. seen: log-mel of the perturbed references (B, n_mels, T)."""

    batch: SpeakerBatch
    seen: Tensor
    speaker: SpeakerCode


class SpeakerStage(Stage[SpeakerBatch, SpeakerOutput]):
    """Trains a speaker encoder to give the embeddings of a teacher (distillation, Hinton et al., 2015).

    The teacher's embeddings are of clean speech; the student sees it over other microphones, in rooms, in
    noise and over telephones. The embedding must be near to the teacher's, and nearer to its own speaker's
    than to those of other speakers. A linear layer, for training only, predicts the same embedding from the
    timbre tokens, so that they hold the voice before a decoder reads them.
    """

    name = "speaker"

    def __init__(
        self, model: SpeakerEncoder, sampler: SpeakerSampler, config: SpeakerStageConfig | None = None
    ) -> None:
        super().__init__()
        self.config = config or SpeakerStageConfig()
        sizes = model.config
        self.model = model
        self.sampler = sampler
        self.configs = {"model": sizes, "stage": self.config, "sampler": sampler.config}
        self.log_mel = LogMel(sizes.mel)
        self.prototypes = sampler.prototypes  # not a buffer: it belongs to the data
        self.of_tokens = nn.Linear(sizes.tokens * sizes.token_dim, sizes.dim)
        self.loss_weights = asdict(self.config.loss_weights)

    def generate(self, batch: SpeakerBatch, phase: Phase) -> SpeakerOutput:
        """Encode the perturbed references."""
        c, mel_config, rng = self.config, self.model.config.mel, phase.rng
        with torch.no_grad():
            wav = augment.reverberate(batch.source, c.rooms, mel_config.sample_rate, rng)
            mel = self.log_mel(augment.perturb_wav(wav, c.reference, mel_config, rng))
            seen = augment.perturb_mel(mel, c.reference, mel_config, rng)
        return SpeakerOutput(batch, seen, self.model.encode(seen))

    def generator_losses(self, out: SpeakerOutput, phase: Phase) -> Losses:
        """Distances to the teacher's embedding, and the classification of the speaker."""
        batch, embedding = out.batch, out.speaker.embedding.float()
        logits = self.config.scale * embedding @ self.prototypes.T
        predicted = self.of_tokens(out.speaker.tokens.flatten(1)).float()
        return {
            "cosine": 1 - (embedding * batch.embedding).sum(1).mean(),
            "classification": losses.known_cross_entropy(logits, batch.speaker),
            "tokens": 1 - F.cosine_similarity(predicted, batch.embedding, dim=1).mean(),
        }

    def pictures(self, out: SpeakerOutput) -> dict[str, Tensor]:
        """The first input."""
        return {"seen": self.model.config.mel.standardise(out.seen[0])}

    @property
    def product(self) -> dict[str, nn.Module]:
        """The speaker encoder."""
        return {"speaker": self.model}
