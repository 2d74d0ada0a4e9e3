"""Streaming conversion: equality with `convert`, latency, estimates of the source, invalid input."""

import dataclasses
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import TINY, TINY_VOCODER, VOICES, noise, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.backends import mkldnn

import vcae
from vcae import Audio, Converter, VcaeError
from vcae.audio import Recording, loudness, resample
from vcae.inference.engine import Engine
from vcae.inference.stream import LevelTracker
from vcae.model.autoencoder import Autoencoder
from vcae.model.bottleneck import BOTTLENECKS
from vcae.model.vocoder import Vocoder

RATE = 16_000
CLIPS = sorted(VOICES.glob("*.flac"))
LATENCY = 640 + 160 * TINY.delay + 160
"""In samples at 16 kHz: a window, the look-ahead, and a hop, because a code frame is two mel frames."""


@pytest.fixture(scope="module")
def converter():
    return Converter(seeded(Autoencoder, TINY), seeded(Vocoder, TINY_VOCODER))


@pytest.fixture(scope="module")
def voice(converter):
    return converter.voice(CLIPS[-1])


@pytest.fixture(scope="module")
def source(speech):
    """Two seconds of speech, with an end that fits no block, hop or step."""
    return speech[0, 0, :-77].numpy()


def as_convert(converter, voice, samples, rate=RATE, **options):
    """A stream that is given voice and level of its source, as in `convert`."""
    recording = Recording(Audio(samples, rate), RATE)
    source_voice = converter.encode(Audio(samples, rate)).voice
    options |= {"source_voice": source_voice, "level": recording.level}
    return converter.stream(voice, sample_rate=rate, **options)


def run(stream, blocks):
    return np.concatenate([*map(stream.feed, blocks), stream.flush()])


def blocks_of(samples, size):
    return [samples[start : start + size] for start in range(0, len(samples), size)]


@st.composite
def cuts(draw, samples):
    """The waveform in blocks of any sizes, empty blocks and single samples among them."""
    borders = draw(st.lists(st.integers(0, len(samples)), max_size=8))
    return np.split(samples, sorted([*borders, *(border + 1 for border in borders[::2])]))


# Equal to convert


@given(data=st.data())
def test_a_stream_equals_convert_for_any_block_sizes(converter, voice, source, data):
    out = run(as_convert(converter, voice, source), data.draw(cuts(source)))
    expected = converter.convert(Audio(source, RATE), voice).samples
    assert out.dtype == np.float32
    assert len(out) == len(source)
    assert np.abs(expected).max() > 1e-2
    np.testing.assert_allclose(out, expected, atol=1e-4)


@settings(max_examples=16)
@given(
    rate=st.sampled_from([8_000, 16_000, 44_100, 48_000]),
    output_rate=st.sampled_from([None, 8_000, 16_000, 44_100, 48_000]),
    data=st.data(),
)
def test_rates_may_be_any_at_both_ends(converter, voice, speech_at, rate, output_rate, data):
    samples = speech_at(rate)[0, 0, :-13].numpy()
    stream = as_convert(converter, voice, samples, rate, output_rate=output_rate)
    out = run(stream, data.draw(cuts(samples)))
    to_rate = output_rate or rate
    expected = resample(converter.convert(Audio(samples, rate), voice).samples, RATE, to_rate)
    assert len(out) == math.ceil(len(samples) * to_rate / rate)
    np.testing.assert_allclose(out, expected[: len(out)], atol=1e-4)


def test_a_stream_of_the_bundled_weights_equals_convert():
    bundled = vcae.load()
    voice, source = bundled.voice(CLIPS[-1]), vcae.audio.read(CLIPS[0], RATE).samples[:40_001]
    out = run(as_convert(bundled, voice, source), blocks_of(source, 1_234))
    np.testing.assert_allclose(out, bundled.convert(Audio(source, RATE), voice).samples, atol=1e-4)


