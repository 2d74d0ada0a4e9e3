"""Live conversion: a `Stream` between two sound devices that run in real time.

The devices, or files in place of devices, call `capture` and `play` from their own threads. The thread that
owns the `LiveSession` converts.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np

from vcae.audio import Samples
from vcae.inference.stream import Stream

_MAX_BACKLOG = (
    0.2  # seconds of captured audio that may wait, or two blocks; beyond it, the backlog is dropped
)
_FADE = 0.005  # seconds of a cross-fade
_DELAY_CHECK = 0.5  # seconds between two checks whether the delay has grown


class LiveSession:
    """Passes captured audio through a `Stream` to playback, at a bounded delay.

    Audio that cannot be converted in time is dropped, all but the newest block, with a cross-fade. An empty
    jitter buffer is an underrun: playback fades to silence until the buffer is full again. When the delay has
    grown, converted audio is dropped by as much.
    """

    delay: float
    """Latest delay from capture to playback, in seconds."""
    first_delay: float
    longest_delay: float
    devices_delay: float
    """The part of `delay` that the devices report as their latency, in seconds."""

    def __init__(
        self, stream: Stream, sample_rate: int, output_rate: int, jitter_buffer: float = 0.04
    ) -> None:
        """Rates are those of the stream, in Hz. jitter_buffer: seconds of audio to buffer before playback."""
        self.stream = stream
        self.sample_rate, self.output_rate = sample_rate, output_rate
        self.delay = self.first_delay = self.longest_delay = self.devices_delay = 0.0
        self._lock = threading.Condition()
        self._waiting: list[Samples] = []  # captured, not yet converted
        self._buffer = _JitterBuffer(output_rate, round(jitter_buffer * output_rate))
        self._least_delay, self._since_check = math.inf, 0  # since the last check; samples played since
        self._usual_delay = 0.0
        self._ended = self._converting = self._converted = False
        self._captured = self._dropped = self._device_underruns = 0
        self._times: deque[float] = deque(maxlen=2**16)  # seconds per block, of about 20 minutes
        self._computed, self._calls = 0.0, 0  # seconds in all; number of blocks
        self._reported = (0.0, 0, 0.0)  # `_computed`, `_calls` and `duration` at the last `status_line`
        self._peaks = [0.0, 0.0]  # captured and played, since the last `status_line`

    def capture(self, samples: Samples) -> None:
        """Take the next samples from the microphone: (N,)."""
        with self._lock:
            waiting = sum(map(len, self._waiting))
            if waiting > max(_MAX_BACKLOG * self.sample_rate, 2 * len(samples)):
                samples = _crossfade(self._waiting[0], samples, round(_FADE * self.sample_rate))
                self._waiting.clear()
                self._dropped += waiting
            self._waiting.append(samples)
            self._captured += len(samples)
            self._peaks[0] = max(self._peaks[0], _peak(samples))
            self._lock.notify_all()

    @property
    def backlog(self) -> float:
        """Seconds of captured sound that wait to be converted."""
        return sum(map(len, self._waiting)) / self.sample_rate

    def play(self, count: int) -> Samples:
        """Return the next samples for the loudspeaker: (count,)."""
        with self._lock:
            # Audio that was captured, but neither dropped nor played, is the delay.
            delay = (self._captured - self._dropped) / self.sample_rate
            delay -= self._buffer.removed / self.output_rate
            samples = self._buffer.pull(count)
            if self._buffer.playing and not self._ended:
                self.delay = delay + self.devices_delay
                self.first_delay = self.first_delay or self.delay
                self.longest_delay = max(self.delay, self.longest_delay)
                self._limit_delay(delay, count)
            self._peaks[1] = max(self._peaks[1], _peak(samples))
            return samples

    def _limit_delay(self, delay: float, count: int) -> None:
        """At every check, drop as much as the delay has grown."""
        # The least delay counts: it varies by a block from call to call, because the devices alternate.
        self._least_delay, self._since_check = min(delay, self._least_delay), self._since_check + count
        if self._since_check >= _DELAY_CHECK * self.output_rate:
            self._usual_delay = self._usual_delay or self._least_delay
            self._buffer.drop(round((self._least_delay - self._usual_delay) * self.output_rate), keep=count)
            self._least_delay, self._since_check = math.inf, 0

    def count_underrun(self) -> None:
        """Count an underrun or overrun that a device reports."""
        self._device_underruns += 1

    def end(self) -> None:
        """Declare that nothing more will be captured."""
        with self._lock:
            self._ended = True
            self._lock.notify_all()

    def convert(self, timeout: float) -> bool:
        """Convert all captured audio, after waiting for it up to `timeout` seconds; False after the last."""
        with self._lock:
            self._lock.wait_for(lambda: self._waiting or self._ended, timeout)
            blocks, self._waiting = self._waiting, []
            self._converting, last = True, self._ended
        started = time.perf_counter()
        out = [self.stream.feed(np.concatenate(blocks))] if blocks else []
        if last:
            out.append(self.stream.flush())
        spent = time.perf_counter() - started
        with self._lock:
            self._buffer.push(out, last)
            self._computed += spent
            if blocks:
                self._calls += 1
                self._times.append(spent)
            self._converting, self._converted = False, last
            self._lock.notify_all()
        return not last

    def wait_converted(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until all captured audio is converted; returns whether it is."""

        def converted() -> bool:
            return not (self._waiting or self._converting) and self._ended == self._converted

        with self._lock:
            return self._lock.wait_for(converted, timeout)

    @property
    def finished(self) -> bool:
        """Whether everything has been played."""
        return self._buffer.finished

    @property
    def underruns(self) -> int:
        """Underruns of the jitter buffer, and those that devices reported."""
        return self._buffer.underruns + self._device_underruns

    @property
    def dropped_seconds(self) -> float:
        """Audio dropped before or after conversion, in seconds."""
        return self._dropped / self.sample_rate + self._buffer.dropped / self.output_rate

    @property
    def duration(self) -> float:
        """Audio captured, in seconds."""
        return self._captured / self.sample_rate

    @property
    def load(self) -> float:
        """Seconds of computation per second of audio."""
        return self._computed / self.duration if self.duration else 0.0

    def block_times(self, percentiles: Sequence[float] = (50, 95, 99)) -> list[float]:
        """Percentiles of the time to convert a block, in seconds."""
        return [float(t) for t in np.percentile(self._times or [0.0], percentiles)]

    def status_line(self) -> str:
        """Latency, load, underruns and levels since the last call, as one line."""
        with self._lock:
            before, self._reported = self._reported, (self._computed, self._calls, self.duration)
            computed, calls, duration = (now - then for now, then in zip(self._reported, before, strict=True))
            peaks, self._peaks = self._peaks, [0.0, 0.0]
        captured, played = (20 * math.log10(max(peak, 1e-5)) for peak in peaks)
        return (
            f"{self.latency_line(computed / max(calls, 1))}  load {computed / max(duration, 1e-3):.0%}  "
            f"underruns {self.underruns}  in {captured:.0f} dB  out {played:.0f} dB"
        )

    def latency_line(self, compute: float) -> str:
        """The delay and its parts as text; compute: seconds to convert a block."""
        algorithm = self.stream.latency / self.output_rate
        parts = {
            "algorithm": algorithm,
            "compute": compute,
            "buffer": max(0.0, self.delay - algorithm - compute),
        }
        listed = " + ".join(f"{1000 * seconds:.0f} {name}" for name, seconds in parts.items())
        return f"latency {1000 * self.delay:.0f} ms ({listed})"


