"""What is wrong with a recording, measured from its samples: clipping, noise, bandwidth, hum."""

from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from vcae.audio.blocks import Samples

Array = npt.NDArray[np.floating[Any]]

WINDOW = 0.064
"""Length of the windows of `bandwidth`, in seconds."""
_MAINS = (50, 60)  # Hz
_INAUDIBLE = 1e-8  # mean square, -80 dBFS
_STEP = 0.5  # windows from one spectrum to the next


def clipped_share(x: Samples) -> float:
    """Share of the samples (N,) in runs of three or more within 1 % of the peak of their sign.

    Natural peaks are sharper; those of clipped speech are cut at one level.
    """
    share = 0
    for side in (x, -x):
        peak = side.max()
        if peak > 0:
            high = np.flatnonzero(side >= 0.99 * peak)
            borders = np.flatnonzero(np.diff(high, prepend=-2, append=high[-1] + 2) > 1)
            runs = np.diff(borders)
            share += int(runs[runs >= 3].sum())
    return share / len(x)


def noise_level(x: Samples, rate: int) -> float:
    """Level in dBFS of the quietest tenth of the frames of 20 ms, less those of digital silence."""
    size = rate // 50
    frames = x[: len(x) // size * size].reshape(-1, size)
    powers = np.sort(frames.var(axis=1))
    powers = powers[powers > 1e-10]  # -100 dBFS
    return _db(float(powers[: len(powers) // 10 + 1].mean())) if len(powers) else -100.0


def spectra(x: Samples, rate: int, window: float) -> Array:
    """Power spectra of (N,): (T, bins), from windows of so many seconds that overlap by half."""
    size = min(len(x), round(window * rate))
    frames = sliding_window_view(x, size)[:: max(1, round(size * _STEP))]
    shape = np.hanning(size).astype(np.float32)
    power: Array = np.abs(np.fft.rfft((frames - frames.mean(axis=1, keepdims=True)) * shape)) ** 2
    return power


def bandwidth(x: Samples, rate: int) -> float:
    """The highest frequency in Hz at which the loud moments of each band stand out of its quiet ones.

    A band counts where its 95th percentile over time is within 60 dB of the strongest band's, and 6 dB over
    its own 20th percentile: noise that is always there is no speech.
    """
    power = spectra(x, rate, WINDOW)
    width = max(1, round(100 / (rate / 2 / (power.shape[1] - 1))))  # bins in 100 Hz
    count = (power.shape[1] - 1) // width
    bands = power[:, 1 : 1 + count * width].reshape(len(power), count, width).mean(axis=2)
    loud, quiet = np.percentile(bands, [95, 20], axis=0)
    speech = (loud > 1e-6 * loud.max()) & (loud > 4 * quiet)
    return float((np.flatnonzero(speech)[-1] + 1) * rate / 2 / count) if speech.any() else 0.0


def hum(x: Samples, rate: int) -> float:
    """How far a steady tone of the mains stands out of its surroundings, in dB: the mean of two harmonics.

    Of the multiples of 50 and 60 Hz up to 300 Hz, the two that stand out most of the same mains count. Voices
    move, so the quietest fifth of the windows of half a second tells hum from speech.
    """
    size = round(0.5 * rate)
    if len(x) < 2 * size:
        return float("nan")
    step = size / rate  # bins a Hz
    quiet = np.percentile(spectra(x, rate, 0.5)[:, : round(330 * step)], 20, axis=0)
    found = 0.0
    for mains in _MAINS:
        over = []
        for line in range(mains, 301, mains):
            at = round(line * step)
            around = np.r_[quiet[at - round(16 * step) : at - 3], quiet[at + 4 : at + round(16 * step) + 1]]
            tone = quiet[at - 1 : at + 2].max()
            audible = 8 * tone / size**2 > _INAUDIBLE  # else it is rounding in digital silence
            over.append(_db(float(tone / np.median(around))) if audible else 0.0)
        found = max(found, float(np.mean(sorted(over)[-2:])))
    return found


def _db(power: float) -> float:
    return float(10 * np.log10(max(power, 1e-20)))
