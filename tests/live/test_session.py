"""Live conversion between two devices: delay, underruns and dropped audio, also after an overload.

A loop replaces the clock, and a fake stream returns its input, so that the numbers are exact.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcae.live.session import LiveSession

RATE = 16_000
TICK = 320
JITTER_BUFFER = 0.04


class Echo:
    """A fake stream that returns its input without delay."""

    latency = 0
    repaired = 0

    def __init__(self):
        self.fed = []

    def feed(self, samples):
        self.fed.append(samples)
        return samples

    def flush(self):
        return np.zeros(0, np.float32)


class Clock:
    """Two devices with the same clock, and control over when the session converts."""

    def __init__(self, rate=RATE, jitter_buffer=JITTER_BUFFER, tick=TICK):
        self.session = LiveSession(Echo(), rate, rate, jitter_buffer)
        self.tick = tick
        self.time = 0
        self.played = []

    def run(self, ticks, converts=lambda _: True, extra=0):
        """Capture and play a 110 Hz tone; each tick captures `extra` samples more than it plays."""
        for n in range(ticks):
            size = self.tick + extra
            at = (self.time + np.arange(size)) / self.session.sample_rate
            self.time += size
            self.session.capture((0.5 * np.sin(2 * np.pi * 110 * at)).astype(np.float32))
            if converts(n):
                self.session.convert(0)
            self.played.append(self.session.play(self.tick))
        return self

    @property
    def out(self):
        return np.concatenate(self.played)

    def seconds(self, ticks):
        return ticks * self.tick / self.session.sample_rate


def largest_step(samples):
    return np.abs(np.diff(samples)).max()


SLOPE = 2 * np.pi * 110 / RATE * 0.5
"""The largest step between two samples of the tone."""
FADE_SLOPE = 1 / (0.005 * RATE)
"""The step that a cross-fade of 5 ms between -0.5 and 0.5 adds."""


@given(tick=st.integers(80, 800), jitter_buffer=st.sampled_from([0, 0.01, 0.04, 0.2]))
def test_without_overload_all_is_played_at_a_constant_delay(tick, jitter_buffer):
    clock = Clock(jitter_buffer=jitter_buffer, tick=tick).run(150)
    session = clock.session
    assert session.underruns == session.dropped_seconds == 0
    assert session.first_delay == pytest.approx(session.delay) == pytest.approx(session.longest_delay)
    assert jitter_buffer <= session.delay <= jitter_buffer + 2 * tick / RATE
    late = round(session.delay * RATE) - tick  # measured when playback of the block begins
    expected = np.concatenate(session.stream.fed)[: len(clock.out) - late]
    np.testing.assert_allclose(clock.out[late + 80 :], expected[80:])  # 80: the fade at the start
    assert not clock.out[:late].any()


@pytest.mark.parametrize("ticks", [5, 20, 150, 3_000])
def test_after_a_pause_of_the_process_the_delay_returns_to_its_value(ticks):
    clock = Clock().run(100)
    before = clock.session.delay
    clock.run(ticks, converts=lambda _: False).run(50)
    assert clock.session.underruns == 1
    assert clock.session.delay == pytest.approx(before, abs=0.005)
    assert clock.session.dropped_seconds == pytest.approx(clock.seconds(ticks), abs=0.3)
    assert largest_step(clock.out) <= SLOPE + FADE_SLOPE
    clock.run(100)
    assert clock.session.underruns == 1
    np.testing.assert_allclose(clock.out[-TICK:], clock.session.stream.fed[-3][-TICK:], atol=1e-6)


@pytest.mark.parametrize("every", [2, 3, 9, 30])
def test_a_computer_that_is_too_slow_does_not_fall_behind(every):
    clock = Clock().run(20)
    clock.run(1_500, converts=lambda n: n % every == 0)
    assert clock.session.delay < 0.3
    assert largest_step(clock.out) <= SLOPE + FADE_SLOPE
    before = clock.session.underruns
    clock.run(100)
    assert clock.session.delay <= clock.session.first_delay + 0.005
    assert clock.session.underruns <= before + 1


def test_the_backlog_is_bounded():
    clock = Clock().run(5_000, converts=lambda _: False)
    assert clock.session.backlog <= 0.25
    clock.session.convert(0)
    assert max(map(len, clock.session.stream.fed)) <= 0.25 * RATE


@pytest.mark.parametrize("extra", [1, -1])
def test_clocks_may_differ(extra):
    clock = Clock().run(6_000, extra=extra)  # by 0.3 %, over two minutes
    session = clock.session
    assert session.longest_delay <= session.first_delay + 0.02
    assert largest_step(clock.out) <= SLOPE + FADE_SLOPE
    if extra > 0:
        assert session.underruns == 0
        assert session.dropped_seconds == pytest.approx(6_000 / RATE, rel=0.1)
    else:
        assert session.underruns <= 6_000 / (JITTER_BUFFER * RATE) + 2


def test_in_the_end_everything_is_played():
    clock = Clock(jitter_buffer=0.1).run(7)
    session = clock.session
    session.end()
    assert not session.finished
    assert session.convert(0) is False
    while not session.finished:
        clock.played.append(session.play(TICK))
    assert session.underruns == 0
    converted = np.concatenate(session.stream.fed)
    late = len(clock.out) - len(converted)
    assert np.abs(clock.out[:late]).max() == 0
    np.testing.assert_allclose(clock.out[late + 80 :], converted[80:])


def test_nothing_captured_is_nothing_played():
    session = LiveSession(Echo(), RATE, RATE)
    session.end()
    assert session.convert(0) is False
    assert session.finished
    assert session.underruns == 0
    assert session.load == session.delay == 0
    assert session.block_times() == [0, 0, 0]


def test_a_long_block_is_not_dropped_as_backlog():
    clock = Clock(tick=RATE // 2).run(2).run(1, converts=lambda _: False).run(20)
    assert clock.session.dropped_seconds == 0


def test_waiting_ends_at_the_timeout():
    session = LiveSession(Echo(), RATE, RATE)
    assert session.convert(0.01) is True
    assert session.wait_converted(0.01)
    session.capture(np.zeros(10, np.float32))
    assert not session.wait_converted(0.01)


@settings(max_examples=20)
@given(rates=st.sampled_from([(44_100, 48_000), (16_000, 48_000), (48_000, 44_100)]))
def test_the_delay_is_in_seconds_at_any_rates(rates):
    class Stretch(Echo):
        def feed(self, samples):
            return np.zeros(len(samples) * rates[1] // rates[0], np.float32)

    session = LiveSession(Stretch(), rates[0], rates[1], JITTER_BUFFER)
    for _ in range(200):
        session.capture(np.zeros(rates[0] // 50, np.float32))
        session.convert(0)
        session.play(rates[1] // 50)
    assert session.underruns == 0
    assert session.delay == pytest.approx(session.first_delay, abs=1e-6)
    assert JITTER_BUFFER <= session.delay <= JITTER_BUFFER + 0.04
    assert session.duration == pytest.approx(4)


def test_the_status_line_covers_the_time_since_the_last_one():
    clock = Clock().run(50)
    first = clock.session.status_line()
    assert "underruns 0" in first
    assert "in -6 dB  out -6 dB" in first
    clock.tick, silence = TICK, np.zeros(TICK, np.float32)
    for _ in range(20):
        clock.session.capture(silence)
        clock.session.convert(0)
        clock.session.play(TICK)
    clock.session.status_line()
    clock.session.count_underrun()
    clock.session.capture(silence)
    second = clock.session.status_line()
    assert "underruns 1" in second
    assert "in -100 dB  out -100 dB" in second
    assert second.startswith(f"latency {1000 * clock.session.delay:.0f} ms (0 algorithm + 0 compute + ")
