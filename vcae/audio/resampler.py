"""Resampling of waveforms in blocks."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import lru_cache
from math import ceil

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from vcae.audio.blocks import Samples, concatenate, split

_ZERO_CROSSINGS = 32  # of the filter on each side; one per sample of the lower rate
_CUTOFF = 0.98  # of the lower Nyquist frequency
_KAISER_BETA = 8.0


def resample(samples: Samples, from_rate: int, to_rate: int) -> Samples:
    """Resample from one rate in Hz to another: (N,) -> (ceil(N * to_rate / from_rate),), by `Resampler`."""
    if from_rate == to_rate:
        return samples
    return concatenate(resampled(split(samples), from_rate, to_rate))


class Resampler:
    """Resamples a waveform in blocks; the output does not depend on the sizes of the blocks.

    Output m is at input position m * ratio. Windowed-sinc interpolation (Smith, "Digital Audio Resampling
    Home Page", 2002) with 32 zero crossings on each side, which is 2 ms if the lower rate is 16 kHz. The
    passband is flat to 0.9 of the lower Nyquist frequency; from 1.07 of it on, attenuation is 80 dB. Ratios
    that need integers above 4000, such as 44101 to 16000, are approximated within 0.02 %.
    """

    ratio: Fraction
    """Input samples per output sample."""
    lookahead: int
    """Input samples after its position that an output depends on."""

    def __init__(self, from_rate: int, to_rate: int) -> None:
        # The filter bank has a row for each output of a period, so the period must be short.
        if from_rate > to_rate:
            self.ratio = 1 / Fraction(to_rate, from_rate).limit_denominator(4000)
        else:
            self.ratio = Fraction(from_rate, to_rate).limit_denominator(4000)
        self._bank = np.ones((1, 1), dtype=np.float32) if self.ratio == 1 else _filter_bank(self.ratio)
        self.lookahead = self._bank.shape[1] // 2
        self._pending = np.zeros(max(0, self.lookahead - 1), dtype=np.float32)
        self._start = -len(self._pending)  # position of `_pending` in the input
        self._received = self._emitted = 0

    def feed(self, block: Samples) -> Samples:
        """Process a block and return the output that is ready: (N,) -> (M,), M about N / ratio."""
        self._received += len(block)
        ready = max(0, ceil((self._received - self.lookahead) / self.ratio) - self._emitted)
        if self.ratio == 1:
            self._emitted += ready
            return block
        self._pending = np.concatenate([self._pending, block])
        if not ready:
            return np.zeros(0, dtype=np.float32)
        windows = sliding_window_view(self._pending, self._bank.shape[1])
        out = np.empty(ready, dtype=np.float32)
        for part in split(np.arange(self._emitted, self._emitted + ready), 2**13):
            position = part * self.ratio.numerator // self.ratio.denominator
            window = windows[position - self.lookahead + 1 - self._start]
            at = part[0] - self._emitted
            out[at : at + len(part)] = np.einsum("ij,ij->i", window, self._bank[part % len(self._bank)])
        self._emitted += ready
        next_position = self._emitted * self.ratio.numerator // self.ratio.denominator
        used = next_position - self.lookahead + 1 - self._start
        self._pending, self._start = self._pending[used:], self._start + used
        return out

    def flush(self) -> Samples:
        """The remaining output, as if zeros followed; the total is ceil(N / ratio) samples for N."""
        rest = ceil(self._received / self.ratio) - self._emitted
        return self.feed(np.zeros(self.lookahead, dtype=np.float32))[:rest]


def resampled(blocks: Iterable[Samples], from_rate: int, to_rate: int) -> Iterator[Samples]:
    """Resample a waveform in blocks, by `Resampler`."""
    resampler = Resampler(from_rate, to_rate)
    for block in blocks:
        yield resampler.feed(block)
    yield resampler.flush()


@lru_cache(maxsize=8)
def _filter_bank(ratio: Fraction) -> Samples:
    """Filter coefficients for each output of a period: (ratio.denominator, 2 * lookahead).

    The input window of output m starts `lookahead` - 1 samples before position m * ratio, rounded down.
    """
    stretch = float(max(ratio, Fraction(1)))  # input samples for each sample of the lower rate
    width = _ZERO_CROSSINGS * stretch
    half = ceil(width)
    phase = np.arange(ratio.denominator) * ratio.numerator % ratio.denominator / ratio.denominator
    distance = np.arange(1 - half, 1 + half) - phase[:, None]  # in input samples
    window = np.i0(_KAISER_BETA * np.sqrt((1 - (distance / width) ** 2).clip(0))) * (abs(distance) <= width)
    bank = np.sinc(_CUTOFF / stretch * distance) * window
    normalised: Samples = (bank / bank.sum(axis=1, keepdims=True)).astype(np.float32)
    return normalised
