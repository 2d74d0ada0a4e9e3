"""An inaudible watermark that says "converted by vcae", and its detection.

Spread spectrum (Cox et al., "Secure Spread Spectrum Watermarking for Multimedia", IEEE Transactions on Image
Processing 6(12), 1997) in the log-magnitude of the short-time Fourier transform, with detection that needs
neither the original nor its beginning (Kirovski and Malvar, "Spread-Spectrum Watermarking of Audio Signals",
IEEE Transactions on Signal Processing 51(4), 2003).

Time and frequency are cut into cells of 32 ms and 100 to 160 Hz. A cell is raised or lowered by `STRENGTH`
decibels. A pattern of random signs, which repeats after two seconds, says which. The change scales with the
sound of the cell, which masks it. A detector adds up the pattern's correlation with the cells of a recording,
whatever part of the pattern comes first. The natural variation of speech adds up to little, since the signs
are random.

The pattern is public: the mark informs those who are honest, and whoever wants to remove it can.
`recipes/WATERMARK.md` says what it withstands, and what it costs.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vcae.audio.blocks import Samples, concatenate, cut, split
from vcae.audio.recording import Recording, Source
from vcae.audio.waveform import Audio
from vcae.errors import AudioError
from vcae.progress import Progress

Array = npt.NDArray[np.float64]

STRENGTH = 1.25
"""Change of a cell's level, up or down, in decibels."""
FALSE_ALARMS = 1e-6
"""Probability that a recording without the mark is called marked, by the Gaussian approximation."""
SHORTEST = 1.0
"""Least duration of a recording that is examined, in seconds; three are needed to find the mark reliably."""

_KEY = b"converted by vcae, pattern 1"
_HOP = 0.016  # seconds; a window is two hops, a chip, the duration of a cell, too
_CHIPS = 64  # of the pattern, 2.048 s
_LOW, _MIDDLE, _HIGH = 300, 3400, 6600  # Hz
_NARROW, _WIDE = 100, 160  # Hz, widths of bands below and above _MIDDLE
_EDGES = np.array([*range(_LOW, _MIDDLE, _NARROW), *range(_MIDDLE, _HIGH + 1, _WIDE)], dtype=np.float64)

# The detector's:
_RATE = 16_000
_WINDOW, _STEP = 512, 128  # samples
_PER_CHIP = 4  # steps
_PERIOD = _CHIPS * _PER_CHIP  # steps
_LEAF = 2 * _PERIOD  # steps in the shortest part of a recording that is judged by itself, 4.096 s
_DECOYS = 16  # other patterns, which show how large correlations are by chance
_FLOOR = 1e-7  # of the mean power of bands: below it, there is nothing
_CLIP = 3.0  # dB
_AROUND, _BESIDE = 3 * _PER_CHIP, 7  # steps and bands of the local mean


class Detection(NamedTuple):
    """Whether a recording has the mark.

    score: standard deviations of the best correlation from the mean of unmarked sound. chance: the
    probability, at most 1, that an unmarked recording of this length reaches this score. start, end: of the
    part with the largest score, in seconds.
    """

    score: float
    chance: float
    start: float
    end: float

    @property
    def found(self) -> bool:
        """Whether the recording was converted, or at least marked, by vcae."""
        return self.chance < FALSE_ALARMS


def watermark(audio: Audio) -> Audio:
    """Mark a waveform as converted by vcae. The length stays the same."""
    marked = concatenate(watermarked(split(audio.samples), audio.sample_rate))
    return Audio(marked, audio.sample_rate, audio.comment)


def watermarked(blocks: Iterable[Samples], sample_rate: int) -> Iterator[Samples]:
    """Mark a waveform in blocks, by `Watermarker`; their total length stays the same."""
    marker = Watermarker(sample_rate)
    for block in blocks:
        yield marker.feed(block)
    yield marker.flush()