@pytest.mark.parametrize("kind", BOTTLENECKS)
def test_tracing_changes_nothing_even_in_the_middle_of_a_stream(kind, source):
    """Whole steps, which are traced, among blocks that are not."""
    config = dataclasses.replace(TINY, bottleneck={"kind": kind})
    converter = Converter(seeded(Autoencoder, config), seeded(Vocoder, TINY_VOCODER))
    voice = converter.voice(CLIPS[-1])
    blocks = [*blocks_of(source[:6_400], 320), source[6_400:9_000], *blocks_of(source[9_000:], 320)]
    expected = run(converter.stream(voice), blocks)
    stream = converter.stream(voice)
    before = [stream.feed(block) for block in blocks[:5]]
    converter.trace()
    assert converter.engine.traced
    np.testing.assert_allclose(np.concatenate([*before, run(stream, blocks[5:])]), expected, atol=1e-5)
    np.testing.assert_allclose(run(converter.stream(voice), blocks), expected, atol=1e-5)


def test_traced_streams_in_many_threads_leave_torch_as_it_was(source, monkeypatch):
    converter = Converter(seeded(Autoencoder, TINY), seeded(Vocoder, TINY_VOCODER))
    voice = converter.voice(CLIPS[-1])
    converter.trace()
    expected = run(converter.stream(voice), blocks_of(source, 320))

    def convert(_: int) -> np.ndarray:
        return run(converter.stream(voice), blocks_of(source, 320))

    for enabled in (True, False):
        monkeypatch.setattr(mkldnn, "enabled", enabled)
        with ThreadPoolExecutor(4) as pool:
            for out in pool.map(convert, range(4)):
                np.testing.assert_allclose(out, expected, atol=1e-5)
        assert mkldnn.enabled == enabled


def test_options_are_those_of_convert(converter, voice, source):
    source_voice = converter.voice(CLIPS[0])
    recording = Recording(CLIPS[0], RATE)
    samples = vcae.audio.read(CLIPS[0], RATE).samples
    options = {"pitch_shift": -3.0, "strength": 0.4}
    stream = converter.stream(voice, source_voice=source_voice, level=recording.level, **options)
    expected = converter.convert(CLIPS[0], voice, **options).samples
    np.testing.assert_allclose(run(stream, blocks_of(samples, 5_000)), expected, atol=1e-4)
    assert np.abs(expected - converter.convert(CLIPS[0], voice).samples).max() > 1e-3


@settings(max_examples=4)
@given(data=st.data())
def test_streams_that_share_the_networks_do_not_affect_each_other(converter, voice, source, data):
    streams = [as_convert(converter, voice, source) for _ in range(2)]
    other = converter.stream(converter.voice(CLIPS[0]), sample_rate=44_100)
    parts = ([], [])
    for block in data.draw(cuts(source)):
        for stream, part in zip(streams, parts, strict=True):
            part.append(stream.feed(block))
            other.feed(noise(len(block)).numpy())
    outs = [np.concatenate([*part, stream.flush()]) for stream, part in zip(streams, parts, strict=True)]
    np.testing.assert_array_equal(outs[0], outs[1])
    np.testing.assert_allclose(outs[0], converter.convert(Audio(source, RATE), voice).samples, atol=1e-4)


@pytest.mark.parametrize("count", [0, 1, 319, 320, 321])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_the_output_is_as_long_as_a_short_source(converter, voice, count, rate):
    stream = converter.stream(voice, sample_rate=rate)
    assert len(run(stream, [0.1 * noise(count).numpy()])) == count


def test_long_blocks_go_through_in_pieces(converter, voice, source):
    pieces = Converter(converter.autoencoder, converter.vocoder, block_seconds=0.1)
    out = run(as_convert(pieces, pieces.voice(CLIPS[-1]), source), [source])
    np.testing.assert_allclose(out, converter.convert(Audio(source, RATE), voice).samples, atol=1e-4)


# Latency


def test_the_latency_is_as_stated(converter, voice):
    assert converter.stream(voice).latency == LATENCY == 1_120


@pytest.mark.parametrize("rate", [16_000, 22_050, 24_000, 44_100, 48_000])
def test_it_is_at_most_80_ms_at_any_rate(converter, voice, rate):
    stream = converter.stream(voice, sample_rate=rate)
    assert stream.latency / rate == pytest.approx((LATENCY / RATE) + 0.004 * (rate != RATE), abs=2e-4)


