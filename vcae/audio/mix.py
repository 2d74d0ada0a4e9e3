"""The channels of a recording as one waveform, at the level of the recording."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vcae.audio.blocks import Samples, cut
from vcae.audio.level import decibels, frame_powers, frame_size, is_sound, level_of

Frames = npt.NDArray[np.float32]
"""Samples of all channels, (N, C)."""

_CANCEL_DB = 1.0  # below what a single channel that sounds, among silent ones, leaves in the mean
_INTEGERS = (2**15, 2**23, 2**31)  # full scales of 16, 24 and 32 bits
_INTEGER_RMS = 16.0  # no real overload is as loud


@dataclass(frozen=True)
class Mix:
    """Weights of the channels, so that the mono waveform is as loud as the loudest channel of each moment.

    The mean of the channels, scaled; where channels cancel each other in the mean, the loudest one. Samples
    that are 16-bit (24, 32) numbers are brought to [-1, 1], and an overload is lowered as a whole.
    """

    weights: Samples
    """(C,)"""
    told: str = ""
    """What was done to the samples, as part of a sentence; empty for nothing."""
    silent: bool = False
    """Whether all channels are zero."""

    def __call__(self, block: Frames) -> Samples:
        """Mix a block: (N, C) -> (N,)."""
        if block.shape[1] == 1 and self.weights[0] == 1:
            return block[:, 0]
        mono: Samples = block @ self.weights
        return mono

    @classmethod
    def of(cls, blocks: Iterable[Frames], sample_rate: int, unscaled: bool = False) -> "Mix":
        """Measure a recording in blocks. unscaled: not decoded from integers, so that any scale may occur."""
        powers, mean_powers = [], []
        peak = np.zeros(1)
        mean_peak = 0.0
        count, squares, whole = 0, 0.0, True
        channels = 1
        for block in cut(blocks, 100 * frame_size(sample_rate)):
            channels = block.shape[1]
            sound = np.abs(block) <= _INTEGERS[-1]  # false for NaN too
            block = block if sound.all() else np.where(sound, block, np.float32(0))
            mean = block.mean(axis=1)
            peak = np.maximum(peak, np.abs(block).max(axis=0))
            mean_peak = max(mean_peak, float(np.abs(mean).max()))
            if channels > 1:
                powers.append(frame_powers(block, sample_rate))
                mean_powers.append(frame_powers(mean, sample_rate))
            if unscaled:
                count += block.size
                squares += float(np.square(block, dtype=np.float64).sum())
                whole = whole and bool((block == np.rint(block)).all())
        highest = float(peak.max())
        weights = np.full(channels, 1 / channels)
        scale, told = 1.0, ""
        if unscaled and highest > 1 and (whole or squares > _INTEGER_RMS**2 * count):
            scale = next((full for full in _INTEGERS if highest <= full), 1.0)
            told = f"holds {int(scale).bit_length()}-bit numbers as floats; they were divided by {scale:g}"
        if powers:
            each, mean_level = np.concatenate(powers), level_of(np.concatenate(mean_powers))
            level = level_of(each.max(axis=1))
            if mean_level < level - decibels(channels) - _CANCEL_DB:
                weights = np.eye(channels)[int(np.argmax([level_of(one) for one in each.T]))]
                mean_peak = float(peak[int(weights.argmax())])
            else:
                gain = 10 ** ((level - mean_level) / 20) if level > mean_level else 1.0
                gain = max(1.0, min(gain, scale / mean_peak)) if mean_peak else 1.0
                weights, mean_peak = gain * weights, gain * mean_peak
        if unscaled and not told and mean_peak > 1 and is_sound(peak).all():
            scale = mean_peak
            told = (
                f"reaches {scale:.3g} times full scale; it was lowered as a whole by {decibels(scale):.1f} dB"
            )
        return cls((weights / scale).astype(np.float32), told, highest == 0)


def mono(samples: npt.NDArray[Any], sample_rate: int) -> Samples:
    """The mix of an array of all channels: (N, C) -> (N,)."""
    frames = samples.astype(np.float32, copy=False)
    return Mix.of([frames], sample_rate)(frames)
