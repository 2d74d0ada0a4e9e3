"""What a recording of a voice holds, and what is wrong with it."""

from dataclasses import dataclass

import numpy as np
import torch

from vcae import Audio, Converter
from vcae.audio import Samples

PAUSE = 4.6  # nepers (40 dB) below the loudest frame: quieter frames are pauses
MOVING = 0.6  # least mean change of a log mel band in 0.1 s: speech has 0.8 and more, a tone less than 0.3
STEP = 10  # mel frames in 0.1 s
LEAST_VOICED = 0.3  # seconds of voiced speech in a recording that holds speech
SHORT = 1.5  # seconds of voiced speech that a reference needs at least; three seconds of talk hold so much
NOISY = 15.0  # dB between speech and pauses
FEW_PAUSES = 0.05  # share of pauses below which their level says nothing
# Cosine between the halves of a reference below which it may hold two people. Of 30 recordings of one
# development speaker, 1 is so low; of 30 of two such speakers, one after the other, 26 are.
ONE_VOICE = 0.2
HALVES = 6.0  # seconds of a reference whose halves can be compared


@dataclass(frozen=True)
class Heard:
    """What a recording holds."""

    seconds: float
    """Of voiced speech."""
    noise: float
    """Level of speech over that of pauses, in dB; infinite where there are too few pauses to tell."""

    @property
    def speech(self) -> bool:
        """Whether the recording holds speech; a tone, a click and noise do not."""
        return self.seconds >= LEAST_VOICED


@torch.inference_mode()
def heard(converter: Converter, recording: Audio) -> Heard:
    """Listen to a recording. Voiced frames are speech if the spectrum moves, as it does not in a tone."""
    wav = torch.from_numpy(recording.samples).to(converter.device)[None, None]
    mel = converter.log_mel(wav).float()
    if mel.shape[-1] <= STEP:
        return Heard(0.0, np.inf)
    _, voicing, energy = converter.autoencoder.prosody(mel)[0].cpu().numpy()
    bands: Samples = mel[0].cpu().numpy()
    active = energy > energy.max() - PAUSE
    change = np.abs(bands[:, STEP:] - bands[:, :-STEP]).mean(0)
    voiced = ((voicing > 0.5) & active)[STEP:]
    moving = bool(voiced.any()) and change[voiced].mean() >= MOVING
    rate = converter.autoencoder.config.mel.frame_rate
    return Heard(float(voiced.sum() / rate) if moving else 0.0, _over_noise(recording))


def _over_noise(recording: Audio) -> float:
    size = recording.sample_rate // 50
    frames = recording.samples[: len(recording.samples) // size * size].reshape(-1, size)
    levels = 10 * np.log10(frames.var(axis=1) + 1e-10)
    quiet = levels < levels.max() - 10
    if quiet.mean() < FEW_PAUSES:
        return float("inf")
    return float(np.percentile(levels, 90) - np.percentile(levels[quiet], 20))


def doubts(converter: Converter, reference: Audio) -> list[str]:
    """Likely reasons why a voice made from a recording fails, in sentences; none for a good one."""
    found = heard(converter, reference)
    reasons = []
    if found.seconds < SHORT:
        reasons.append("The recording of the voice is short; ten seconds of speech are better.")
    if found.noise < NOISY:
        reasons.append("The recording of the voice is noisy; record it closer, in a quiet room.")
    if reference.duration >= HALVES:
        middle = len(reference.samples) // 2
        a, b = (
            converter.embed(Audio(half, reference.sample_rate))
            for half in (reference.samples[:middle], reference.samples[middle:])
        )
        if float(a @ b) < ONE_VOICE:
            reasons.append("The recording of the voice may hold two people; give one person alone.")
    return reasons
