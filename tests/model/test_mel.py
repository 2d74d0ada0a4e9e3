"""The log-mel front end."""

import sys

import librosa
import numpy as np
import pytest
import torch
from conftest import cuts, noise, streamed
from hypothesis import given
from hypothesis import strategies as st
from librosa.filters import get_window
from librosa.filters import mel as mel_filters

from vcae.errors import VcaeError
from vcae.model.config import PRESETS, MelConfig
from vcae.model.mel import LogMel

HOP = PRESETS["16k"].hop_length


@pytest.fixture(params=PRESETS)
def preset(request) -> MelConfig:
    return PRESETS[request.param]


def test_it_is_librosa_with_windows_that_end_with_their_hop(preset):
    c, wav = preset, 0.2 * noise(preset.sample_rate // 2)
    padded = np.pad(wav.numpy(), (c.win_length - c.hop_length, 0))
    window = get_window("hann", c.win_length)[:, None]
    frames = librosa.util.frame(padded, frame_length=c.win_length, hop_length=c.hop_length) * window
    filterbank = mel_filters(sr=c.sample_rate, n_fft=c.n_fft, n_mels=c.n_mels, htk=True, norm=None)
    expected = np.log(np.clip(filterbank @ np.abs(np.fft.rfft(frames, c.n_fft, axis=0)), c.floor, None))
    assert np.abs(LogMel(c)(wav[None, None])[0].numpy() - expected).max() < 1e-4


@given(samples=st.integers(600, 5_000))
def test_the_number_of_frames_is_that_of_the_config(samples):
    for config in PRESETS.values():
        assert LogMel(config)(torch.zeros(1, 1, samples)).shape == (1, config.n_mels, config.frames(samples))


def test_16k_has_a_frame_for_every_started_hop():
    assert [PRESETS["16k"].frames(n) for n in (1, HOP, HOP + 1, 10 * HOP)] == [1, 1, 2, 10]


@given(t=st.integers(0, 18))
def test_16k_frame_depends_on_samples_up_to_its_hop_and_no_further(t):
    log_mel = LogMel(PRESETS["16k"])
    wav = noise(1, 1, 20 * HOP)
    later, last = wav.clone(), wav.clone()
    later[..., HOP * (t + 1) :] += 100
    last[..., HOP * (t + 1) - 1] += 1e4  # where the window is 2e-5
    mel = log_mel(wav)
    assert torch.equal(log_mel(later)[..., : t + 1], mel[..., : t + 1])
    assert not torch.allclose(log_mel(later)[..., t + 1], mel[..., t + 1], atol=1e-3)
    assert not torch.allclose(log_mel(last)[..., t], mel[..., t], atol=1e-3)


@given(borders=cuts(30 * HOP, multiple=HOP))
def test_16k_block_by_block_equals_whole(borders):
    log_mel = LogMel(PRESETS["16k"])
    wav = noise(2, 1, 30 * HOP)
    torch.testing.assert_close(streamed(log_mel, wav, borders), log_mel(wav), atol=1e-5, rtol=0)


def test_a_ragged_block_cannot_stream():
    with pytest.raises(ValueError, match="160"):
        LogMel(PRESETS["16k"])(torch.zeros(1, 1, HOP + 1), {})


def test_silence_is_the_floor(preset):
    mel = LogMel(preset)(torch.zeros(1, 1, 4_000))
    torch.testing.assert_close(mel, torch.full_like(mel, preset.floor).log())


def test_standardise_and_back(preset):
    mel = 10 * noise(1, preset.n_mels, 7)
    torch.testing.assert_close(preset.unstandardise(preset.standardise(mel)), mel, atol=1e-5, rtol=0)


def test_speech_is_about_standard(speech):
    config = PRESETS["16k"]
    x = config.standardise(LogMel(config)(speech))
    assert abs(x.mean()) < 1
    assert 0.5 < x.std() < 2


def test_a_torchaudio_of_another_torch_is_named(monkeypatch, preset):
    class Broken:
        def find_spec(self, name, path, target=None):
            if name == "torchaudio.functional":
                raise OSError("Could not load this library")

    monkeypatch.delitem(sys.modules, "torchaudio.functional", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(VcaeError, match=r"torchaudio \S+ does not load with torch \S+; install"):
        LogMel(preset)
