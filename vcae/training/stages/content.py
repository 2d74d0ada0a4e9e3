"""The content student: a content encoder that learns from a teacher's features."""

from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcae.model.alignment import in_step
from vcae.model.bottleneck import Code
from vcae.model.mel import LogMel
from vcae.training import augment, losses
from vcae.training.config import ContentStageConfig
from vcae.training.stages.base import Losses, Phase, Stage
from vcae.training.student import ContentPrediction, ContentStudent
from vcae.training.teachers.sampler import ContentBatch, ContentSampler


@dataclass(frozen=True)
class ContentOutput:
    """The code of a batch, and what is predicted from it.

    seen: log-mel of the perturbed source (B, n_mels, T). wanted: z of the guide's code of the clean
    source (B, D, T / 2), if there is a guide. clean: the prediction from the clean source, in
    validation only.
    """

    batch: ContentBatch
    seen: Tensor
    code: Code
    wanted: Tensor | None
    predicted: ContentPrediction
    clean: ContentPrediction | None


class ContentStage(Stage[ContentBatch, ContentOutput]):
    """Trains a content encoder to predict a teacher's features of the clean source, `delay` mel frames late.

    Targets are the cluster of the feature, as the soft units of van Niekerk et al. (2022), its principal
    components and the phone, as in StreamVC (Yang et al., 2024). The student sees a perturbed source. A
    speaker classifier is its adversary; the speakers are given by the embeddings of a speaker teacher.
    guide: a trained student of more look-ahead, whose code is another target, so that a decoder that was
    trained for that code fits this one too.
    """

    name = "content"

    def __init__(
        self,
        model: ContentStudent,
        sampler: ContentSampler,
        config: ContentStageConfig | None = None,
        guide: ContentStudent | None = None,
    ) -> None:
        super().__init__()
        self.config = c = config or ContentStageConfig()
        self.model = model
        self.sampler = sampler
        self.configs = {"model": model.config, "stage": c, "sampler": sampler.config}
        self.log_mel = LogMel(model.config.mel)
        self.speaker_classifier = losses.SpeakerClassifier(
            model.config.dim, sampler.embeddings.shape[-1], c.classifier_width, c.classifier_scale
        )
        self.guide = guide.requires_grad_(False) if guide else None
        self.frozen = self.constant = (guide,) if guide else ()
        self.loss_weights = asdict(c.loss_weights)

    def generate(self, batch: ContentBatch, phase: Phase) -> ContentOutput:
        """Encode the perturbed sources; in validation, the clean ones too."""
        c, mel_config, rng = self.config, self.model.config.mel, phase.rng
        unwarped = round(c.unwarped * len(batch.source))
        kept = replace(c.content, pitch=(1.0, 1.0), envelope=(1.0, 1.0))
        with torch.no_grad():
            wav = augment.reverberate(batch.source, c.rooms, mel_config.sample_rate, rng)
            mel = self.log_mel(augment.perturb_wav(wav, c.content, mel_config, rng))
            parts = ((mel[:unwarped], kept), (mel[unwarped:], c.content))
            seen = torch.cat(
                [augment.perturb_mel(x, ranges, mel_config, rng) for x, ranges in parts if len(x)]
            )
            source = self.log_mel(batch.source)
            clean = None if self.training else self.model.head(self.model(source).z)
            wanted = self.guide(source).z if self.guide else None
        code = self.model(seen)
        return ContentOutput(batch, seen, code, wanted, self.model.head(code.z), clean)

    def generator_losses(self, out: ContentOutput, phase: Phase) -> Losses:
        """Losses of the prediction and of the speaker; of the clean source, to be logged, as "clean_NAME"."""
        batch = out.batch
        result = {"bottleneck": out.code.loss, **self._prediction_losses(out.predicted, batch)}
        result["speaker_classifier"], result["speaker_adversary"] = losses.speaker_adversary_losses(
            self.speaker_classifier, out.code.z, batch.embedding, batch.speaker, self.config.chance
        )
        if self.guide and out.wanted is not None:
            code, wanted = in_step(out.code.z, out.wanted[..., self.guide.delay :], self.model.delay)
            result["code"] = 1 - F.cosine_similarity(code, wanted, dim=1).mean()
        if out.clean is not None:
            result |= {f"clean_{n}": x for n, x in self._prediction_losses(out.clean, batch).items()}
        return result

    def _prediction_losses(self, predicted: ContentPrediction, batch: ContentBatch) -> Losses:
        """Losses over the frames that have a label, and accuracies, which are logged only."""
        delay = self.model.delay
        units, unit = in_step(predicted.units, batch.units, delay)
        features, feature = in_step(predicted.features, batch.features, delay)
        phones, phone = in_step(predicted.phones, batch.phones, delay)
        known = unit >= 0
        error = (features.float() - feature).square().mean(1)  # (B, frames)
        return {
            "units": losses.known_cross_entropy(units, unit),
            "features": (error * known).sum() / known.sum().clamp(min=1),
            "phones": losses.known_cross_entropy(phones, phone),
            "accuracy": _accuracy(units, unit),
            "phone_accuracy": _accuracy(phones, phone),
        }

    def pictures(self, out: ContentOutput) -> dict[str, Tensor]:
        """The first input, its code, and the probabilities of its phones."""
        seen = self.model.config.mel.standardise(out.seen[0])
        return {"seen": seen, "code": out.code.z[0], "phones": out.predicted.phones[0].float().softmax(0)}

    @property
    def product(self) -> dict[str, nn.Module]:
        """The student and its head."""
        return {"content": self.model}


def _accuracy(logits: Tensor, label: Tensor) -> Tensor:
    """Share of the known labels, (B, T), that the logits, (B, classes, T), predict."""
    known = label >= 0
    return ((logits.argmax(1) == label) & known).sum() / known.sum().clamp(min=1)
