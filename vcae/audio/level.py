"""Level of a waveform: loudness of its active part, silence, and what is not sound at all."""

from typing import Any

import numpy as np
import numpy.typing as npt

from vcae.audio.blocks import Samples

LEVEL = -25.0
"""What the networks hear every recording at, in dBFS as `loudness` measures it."""
_ACTIVE_DB = 40.0  # what is quieter than the loudest frame by more than this is a pause
_FRAME_SECONDS = 0.02
_HUGE = 1e5  # files hold floats as large as 32768 by mistake
_SILENCE = 1e-3  # a peak below this (-60 dBFS) is silence


def loudness(samples: Samples, sample_rate: int) -> float:
    """Level in dBFS (a full-scale square wave: 0): RMS of the active part; -inf for silence.

    Active are the frames of 20 ms that lie within 40 dB of the loudest, so that pauses do not count.
    """
    return level_of(frame_powers(samples, sample_rate))


def is_silent(samples: Samples) -> bool:
    """Whether no sample of (N,) reaches -60 dBFS; true of an empty array."""
    return len(samples) == 0 or bool(max(samples.max(), -samples.min()) < _SILENCE)


def is_sound(samples: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.bool_]:
    """Which samples are finite and, though they may be beyond [-1, 1], not beyond a hundred thousand."""
    return np.abs(samples) <= _HUGE


def speech_seconds(samples: Samples, sample_rate: int) -> float:
    """Seconds of (N,) that are not pauses: within 40 dB of the loudest frame; 0 where all is silent.

    Tells sound from silence, not speech from other sounds.
    """
    power = frame_powers(samples, sample_rate)
    if is_silent(samples):
        return 0.0
    return float(np.count_nonzero(power >= power.max() * 10 ** (-_ACTIVE_DB / 10)) * _FRAME_SECONDS)


def frame_size(sample_rate: int) -> int:
    """Samples of a frame of 20 ms."""
    return max(1, round(_FRAME_SECONDS * sample_rate))


def frame_powers(samples: Samples, sample_rate: int) -> Samples:
    """Mean square of each frame of 20 ms; a shorter waveform is one frame, and a shorter tail is left out."""
    size = max(1, min(len(samples), frame_size(sample_rate)))
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    powers: Samples = np.einsum("ij,ij->i", frames, frames) / np.float32(size)
    return powers


def level_of(powers: Samples) -> float:
    """Level in dBFS of frames with these mean squares (T,), pauses left out; -inf for silence."""
    if not powers.any():
        return float("-inf")
    active = powers[powers >= powers.max() * 10 ** (-_ACTIVE_DB / 10)]
    return float(10 * np.log10(active.mean()))
