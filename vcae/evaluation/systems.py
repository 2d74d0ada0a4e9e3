"""The systems that can be evaluated: the converter, its parts, and reference systems."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch

from vcae.audio import Audio, find_audio, read
from vcae.errors import VcaeError
from vcae.evaluation.trials import Trial
from vcae.inference.converter import Converter
from vcae.model.vocoder import griffin_lim
from vcae.training.labels import f0_labels

System: TypeAlias = Callable[[Trial], Audio]
"""What speaks a trial. Raises VcaeError where it cannot."""


class EvaluationError(VcaeError):
    """An evaluation that cannot be made. One line that says what is wrong and what to do about it."""


class Systems:
    """What can be evaluated, by name. The bundled weights, what bounds them from above, and from below.

    Their methods are functions of a trial; all give sound at the converter's sample rate.
    """

    def __init__(self, converter: Converter) -> None:
        self.converter = converter
        self.voice = lru_cache(maxsize=None)(lambda references: converter.voice(references))
        self.by_name: Mapping[str, System] = {
            "vcae": self.vcae,
            "natural": self.natural,
            "identity": self.identity,
            "reconstruct": self.reconstruct,
            "vocoder": self.vocoder,
            "griffinlim": self.griffinlim,
            "world": self.world,
        }

    def vcae(self, trial: Trial) -> Audio:
        """Conversion by the weights at hand."""
        return self.converter.convert(trial.source, voice=self.voice(trial.references))

    def natural(self, trial: Trial) -> Audio:
        """The target's own recording: nothing sounds more like the target."""
        if trial.target is None:
            raise EvaluationError("the list names no natural recording of the target")
        return read(trial.target, self.converter.sample_rate)

    def identity(self, trial: Trial) -> Audio:
        """The source unchanged: what another person's voice scores."""
        return read(trial.source, self.converter.sample_rate)

    def reconstruct(self, trial: Trial) -> Audio:
        """Encoded and decoded in the source's own voice: the plain autoencoder."""
        return self.converter.reconstruct(trial.source)

    @torch.inference_mode()
    def vocoder(self, trial: Trial) -> Audio:
        """The source's own mel through the vocoder: copy synthesis."""
        audio, mel = self._mel(trial)
        late = self.converter.autoencoder.config.delay
        prosody = self.converter.autoencoder.prosody(mel)[..., late:]  # in step with the mel
        wav = self.converter.vocoder(mel[..., : prosody.shape[-1]], prosody)[
            0, 0, self.converter.vocoder.delay :
        ]
        return Audio(wav[: len(audio.samples)].cpu().numpy(), audio.sample_rate)

    @torch.inference_mode()
    def griffinlim(self, trial: Trial) -> Audio:
        """The source's own mel through Griffin-Lim."""
        audio, mel = self._mel(trial)
        wav = griffin_lim(mel, self.converter.autoencoder.config.mel)[0, 0]
        return Audio(wav[: len(audio.samples)].cpu().numpy(), audio.sample_rate)

    def _mel(self, trial: Trial) -> tuple[Audio, torch.Tensor]:
        """The source and its mel (1, n_mels, T), with the silence behind it that all delays need."""
        audio = self.identity(trial)
        wav = np.pad(audio.samples, (0, self.converter.alignment.delay))
        return audio, self.converter.log_mel(torch.from_numpy(wav)[None, None].to(self.converter.device))

    def world(self, trial: Trial) -> Audio:
        """WORLD analysis and synthesis with the source's F0 moved to the target's mean: no learning at all.

        Morise et al., 2016; F0 by dio and stonemask.
        """
        import pyworld

        audio = self.identity(trial)
        hop = self.converter.autoencoder.config.mel.hop_length
        x, rate = audio.samples.astype(np.float64), audio.sample_rate
        f0 = f0_labels(audio.samples, rate, hop).astype(np.float64)
        references = [read(path, rate).samples for path in trial.references]
        target = np.concatenate([f0_labels(samples, rate, hop) for samples in references])
        times = np.arange(len(f0)) * hop / rate
        envelope = pyworld.cheaptrick(x, f0, times, rate)
        aperiodicity = pyworld.d4c(x, f0, times, rate)
        if f0.any() and target.any():
            f0 *= np.exp(np.log(target[target > 0]).mean() - np.log(f0[f0 > 0]).mean())
        out = pyworld.synthesize(f0, envelope, aperiodicity, rate, 1000 * hop / rate).astype(np.float32)
        return Audio(np.pad(out, (0, max(0, len(x) - len(out))))[: len(x)], rate)


def converted_by_others(folder: Path, trials: Sequence[Trial]) -> System:
    """Files that any other system made, named as the trials are: ID.wav, or another kind of audio.

    Raises EvaluationError where there is none of them at all; a single one that is missing is a failure.
    """
    files = {path.stem: path for path in find_audio(folder)}
    if not any(trial.id in files for trial in trials):
        raise EvaluationError(f"{folder}: holds no file named as a trial is, such as {trials[0].id}.wav")

    def get(trial: Trial) -> Audio:
        if trial.id not in files:
            raise EvaluationError(f"{folder}: no file of that name")
        return read(files[trial.id])

    return get
