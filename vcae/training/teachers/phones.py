"""Phones of all speech, also where there is no text, by a classifier of a teacher's features.

Forced alignment needs English text, which a part of a corpus has. A classifier learns the phones of this
part from the features, and labels the rest (pseudo-labels, Lee, 2013).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcae.model.phones import PHONES
from vcae.training.config import PhoneClassifierConfig
from vcae.training.losses import known_cross_entropy
from vcae.training.teachers.labels import ContentLabels


class PhoneClassifier(nn.Module):
    """Phones of frames from their features and those of their neighbours, P principal components each."""

    def __init__(self, components: int, config: PhoneClassifierConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or PhoneClassifierConfig()
        self.layers = nn.Sequential(
            nn.Linear((2 * c.context + 1) * components, c.width),
            nn.GELU(),
            nn.Dropout(c.dropout),
            nn.Linear(c.width, c.width),
            nn.GELU(),
            nn.Dropout(c.dropout),
            nn.Linear(c.width, len(PHONES)),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Logits of whole sequences, whose ends are repeated: (B, T, P) -> (B, phones, T)."""
        context = self.config.context
        x = F.pad(features.mT, (context, context), mode="replicate").unfold(2, 2 * context + 1, 1)
        logits: Tensor = self.layers(x.permute(0, 2, 3, 1).flatten(2))
        return logits.mT

    def at(self, features: Tensor, frames: Tensor) -> Tensor:
        """Logits of some frames, (N,), of a sequence: (F, P), (N,) -> (N, phones)."""
        context, last = self.config.context, len(features) - 1
        near = [features[(frames + k).clamp(0, last)].float() for k in range(-context, context + 1)]
        logits: Tensor = self.layers(torch.cat(near, dim=1))
        return logits


def fit_phones(
    labels: ContentLabels, phones: Tensor, config: PhoneClassifierConfig | None = None
) -> PhoneClassifier:
    """Train a classifier on the frames with a phone, (F,), -1 where unknown; in eval mode.

    Raises ValueError where no frame has both a phone and a feature.
    """
    c = config or PhoneClassifierConfig()
    known = ((phones >= 0) & labels.known).nonzero().squeeze(1)
    if not len(known):
        raise ValueError("no frame has both a phone and a feature; give a bank with English text")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(c.seed)
        classifier = PhoneClassifier(labels.features.shape[1], c).train()
        optimiser = torch.optim.AdamW(classifier.parameters(), c.learning_rate, weight_decay=c.weight_decay)
        for step in range(c.steps):
            for group in optimiser.param_groups:
                group["lr"] = c.learning_rate * min(1.0, 2 * (1 - step / c.steps))
            frames = known[torch.randint(len(known), (c.batch_size,))]
            logits = classifier.at(labels.features, frames)
            loss = F.cross_entropy(logits, phones[frames].long(), label_smoothing=c.label_smoothing)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return classifier.eval()


@torch.no_grad()
def pseudo_labels(
    classifier: PhoneClassifier, labels: ContentLabels, phones: Tensor, piece: int = 50_000
) -> Tensor:
    """Fill in unknown phones where the classifier is confident: (F,), -1 where unknown -> (F,) int8."""
    found = phones.clone().to(torch.int8)
    for frames in torch.arange(len(phones)).split(piece):
        probability, phone = classifier.at(labels.features, frames).softmax(1).max(1)
        take = (phones[frames] < 0) & (probability > classifier.config.confidence) & labels.known[frames]
        found[frames] = torch.where(take, phone.to(torch.int8), found[frames])
    return found


@torch.no_grad()
def phone_accuracy(classifier: PhoneClassifier, labels: ContentLabels, phones: Tensor) -> tuple[float, float]:
    """Accuracy over the known phones, (F,), -1 where unknown, and the cross-entropy in nats."""
    known = ((phones >= 0) & labels.known).nonzero().squeeze(1)
    logits = classifier.at(labels.features, known)
    correct = (logits.argmax(1) == phones[known]).float().mean()
    return float(correct), float(known_cross_entropy(logits, phones[known].long()))
