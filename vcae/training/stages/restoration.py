"""The restorer: from corrupted speech to clean speech."""

from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcae.errors import VcaeError
from vcae.model.alignment import in_step
from vcae.model.mel import LogMel, magnitude
from vcae.model.prosody import ProsodyEncoder
from vcae.model.restorer import TASKS, Restoration, Restorer, Task
from vcae.model.vocoder import Vocoder
from vcae.training import corrupt, losses
from vcae.training.config import RestorationStageConfig
from vcae.training.data import Bank, BatchSource, Sampler
from vcae.training.discriminators import MelDiscriminator
from vcae.training.stages.base import Losses, Phase, Stage
from vcae.training.teachers import WhisperEncoder


class RestorationBatch(NamedTuple):
    """Crops of speech and of recorded noise, (B, 1, N) each."""

    source: Tensor
    noise: Tensor


class RestorationSampler(BatchSource[RestorationBatch]):
    """Draws speech from one sampler and noise from another, whose batches have one size."""

    def __init__(self, speech: Sampler, noise: Sampler) -> None:
        self.speech, self.noise = self.parts = speech, noise
        self.config = speech.config

    @property
    def bank(self) -> Bank:  # type: ignore[override]  # it changes with the step
        """The speech."""
        return self.speech.bank

    def batch(self, rng: torch.Generator) -> RestorationBatch:
        """Draw one batch, on the generator's device, where the banks must be."""
        return RestorationBatch(self.speech.batch(rng).source, self.noise.batch(rng).source)


@dataclass(frozen=True)
class RestorationOutput:
    """What the restorer makes of a batch, and what it should make.

    tasks: of each example. seen, clean: spectra (B, bins, T). restoration: `delay` frames late. mel: log-mel
    (B, n_mels, T) of the clean speech, prosody (B, 3, T), both in step with `clean`. made: log-mel
    (B, n_mels, T) with the harmonics of that prosody, `delay` frames late. Of the K examples of "denoise":
    denoised, the spectrum (K, bins, T) as `vcae denoise` makes it, `delay` frames late; heard, its waveform
    (K, 1, N), `Restorer.delay` samples late; spoken, the clean one (K, 1, N).
    """

    tasks: list[Task]
    seen: Tensor
    clean: Tensor
    restoration: Restoration
    mel: Tensor
    prosody: Tensor
    made: Tensor
    denoised: Tensor
    heard: Tensor
    spoken: Tensor


