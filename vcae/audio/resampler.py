"""Resampling of waveforms that come in blocks."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import lru_cache
from math import ceil

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from vcae.audio.blocks import Samples, concatenate, split

_ZERO_CROSSINGS = 32  # of the resampling filter on each side, in samples of the lower rate
_CUTOFF = 0.98  # of the lower Nyquist frequency
_KAISER_BETA = 8.0


def resample(samples: Samples, from_rate: int, to_rate: int) -> Samples:
    """Resample (N,) from one rate in Hz to another: (ceil(N * to_rate / from_rate),) float32.

    See `Resampler`.
    """
    if from_rate == to_rate:
        return samples
    return concatenate(resampled(split(samples), from_rate, to_rate))


class Resampler:
    """Resamples a waveform that comes in blocks of any size; how it is cut leaves no trace.

    Output m lies at input m * ratio. Windowed-sinc interpolation (Smith, "Digital Audio Resampling", 2002)
    with 32 zero crossings on each side, which is 2 ms where the lower of the two rates is 16 kHz: flat to
    0.9 of the lower Nyquist frequency, 80 dB down from 1.07 of it on. Rates whose ratio takes whole numbers
    above 4000, such as 44101 to 16000, are met within 0.02 %, which is less than one hears.
    """

    ratio: Fraction
    """Input samples for each output sample."""
    lookahead: int
    """How many input samples behind its place an output waits for."""

    def __init__(self, from_rate: int, to_rate: int) -> None:
        # The filter bank has a row for each output of a period, so the period must be kept short.
        if from_rate > to_rate:
            self.ratio = 1 / Fraction(to_rate, from_rate).limit_denominator(4000)
        else:
            self.ratio = Fraction(from_rate, to_rate).limit_denominator(4000)
        self._bank = np.ones((1, 1), dtype=np.float32) if self.ratio == 1 else _filter_bank(self.ratio)
        self.lookahead = self._bank.shape[1] // 2
        self._pending = np.zeros(max(0, self.lookahead - 1), dtype=np.float32)
        self._start = -len(self._pending)  # where in the input what is pending starts
        self._received = self._emitted = 0

    def feed(self, block: Samples) -> Samples:
        """What has become ready with this block: (N,) -> (M,), M about N / ratio."""
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
            place = part * self.ratio.numerator // self.ratio.denominator
            window = windows[place - self.lookahead + 1 - self._start]
            at = part[0] - self._emitted
            out[at : at + len(part)] = np.einsum("ij,ij->i", window, self._bank[part % len(self._bank)])
        self._emitted += ready
        next_place = self._emitted * self.ratio.numerator // self.ratio.denominator
        used = next_place - self.lookahead + 1 - self._start
        self._pending, self._start = self._pending[used:], self._start + used
        return out

    def flush(self) -> Samples:
        """The rest, as if silence followed: then ceil(N / ratio) samples are given for N in all."""
        rest = ceil(self._received / self.ratio) - self._emitted
        return self.feed(np.zeros(self.lookahead, dtype=np.float32))[:rest]


def resampled(blocks: Iterable[Samples], from_rate: int, to_rate: int) -> Iterator[Samples]:
    """Blocks of a waveform at another rate, as `Resampler` gives them."""
    resampler = Resampler(from_rate, to_rate)
    for block in blocks:
        yield resampler.feed(block)
    yield resampler.flush()


@lru_cache(maxsize=8)
def _filter_bank(ratio: Fraction) -> Samples:
    """Weights of a window of inputs for each output of a period: (ratio.denominator, 2 * lookahead).

    The window of output m starts `lookahead` - 1 inputs before place m * ratio, rounded down.
    """
    stretch = float(max(ratio, Fraction(1)))  # input samples for each sample of the lower rate
    width = _ZERO_CROSSINGS * stretch
    half = ceil(width)
    phase = np.arange(ratio.denominator) * ratio.numerator % ratio.denominator / ratio.denominator
    distance = np.arange(1 - half, 1 + half) - phase[:, None]  # in input samples
    window = np.i0(_KAISER_BETA * np.sqrt((1 - (distance / width) ** 2).clip(0))) * (abs(distance) <= width)
    bank = np.sinc(_CUTOFF / stretch * distance) * window
    weights: Samples = (bank / bank.sum(axis=1, keepdims=True)).astype(np.float32)
    return weights