class Watermarker:
    """Marks a waveform in blocks, by multiplication in the short-time Fourier domain.

    The output does not depend on the sizes of the blocks. It is delayed by 32 ms, which `flush` makes up for.
    Raises AudioError for sample rates below 2000 Hz, where the pattern has no bands.
    """

    def __init__(self, sample_rate: int) -> None:
        if sample_rate < 2_000:
            raise AudioError(f"a watermark needs a sample rate of 2000 Hz or more, not {sample_rate}")
        self._hop = round(_HOP * sample_rate)
        size = 2 * self._hop
        # Squared and overlapped by half, the window is 1.
        self._window = np.sin(np.pi * (np.arange(size) + 0.5) / size)
        bins = _bins(size, sample_rate)
        self._gains = 10 ** (STRENGTH / 20 * _pattern(_KEY).T @ bins)  # (_CHIPS, size / 2 + 1)
        self._pending = np.zeros(self._hop)  # a hop before the first sample
        self._tail = np.zeros(self._hop)  # overlaps the next frame
        self._frames = 0
        self._due = 0  # samples that were fed and not yet returned
        self._early = self._hop  # samples before the first one that are not returned

    def feed(self, block: Samples) -> Samples:
        """Process a block and return the output that is ready: (N,) -> (M,)."""
        self._due += len(block)
        self._pending = np.concatenate([self._pending, block])
        count = max(0, len(self._pending) // self._hop - 1)
        if not count:
            return np.zeros(0, dtype=np.float32)
        out = np.concatenate([self._process(part) for part in split(np.arange(count), 512)])
        self._pending = self._pending[count * self._hop :]
        dropped = min(self._early, len(out))
        self._early -= dropped
        ready: Samples = out[dropped:].clip(-1, 1).astype(np.float32)
        self._due -= len(ready)
        return ready

    def flush(self) -> Samples:
        """The remaining output."""
        due = self._due
        return self.feed(np.zeros(2 * self._hop, dtype=np.float32))[:due]

    def _process(self, numbers: npt.NDArray[np.int64]) -> Array:
        """The output of frames of `_pending`: a hop for each."""
        hop = self._hop
        at = hop * numbers[:, None] + np.arange(2 * hop)
        spectrum = np.fft.rfft(self._pending[at] * self._window)
        chips = (self._frames + np.arange(len(numbers))) // 2 % _CHIPS
        frames = np.fft.irfft(spectrum * self._gains[chips], 2 * hop) * self._window
        self._frames += len(numbers)
        out = frames[:, :hop].copy()
        out[0] += self._tail
        out[1:] += frames[:-1, hop:]
        self._tail = frames[-1, hop:]
        return out.reshape(-1)


def detect(source: Source, progress: Progress | None = None) -> Detection:
    """Whether a recording, or a part of it, has the mark of `watermark`.

    It is examined as a whole and in parts of four seconds, their pairs, pairs of pairs, and so on; memory
    hardly grows with its length. Raises AudioError for recordings that cannot be read, and for those shorter
    than `SHORTEST` seconds.
    """
    recording = Recording(source, _RATE, progress)
    if recording.length < SHORTEST * _RATE:
        raise AudioError(
            f"{recording.name}: is too short to look for the watermark ({recording.length / _RATE:.1f} s);"
            f" give {SHORTEST:g} s or more"
        )
    sums, variances, step = [], [], 0
    for features in _leaves(recording.blocks("examining")):
        sum_, variance = _correlate(features, step)
        sums.append(sum_)
        variances.append(variance)
        step += features.shape[1]
    return _best(np.array(sums), np.array(variances), recording.length / _RATE)


def _leaves(blocks: Iterable[Samples]) -> Iterator[Array]:
    """The cells of a recording, (bands, steps), in parts of _LEAF steps; the last has up to twice as many."""
    window = np.sin(np.pi * (np.arange(_WINDOW) + 0.5) / _WINDOW)
    bins = _bins(_WINDOW, _RATE).T
    pending = np.zeros((0, len(_EDGES) - 1))
    rest = np.zeros(_WINDOW - _STEP)
    for block in cut(blocks, 256 * _STEP):
        samples = np.concatenate([rest, block])
        count = (len(samples) - _WINDOW) // _STEP + 1
        if count < 1:
            break
        at = _STEP * np.arange(count)[:, None] + np.arange(_WINDOW)
        power = np.abs(np.fft.rfft(samples[at] * window)) ** 2 @ bins
        pending = np.concatenate([pending, power])
        rest = samples[count * _STEP :]
        while len(pending) >= 2 * _LEAF:
            yield _whitened(pending[:_LEAF].T)
            pending = pending[_LEAF:]
    if len(pending):
        yield _whitened(pending.T)


def _whitened(power: Array) -> Array:
    """Powers of cells as levels in dB above those around them, clipped; 0 where there is no sound."""
    floor = _FLOOR * power.mean() + 1e-30
    features = _local(10 * np.log10(power + floor)).clip(-_CLIP, _CLIP)
    features[power < 3 * floor] = 0
    return features


def _correlate(features: Array, step: int) -> tuple[Array, float]:
    """Correlation with the pattern at each offset, (_PERIOD,), and its variance in sound without the mark.

    step: of the first cell in the recording. The variance is that for other random patterns.
    """
    folded = np.zeros((len(features), _PERIOD))
    for start in range(0, features.shape[1], _PERIOD):
        part = features[:, start : start + _PERIOD]
        folded[:, : part.shape[1]] += part
    spectrum = np.fft.rfft(np.roll(folded, step % _PERIOD, axis=1))
    # Circular correlation of each band, summed over the bands.
    found = np.fft.irfft((spectrum.conj() * _spectra()).sum(1), _PERIOD)
    return found[0], float(found[1:].var())


def _best(sums: Array, variances: Array, seconds: float) -> Detection:
    """The part with the largest score. sums: (leaves, _PERIOD). variances: (leaves,)."""
    leaves = len(sums)
    spans = [(start, 1) for start in range(leaves)]
    size = 2
    while size < leaves:
        spans += [(start, size) for start in range(0, leaves - size + 1, size // 2)]
        size *= 2
    if leaves > 1:
        spans.append((0, leaves))
    total = np.concatenate([np.zeros((1, _PERIOD)), np.cumsum(sums, axis=0)])
    deviation = np.concatenate([[0.0], np.cumsum(variances)])
    best, where = 0.0, spans[0]
    for start, length in spans:
        variance = deviation[start + length] - deviation[start]
        if variance > 0:
            score = float((total[start + length] - total[start]).max()) / math.sqrt(variance)
            if score > best:
                best, where = score, (start, length)
    trials = len(spans) * _PERIOD
    chance = min(1.0, trials * 0.5 * math.erfc(best / math.sqrt(2)))
    leaf = _LEAF * _STEP / _RATE
    start, length = where
    end = seconds if start + length == leaves else (start + length) * leaf
    return Detection(best, chance, start * leaf, end)


def _local(cells: Array) -> Array:
    """Cells less the mean of those around them, in time, then in frequency: (..., bands, steps)."""
    cells = cells - _mean(cells, _AROUND, -1)
    return cells - _mean(cells, _BESIDE, -2)


def _mean(cells: Array, size: int, axis: int) -> Array:
    """Moving mean over `size` elements of an axis, the first and the last repeated beyond the ends."""
    x = np.moveaxis(cells, axis, -1)
    before = size // 2
    padded = np.concatenate(
        [np.repeat(x[..., :1], before + 1, -1), x, np.repeat(x[..., -1:], size - 1 - before, -1)], axis=-1
    )
    sums = padded.cumsum(-1)
    mean = (sums[..., size:] - sums[..., :-size]) / size
    return np.moveaxis(mean, -1, axis).astype(np.float64, copy=False)


def _bins(size: int, sample_rate: int) -> Array:
    """Which bins of a Fourier transform of `size` samples are in which band: (bands, size / 2 + 1)."""
    frequencies = np.arange(size // 2 + 1) * sample_rate / size
    return ((frequencies >= _EDGES[:-1, None]) & (frequencies < _EDGES[1:, None])).astype(np.float64)


def _pattern(key: bytes) -> Array:
    """The signs of a key: (bands, _CHIPS), 1 or -1. By SHA-256, so that they are the same everywhere."""
    count = (len(_EDGES) - 1) * _CHIPS
    stream = b"".join(hashlib.sha256(key + bytes([n])).digest() for n in range(-(-count // 256)))
    bits = np.unpackbits(np.frombuffer(stream, dtype=np.uint8))[:count]
    return 2.0 * bits.reshape(-1, _CHIPS).astype(np.float64) - 1


@cache
def _spectra() -> npt.NDArray[np.complex128]:
    """Fourier transforms of pattern and decoys as the detector sees them: (1 + _DECOYS, bands, F)."""
    keys = [_KEY, *(b"decoy %d" % n for n in range(_DECOYS))]
    seen = np.repeat([_pattern(key) for key in keys], _PER_CHIP, axis=-1)
    repeated = _local(np.concatenate([seen] * 3, axis=-1))[..., _PERIOD : 2 * _PERIOD]
    return np.fft.rfft(repeated)
