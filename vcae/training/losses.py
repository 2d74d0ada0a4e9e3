"""Losses: functions of tensors that give a scalar, and the classifiers that some of them need."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcae.model.layers import Conv1d
from vcae.model.mel import magnitude

Scores = tuple[list[Tensor], list[Tensor]]
"""Output of a discriminator: score maps, (B, patches) each, and the features of its hidden layers."""


def stft_loss(predicted: Tensor, target: Tensor, sizes: Sequence[int] = (256, 512, 1024)) -> Tensor:
    """Multi-resolution STFT distance (Yamamoto et al., 2020): L1 of log-magnitudes, and of magnitudes
    relative to the target's mean. Both (B, 1, N). sizes: windows in samples.
    """
    total = predicted.new_zeros(())
    for size in sizes:
        window = torch.hann_window(size, device=predicted.device)
        p, t = (
            magnitude(torch.stft(x.squeeze(1).float(), size, size // 4, window=window, return_complex=True))
            for x in (predicted, target)
        )
        total = (
            total + F.l1_loss((p + 1e-3).log(), (t + 1e-3).log()) + (p - t).abs().mean() / (t.mean() + 0.1)
        )
    return total / len(sizes)


def loudness_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """L1 of loudness by a power law (Stevens, 1957), relative to the target's mean. Log-mels (B, n_mels, T).

    Two thirds of a log-mel are too soft to matter, and an L1 of logarithms weighs them like the rest.
    """
    p, t = ((0.3 * x.float()).exp() for x in (predicted, target))
    return (p - t).abs().mean() / t.mean()


def hinge_discriminator(real: Scores, fake: Scores) -> Tensor:
    """Hinge loss of a discriminator (Lim and Ye, 2017): real scores above 1, fake ones below -1."""
    each = [F.relu(1 - r).mean() + F.relu(1 + f).mean() for r, f in zip(real[0], fake[0], strict=True)]
    return torch.stack(each).mean()


def hinge_generator(fake: Scores) -> Tensor:
    """Hinge loss of a generator: fake scores high."""
    return torch.stack([-f.mean() for f in fake[0]]).mean()


def feature_matching(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """L1 between a discriminator's features of real and fake, relative to the real ones' size."""
    pairs = zip((r.detach() for r in real), fake, strict=True)
    return torch.stack([(r - f).abs().mean() / r.abs().mean().clamp(min=1e-3) for r, f in pairs]).mean()


def pitch_loss(logits: Tensor, f0: Tensor, pitches: Tensor) -> Tensor:
    """Cross-entropy of pitch against a Gaussian around log-F0, one bin wide, over voiced frames.

    logits (B, bins, T), f0 (B, T) in Hz with zero where unvoiced, pitches (bins,) log-F0, evenly spaced.
    """
    voiced = f0 > 0
    distance = (f0.clamp(min=1).log().unsqueeze(1) - pitches[:, None]) / (pitches[1] - pitches[0])
    target = (-distance.square() / 2).softmax(1)  # (B, bins, T)
    entropy = -(target * logits.float().log_softmax(1)).sum(1)  # (B, T)
    return (entropy * voiced).sum() / voiced.sum().clamp(min=1)


class MarginClassifier(nn.Module):
    """Additive angular margin softmax over speakers (ArcFace, Deng et al., 2019).

    embedding (B, E) of unit norm, speaker (B,) with -1 where unknown -> scalar loss.
    """

    def __init__(self, dim: int, speakers: int, scale: float = 30.0, margin: float = 0.2) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.05 * torch.randn(speakers, dim))  # small, so that it turns quickly
        self.scale, self.margin = scale, margin

    def forward(self, embedding: Tensor, speaker: Tensor) -> Tensor:
        """(B, E), (B,) -> scalar."""
        cosine = F.linear(embedding.float(), F.normalize(self.weight, dim=1)).clamp(-1 + 1e-6, 1 - 1e-6)
        target = F.one_hot(speaker.clamp(min=0), len(self.weight)).bool()
        # cos(angle + margin), and a straight line where that would rise again
        inner = torch.cos(torch.acos(cosine) + self.margin)
        straight = cosine - self.margin * math.sin(self.margin)
        harder = torch.where(cosine > math.cos(math.pi - self.margin), inner, straight)
        return known_cross_entropy(self.scale * torch.where(target, harder, cosine), speaker)


def known_cross_entropy(logits: Tensor, label: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy over the labels that are known (not -1), zero without any. Classes in dim 1."""
    total = F.cross_entropy(
        logits.float(), label, ignore_index=-1, reduction="sum", label_smoothing=smoothing
    )
    return total / (label >= 0).sum().clamp(min=1)