class RestorationStage(Stage[RestorationBatch, RestorationOutput]):
    """Trains a restorer on clean speech that is corrupted in three ways, a part of each batch in each.

    F0 and voicing are labelled by a prosody encoder that hears the clean speech. The vocoder limits the
    denoised spectrum by the mel that is predicted. Whisper, if it is given, must find the features of the
    clean speech in the denoised speech (a perceptual loss, Johnson et al., 2016). Raises VcaeError for
    batches without an example of a task.
    """

    name = "restoration"

    def __init__(
        self,
        model: Restorer,
        sampler: RestorationSampler,
        labeller: ProsodyEncoder,
        vocoder: Vocoder,
        whisper: WhisperEncoder | None = None,
        config: RestorationStageConfig | None = None,
    ) -> None:
        super().__init__()
        self.config = c = config or RestorationStageConfig()
        self.model = model
        self.sampler = sampler
        self.labeller, self.vocoder = labeller.requires_grad_(False), vocoder.requires_grad_(False)
        self.whisper = whisper
        teachers = () if whisper is None else (whisper.requires_grad_(False),)
        self.frozen = self.constant = (self.labeller, self.vocoder, *teachers)
        self.configs = {"model": model.config, "stage": c, "sampler": sampler.config}
        self.log_mel = LogMel(model.config.mel)
        self.discriminator = MelDiscriminator(len(TASKS), c.discriminator_channels)
        self.milestones = asdict(c.milestones)
        self._sizes(sampler.config.batch_size)  # tells before training what cannot be
        self.loss_weights = asdict(c.loss_weights)

    def generate(self, batch: RestorationBatch, phase: Phase) -> RestorationOutput:
        """Corrupt each part of the batch, and restore all parts at once."""
        c, model, rng = self.config, self.model, phase.rng
        config = model.config.mel
        sizes = self._sizes(len(batch.source))
        tasks = [task for task, size in zip(TASKS, sizes, strict=True) for _ in range(size)]
        with torch.no_grad():
            speech = batch.source.split(sizes)
            prosody = self._labels(batch.source)
            f0 = prosody[:, 0].exp() * (prosody[:, 1] > 0.5)  # (B, T)
            telephoned = corrupt.telephone(speech[1], c.telephone, config.sample_rate, rng)
            flat = corrupt.voiceless(
                speech[2], f0.split(sizes)[2], config.hop_length, c.voiceless, config.sample_rate, rng
            )
            noise = batch.noise[: sizes[0]]
            noised, dry = corrupt.noisy(speech[0], noise, c.noise, config.sample_rate, rng)
            clean = torch.cat([dry, *speech[1:]])
            seen = torch.cat([noised, telephoned, flat])
            told = torch.rand(sizes[2], generator=rng, device=rng.device) < c.voiceless.known
            centre = torch.full((len(clean),), torch.nan, device=clean.device)
            centre[-sizes[2] :] = corrupt.mean_log_f0(f0)[-sizes[2] :].where(told, torch.nan)
            spectra = model.spectrum(seen), model.spectrum(clean)
            mel = self.log_mel(clean)
        out = model(spectra[0], model.conditions(tasks, centre))
        late = F.pad(prosody, (model.config.delay, 0), mode="replicate")[..., : mel.shape[-1]]
        noisy = Restoration(*(x[: sizes[0]] for x in out))
        delayed = model.delayed(spectra[0][: sizes[0]])
        denoised = model.limited(delayed, noisy, model.vocoder_input(noisy)[0], self.vocoder)
        return RestorationOutput(
            tasks,
            *spectra,
            out,
            mel,
            prosody,
            made=model.log_mel(out, late),
            denoised=denoised,
            heard=model.waveform(denoised),
            spoken=dry,
        )

    def _sizes(self, batch: int) -> list[int]:
        """Number of examples of each task in a batch. Raises VcaeError where a task has none."""
        sizes = [round(share * batch) for share in self.config.shares[:-1]]
        sizes.append(batch - sum(sizes))
        if min(sizes) < 1:
            raise VcaeError(
                f"a batch of {batch} has too few examples for the shares {self.config.shares} of the tasks;"
                " give larger batches (--sampler.batch-size)"
            )
        return sizes

    def _labels(self, wav: Tensor) -> Tensor:
        """Prosody of clean speech, in step with its mel: (B, 1, N) -> (B, 3, T)."""
        late = self.labeller(self.log_mel(wav))
        delay = self.labeller.delay
        return F.pad(late[..., delay:], (0, delay), mode="replicate")

    def generator_losses(self, out: RestorationOutput, phase: Phase) -> Losses:
        """Losses of the denoised part, of mel and prosody over all; mels of each task, to log."""
        model, delay = self.model, self.model.config.delay
        result = self._spectral_losses(*in_step(out.denoised, out.clean[: len(out.denoised)], delay))
        result |= self._perceptual_losses(*in_step(out.heard, out.spoken, model.delay))
        made, mel = in_step(out.made, out.mel, delay)
        error = (made - mel).abs().mean((1, 2)) / model.config.mel.std
        result |= {"mel": error.mean(), "loudness": losses.loudness_loss(made, mel)}
        pitch, prosody = in_step(out.restoration.pitch, out.prosody, delay)
        voicing, _ = in_step(out.restoration.voicing[:, 0], out.prosody, delay)
        voiced = (prosody[:, 1] > 0.5).float()
        result["pitch"] = losses.pitch_loss(pitch, prosody[:, 0].exp() * voiced, model.pitches)
        result["voicing"] = F.binary_cross_entropy_with_logits(voicing, prosody[:, 1].clamp(0, 1))
        for task in TASKS:
            index = torch.tensor([each == task for each in out.tasks], device=error.device)
            result[f"mel_{task}"] = error[index].mean()
        if "adversarial" in phase.started:
            natural, restored, tasks = self._judged(out)
            fake = self.discriminator(restored, tasks)
            with torch.no_grad():
                real = self.discriminator(natural, tasks)
            result["adversarial"] = losses.hinge_generator(fake)
            result["feature_matching"] = losses.feature_matching(real[1], fake[1])
        return result

    def discriminator_losses(self, out: RestorationOutput, phase: Phase) -> Losses:
        """Natural mels against those of what is heard, and those that are made for the vocoder."""
        natural, restored, tasks = self._judged(out)
        real, fake = self.discriminator(natural, tasks), self.discriminator(restored.detach(), tasks)
        return {"discriminator": losses.hinge_discriminator(real, fake)}

    def _judged(self, out: RestorationOutput) -> tuple[Tensor, Tensor, Tensor]:
        """Natural mels, those heard or made for the vocoder, standardised, and each task as (B, 3)."""
        config, noisy = self.model.config, len(out.denoised)
        late = self.model.delay // config.mel.hop_length
        heard, natural = in_step(self.log_mel(out.heard), out.mel, late)
        made = in_step(out.made[noisy:], out.mel, config.delay)[0][..., : heard.shape[-1]]
        index = torch.tensor([TASKS.index(task) for task in out.tasks], device=made.device)
        tasks = F.one_hot(index, len(TASKS)).float()
        return config.mel.standardise(natural), config.mel.standardise(torch.cat([heard, made])), tasks

    def _perceptual_losses(self, heard: Tensor, spoken: Tensor) -> Losses:
        """Distances of the standardised log-mels and of the features of Whisper, waveforms (K, 1, N) each."""
        pair = self.log_mel(heard), self.log_mel(spoken)
        result = {"heard": (pair[0] - pair[1]).abs().mean() / self.model.config.mel.std}
        if self.whisper is not None:
            layer = self.config.whisper_layer
            with torch.no_grad():
                target = self.whisper(spoken.squeeze(1), layer).float()
            error = self.whisper(heard.squeeze(1), layer).float() - target  # (K, T, width)
            result["words"] = error.square().mean() / target.var((0, 1)).mean()
        return result

    def _spectral_losses(self, made: Tensor, clean: Tensor) -> Losses:
        """Distances of compressed spectra (Braun and Tashev, 2021), complex (B, bins, T) each."""
        c = self.config
        m, s = magnitude(made) + 1e-4, magnitude(clean) + 1e-4
        compressed_m, compressed_s = m**c.compression, s**c.compression
        missing = compressed_s - compressed_m
        weight = torch.where(missing > 0, c.removal, 1.0)
        difference = made * (compressed_m / m) - clean * (compressed_s / s)
        return {
            "magnitude": (weight * missing.square()).mean(),
            "complex": (difference.real.square() + difference.imag.square()).mean(),
        }

    def pictures(self, out: RestorationOutput) -> dict[str, Tensor]:
        """For the first example of each task, the clean mel and the one that is made."""
        firsts = [out.tasks.index(task) for task in TASKS]
        return {
            f"{out.tasks[k]}_{name}": mel[k]
            for k in firsts
            for name, mel in (("clean", out.mel), ("made", out.made))
        }

    @property
    def product(self) -> dict[str, nn.Module]:
        """The restorer."""
        return {"restorer": self.model}
