"""The autoencoder: its encoders first, then reconstruction and conversion."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcae.corpora.phones import PHONES
from vcae.model.autoencoder import Autoencoder
from vcae.model.layers import Conv1d, Pointwise
from vcae.model.mel import LogMel, cosines
from vcae.model.prosody import LOG_MIDDLE, PRIOR
from vcae.model.speaker import SpeakerCode
from vcae.model.vocoder import griffin_lim
from vcae.training import augment, losses
from vcae.training.data import Batch, Sampler
from vcae.training.discriminators import MelDiscriminator
from vcae.training.recogniser import Recogniser
from vcae.training.stages.base import Losses, Phase, Stage


class AutoencoderStage(Stage):
    """The encoders by themselves, then reconstruction and, in its second half, conversion.

    The content encoder sees a perturbed source, the speaker encoder other speech of the same speaker over
    another microphone. Until "decoder", a single hidden layer is to tell the envelope of the clean source
    from both codes: so the encoders hear several times the speech that they would with the decoder behind
    them. From then on the decoder is to give the clean source, in which the prosody encoder, which has
    learned by then, must hear what was asked for. From "conversion" on, half the batch is given other
    speakers, and what comes out must sound like them and still say the same. What is said, in the source and
    in what is decoded, a trained `recogniser` tells.
    """

    name = "autoencoder"

    def __init__(
        self, model: Autoencoder, sampler: Sampler, recogniser: Recogniser, adversary_channels: int = 32
    ) -> None:
        super().__init__()
        config = model.config
        self.model = model
        self.sampler = sampler
        self.log_mel = LogMel(config.mel)
        self.margin = losses.MarginClassifier(config.speaker_dim, sampler.speakers)
        self.leak = losses.SpeakerAdversary(config.content_dim, config.speaker_dim)
        self.phones = nn.Sequential(
            Conv1d(config.content_dim, 128, 1), nn.GELU(), nn.Conv1d(128, len(PHONES), 1)
        )
        self.sketch = Sketch(config.content_dim, config.speaker_dim)
        # Both follow the speaker encoder slowly, the second one until there is something to judge: what is
        # trained together comes to please each other, and whom it does not know it pleases less.
        self.judges = nn.ModuleList(copy.deepcopy(model.speaker).requires_grad_(False) for _ in range(2))
        self.recogniser = recogniser.requires_grad_(False)
        self.frozen = (*self.judges, self.recogniser)
        self.adversary = MelDiscriminator(config.speaker_dim, adversary_channels)
        self.milestones = {"decoder": 0.2, "adversary": 0.5, "conversion": 0.5}
        self.weights = {
            "sketch": 1.0,
            "mel": 1.5,
            "loudness": 4.0,
            "envelope": 1.0,
            "pitch": 0.1,
            "voicing": 0.2,
            "melody": 0.2,
            "voiced": 0.4,
            "margin": 0.1,
            "leak": 1.0,
            "hide": 2.0,
            "phones": 0.5,
            "taught": 2.0,
            "bottleneck": 1.0,
            "features": 4.0,
            "adversary": 0.1,
            "matching": 0.5,
            "speaker": 2.0,
            "source": 2.0,
            "content": 2.0,
            "words": 2.0,
            "discriminator": 1.0,
        }

    def batch(self, generator: torch.Generator) -> Batch:
        """Crops of speech."""
        return self.sampler.batch(generator)

    def generate(self, batch: Batch, phase: Phase) -> dict[str, Any]:
        """Encode, swap some speakers, decode."""
        model, mel_config, g = self.model, self.model.config.mel, phase.generator
        with torch.no_grad():
            if self.training:
                for judge in self.judges[:1] if "conversion" in phase.started else self.judges:
                    slow, fast = (m.state_dict().values() for m in (judge, model.speaker))
                    floats = [(s, f) for s, f in zip(slow, fast, strict=True) if s.is_floating_point()]
                    torch._foreach_lerp_([s for s, _ in floats], [f for _, f in floats], 0.01)
            target = self.log_mel(batch.source)
            noisy = self.log_mel(augment.perturb_wav(batch.source, augment.CONTENT, mel_config, g))
            reference = self.log_mel(augment.perturb_wav(batch.reference, augment.REFERENCE, mel_config, g))
            seen = augment.perturb_mel(noisy, augment.CONTENT, mel_config, g)
            # Over one microphone after another, the same for what is said and what is decoded, so that it is
            # the words that must please the recogniser.
            gain = augment.random_gain(target, augment.REFERENCE, g)
            heard = self.recogniser(target + gain)
            reference = augment.perturb_mel(reference, augment.REFERENCE, mel_config, g)
        out = {
            "batch": batch,
            "code": model.bottleneck(model.content(seen)),
            "speaker": model.speaker.encode(reference),
            "reference": reference,
            "target": mel_config.standardise(target),
            "gain": gain,
            "heard": heard,
        }
        if "decoder" not in phase.started:
            with torch.no_grad():
                mel = self.log_mel(augment.perturb_wav(batch.source, augment.PROSODY, mel_config, g))
                mel = augment.perturb_mel(mel, augment.PROSODY, mel_config, g)
            pitch, voicing = model.prosody.logits(mel)
            return out | {"pitch": pitch, "voicing": voicing}
        return out | self._decode(out, noisy, phase)

    def _decode(self, out: dict[str, Any], noisy: Tensor, phase: Phase) -> dict[str, Any]:
        """The code as a mel, in the own voice or in another; noisy is (B, n_mels, T)."""
        model, target, speaker = self.model, out["target"], out["speaker"]
        model.prosody.requires_grad_(False)  # it has learned, and is to judge
        with torch.no_grad():
            prosody = model.prosody(noisy)
        kept = len(target)
        if "conversion" in phase.started:
            kept = (len(target) + 1) // 2  # the others take the voice of the example before
            with torch.no_grad():
                f0 = _mean_f0(model.prosody(out["reference"])).roll(1) - _mean_f0(prosody)
                prosody[kept:, 0] += f0[kept:, None]
            speaker = SpeakerCode(*(torch.cat([x[:kept], x.roll(1, 0)[kept:]]) for x in speaker))
        mel = model.decode(out["code"].z, prosody, speaker)
        late = model.config.delay
        return {
            "kept": kept,
            "asked": prosody[..., late:],
            "speaker_in": speaker.embedding,
            "target": target[..., :-late],
            "mel": model.config.mel.standardise(mel[..., late:]),
        }

    def generator_losses(self, out: dict[str, Any], phase: Phase) -> Losses:
        """Prosody, speaker, phones, disentanglement, and what can be made of it all."""
        batch: Batch = out["batch"]
        model, z = self.model, out["code"].z
        result = {
            "margin": self.margin(out["speaker"].embedding, batch.speaker),
            "bottleneck": out["code"].loss,
        }
        result["leak"], result["hide"] = losses.speaker_adversary_losses(
            self.leak, z, out["speaker"].embedding, batch.speaker
        )
        # Code frame i ends with mel frame 2 i + 1 and speaks of two frames earlier, so of label i - 1.
        phones = self.phones(z)[..., 1:]
        result["phones"] = losses.known_cross_entropy(phones, batch.phones[:, :-1])
        result["taught"] = losses.divergence(phones, out["heard"].phones[..., :-1])  # in any language
        if "decoder" in phase.started:
            return result | self._decoder_losses(out, phase)
        late = model.config.delay + 1  # label i speaks of mel frame i + 1, which comes out `delay` later
        f0 = batch.f0[:, :-late]
        result["pitch"], result["voicing"] = self._prosody_losses(
            out["pitch"][..., late:], out["voicing"][:, 0, late:], f0, (f0 > 0).float()
        )
        sketch, wanted = self.sketch(z, out["speaker"].embedding), envelope(out["target"])
        return result | {"sketch": F.l1_loss(sketch[..., 2:], wanted[..., :-2])}

    def _prosody_losses(
        self, pitch: Tensor, voicing: Tensor, f0: Tensor, voiced: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the prosody encoder says, logits (B, bins, T) and (B, T), against what is so, (B, T) each."""
        voicing_loss = F.binary_cross_entropy_with_logits(voicing.float(), voiced)
        return losses.pitch_loss(pitch, f0, self.model.prosody.pitches + LOG_MIDDLE), voicing_loss

    def _decoder_losses(self, out: dict[str, Any], phase: Phase) -> Losses:
        """Reconstruction; later the adversary and conversion."""
        mel, target, kept = out["mel"], out["target"], out["kept"]
        config = self.model.config.mel
        raw = config.unstandardise(mel)
        found = self.recogniser(raw + out["gain"])
        frames = found.phones.shape[-1]
        own, heard = (x.part(slice(kept), frames) for x in (found, out["heard"]))
        result = {
            "mel": F.l1_loss(mel[:kept], target[:kept]),
            "loudness": losses.loudness_loss(raw[:kept], config.unstandardise(target[:kept])),
            # Formants make words, and weigh little in a mean over all that a mel holds.
            "envelope": F.l1_loss(envelope(mel[:kept]), envelope(target[:kept])),
            "features": losses.distance(own.features, heard.features),
        }
        # What is decoded must be heard at the pitch, and be as voiced, as was asked for.
        late = self.model.config.delay
        log_f0, voiced = out["asked"][:, 0, :-late], out["asked"][:, 1, :-late]
        pitch, voicing = self.model.prosody.logits(raw)
        result["melody"], result["voiced"] = self._prosody_losses(
            pitch[..., late:], voicing[:, 0, late:], log_f0.exp() * (voiced > 0.5), voiced
        )
        if "adversary" in phase.started:
            known = out["speaker_in"].detach()
            fake = self.adversary(mel, known)
            with torch.no_grad():
                real = self.adversary(target, out["speaker"].embedding)
            result["adversary"] = losses.hinge_generator(fake)
            alike = [[x[:kept] for x in features] for _, features in (real, fake)]
            result["matching"] = losses.feature_matching(*alike)
        if "conversion" in phase.started:
            # Features over another microphone, the judges are not so easily fooled.
            seen = augment.perturb_mel(raw[kept:], augment.REFERENCE, config, phase.generator)
            result["speaker"], result["source"] = raw.new_zeros(2)
            for judge in self.judges:
                with torch.no_grad():
                    known = judge(out["reference"])
                voice, to, of = judge(seen), known.roll(1, 0)[kept:], known[kept:]
                result["speaker"] = result["speaker"] + 1 - (voice * to).sum(1).mean()
                # No nearer to the source than the target is itself.
                result["source"] = result["source"] + F.relu(((voice - to) * of).sum(1)).mean()
            # The first half of the recogniser still hears whose voice it is.
            said, heard = (x.part(slice(kept, None), frames) for x in (found, out["heard"]))
            half = len(said.features) // 2
            result["content"] = losses.distance(said.features[half:], heard.features[half:])
            result["words"] = losses.divergence(said.phones, heard.phones)
        return result

    def discriminator_losses(self, out: dict[str, Any], phase: Phase) -> Losses:
        """Natural mels against decoded ones, each with the speaker it is meant to be."""
        real = self.adversary(out["target"], out["speaker"].embedding.detach())
        fake = self.adversary(out["mel"].detach(), out["speaker_in"].detach())
        return {"discriminator": losses.hinge_discriminator(real, fake)}

    def pictures(self, out: dict[str, Any]) -> dict[str, Tensor]:
        """The first target and what was made of it; the last one, which is converted once that is trained."""
        if "mel" not in out:
            return {}
        shown = {"target": out["target"][0], "decoded": out["mel"][0]}
        return shown if out["kept"] == len(out["mel"]) else shown | {"converted": out["mel"][-1]}

    def sounds(self, out: dict[str, Any]) -> dict[str, Tensor]:
        """The same, by Griffin-Lim."""
        config = self.model.config.mel
        mels = self.pictures(out)
        if not mels:
            return {}
        wavs = griffin_lim(config.unstandardise(torch.stack(list(mels.values())).float()), config)
        return dict(zip(mels, wavs[:, 0], strict=True))

    @property
    def product(self) -> dict[str, nn.Module]:
        """The autoencoder."""
        return {"autoencoder": self.model}


