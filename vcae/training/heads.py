"""Training-only networks on top of the encoders, which the encoders' and the autoencoder's stage share."""

from torch import Tensor, nn

from vcae.model.alignment import Alignment, in_step
from vcae.model.config import AutoencoderConfig
from vcae.model.content import ContentEncoder
from vcae.model.layers import Conv1d
from vcae.model.phones import PHONES
from vcae.training import losses
from vcae.training.config import HeadsConfig


class EncoderHeads(nn.Module):
    """Classifiers that make the content code hold phones and the speaker embedding hold the speaker.

    margin: speakers from the speaker embedding. speaker_classifier: speakers from the content code, an
    adversary of the content encoder. phones: phones from the content code.
    """

    def __init__(self, config: HeadsConfig, autoencoder: AutoencoderConfig, speakers: int) -> None:
        super().__init__()
        c, dim, embedding_dim = config, autoencoder.content_dim, autoencoder.speaker_dim
        self.config = config
        self.delay = Alignment(autoencoder.mel, autoencoder.delay, ContentEncoder.stride).code_delay
        self.margin = losses.MarginClassifier(embedding_dim, speakers, c.margin_scale, c.margin)
        self.speaker_classifier = losses.SpeakerClassifier(
            dim, embedding_dim, c.classifier_width, c.classifier_scale
        )
        self.phones = nn.Sequential(
            Conv1d(dim, c.phone_width, 1), nn.GELU(), nn.Conv1d(c.phone_width, len(PHONES), 1)
        )

    def losses(
        self, z: Tensor, embedding: Tensor, speaker: Tensor, labels: Tensor, teacher: Tensor
    ) -> dict[str, Tensor]:
        """Losses by name.

        z: content code (B, D, T / 2). embedding: (B, E), unit norm. speaker: (B,), -1 where unknown. labels:
        phones (B, T / 2), -1 where unknown. teacher: the recogniser's phones as logits (B, phones, T / 2).
        """
        margin = self.margin(embedding, speaker)
        classifier, adversary = losses.speaker_adversary_losses(
            self.speaker_classifier, z, embedding, speaker, self.config.chance
        )
        phones, labels = in_step(self.phones(z), labels, self.delay)
        teacher = teacher[..., : phones.shape[-1]]
        return {
            "margin": margin,
            "speaker_classifier": classifier,
            "speaker_adversary": adversary,
            "phones": losses.known_cross_entropy(phones, labels),
            "phone_distillation": losses.divergence(phones, teacher),
        }
