"""Fine-tuning of one voice: low-rank changes of the decoder, with all networks fixed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcae.inference.voice import Voice
from vcae.model.alignment import in_step
from vcae.model.autoencoder import Autoencoder
from vcae.model.config import MelConfig
from vcae.model.decoder import Adapter
from vcae.model.mel import LogMel
from vcae.model.prosody import shift
from vcae.model.speaker import SpeakerCode
from vcae.training import augment, losses
from vcae.training.config import VoiceStageConfig
from vcae.training.data import Bank, BatchSource, Sampler
from vcae.training.stages.base import Losses, Phase, Stage
from vcae.training.stages.views import envelope


@dataclass(frozen=True)
class VoiceAdapterConfig:
    """Sizes of a `VoiceAdapter`."""

    mel: MelConfig
    blocks: int
    """Number of the decoder's blocks."""
    width: int
    """Channels of a block."""
    hidden: int
    """Hidden channels of a block."""
    rank: int
    """Rank of the changes."""


class VoiceAdapter(nn.Module):
    """The changes of a decoder for one voice, `Adapter`, none at first."""

    def __init__(self, config: VoiceAdapterConfig) -> None:
        super().__init__()
        c = self.config = config
        self.down = nn.Parameter(torch.randn(c.blocks, c.rank, c.width) / c.width**0.5)
        self.up = nn.Parameter(torch.zeros(c.blocks, c.hidden, c.rank))
        self.hidden_down = nn.Parameter(torch.randn(c.blocks, c.rank, c.hidden) / c.hidden**0.5)
        self.hidden_up = nn.Parameter(torch.zeros(c.blocks, c.width, c.rank))

    def forward(self) -> Adapter:
        """The changes."""
        return Adapter(self.down, self.up, self.hidden_down, self.hidden_up)


class VoiceBatch(NamedTuple):
    """Speech of the person and of others, (B, 1, N) each, and (B,) indices of the others."""

    source: Tensor
    other: Tensor
    speaker: Tensor


class VoiceSampler(BatchSource[VoiceBatch]):
    """Draws speech of the person from one sampler, and of others from another, of equal sizes."""

    def __init__(self, own: Sampler, others: Sampler) -> None:
        self.own, self.others = self.parts = own, others
        self.config = own.config

    @property
    def bank(self) -> Bank:  # type: ignore[override]  # it changes with the step
        """Speech of the person."""
        return self.own.bank

    def batch(self, rng: torch.Generator) -> VoiceBatch:
        """Draw a batch on the generator's device, where the banks must be."""
        other = self.others.batch(rng)
        return VoiceBatch(self.own.batch(rng).source, other.source, other.speaker)


class Judge(NamedTuple):
    """Who says how near converted speech is to the person and to its source.

    network: log-mel (B, n_mels, T) -> embeddings (B, E), unit norm. person: (E,). others: (S, E), by the
    index of a speaker in `VoiceSampler.others`.
    """

    network: nn.Module
    person: Tensor
    others: Tensor


@dataclass(frozen=True)
class VoiceOutput:
    """own, target: standardised mels (B, n_mels, T') of own speech, decoded and natural. converted: log-mels
    (B, n_mels, T') of the others in the voice of the person. speaker: (B,), indices of the others.
    """

    own: Tensor
    target: Tensor
    converted: Tensor
    speaker: Tensor