def distance(predicted: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
    """L1 between lists of features of one scale, the mean over the list."""
    return torch.stack([F.l1_loss(p, t) for p, t in zip(predicted, target, strict=True)]).mean()


def divergence(logits: Tensor, target: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the predicted classes from the target's, the mean over frames.

    As in distillation (Hinton et al., 2015). Logits, (B, classes, T) each; no gradient reaches the target.
    """
    log_p, log_q = (x.float().log_softmax(1) for x in (target.detach(), logits))
    return (log_p.exp() * (log_p - log_q)).sum(1).mean()


class SpeakerClassifier(nn.Module):
    """Matches content codes with speaker embeddings within a batch.

    code (B, D, T), embedding (B, E) of unit norm -> logits (B, B): which embedding goes with which code.
    Matching needs few steps for any number of speakers (as contrastive predictive coding, van den Oord et
    al., 2018). Mean and spread of the code over time are pooled, since both carry the speaker.
    """

    def __init__(self, dim: int, embedding_dim: int, width: int = 128, scale: float = 10.0) -> None:
        super().__init__()
        self.scale = scale
        self.frames = nn.Sequential(Conv1d(dim, width, 5), nn.GELU())
        self.predict = nn.Sequential(
            nn.LayerNorm(2 * width),
            nn.Linear(2 * width, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, embedding_dim),
        )

    def forward(self, code: Tensor, embedding: Tensor) -> Tensor:
        """(B, D, T), (B, E) -> (B, B)."""
        x = self.frames(code).float()
        pooled = torch.cat([x.mean(2), (x.var(2) + 1e-5).sqrt()], dim=1)  # (B, 2 width)
        logits: Tensor = self.scale * F.normalize(self.predict(pooled), dim=1) @ embedding.float().T
        return logits


def speaker_adversary_losses(
    classifier: SpeakerClassifier, code: Tensor, embedding: Tensor, speaker: Tensor, chance: float = 0.95
) -> tuple[Tensor, Tensor]:
    """Two losses of a contest over the speaker in a code: the classifier's, and the encoder's.

    As a reversed gradient (Ganin and Lempitsky, 2015), but the encoder's loss is zero once the classifier's
    loss reaches the share `chance` of its value at chance; without that bound the encoder loses the phones.
    code (B, D, T), embedding (B, E), speaker (B,), -1 where unknown. Examples of one speaker need not be
    distinguished.
    """
    index = torch.arange(len(speaker), device=speaker.device)
    same = (speaker[:, None] == speaker) & (speaker >= 0) & (index[:, None] != index)

    def loss(logits: Tensor) -> Tensor:
        return F.cross_entropy(logits.masked_fill(same, -torch.inf), index)

    embedding = embedding.detach()
    weights = {name: p.detach() for name, p in classifier.named_parameters()}
    of_encoder: Tensor = loss(torch.func.functional_call(classifier, weights, (code, embedding)))
    at_chance = (len(index) - same.sum(1)).float().log().mean()
    return loss(classifier(code.detach(), embedding)), F.relu(chance * at_chance - of_encoder)
