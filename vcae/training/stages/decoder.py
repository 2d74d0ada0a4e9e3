"""The decoder: reconstruction, and later conversion, from the codes of encoders that are fixed."""

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcae.model.alignment import in_step
from vcae.model.autoencoder import Autoencoder
from vcae.model.bottleneck import Code
from vcae.model.mel import LogMel
from vcae.model.prosody import PRIOR
from vcae.model.speaker import SpeakerCode
from vcae.model.vocoder import griffin_lim
from vcae.training import augment, losses
from vcae.training.config import DecoderStageConfig
from vcae.training.data import Batch, Sampler
from vcae.training.discriminators import MelDiscriminator
from vcae.training.recogniser import Recognised, Recogniser
from vcae.training.stages.base import Losses, Phase, Stage
from vcae.training.stages.encoders import prosody_losses
from vcae.training.stages.views import envelope, views_of
from vcae.training.teachers.perceptual import WhisperRecogniser


@dataclass(frozen=True)
class DecoderOutput:
    """Codes of a batch, what the decoder makes of them, and the targets; T' = T - delay frames.

    source: log-mel (B, n_mels, T). reference: log-mel (B, n_mels, R) of other speech of the source speaker.
    seen_reference: the same as the speaker encoder saw it. gain: (B, n_mels, 1), of another microphone.
    recognised: of the source with that gain. speaker: code of the source speaker. decoded_speaker: embedding
    (B, E) that the decoder was given. prosody: (B, 3, T') that the decoder was given. reconstructed: the
    first so many examples keep their speaker. target, mel: standardised mels (B, n_mels, T') of source and
    decoder.
    """

    batch: Batch
    source: Tensor
    reference: Tensor
    seen_reference: Tensor
    gain: Tensor
    recognised: Recognised
    code: Code
    speaker: SpeakerCode
    decoded_speaker: Tensor
    prosody: Tensor
    reconstructed: int
    target: Tensor
    mel: Tensor


