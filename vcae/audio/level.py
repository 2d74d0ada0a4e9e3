"""Level of a waveform: loudness of its active frames, silence, and invalid samples."""

from typing import Any

import numpy as np
import numpy.typing as npt

from vcae.audio.blocks import Samples

LEVEL = -25.0
"""`loudness` in dBFS to which recordings are scaled before the networks."""
_ACTIVE_DB = 40.0  # frames quieter than the loudest by more than this are pauses
_FRAME_SECONDS = 0.02
_HUGE = 1e5  # above 32768, since some files hold integer values as floats
_SILENCE = 1e-3  # a peak below this (-60 dBFS) is silence


def loudness(samples: Samples, sample_rate: int) -> float:
    """RMS level of the active frames of (N,), in dBFS (0 for a full-scale square wave); -inf for silence.

    Frames of 20 ms are active if they are within 40 dB of the loudest, so that pauses do not count. An offset
    does not count either.
    """
    return level_of(frame_powers(samples, sample_rate))


def gain_to(level: float, target: float = LEVEL) -> float:
    """Factor on the samples that brings a waveform from one level to another, both in dBFS."""
    return float(10 ** ((target - level) / 20))


def decibels(factor: float) -> float:
    """A factor on the samples, in dB."""
    return float(20 * np.log10(factor))


def is_silent(samples: Samples) -> bool:
    """Whether all samples of (N,) are below -60 dBFS; true for an empty array."""
    return len(samples) == 0 or bool(max(samples.max(), -samples.min()) < _SILENCE)


def is_sound(samples: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.bool_]:
    """Mask of the samples that are finite and within +-1e5; values beyond [-1, 1] are accepted."""
    return np.abs(samples) <= _HUGE


def speech_seconds(samples: Samples, sample_rate: int) -> float:
    """Duration of the active frames of (N,), in seconds: those within 40 dB of the loudest; 0 for silence.

    Distinguishes sound from silence, not speech from other sounds.
    """
    power = frame_powers(samples, sample_rate)
    if is_silent(samples):
        return 0.0
    return float(np.count_nonzero(power >= power.max() * 10 ** (-_ACTIVE_DB / 10)) * _FRAME_SECONDS)


def frame_size(sample_rate: int) -> int:
    """Samples per frame of 20 ms."""
    return max(1, round(_FRAME_SECONDS * sample_rate))


def frame_powers(samples: Samples, sample_rate: int) -> Samples:
    """Variance of each frame of 20 ms: (N,) -> (T,), or of each channel, (N, C) -> (T, C).

    The tail is left out; shorter waveforms are one frame.
    """
    size = max(1, min(len(samples), frame_size(sample_rate)))
    frames = samples[: len(samples) // size * size].reshape(-1, size, *samples.shape[1:])
    if size > 1:
        frames = frames - frames.mean(axis=1, keepdims=True)  # an offset is no sound
    powers: Samples = np.einsum("ij...,ij...->i...", frames, frames) / np.float32(size)
    return powers


def level_of(powers: Samples) -> float:
    """Level in dBFS of the active among frames with these powers (T,); -inf for silence."""
    if not powers.any():
        return float("-inf")
    active = powers[powers >= powers.max() * 10 ** (-_ACTIVE_DB / 10)]
    return float(10 * np.log10(active.mean()))
