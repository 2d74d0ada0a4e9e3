"""Time alignment at any look-ahead."""

import dataclasses

import pytest
import torch
from conftest import TINY, noise, seeded
from hypothesis import given
from hypothesis import strategies as st

from vcae.model.alignment import Alignment, in_step, label_delay
from vcae.model.autoencoder import Autoencoder
from vcae.model.config import PRESETS, MelConfig

delays = st.sampled_from([0, 2, 4, 8, 24])
mels = st.sampled_from(list(PRESETS.values()))


@pytest.mark.parametrize("look_ahead", [-2, -1, 1, 3, 25])
def test_a_look_ahead_that_does_not_fit_is_refused(look_ahead):
    with pytest.raises(ValueError, match=f"{look_ahead} mel frames.*multiple of.* 2"):
        Alignment(MelConfig(), look_ahead, 2)
    with pytest.raises(ValueError, match=str(look_ahead)):
        seeded(Autoencoder, dataclasses.replace(TINY, delay=look_ahead))


def test_the_stated_delays_of_the_16k_preset():
    alignment = Alignment(MelConfig(), 24, 2)
    assert alignment.step == 320
    assert alignment.code_delay == 12
    assert alignment.vocoder_delay == 480
    assert alignment.delay == 24 * 160 + 480


@given(mel=mels, delay=delays, samples=st.integers(1, 100_000))
def test_with_its_padding_the_output_of_a_signal_is_complete(mel, delay, samples):
    alignment = Alignment(mel, delay, 2)
    fed = samples + alignment.padding(samples)
    assert fed % alignment.step == 0
    assert 0 <= fed - samples - alignment.delay < alignment.step
    code, prosody = alignment.describing(samples)
    assert code.stop <= fed // alignment.step
    assert prosody.stop <= fed // mel.hop_length
    assert (
        (code.stop - code.start - 1) * alignment.step < samples <= (code.stop - code.start) * alignment.step
    )
    assert (prosody.start, prosody.stop) == (2 * code.start, 2 * code.stop)
    assert prosody.start == delay


@given(delay=delays, frames=st.integers(25, 60))
def test_aligned_signals_describe_the_same_frames(delay, frames):
    early = noise(1, 3, frames)
    late = torch.cat([torch.zeros(1, 3, delay), early], dim=-1)[..., :frames]
    a, b = in_step(late, early, delay)
    assert a.shape[-1] == frames - delay
    torch.testing.assert_close(a, b)


def test_too_few_frames_are_refused():
    with pytest.raises(ValueError, match="too few"):
        in_step(noise(1, 3, 8), noise(1, 3, 8), 8)


def test_labels_lie_at_the_centre_of_a_later_frame():
    for mel in PRESETS.values():
        centre_of_frame = mel.hop_length * (label_delay(mel) + 1) - mel.win_length // 2
        assert centre_of_frame == 0