class DecoderStage(Stage[Batch, DecoderOutput]):
    """Trains the decoder of an autoencoder; of its encoders only those that the configuration names.

    The decoder learns the clean source from the codes of a perturbed one. From the milestone "conversion" on,
    half of each batch is decoded with another speaker, and must be close to that speaker and hold the same
    phones. A recogniser finds the phones in source and decoded mel, and the prosody encoder the pitch.
    judges: networks that map a mel (B, n_mels, T) to a speaker embedding (B, E) of unit norm, to compare
    converted mels with speakers.
    """

    name = "decoder"

    def __init__(
        self,
        model: Autoencoder,
        sampler: Sampler,
        recogniser: Recogniser | WhisperRecogniser,
        judges: Sequence[nn.Module],
        config: DecoderStageConfig | None = None,
    ) -> None:
        super().__init__()
        self.config = c = config or DecoderStageConfig()
        self.model = model
        self.model.requires_grad_(False)
        self.model.decoder.requires_grad_(True)
        self.model.speaker.requires_grad_(c.train_speaker)
        self.model.content.requires_grad_(c.train_content)
        self.sampler = sampler
        self.configs = {"model": model.config, "stage": c, "sampler": sampler.config}
        self.log_mel = LogMel(model.config.mel)
        self.recogniser = recogniser.requires_grad_(False)
        self.judges = nn.ModuleList(judges).requires_grad_(False)
        # Even if it is trained, the speaker encoder is in eval mode, so that its running mean stays.
        self.frozen = (model.content, model.prosody, model.speaker, self.recogniser, self.judges)
        untrained = () if c.train_content else (model.content,)
        self.constant = (*untrained, model.prosody, self.recogniser, self.judges)
        if c.train_speaker:
            self.first_speaker = copy.deepcopy(model.speaker).requires_grad_(False)
            self.frozen += (self.first_speaker,)
        if c.train_content:
            first = nn.Sequential(model.content, model.bottleneck)
            self.first_content = copy.deepcopy(first).requires_grad_(False)
            self.frozen += (self.first_content,)
        self.discriminator = MelDiscriminator(model.config.speaker_dim, c.discriminator_channels)
        self.milestones = asdict(c.milestones)
        self.loss_weights = asdict(c.loss_weights)
        for trained, drift in ((c.train_speaker, "speaker_drift"), (c.train_content, "code_drift")):
            if not trained:
                del self.loss_weights[drift]

    def generate(self, batch: Batch, phase: Phase) -> DecoderOutput:
        """Encode, exchange some speakers, decode."""
        model, config = self.model, self.model.config
        views = views_of(batch, self.log_mel, self.recogniser, self.config, phase.rng)
        code = model.bottleneck(model.content(views.perturbed))
        source_speaker = speaker = model.speaker.encode(views.reference)
        with torch.no_grad():
            prosody = model.prosody(views.noisy)
        size = first = len(batch.source)
        if "conversion" in phase.started:
            first = (size + 1) // 2  # the others take the speaker of the example before
            with torch.no_grad():
                mean = _mean_f0(model.prosody(views.reference)).roll(1) - _mean_f0(prosody)
                prosody[first:, 0] += mean[first:, None]
            speaker = SpeakerCode(*(torch.cat([x[:first], x.roll(1, 0)[first:]]) for x in source_speaker))
        target = config.mel.standardise(views.target)
        mel, target = in_step(model.decode(code.z, prosody, speaker), target, config.delay)
        return DecoderOutput(
            batch=batch,
            source=views.target,
            reference=self.log_mel(batch.reference),
            seen_reference=views.reference,
            gain=views.gain,
            recognised=views.recognised,
            code=code,
            speaker=source_speaker,
            decoded_speaker=speaker.embedding,
            prosody=prosody[..., config.delay :],
            reconstructed=first,
            target=target,
            mel=config.mel.standardise(mel),
        )

    def generator_losses(self, out: DecoderOutput, phase: Phase) -> Losses:
        """Losses of the decoded mel; adversarial and conversion losses from their milestones on."""
        raw = self.model.config.mel.unstandardise(out.mel)
        recognised = self.recogniser(raw + out.gain)
        result = {
            **self._reconstruction_losses(out, raw, recognised),
            **self._decoded_prosody_losses(out, raw),
        }
        if self.config.train_speaker:
            with torch.no_grad():
                embedding = self.first_speaker(out.seen_reference)
            result["speaker_drift"] = _drift(out.speaker.embedding, embedding)
        if self.config.train_content:
            with torch.no_grad():
                code = self.first_content(out.source)
            result["code_drift"] = _drift(out.code.z, code.z)
        if "adversarial" in phase.started:
            result |= self._adversarial_losses(out)
        if "conversion" in phase.started:
            result |= self._conversion_losses(out, raw, recognised, phase)
        return result

    def _reconstruction_losses(self, out: DecoderOutput, raw: Tensor, recognised: Recognised) -> Losses:
        """Distances to the source, of the examples that keep their speaker."""
        first, frames = slice(out.reconstructed), recognised.phones.shape[-1]
        target = out.target[first]
        found, wanted = (x.part(first, frames) for x in (recognised, out.recognised))
        return {
            "mel": F.l1_loss(out.mel[first], target),
            "loudness": losses.loudness_loss(raw[first], self.model.config.mel.unstandardise(target)),
            # Formants carry the words, and weigh little in a mean over the whole mel.
            "envelope": F.l1_loss(envelope(out.mel[first]), envelope(target)),
            "recogniser_features": losses.distance(found.features, wanted.features),
        }

    def _decoded_prosody_losses(self, out: DecoderOutput, raw: Tensor) -> Losses:
        """F0 and voicing of the decoded mel, by the prosody encoder, against those the decoder was given."""
        delay = self.model.prosody.look_ahead
        pitch, voicing = self.model.prosody.logits(raw)
        pitch, prosody = in_step(pitch, out.prosody, delay)
        voicing, _ = in_step(voicing[:, 0], out.prosody, delay)
        log_f0, voiced, _ = prosody.unbind(1)
        f0 = log_f0.exp() * (voiced > 0.5)
        pitch_loss, voicing_loss = prosody_losses(self.model.prosody, pitch, voicing, f0, voiced)
        return {"decoded_pitch": pitch_loss, "decoded_voicing": voicing_loss}

    def _adversarial_losses(self, out: DecoderOutput) -> Losses:
        """Hinge loss of all examples; features of those that keep their speaker."""
        fake = self.discriminator(out.mel, out.decoded_speaker.detach())
        with torch.no_grad():
            real = self.discriminator(out.target, out.speaker.embedding)
        alike = [[x[: out.reconstructed] for x in features] for _, features in (real, fake)]
        return {
            "adversarial": losses.hinge_generator(fake),
            "feature_matching": losses.feature_matching(*alike),
        }

    def _conversion_losses(
        self, out: DecoderOutput, raw: Tensor, recognised: Recognised, phase: Phase
    ) -> Losses:
        """Speaker and phones of the examples that were given another speaker."""
        others, frames = slice(out.reconstructed, None), recognised.phones.shape[-1]
        config = self.model.config.mel
        # Over another microphone the judges are harder to mislead.
        perturbed = augment.perturb_mel(raw[others], self.config.reference, config, phase.rng)
        to_target, to_source = raw.new_zeros(2)
        for judge in self.judges:
            with torch.no_grad():
                speakers = judge(out.reference[out.reconstructed - 1 :])
            voice, target, source = judge(perturbed), speakers[:-1], speakers[1:]
            to_target = to_target + 1 - (voice * target).sum(1).mean()
            # Zero where the voice is no nearer to the source than the target is.
            to_source = to_source + F.relu(((voice - target) * source).sum(1)).mean()
        # The recogniser's first half still depends on the speaker.
        found, wanted = (x.part(others, frames) for x in (recognised, out.recognised))
        half = len(found.features) // 2
        return {
            "target_speaker": to_target,
            "source_speaker": to_source,
            "converted_features": losses.distance(found.features[half:], wanted.features[half:]),
            "phone_kl": losses.divergence(found.phones, wanted.phones),
        }

    def discriminator_losses(self, out: DecoderOutput, phase: Phase) -> Losses:
        """Natural mels against decoded ones, each with the speaker that it should have."""
        real = self.discriminator(out.target, out.speaker.embedding.detach())
        fake = self.discriminator(out.mel.detach(), out.decoded_speaker.detach())
        return {"discriminator": losses.hinge_discriminator(real, fake)}

    def pictures(self, out: DecoderOutput) -> dict[str, Tensor]:
        """The first target, decoded with its own speaker; the last example, if it is converted."""
        shown = {"target": out.target[0], "decoded": out.mel[0]}
        return shown if out.reconstructed == len(out.mel) else shown | {"converted": out.mel[-1]}

    def sounds(self, out: DecoderOutput) -> dict[str, Tensor]:
        """The same by Griffin-Lim."""
        config = self.model.config.mel
        mels = self.pictures(out)
        wavs = griffin_lim(config.unstandardise(torch.stack(list(mels.values())).float()), config)
        return dict(zip(mels, wavs[:, 0], strict=True))

    @property
    def product(self) -> dict[str, nn.Module]:
        """The autoencoder with the trained decoder."""
        return {"decoder": self.model}


def _drift(code: Tensor, first: Tensor) -> Tensor:
    """How far a code has moved from what its encoder gave at first: 1 - cosine over channels, the mean."""
    return 1 - F.cosine_similarity(code, first, dim=1).mean()


def _mean_f0(prosody: Tensor) -> Tensor:
    """Mean log-F0 of each example over its voiced frames and a prior: (B, 3, T) -> (B,)."""
    log_f0, voicing = prosody[:, 0], prosody[:, 1]
    return ((log_f0 * voicing).sum(1) + PRIOR.total) / (voicing.sum(1) + PRIOR.frames)