@pytest.mark.parametrize(
    ("rate", "output_rate", "slack"),
    [(16_000, 16_000, 0), (48_000, 48_000, 0), (44_100, 44_100, 6), (8_000, 48_000, 12), (48_000, 16_000, 1)],
)
def test_outputs_are_given_with_the_latency_and_not_before(converter, voice, rate, output_rate, slack):
    """Sample by sample: after n + latency inputs there are n outputs, and at some n not one more."""
    stream = converter.stream(voice, sample_rate=rate, output_rate=output_rate)
    behind, count = [], 0
    for fed, block in enumerate(0.1 * noise(3_000 * rate // RATE).numpy(), start=1):
        count += len(stream.feed(block[None]))
        behind.append(fed * output_rate // rate - count)
    assert max(behind) <= stream.latency - 1
    assert max(behind) >= stream.latency - 1 - slack


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
@given(n=st.integers(0, 4_000))
@settings(max_examples=8)
def test_outputs_up_to_n_do_not_depend_on_the_input_from_n_plus_latency_on(converter, voice, rate, n):
    samples = 0.1 * noise(10_000).numpy()
    streams = [converter.stream(voice, sample_rate=rate) for _ in range(2)]
    changed = samples.copy()
    changed[n + streams[0].latency :] += 0.5
    out, other = (run(stream, [x]) for stream, x in zip(streams, (samples, changed), strict=True))
    np.testing.assert_allclose(out[: n + 1], other[: n + 1], atol=1e-6)
    assert np.abs(out - other).max() > 1e-3


def test_one_sample_earlier_they_do(converter, voice):
    samples = 0.1 * noise(10_000).numpy()
    n = 160  # the first sample of a code frame
    outs = []
    for late in (None, LATENCY, LATENCY - 1):
        changed = samples.copy()
        if late:
            changed[n + late] += 20_000  # the window is almost zero there
        outs.append(run(converter.stream(voice, level=-25.0), [changed])[n : n + 160])
    assert np.abs(outs[1] - outs[0]).max() < 1e-7 < 1e-6 < np.abs(outs[2] - outs[0]).max()


# Estimates of the source while it streams


@pytest.mark.parametrize(("strength", "pitch_shift"), [(1.0, 0.0), (0.4, 3.0)])
@pytest.mark.parametrize("known", [True, False], ids=["known source", "estimated source"])
def test_a_changed_stream_goes_on_as_one_with_the_other_settings(
    converter, voice, source, known, strength, pitch_shift
):
    given = {"source_voice": converter.voice(CLIPS[0]), "level": -25.0} if known else {}
    other = converter.voice(CLIPS[1])
    changed, wanted = (converter.stream(each, **given) for each in (voice, other))
    wanted.change(other, pitch_shift, strength)
    start, long = source[:RATE], np.tile(source, 4)
    changed.feed(start)
    wanted.feed(start)
    changed.change(other, pitch_shift, strength)
    after = [np.concatenate([*map(s.feed, blocks_of(long, 4000)), s.flush()]) for s in (changed, wanted)]
    # The memory of the layers, and of the loudness for longer, is that of the former voice for a while.
    assert np.abs(np.subtract(*after))[-RATE:].max() < 5e-3
    if known:
        fresh = converter.stream(other, **given, strength=strength, pitch_shift=pitch_shift)
        fresh.feed(start)
        straight = np.concatenate([fresh.feed(long), fresh.flush()])
        assert np.abs(straight - after[1])[-RATE:].max() < 5e-3


@settings(max_examples=6)
@given(data=st.data())
def test_estimates_do_not_depend_on_the_block_sizes(converter, voice, source, data):
    source = np.tile(source, 3)  # long enough for an estimate of its voice
    whole = run(converter.stream(voice), [source])
    np.testing.assert_allclose(run(converter.stream(voice), data.draw(cuts(source))), whole, atol=1e-4)


def test_the_estimate_of_the_source_voice_approaches_that_of_convert():
    bundled = vcae.load()
    source = np.tile(vcae.audio.read(CLIPS[0], RATE).samples, 3)
    source_voice = bundled.voice(Audio(source, RATE))
    stream = bundled.stream(CLIPS[-1])
    stream.feed(source)
    assert stream.speaker.source.embedding @ source_voice.embedding > 0.95
    # At first without guidance; then about the conditioning of a stream that is given the source voice.
    at_first, then, expected = (
        torch.cat([scale for scale, _ in each.speaker.conditioning.coarse], dim=2)
        for each in (bundled.stream(CLIPS[-1]), stream, bundled.stream(CLIPS[-1], source_voice=source_voice))
    )
    assert (then - expected).norm() < 0.3 * (at_first - expected).norm()


def test_the_estimate_adapts_to_another_speaker():
    bundled = vcae.load()
    one, other = (vcae.audio.read(clip, RATE).samples for clip in CLIPS[:2])
    stream = bundled.stream(CLIPS[-1])
    stream.feed(np.tile(one, 8))
    before = stream.speaker.source
    stream.feed(np.tile(other, 16))
    after, expected = stream.speaker.source, bundled.voice(Audio(other, RATE))
    assert after.embedding @ expected.embedding > 0.8 > before.embedding @ expected.embedding


@pytest.mark.parametrize("loud", [0, 0.05])
def test_noise_and_silence_do_not_change_the_estimate_of_the_voice(loud):
    stream = vcae.load().stream(CLIPS[-1])
    conditioning = stream.speaker.conditioning
    stream.feed(loud * noise(10 * RATE).numpy())
    assert stream.speaker.conditioning is conditioning


def test_f0_statistics_go_from_the_prior_to_those_of_convert(voice):
    bundled = vcae.load()
    source = np.tile(vcae.audio.read(CLIPS[2], RATE).samples, 3)
    stream = bundled.stream(bundled.voice(CLIPS[-1]))
    assert math.exp(stream.pitch.source.mean) == pytest.approx(150)
    run(stream, [source])
    measured = bundled.encode(Audio(source, RATE)).voice.f0
    assert stream.pitch.source.mean == pytest.approx(measured.mean, abs=0.02)
    assert stream.pitch.source.std == pytest.approx(measured.std, abs=0.02)


@pytest.mark.parametrize("gain", [-20, -10, 0, 8])
def test_the_estimate_of_the_level_changes_slowly(gain):
    speech = np.tile(vcae.audio.read(CLIPS[0], RATE).samples, 2) * np.float32(10 ** (gain / 20))
    speech = speech[: len(speech) // 320 * 320]
    level = LevelTracker(None, 320, 800)
    before, after = level.gains(speech)
    assert before[0] == 1
    steps = 20 * np.abs(np.diff(np.log10(before)))
    assert steps.max() < 0.5 / 320
    level_of_networks = loudness(speech[-3 * RATE :] * before[-3 * RATE :], RATE)
    assert level_of_networks == pytest.approx(vcae.audio.LEVEL, abs=3)
    np.testing.assert_allclose(before[:-800] * after[800:], 1, rtol=1e-6)


@pytest.mark.parametrize("level", [-45, -25, -8])
def test_the_output_is_as_loud_as_the_source(voice, level):
    bundled = vcae.load()
    clip = vcae.audio.read(CLIPS[0], RATE).samples
    source = clip * np.float32(10 ** ((level - loudness(clip, RATE)) / 20))
    stream = bundled.stream(bundled.voice(CLIPS[-1]))
    assert loudness(run(stream, [source]), RATE) == pytest.approx(level, abs=4)


# Invalid and extreme sources

SECOND = np.arange(RATE) / RATE
EXTREME = {
    "not a number": np.full(800, np.nan),
    "infinite": np.full(800, -np.inf),
    "huge": np.full(800, 1e300),
    "some of each": np.array([0.1, np.nan, -0.1, np.inf, 3e38, -np.inf] * 99),
    "nothing": np.zeros(0),
    "10 s at once": 0.1 * np.sin(2 * np.pi * 200 * np.arange(10 * RATE) / RATE),
    "an offset": np.full(3 * RATE, 0.5),
    "a full-scale square wave": np.sign(np.sin(2 * np.pi * 100 * np.arange(3 * RATE) / RATE)),
    "minutes of silence": np.zeros(90 * RATE),
    "beyond full scale": 30 * np.sin(2 * np.pi * 200 * SECOND),
    "denormal": np.full(RATE, 1e-40),
}


@pytest.mark.parametrize(("kind", "rate"), [*((kind, 16_000) for kind in EXTREME), ("some of each", 48_000)])
def test_invalid_blocks_affect_a_second_of_output_at_most(converter, voice, source, kind, rate):
    extreme = EXTREME[kind].astype(np.float64)
    stream, clean = (converter.stream(voice, sample_rate=rate) for _ in range(2))
    out, undisturbed = run(stream, [source, extreme, source, source]), run(clean, [source] * 3)
    assert len(out) == len(extreme) + len(undisturbed)
    assert np.isfinite(out).all()
    assert np.abs(out).max() <= 1
    # From a second after it on, the output has the usual level.
    since = len(out) - 2 * len(source) + rate
    assert loudness(out[since:], rate) == pytest.approx(
        loudness(undisturbed[since - len(out) :], rate), abs=3
    )


@pytest.mark.parametrize("kind", EXTREME)
def test_the_estimate_of_the_level_withstands_extreme_sources(source, kind):
    stream, clean = LevelTracker(None, 320, 800), LevelTracker(None, 320, 800)
    speech = source[: len(source) // 320 * 320]
    extreme = np.where(np.abs(EXTREME[kind]) < 1e5, EXTREME[kind], 0).astype(np.float32)
    extreme = extreme[: len(extreme) // 320 * 320]
    for level, blocks in ((stream, [speech, extreme, speech[:RATE]]), (clean, [speech, speech[:RATE]])):
        for block in blocks:
            level.gains(block)
    assert stream.level == pytest.approx(clean.level, abs=6)


def test_repaired_samples_are_counted(converter, voice):
    stream = converter.stream(voice)
    stream.feed(EXTREME["some of each"])
    assert stream.repaired == 4 * 99
    stream.feed(np.ones(10))
    assert stream.repaired == 4 * 99


def test_repaired_samples_are_zeros(converter, voice, source):
    bad = source.copy()
    bad[9_000:9_500] = np.nan
    silenced = np.nan_to_num(bad)
    assert np.array_equal(run(converter.stream(voice), [bad]), run(converter.stream(voice), [silenced]))


@pytest.mark.parametrize(
    "block", [np.zeros(320, np.int16), np.zeros((320, 1)), np.float32(0), "sound", [1, 2], None, [0.1, "a"]]
)
def test_a_block_that_is_not_of_floats_is_refused(converter, voice, source, block):
    stream = as_convert(converter, voice, source)
    first = stream.feed(source[:5_000])
    with pytest.raises(ValueError, match="floats"):
        stream.feed(block)
    rest = run(stream, [source[5_000:]])
    expected = converter.convert(Audio(source, RATE), voice).samples
    np.testing.assert_allclose(np.concatenate([first, rest]), expected, atol=1e-4)


def test_a_block_may_be_a_list_or_of_other_floats_and_is_not_changed(converter, voice, source):
    bad = source.copy()
    bad[5] = np.nan
    outs = [
        converter.stream(voice).feed(block)
        for block in (bad, bad.astype(np.float64), bad.tolist(), bad.copy())
    ]
    for out in outs:
        np.testing.assert_array_equal(out, outs[0])
    assert np.isnan(bad[5])


def test_a_flushed_stream_has_ended(converter, voice):
    stream = converter.stream(voice)
    stream.flush()
    for action in (stream.flush, lambda: stream.feed(np.zeros(10))):
        with pytest.raises(ValueError, match="flushed"):
            action()


def size(stream):
    """Bytes of the state of a stream."""
    found, seen, waiting = 0, set(), [stream]
    while waiting:
        x = waiting.pop()
        if id(x) in seen or isinstance(x, nn.Module | Engine):
            continue
        seen.add(id(x))
        if isinstance(x, np.ndarray):
            found += x.nbytes
        elif isinstance(x, torch.Tensor):
            found += x.untyped_storage().nbytes()
        elif isinstance(x, dict | list | tuple):
            waiting += x.values() if isinstance(x, dict) else x
        else:
            waiting += vars(x).values() if hasattr(x, "__dict__") else []
    return found


def test_the_state_does_not_grow(converter, voice):
    stream = converter.stream(voice, sample_rate=48_000)
    for _ in range(5):
        stream.feed(0.1 * noise(4_801).numpy())
    before = size(stream)
    for _ in range(60):
        stream.feed(0.1 * noise(4_800).numpy())
    assert size(stream) == before < 500_000


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"strength": 0.5}, "voice of the source speaker"),
        ({"strength": 2}, "strength"),
        ({"pitch_shift": math.nan}, "pitch shift"),
        ({"level": math.nan}, "level"),
        ({"level": -math.inf}, "level"),
        ({"sample_rate": -1}, "1000 Hz"),
        ({"output_rate": 7}, "1000 Hz"),
    ],
)
def test_options_out_of_range_are_refused(converter, voice, options, complaint):
    with pytest.raises(VcaeError, match=complaint):
        converter.stream(voice, **options)
