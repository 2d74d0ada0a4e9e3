"""The systems that can be evaluated: the converter, parts of it, and reference systems.

`SYSTEMS` names and describes them; a method of `Systems` of the same name runs each.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch

from vcae.audio import Audio, find_audio, read
from vcae.errors import VcaeError
from vcae.evaluation.trials import Trial
from vcae.inference.converter import Converter
from vcae.model.alignment import in_step
from vcae.model.vocoder import griffin_lim

System: TypeAlias = Callable[[Trial], Audio]
"""Makes a recording for a trial. Raises VcaeError where it cannot."""


class EvaluationError(VcaeError):
    """An evaluation that cannot be run. One line that says what is wrong and what to do about it."""


@dataclass(frozen=True)
class SystemInfo:
    """What a system is, for tables and reports."""

    title: str
    about: str


SYSTEMS: Mapping[str, SystemInfo] = {
    "vcae": SystemInfo("converted", "the source converted to the target voice by these weights"),
    "natural": SystemInfo(
        "natural target", "a natural recording of the target speaker: the upper bound of SECS to target"
    ),
    "identity": SystemInfo(
        "source unchanged",
        "the source recording: the SECS of different speakers, and the best possible WER and F0 correlation",
    ),
    "reconstruct": SystemInfo(
        "reconstruction",
        "the source encoded and decoded with its own speaker code: losses of all models",
    ),
    "vocoder": SystemInfo(
        "copy synthesis", "the mel of the source through the vocoder: losses of the vocoder alone"
    ),
    "griffinlim": SystemInfo(
        "Griffin-Lim", "the mel of the source through Griffin-Lim, which needs no training"
    ),
    "world": SystemInfo(
        "WORLD", "WORLD with the F0 of the source scaled to the target's mean, which needs no training"
    ),
}
"""Name on the command line -> description, in the order of tables."""


class Systems:
    """Runs the systems of `SYSTEMS`, each a method of a trial. All output has the converter's sample rate."""

    def __init__(self, converter: Converter) -> None:
        self.converter = converter
        self.voice = lru_cache(maxsize=None)(lambda references: converter.voice(references))
        self.by_name: Mapping[str, System] = {name: getattr(self, name) for name in SYSTEMS}

    def vcae(self, trial: Trial) -> Audio:
        """Convert the source to the voice of the references."""
        return self.converter.convert(trial.source, voice=self.voice(trial.references))

    def natural(self, trial: Trial) -> Audio:
        """Read a natural recording of the target."""
        if trial.target is None:
            raise EvaluationError("the list names no natural recording of the target")
        return read(trial.target, self.converter.sample_rate)

    def identity(self, trial: Trial) -> Audio:
        """Read the source."""
        return read(trial.source, self.converter.sample_rate)

    def reconstruct(self, trial: Trial) -> Audio:
        """Encode and decode the source without changing the speaker."""
        return self.converter.reconstruct(trial.source)

    @torch.inference_mode()
    def vocoder(self, trial: Trial) -> Audio:
        """Copy synthesis: the mel of the source through the vocoder."""
        audio, mel = self._mel(trial)
        alignment = self.converter.alignment
        prosody, mel = in_step(self.converter.autoencoder.prosody(mel), mel, alignment.look_ahead)
        wav = self.converter.vocoder(mel, prosody)[0, 0, alignment.vocoder_delay :]
        return Audio(wav[: len(audio.samples)].cpu().numpy(), audio.sample_rate)

    @torch.inference_mode()
    def griffinlim(self, trial: Trial) -> Audio:
        """The mel of the source through Griffin-Lim."""
        audio, mel = self._mel(trial)
        wav = griffin_lim(mel, self.converter.autoencoder.config.mel)[0, 0]
        return Audio(wav[: len(audio.samples)].cpu().numpy(), audio.sample_rate)

    def _mel(self, trial: Trial) -> tuple[Audio, torch.Tensor]:
        """The source and its mel (1, n_mels, T), padded at the end by the delay of the models."""
        audio = self.identity(trial)
        wav = np.pad(audio.samples, (0, self.converter.alignment.delay))
        return audio, self.converter.log_mel(torch.from_numpy(wav)[None, None].to(self.converter.device))

    def world(self, trial: Trial) -> Audio:
        """WORLD analysis and synthesis, with the F0 of the source scaled to the target's mean.

        Morise et al., 2016; F0 by dio and stonemask.
        """
        import pyworld

        from vcae.training.labels import f0_labels

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


def converted_files(folder: Path, trials: Sequence[Trial]) -> System:
    """The files that another system made, named by trial: ID.wav, or another audio format.

    A missing file is a failed conversion. Raises EvaluationError if the folder has no file of any trial.
    """
    files = {path.stem: path for path in find_audio(folder)}
    if not any(trial.id in files for trial in trials):
        raise EvaluationError(f"{folder}: holds no file named as a trial is, such as {trials[0].id}.wav")

    def get(trial: Trial) -> Audio:
        if trial.id not in files:
            raise EvaluationError(f"{folder}: no file of that name")
        return read(files[trial.id])

    return get