class Sketch(nn.Module):
    """What `envelope` gives, told from a code z (B, D, T / 2) and a speaker's embedding (B, E)."""

    def __init__(self, dim: int, embedding_dim: int, width: int = 192) -> None:
        super().__init__()
        self.code = Conv1d(dim, width, 3)
        self.speaker = nn.Linear(embedding_dim, width)
        self.output = Pointwise(width, 2 * augment.QUEFRENCIES)

    def forward(self, z: Tensor, speaker: Tensor) -> Tensor:
        """(B, D, T / 2), (B, E) -> (B, QUEFRENCIES, T)."""
        out: Tensor = self.output(F.gelu(self.code(z) + self.speaker(speaker).unsqueeze(2)))
        return out.unflatten(1, (2, -1)).movedim(1, 3).flatten(2)  # (B, QUEFRENCIES, T / 2, 2) before


def envelope(mel: Tensor) -> Tensor:
    """The lowest quefrencies of each frame: (B, n_mels, T) -> (B, QUEFRENCIES, T)."""
    return cosines(mel.shape[1], augment.QUEFRENCIES, mel.device) @ mel


def _mean_f0(prosody: Tensor) -> Tensor:
    """Mean log-F0 of each example over its voiced frames, and a prior: (B, 3, T) -> (B,)."""
    log_f0, voicing = prosody[:, 0], prosody[:, 1]
    return ((log_f0 * voicing).sum(1) + PRIOR.total) / (voicing.sum(1) + PRIOR.frames)
