"""Restored recordings: lengths, levels, streams, and what is refused."""

import numpy as np
import pytest
import torch
from conftest import TINY, TINY_VOCODER, VOICES, seeded
from hypothesis import given, settings
from hypothesis import strategies as st

from vcae.audio import Audio, AudioError, Recording, read, resample
from vcae.errors import VcaeError
from vcae.inference.checkpoint import CheckpointError, save
from vcae.model.config import PRESETS, MelConfig, VocoderConfig
from vcae.model.restorer import TASKS, Restorer, RestorerConfig
from vcae.model.vocoder import Vocoder
from vcae.uses import restore
from vcae.uses.restore import SpeechRestorer

SMALL = RestorerConfig(TINY.mel, delay=3, width=16, hidden=32, dilations=(1, 2), pitches=24)
RATE = SMALL.mel.sample_rate


@pytest.fixture(scope="module")
def restorer() -> SpeechRestorer:
    return SpeechRestorer(seeded(Restorer, SMALL), seeded(Vocoder, TINY_VOCODER), block_seconds=0.5)


@pytest.fixture(scope="module")
def narrow() -> Audio:
    """Two seconds of speech at 8 kHz."""
    samples = read(VOICES / "vcc2016-SF1-200001.flac", 8000).samples
    return Audio(samples[4000:20_000], 8000)


@pytest.mark.parametrize("task", TASKS)
def test_a_restored_recording_has_the_length_of_its_source(restorer, narrow, task):
    out = restorer.restore(narrow, task)
    assert len(out.samples) == 2 * len(narrow.samples) and out.sample_rate == RATE
    assert np.isfinite(out.samples).all() and np.abs(out.samples).max() > 1e-3


@settings(max_examples=4)
@given(st.lists(st.integers(1, 9000), min_size=1, max_size=12))
@pytest.mark.parametrize("task", TASKS)
def test_a_stream_gives_what_restore_gives(restorer, narrow, task, sizes):
    whole = restorer.restore(narrow, task, pitch=180.0).samples
    level = Recording(narrow, RATE).level
    stream = restorer.stream(task, sample_rate=8000, output_rate=RATE, pitch=180.0, level=level)
    parts, at = [], 0
    while at < len(narrow.samples):
        size = sizes[len(parts) % len(sizes)]
        parts.append(stream.feed(narrow.samples[at : at + size]))
        at += size
    out = np.concatenate([*parts, stream.flush()])
    np.testing.assert_allclose(out, whole, atol=2e-3 * np.abs(whole).max())


@pytest.mark.parametrize("task", TASKS)
def test_the_output_follows_the_level_of_the_source(restorer, narrow, task):
    loud = restorer.restore(narrow, task, pitch=180.0).samples
    soft = restorer.restore(Audio(0.1 * narrow.samples, 8000), task, pitch=180.0).samples
    assert np.linalg.norm(soft - 0.1 * loud) < 0.02 * np.linalg.norm(0.1 * loud)


def test_widened_sound_keeps_its_band(restorer, narrow):
    out, plain = restorer.superres(narrow).samples, resample(narrow.samples, 8000, RATE)
    hertz = np.fft.rfftfreq(len(out), 1 / RATE)
    made, given_ = (np.abs(np.fft.rfft(x)) for x in (out, plain))
    kept, above = (hertz > 100) & (hertz < 3200), hertz > 4500
    assert np.linalg.norm(made[kept] - given_[kept]) < 0.02 * np.linalg.norm(given_[kept])
    assert np.linalg.norm(made[above]) > 10 * np.linalg.norm(given_[above])


def test_sound_of_full_bandwidth_is_not_widened(restorer):
    with pytest.raises(AudioError, match=r"vcc2016-SF1-200001\.flac: holds sound above 4.4 kHz already"):
        restorer.superres(VOICES / "vcc2016-SF1-200001.flac")