class _JitterBuffer:
    """Converted samples that wait for playback.

    Playback starts when the buffer holds `size` samples, and again so after an underrun.
    """

    def __init__(self, rate: int, size: int) -> None:
        self.playing = False
        self.underruns = self.dropped = 0
        self.removed = 0  # samples played or dropped
        self._size, self._fade = size, round(_FADE * rate)
        self._samples = np.zeros(0, dtype=np.float32)
        self._last_played = np.float32(0)
        self._complete = False  # nothing more will be pushed

    @property
    def finished(self) -> bool:
        return self._complete and not len(self._samples)

    def push(self, blocks: Iterable[Samples], last: bool) -> None:
        self._samples = np.concatenate([self._samples, *blocks])
        self._complete = last

    def pull(self, count: int) -> Samples:
        """(count,) to be played now."""
        if not self.playing:
            if len(self._samples) < self._size + count and not self._complete:
                return np.zeros(count, dtype=np.float32)
            self.playing = True
            self._samples = _crossfade(np.zeros_like(self._samples), self._samples, self._fade)
        out, self._samples = self._samples[:count], self._samples[count:]
        self.removed += len(out)
        if len(out) < count:
            self.playing = False
            self.underruns += not self._complete
            out = self._fade_out(out, count)
        self._last_played = out[-1]
        return out

    def drop(self, count: int, keep: int) -> None:
        """Drop `count` samples, if they are more than a cross-fade; `keep` remain for the next pull."""
        count = min(count, len(self._samples) - self._fade - keep)
        if count > self._fade:
            self._samples = _crossfade(self._samples, self._samples[count:], self._fade)
            self.dropped += count
            self.removed += count

    def _fade_out(self, out: Samples, count: int) -> Samples:
        """Extend fewer samples to `count`, fading to silence."""
        last = out[-1] if len(out) else self._last_played
        extended = np.concatenate([out, np.full(count - len(out), last, dtype=np.float32)])
        begin = max(0, min(len(out), count - self._fade))
        silence = np.zeros(count - begin, dtype=np.float32)
        return np.concatenate([extended[:begin], _crossfade(extended[begin:], silence, self._fade)])


def _crossfade(old: Samples, new: Samples, length: int) -> Samples:
    """The new samples, cross-faded with the old ones over `length` samples, or as many as there are."""
    length = min(length, len(old), len(new))
    gain = np.linspace(0, 1, length, dtype=np.float32)
    return np.concatenate([old[:length] * (1 - gain) + new[:length] * gain, new[length:]])


def _peak(samples: Samples) -> float:
    return float(np.abs(samples).max(initial=0))
