"""Batches of speech with labels by teachers."""

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcae.training.augment import scale_formants
from vcae.training.config import SamplerConfig, SpeakerSamplerConfig
from vcae.training.data import Bank, BatchSource, Sampler
from vcae.training.teachers.labels import UNKNOWN, ContentLabels


class ContentBatch(NamedTuple):
    """Crops of speech with content labels.

    source: (B, 1, N). units, phones: (B, N / 2 hop) indices, -1 where unknown. features: principal components
    (B, P, N / 2 hop), zero where unknown. speaker: (B,) index; each speed of a speaker is another speaker.
    embedding: (B, E), of the speaker, unit norm.
    """

    source: Tensor
    units: Tensor
    features: Tensor
    phones: Tensor
    speaker: Tensor
    embedding: Tensor


class ContentSampler(BatchSource[ContentBatch]):
    """Draws crops of labelled speech.

    embeddings: (S, V, E), unit norm, of each speaker at each speed of `config`; V = 1: at any speed. phones:
    (F,) indices, -1 where unknown; by default the bank's. A speaker is drawn in proportion to the labelled
    share of the recordings too.
    """

    def __init__(
        self,
        bank: Bank,
        config: SamplerConfig,
        labels: ContentLabels,
        embeddings: Tensor,
        phones: Tensor | None = None,
    ) -> None:
        device = bank.samples.device
        self.bank, self.config = bank, config
        # Labels follow the speed of a crop; the frames of the crop take the place of its phones.
        frames = torch.arange(len(labels.units), dtype=torch.int32)
        indexed = replace(bank, phones=frames, labelled=torch.ones_like(bank.labelled)).to(device)
        borders = bank.speaker_starts.cpu() // (2 * bank.hop_length)
        total = torch.cat([torch.zeros(1, dtype=torch.long), labels.known.long().cumsum(0)])
        share = (total[borders[1:]] - total[borders[:-1]]) / (borders[1:] - borders[:-1]).clamp(min=1)
        probabilities = bank.speaker_probabilities(config.power, dict(config.at_most)) * share.to(device)
        self.sampler = Sampler(indexed, config, probabilities)
        self.parts = (self.sampler,)
        self.units = labels.units.int().to(device)
        self.features = labels.features.to(device)
        self.phones = (bank.phones if phones is None else phones).to(device)
        self.embeddings = embeddings.to(device)

    def batch(self, rng: torch.Generator) -> ContentBatch:
        """Draw one batch, on the generator's device, where the bank must be."""
        drawn = self.sampler.batch(rng)
        frames, speeds = drawn.phones, len(self.config.speeds)
        units = self.units[frames].long()
        return ContentBatch(
            source=drawn.source,
            units=units.where(units != UNKNOWN, -1),
            features=self.features[frames].float().mT,
            phones=self.phones[frames].long(),
            speaker=drawn.speaker,
            embedding=self.embeddings[drawn.speaker // speeds, drawn.speaker % self.embeddings.shape[1]],
        )


class SpeakerBatch(NamedTuple):
    """References of speakers with the embeddings of a teacher.

    source: (B, 1, N). embedding: (B, E) of the speaker, centred, unit norm. speaker: (B,) row of
    `SpeakerSampler.prototypes`, -1 where there is none.
    """

    source: Tensor
    embedding: Tensor
    speaker: Tensor


class SpeakerSampler(BatchSource[SpeakerBatch]):
    """Draws references of speakers, and of altered ones with a speed and formants of their own.

    embeddings: (S, V, E), unit norm, of each speaker at each speed of `config`. teacher: waveform (B, N) ->
    embedding (B, E), on the bank's device, for the altered references; None: none is altered. centre: (E,),
    subtracted from all embeddings; None: their mean at speed 1. The length varies from batch to batch, so
    that a training step cannot be recorded (`TrainConfig.record`). Raises ValueError where embeddings and
    speeds do not match.
    """

    def __init__(
        self,
        bank: Bank,
        config: SpeakerSamplerConfig,
        embeddings: Tensor,
        teacher: nn.Module | None = None,
        centre: Tensor | None = None,
    ) -> None:
        if embeddings.shape[1] != len(config.speeds):
            raise ValueError(f"embeddings of {embeddings.shape[1]} speeds are not of {len(config.speeds)}")
        device = bank.samples.device
        self.bank, self.config, self.teacher = bank, config, teacher
        self.speaker_probabilities = bank.speaker_probabilities(config.power, dict(config.at_most))
        self.rates = torch.tensor(config.speeds, device=device)
        self.centre = (embeddings[:, 0].mean(0) if centre is None else centre).to(device)
        each = F.normalize(embeddings.to(device) - self.centre, dim=-1)  # (S, V, E)
        self.prototypes = each.flatten(0, 1)
        """(S V, E), unit norm: the centred embedding of each speaker at each speed."""

    def batch(self, rng: torch.Generator) -> SpeakerBatch:
        """Draw one batch, on the generator's device, where the bank must be."""
        bank, c = self.bank, self.config
        on: dict[str, Any] = {"generator": rng, "device": rng.device}
        seconds = float(_between(torch.rand((), **on), c.seconds))
        size, variants = max(2, round(c.batch_seconds / seconds)), len(c.speeds)
        altered = round(c.altered * size) if self.teacher is not None else 0
        is_altered = torch.arange(size, device=rng.device) < altered
        speaker = torch.multinomial(self.speaker_probabilities, size, replacement=True, generator=rng)
        draws = torch.rand(4, size, dtype=torch.float64, **on)
        which = torch.randint(2 * variants, (size,), **on)
        which = which.where(which < variants, 0)  # half the batch keeps speed 1
        rate = torch.where(is_altered, _between(draws[1], c.altered_speed).float(), self.rates[which])
        run = bank.speaker_starts[speaker + 1] - bank.speaker_starts[speaker]
        source = bank.cut(speaker, (draws[0] * run).floor(), rate, round(seconds * bank.sample_rate))
        row = speaker * variants + which
        embedding = self.prototypes[row]
        if self.teacher is not None and altered:
            factor = _between(draws[2, :altered], c.altered_formants).float()
            other = scale_formants(source[:altered], factor, bank.sample_rate)
            with torch.no_grad(), torch.autocast(rng.device.type, torch.bfloat16):
                found = self.teacher(other[:, 0]).float()
            embedding = torch.cat([F.normalize(found - self.centre, dim=1), embedding[altered:]])
            source = torch.cat([other, source[altered:]])
        low, high = c.gain_db
        gain = 10 ** ((low + draws[3] * (high - low)) / 20).float()[:, None, None]
        label = row.where(bank.labelled[speaker] & ~is_altered, -1)
        return SpeakerBatch((source * gain).clamp(-1, 1), embedding, label)


def _between(draw: Tensor, limits: tuple[float, float]) -> Tensor:
    """Draws from 0 to 1 -> values between two positive limits, uniform in their logarithm."""
    low, high = limits
    return low * (high / low) ** draw
