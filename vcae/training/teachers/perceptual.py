"""Teachers of decoded mels, for perceptual losses (Johnson et al., 2016).

They were trained on other data than the decoder, and read a mel by a `FrontEnd`. A gradient passes to the
mel.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcae.training.recogniser import Recognised
from vcae.training.teachers.campplus import CamPlusPlus
from vcae.training.teachers.front_ends import FrontEnd
from vcae.training.teachers.labels import Codebook
from vcae.training.teachers.phones import PhoneClassifier
from vcae.training.teachers.whisper import WhisperEncoder


class WhisperRecogniser(nn.Module):
    """mel (B, n_mels, T), T even -> `Recognised`, in step with labels, as of a `Recogniser`. Frozen.

    The phones are those of the classifier, the features the principal components of the codebook.
    """

    mean: Tensor
    basis: Tensor

    def __init__(
        self, front_end: FrontEnd, teacher: WhisperEncoder, codebook: Codebook, classifier: PhoneClassifier
    ) -> None:
        super().__init__()
        self.front_end, self.teacher, self.classifier = front_end, teacher, classifier
        self.layer = codebook.layer
        self.register_buffer("mean", codebook.mean)
        self.register_buffer("basis", codebook.basis)
        self.requires_grad_(False).eval()

    def forward(self, mel: Tensor) -> Recognised:
        """(B, n_mels, T) -> phones (B, phones, T / 2), features [(B, components, T / 2)]."""
        padded = F.pad(mel, (0, self.front_end.delay), mode="replicate")
        features = self.teacher.of_mel(self.front_end(padded), self.layer).float()
        components = (features - self.mean) @ self.basis
        return Recognised(self.classifier(components), [components.mT])


class SpeakerPerception(nn.Module):
    """mel (B, n_mels, T), of 0.5 s or more -> embedding of CAM++ (B, 192), unit norm. Frozen.

    centre: (192,), subtracted from the embedding, such as the mean over speakers; None: nothing.
    """

    centre: Tensor

    def __init__(self, front_end: FrontEnd, teacher: CamPlusPlus, centre: Tensor | None = None) -> None:
        super().__init__()
        self.front_end, self.teacher = front_end, teacher
        self.register_buffer("centre", torch.zeros(teacher.dim) if centre is None else centre)
        self.requires_grad_(False).eval()

    def forward(self, mel: Tensor) -> Tensor:
        """(B, n_mels, T) -> (B, 192)."""
        return F.normalize(self.teacher.of_features(self.front_end(mel)).float() - self.centre, dim=1)
