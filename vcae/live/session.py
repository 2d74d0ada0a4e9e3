"""Live conversion: a stream between two devices, which wait for nobody.

Devices, or files that stand in for them, call `capture` and `play` from threads of their own; the thread
that owns the `LiveSession` converts.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np

from vcae.audio import Samples
from vcae.inference.stream import Stream

_BACKLOG = 0.2  # seconds that may wait to be converted, and two blocks; of more, only the newest stays
_FADE = 0.005  # seconds of a cross-fade
_REVIEW = 0.5  # seconds after which is left out what the delay has grown by


class LiveSession:
    """Carries sound from one device through a `Stream` to another, with a delay that never grows for good.

    What cannot be converted in time is left out: the newest block is kept, with a cross-fade from what came
    before. Where there is nothing to play in time, an underrun is heard: a short silence, faded.
    """

    delay: float
    """Seconds from capturing to playing what was played last."""
    first_delay: float
    longest_delay: float
    devices_delay: float
    """Seconds of `delay` that the devices themselves take, as they tell."""

    def __init__(
        self, stream: Stream, sample_rate: int, output_rate: int, jitter_buffer: float = 0.04
    ) -> None:
        """The rates, in Hz, are those of the stream.

        jitter_buffer: seconds of converted sound that wait to be played, for when the computer is busy.
        """
        self.stream = stream
        self.sample_rate, self.output_rate = sample_rate, output_rate
        self.delay = self.first_delay = self.longest_delay = self.devices_delay = 0.0
        self._lock = threading.Condition()
        self._waiting: list[Samples] = []  # to be converted
        self._playback = _Playback(output_rate, round(jitter_buffer * output_rate))
        self._least_delay, self._reviewed = math.inf, 0  # since the last review; over how many samples
        self._usual_delay = 0.0
        self._ended = self._converting = self._converted = False
        self._captured = self._dropped = self._lost = 0
        self._times: deque[float] = deque(maxlen=2**16)  # of blocks, in seconds: some 20 minutes of them
        self._computed, self._calls = 0.0, 0  # seconds in all; for how many blocks
        self._told = (0.0, 0, 0.0)  # both, and seconds captured, when `line` was asked for last
        self._peaks = [0.0, 0.0]  # since then, captured and played

    def capture(self, samples: Samples) -> None:
        """Take the next samples from the microphone: (N,)."""
        with self._lock:
            waiting = sum(map(len, self._waiting))
            if waiting > max(_BACKLOG * self.sample_rate, 2 * len(samples)):
                samples = _crossfade(self._waiting[0], samples, round(_FADE * self.sample_rate))
                self._waiting.clear()
                self._dropped += waiting
            self._waiting.append(samples)
            self._captured += len(samples)
            self._peaks[0] = max(self._peaks[0], _peak(samples))
            self._lock.notify_all()

    def play(self, count: int) -> Samples:
        """Give the loudspeaker its next samples: (count,)."""
        with self._lock:
            # What was captured, and neither left out nor played, is on its way.
            delay = (self._captured - self._dropped) / self.sample_rate
            delay -= self._playback.gone / self.output_rate
            samples = self._playback.pull(count)
            if self._playback.running and not self._ended:
                self.delay = delay + self.devices_delay
                self.first_delay = self.first_delay or self.delay
                self.longest_delay = max(self.delay, self.longest_delay)
                self._review(delay, count)
            self._peaks[1] = max(self._peaks[1], _peak(samples))
            return samples

    def _review(self, delay: float, count: int) -> None:
        """Now and then leave out as much as the delay has grown."""
        # By the least delay: from call to call it is a block more or less, as the devices take turns.
        self._least_delay, self._reviewed = min(delay, self._least_delay), self._reviewed + count
        if self._reviewed >= _REVIEW * self.output_rate:
            self._usual_delay = self._usual_delay or self._least_delay
            self._playback.skip(round((self._least_delay - self._usual_delay) * self.output_rate), keep=count)
            self._least_delay, self._reviewed = math.inf, 0

    def lose(self) -> None:
        """Count an underrun that a device reports."""
        self._lost += 1

    def end(self) -> None:
        """Say that nothing more will be captured."""
        with self._lock:
            self._ended = True
            self._lock.notify_all()

    def convert(self, timeout: float) -> bool:
        """Convert what is there or comes within so many seconds; false once that was the last."""
        with self._lock:
            self._lock.wait_for(lambda: self._waiting or self._ended, timeout)
            blocks, self._waiting = self._waiting, []
            self._converting, last = True, self._ended
        begun = time.perf_counter()
        out = [self.stream.feed(np.concatenate(blocks))] if blocks else []
        if last:
            out.append(self.stream.flush())
        spent = time.perf_counter() - begun
        with self._lock:
            self._playback.push(out, last)
            self._computed += spent
            if blocks:
                self._calls += 1
                self._times.append(spent)
            self._converting, self._converted = False, last
            self._lock.notify_all()
        return not last

    def settle(self, timeout: float) -> bool:
        """Wait for all that was captured to be converted, so many seconds at most; whether it has been."""

        def settled() -> bool:
            return not (self._waiting or self._converting) and self._ended == self._converted

        with self._lock:
            return self._lock.wait_for(settled, timeout)

    @property
    def finished(self) -> bool:
        """Whether everything has been played."""
        return self._playback.finished

    @property
    def underruns(self) -> int:
        """How often there was nothing to play in time, or a device lost something."""
        return self._playback.underruns + self._lost

    @property
    def skipped(self) -> float:
        """Seconds of sound that were left out."""
        return self._dropped / self.sample_rate + self._playback.skipped / self.output_rate

    @property
    def duration(self) -> float:
        """Seconds of sound that were captured."""
        return self._captured / self.sample_rate

    @property
    def load(self) -> float:
        """Seconds of computing for each second of sound."""
        return self._computed / self.duration if self.duration else 0.0

    def block_times(self, percentiles: Sequence[float] = (50, 95, 99)) -> list[float]:
        """Percentiles of the seconds that a block took to convert."""
        return [float(t) for t in np.percentile(self._times or [0.0], percentiles)]

    def line(self) -> str:
        """How it has gone since this was last asked for, as a status line."""
        with self._lock:
            before, self._told = self._told, (self._computed, self._calls, self.duration)
            computed, calls, duration = (now - then for now, then in zip(self._told, before, strict=True))
            peaks, self._peaks = self._peaks, [0.0, 0.0]
        heard, played = (20 * math.log10(max(peak, 1e-5)) for peak in peaks)
        return (
            f"{self.latency(computed / max(calls, 1))}  load {computed / max(duration, 1e-3):.0%}  "
            f"underruns {self.underruns}  in {heard:.0f} dB  out {played:.0f} dB"
        )

    def latency(self, compute: float) -> str:
        """The delay and what it is made of, in words; converting a block takes so many seconds."""
        algorithm = self.stream.latency / self.output_rate
        parts = {
            "algorithm": algorithm,
            "compute": compute,
            "buffer": max(0.0, self.delay - algorithm - compute),
        }
        listed = " + ".join(f"{1000 * seconds:.0f} {name}" for name, seconds in parts.items())
        return f"latency {1000 * self.delay:.0f} ms ({listed})"


class _Playback:
    """Converted samples that wait to be played.

    It runs once the jitter buffer is full, and again so after it ran dry.
    """

    def __init__(self, rate: int, jitter_buffer: int) -> None:
        self.running = False
        self.underruns = self.skipped = 0
        self.gone = 0  # samples played or skipped
        self._reserve, self._fade = jitter_buffer, round(_FADE * rate)
        self._samples = np.zeros(0, dtype=np.float32)
        self._latest = np.float32(0)  # that was played
        self._last = False  # that more will come no more

    @property
    def finished(self) -> bool:
        return self._last and not len(self._samples)

    def push(self, blocks: Iterable[Samples], last: bool) -> None:
        self._samples = np.concatenate([self._samples, *blocks])
        self._last = last

    def pull(self, count: int) -> Samples:
        """(count,) to be played now."""
        if not self.running:
            if len(self._samples) < self._reserve + count and not self._last:
                return np.zeros(count, dtype=np.float32)
            self.running = True
            self._samples = _crossfade(np.zeros_like(self._samples), self._samples, self._fade)
        out, self._samples = self._samples[:count], self._samples[count:]
        self.gone += len(out)
        if len(out) < count:
            self.running = False
            self.underruns += not self._last
            out = self._fade_out(out, count)
        self._latest = out[-1]
        return out

    def skip(self, count: int, keep: int) -> None:
        """Leave out so many samples, if they are more than a fade, but keep so many for the next pull."""
        count = min(count, len(self._samples) - self._fade - keep)
        if count > self._fade:
            self._samples = _crossfade(self._samples, self._samples[count:], self._fade)
            self.skipped += count
            self.gone += count

    def _fade_out(self, out: Samples, count: int) -> Samples:
        """Make `count` samples of fewer, down to silence."""
        latest = out[-1] if len(out) else self._latest
        held = np.concatenate([out, np.full(count - len(out), latest, dtype=np.float32)])
        begin = max(0, min(len(out), count - self._fade))
        silence = np.zeros(count - begin, dtype=np.float32)
        return np.concatenate([held[:begin], _crossfade(held[begin:], silence, self._fade)])


def _crossfade(old: Samples, new: Samples, length: int) -> Samples:
    """The new samples, faded in over the old ones: `length` of them, or as many as there are."""
    length = min(length, len(old), len(new))
    share = np.linspace(0, 1, length, dtype=np.float32)
    return np.concatenate([old[:length] * (1 - share) + new[:length] * share, new[length:]])


def _peak(samples: Samples) -> float:
    return float(np.abs(samples).max(initial=0))