def test_at_48_khz_wide_sound_is_extended_and_narrow_sound_widened_too(restorer, narrow):
    wide = read(VOICES / "vcc2016-SF1-200001.flac", RATE)
    for sound in (wide, narrow):
        made = restorer.superres(sound, 48_000)
        assert made.sample_rate == 48_000
        assert len(made.samples) == 48_000 // sound.sample_rate * len(sound.samples)
        power = np.abs(np.fft.rfft(made.samples)) ** 2
        assert power[len(power) * 9 // 24 :].sum() > 1e-7 * power.sum()
    with pytest.raises(AudioError, match=r"holds sound above 8.8 kHz already; nothing is missing"):
        restorer.superres(restorer.superres(wide, 48_000), 48_000)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(8000, dtype=np.float32), "is silent; give a recording of speech"),
        (np.zeros(0, dtype=np.float32), "holds no samples"),
        (np.full(8000, np.nan, dtype=np.float32), "8000 of 8000 samples are NaN"),
    ],
)
def test_what_is_no_speech_is_refused(restorer, task, samples, message):
    with pytest.raises(AudioError, match=message):
        restorer.restore(Audio(samples, 8000), task)


@pytest.mark.parametrize("pitch", [0.0, 49.0, 601.0, float("nan")])
def test_a_pitch_out_of_range_is_refused(restorer, narrow, pitch):
    with pytest.raises(VcaeError, match="the pitch must be from 50 to 600 Hz"):
        restorer.revoice(narrow, pitch)


@pytest.mark.parametrize("way", ["mask", "limited"])
def test_an_attenuation_limit_adds_a_share_of_the_source(restorer, narrow, way):
    source = Audio(np.tile(resample(narrow.samples, 8000, RATE), 4), RATE)  # some blocks
    made, same, both = (
        restorer.restore(source, "denoise", way=way, attenuation_limit=limit).samples
        for limit in (np.inf, 0.0, 20.0)
    )
    np.testing.assert_allclose(both, 0.9 * made + 0.1 * same, atol=1e-5)
    heard = np.concatenate(list(Recording(source, RATE).blocks("reading")))  # after the high-pass
    np.testing.assert_allclose(same, heard, atol=1e-3 * np.abs(heard).max())
    assert np.linalg.norm(made - heard) > 0.1 * np.linalg.norm(heard)


@pytest.mark.parametrize("limit", [-1.0, float("nan")])
def test_an_attenuation_limit_below_zero_is_refused(restorer, narrow, limit):
    with pytest.raises(VcaeError, match="the attenuation limit must be 0 dB or more"):
        restorer.denoise(narrow, limit)


def test_blocks_stay_short_and_progress_is_reported(restorer, narrow):
    long, seen = Audio(np.tile(narrow.samples, 5), 8000), []
    blocks = list(restorer.restore_blocks(long, "revoice", progress=lambda *x: seen.append(x)))
    assert sum(map(len, blocks)) == 2 * len(long.samples)
    assert max(map(len, blocks)) <= restorer.block + restorer.restorer.delay
    assert {task for task, *_ in seen} == {"reading", "listening", "restoring"}


def test_a_file_is_written_whole_or_not_at_all(restorer, narrow, tmp_path):
    restorer.restore_file(narrow, tmp_path / "out.wav", "denoise")
    assert len(read(tmp_path / "out.wav").samples) == 2 * len(narrow.samples)
    with pytest.raises(AudioError):
        restorer.restore_file(Audio(np.zeros(8000), 8000), tmp_path / "silent.wav", "denoise")
    assert [p.name for p in tmp_path.iterdir()] == ["out.wav"]


def test_a_folder_of_weights_is_loaded_with_its_vocoder_or_the_bundled_one(tmp_path):
    with pytest.raises(CheckpointError, match=r"restorer\.safetensors: no such file"):
        restore.load(tmp_path)
    save(tmp_path / "restorer.safetensors", seeded(Restorer, SMALL))
    assert restore.load(tmp_path).restorer.config == SMALL
    assert restore.load(tmp_path).vocoder.config == VocoderConfig()
    save(tmp_path / "vocoder.safetensors", seeded(Vocoder, TINY_VOCODER))
    assert restore.load(tmp_path).vocoder.config == TINY_VOCODER


def test_the_bundled_restorer_is_the_default(narrow):
    restorer = restore.load()
    assert restorer.restorer.config.mel == PRESETS["16k"]
    assert np.isfinite(restorer.superres(narrow).samples).all()


def test_another_mel_is_refused():
    other = RestorerConfig(MelConfig(n_mels=40), width=16, hidden=32, dilations=(1,))
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="the same mel"):
        SpeechRestorer(Restorer(other), Vocoder(TINY_VOCODER))