class VoiceStage(Stage[VoiceBatch, VoiceOutput]):
    """Tunes the decoder to one person by low-rank changes of its blocks (LoRA, Hu et al., 2022).

    Half of the examples are speech of the person, perturbed for the content encoder, and must come out as it
    was. The other half are other speakers, converted as `Converter.convert` does, whom a judge must take for
    the person.
    """

    name = "voice"

    def __init__(
        self,
        model: Autoencoder,
        voice: Voice,
        others: Sequence[Voice],
        sampler: VoiceSampler,
        config: VoiceStageConfig | None = None,
        judge: Judge | None = None,
    ) -> None:
        """voice: of the person, from recordings. others: by the index of a speaker in `sampler.others`.

        judge: default: the model's own speaker encoder, which can be misled more easily than a stranger.
        """
        super().__init__()
        self.config = c = config or VoiceStageConfig()
        self.model = model.requires_grad_(False)
        self.voice, self.others = voice, list(others)
        self.sampler = sampler
        self.configs = {"model": model.config, "stage": c, "sampler": sampler.config}
        self.log_mel = LogMel(model.config.mel)
        self.frozen = self.constant = (model,)
        if judge is None:
            embeddings = torch.stack([other.embedding for other in others])
            judge = Judge(model.speaker, voice.embedding, embeddings)
        else:  # a network beside the model
            self.listener = judge.network.requires_grad_(False)
            self.frozen = self.constant = (model, self.listener)
        self.judge = judge
        m = model.config
        blocks = len(model.decoder.coarse.blocks) + len(model.decoder.fine.blocks)
        sizes = VoiceAdapterConfig(m.mel, blocks, m.decoder_width, m.expansion * m.decoder_width, c.rank)
        self.adapter = VoiceAdapter(sizes)
        self.loss_weights = asdict(c.loss_weights)

    def _code(self, voices: Sequence[Voice]) -> SpeakerCode:
        """The speaker code of each example, on the device of the model."""
        device = self.log_mel.window.device
        embedding, tokens = ([getattr(v, name) for v in voices] for name in ("embedding", "tokens"))
        return SpeakerCode(torch.stack(embedding).to(device), torch.stack(tokens).to(device))

    def generate(self, batch: VoiceBatch, phase: Phase) -> VoiceOutput:
        """Decode the speech of the person, and convert the others."""
        model, config = self.model, self.model.config
        size, voice = len(batch.source), self.voice
        others = [self.others[k] for k in batch.speaker.tolist()]
        guided = [voice.guided(other, config.guidance_scale) for other in others]
        with torch.no_grad():
            target, other = self.log_mel(batch.source), self.log_mel(batch.other)
            perturbed = augment.perturb_mel(target, self.config.content, config.mel, phase.rng)
            z = model.bottleneck(model.content(torch.cat([perturbed, other]))).z  # (2 B, D, T / 2)
            prosody = model.prosody(torch.cat([target, other]))
            moved = [shift(prosody[size + k, None], v.f0, voice.f0) for k, v in enumerate(others)]
            prosody = torch.cat([prosody[:size], *moved])
            conditioning = model.decoder.conditioning(self._code([voice] * size + guided))
        decoded = model.decode(z, prosody, conditioning.with_adapter(self.adapter()))
        own, target = in_step(decoded[:size], target, config.delay)
        standardise = config.mel.standardise
        converted = decoded[size:, :, config.delay :]
        return VoiceOutput(standardise(own), standardise(target), converted, batch.speaker)

    def generator_losses(self, out: VoiceOutput, phase: Phase) -> Losses:
        """Distances to the natural speech, and of the conversions to the person and from their sources."""
        config = self.model.config.mel
        own, target = (config.unstandardise(x) for x in (out.own, out.target))
        # Over another microphone the judge is harder to mislead.
        network, *embeddings = self.judge
        person, others = (x.to(out.own.device) for x in embeddings)
        heard = network(augment.perturb_mel(out.converted, self.config.reference, config, phase.rng))
        return {
            "mel": F.l1_loss(out.own, out.target),
            "loudness": losses.loudness_loss(own, target),
            "envelope": F.l1_loss(envelope(out.own), envelope(out.target)),
            "target_speaker": 1 - (heard @ person).mean(),
            "source_speaker": F.relu(((heard - person) * others[out.speaker]).sum(1)).mean(),
        }

    def pictures(self, out: VoiceOutput) -> dict[str, Tensor]:
        """The first target, decoded, and the first conversion."""
        converted = self.model.config.mel.standardise(out.converted[0])
        return {"target": out.target[0], "decoded": out.own[0], "converted": converted}

    @property
    def product(self) -> dict[str, nn.Module]:
        """The changes."""
        return {"voice": self.adapter}
