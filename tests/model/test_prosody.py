"""F0 labels, the prosody encoder, statistics of F0 and shifting F0."""

import math

import numpy as np
import pytest
import torch
from conftest import cuts, noise, streamed, vowel
from hypothesis import given
from hypothesis import strategies as st

from vcae.model.config import MelConfig
from vcae.model.mel import LogMel
from vcae.model.prosody import (
    F0_CEIL,
    F0_FLOOR,
    LOG_MIDDLE,
    PRIOR,
    F0Statistics,
    ProsodyEncoder,
    energy_of,
    features,
    from_labels,
    shift,
)
from vcae.training.labels import f0_labels

RATE, HOP = 16_000, 160

pitches = st.floats(math.log(60), math.log(500))
spreads = st.floats(0.03, 0.6)
statistics = st.builds(F0Statistics.around, pitches, spreads, st.floats(1, 1e4))


def prosody(frames: int, seed: int = 0, voicing: float | None = None) -> torch.Tensor:
    """Random prosody (1, 3, frames) of a low voice."""
    log_f0 = math.log(120) + 0.2 * noise(1, 1, frames, seed=seed)
    voiced = (
        noise(1, 1, frames, seed=seed + 1).sigmoid() if voicing is None else torch.full_like(log_f0, voicing)
    )
    return torch.cat([log_f0, voiced, noise(1, 1, frames, seed=seed + 2)], dim=1)


# Labels


@pytest.fixture
def labels():
    pytest.importorskip("pyworld", reason="F0 labels need pyworld, of the extra `train`")
    return lambda wav: f0_labels(wav, RATE, HOP)


def test_labels_of_a_tone_are_its_pitch(labels):
    f0 = labels(vowel(200.0).flatten().numpy())
    assert f0.dtype == np.float32
    assert f0.shape == (101,)
    assert np.abs(f0[5:-5] / 200 - 1).max() < 0.01


@pytest.mark.parametrize("samples", [4_000, 4_001, 4_159, 4_160])
def test_there_is_a_label_for_every_hop(labels, samples):
    assert len(labels(vowel(200.0, samples).flatten().numpy())) == 1 + samples // HOP


def test_silence_has_no_pitch(labels):
    assert not labels(np.zeros(RATE, np.float32)).any()


def test_noise_has_hardly_any_pitch(labels):
    assert (labels((0.1 * noise(RATE)).numpy()) > 0).mean() < 0.2


def test_label_i_is_measured_at_sample_hop_times_i(labels):
    glide = torch.linspace(100, 300, RATE)  # 2 Hz a frame
    f0 = labels(vowel(glide).flatten().numpy())
    error = f0[10:90] - glide[::HOP][10:90].numpy()
    assert np.abs(error.mean()) < 0.5  # a quarter of a frame


def test_labels_begin_and_end_with_the_tone(labels):
    wav = np.zeros(RATE, np.float32)
    wav[4_000:10_000] = vowel(200.0, 6_000).flatten().numpy()
    voiced = np.flatnonzero(labels(wav))
    assert voiced[0] == pytest.approx(25, abs=3)
    assert voiced[-1] == pytest.approx(62, abs=3)
    assert len(voiced) == voiced[-1] - voiced[0] + 1


def test_prosody_from_labels_lies_on_the_mel(labels):
    glide = torch.linspace(100, 300, RATE)
    wav = vowel(glide)
    mel = LogMel(MelConfig())(wav)
    f0 = torch.from_numpy(labels(wav.flatten().numpy()))[None, :-1]
    x = from_labels(f0, mel, MelConfig())
    assert x.shape == (1, 3, mel.shape[-1])
    middle = HOP * (torch.arange(10, 90) + 1) - 320  # of the window of each frame
    assert (x[0, 0, 10:90].exp() - glide[middle]).mean().abs() < 0.5
    assert (x[0, 1, 10:90] == 1).all()


def test_from_labels_moves_label_i_to_frame_i_plus_one():
    f0 = torch.tensor([[0.0, 100.0, 110.0, 120.0, 0.0, 0.0]])
    mel = noise(1, 80, 6)
    x = from_labels(f0, mel, MelConfig())
    assert x.shape == (1, 3, 6)
    torch.testing.assert_close(x[0, 0, 2:5].exp(), f0[0, 1:4])
    assert 0 <= x[:, 1].min() <= x[:, 1].max() <= 1
    assert x[0, 1, 3] == 1
    assert x[0, 1, 0] == 0
    assert x.isfinite().all()
    torch.testing.assert_close(x[:, 2:], energy_of(mel))


# The encoder


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return ProsodyEncoder(MelConfig(), delay=2, width=16, hidden=32).eval()


def test_the_encoder_predicts_pitch_voicing_and_energy(encoder):
    mel = MelConfig().unstandardise(3 * noise(2, 80, 50))
    log_f0, voicing, energy = encoder(mel).unbind(1)
    assert log_f0.shape == (2, 50)
    assert math.log(F0_FLOOR) <= log_f0.min() <= log_f0.max() <= math.log(F0_CEIL)
    assert 0 <= voicing.min() <= voicing.max() <= 1
    torch.testing.assert_close(energy[:, 2:], energy_of(mel)[:, 0, :-2])


@pytest.mark.parametrize("hertz", [80.0, 240.0, 450.0])
def test_f0_is_the_likely_pitch_despite_many_unlikely_ones(encoder, monkeypatch, hertz):
    """As in noise: half of the probability near one pitch, the rest spread over all."""
    near = (-((encoder.pitches + LOG_MIDDLE - math.log(hertz)).abs() / 0.02).square() / 2).softmax(0)
    logits = (near / 2 + 0.5 / len(near)).log().expand(1, 10, -1).mT
    monkeypatch.setattr(encoder, "logits", lambda mel, cache=None: (logits, torch.zeros(1, 1, 10)))
    cents = 1200 * torch.log2(encoder(noise(1, 80, 10))[0, 0].exp() / hertz)
    assert cents.abs().max() < 5


@given(borders=cuts(60))
def test_the_encoder_block_by_block_equals_whole(borders):
    torch.manual_seed(0)
    encoder = ProsodyEncoder(MelConfig(), delay=2, width=16, hidden=32).eval()
    mel = noise(1, 80, 60)
    torch.testing.assert_close(streamed(encoder, mel, borders), encoder(mel), atol=1e-5, rtol=0)


@pytest.mark.parametrize("gain", [0.1, 1.0, 10.0])
def test_energy_follows_the_gain(gain):
    mel = noise(1, 80, 5)
    torch.testing.assert_close(energy_of(mel + math.log(gain)), energy_of(mel) + math.log(gain))
    torch.testing.assert_close(energy_of(torch.full_like(mel, 0.7)), torch.full((1, 1, 5), 0.7))


def test_features_hold_no_pitch_in_unvoiced_frames():
    silent = prosody(20, voicing=0.0)
    other = silent.clone()
    other[:, 0] += 1
    torch.testing.assert_close(features(silent), features(other))
    assert not torch.allclose(features(prosody(20, voicing=1.0)), features(silent))


# Statistics


@given(cut=st.integers(0, 40))
def test_statistics_of_pieces_add_up(cut):
    x = prosody(40)
    parts = F0Statistics.of(x[..., :cut]) + F0Statistics.of(x[..., cut:])
    whole = F0Statistics.of(x)
    assert parts.mean == pytest.approx(whole.mean)
    assert parts.std == pytest.approx(whole.std)
    assert parts.frames == pytest.approx(whole.frames)


@given(a=statistics, b=statistics, c=statistics)
def test_adding_statistics_is_associative_and_commutative(a, b, c):
    one, other = (a + b) + c, c + (b + a)
    assert one.mean == pytest.approx(other.mean)
    assert one.std == pytest.approx(other.std, rel=1e-4)
    means = [x.total / x.frames for x in (a, b, PRIOR)]
    assert min(means) - 1e-6 <= (a + b).mean <= max(means) + 1e-6


def test_much_speech_outweighs_the_prior():
    x = prosody(5000, voicing=1.0)
    statistics = F0Statistics.of(x)
    assert statistics.mean == pytest.approx(x[:, 0].mean().item(), abs=0.002)
    assert statistics.std == pytest.approx(x[:, 0].std().item(), abs=0.002)


def test_unvoiced_frames_do_not_count():
    x = prosody(200, voicing=1.0)
    hiss = prosody(100, seed=7, voicing=0.0)
    hiss[:, 0] = math.log(500)
    assert F0Statistics.of(torch.cat([x, hiss], -1)) == pytest.approx(F0Statistics.of(x))


@pytest.mark.parametrize("nothing", [prosody(30, voicing=0.0), prosody(0)], ids=["unvoiced", "empty"])
def test_without_voiced_frames_statistics_are_the_prior(nothing):
    unvoiced = F0Statistics.of(nothing)
    assert unvoiced.frames == 0
    assert unvoiced.mean == pytest.approx(math.log(150))
    assert unvoiced.std == pytest.approx(0.25)
    assert (unvoiced.mean, unvoiced.std) == pytest.approx((PRIOR.mean, PRIOR.std))


# Shifting


@given(source=statistics, target=statistics)
def test_shift_moves_the_mean_of_the_source_to_that_of_the_target(source, target):
    x = prosody(9, voicing=1.0)
    x[:, 0] = source.mean
    torch.testing.assert_close(
        shift(x, source, target)[:, 0], torch.full((1, 9), target.mean), atol=1e-5, rtol=0
    )


@given(target=st.builds(F0Statistics.around, st.floats(math.log(90), math.log(300)), spreads, st.just(1e9)))
def test_shifted_speech_has_the_statistics_of_the_target(target):
    x = prosody(4000, voicing=1.0)
    source = F0Statistics.around(x[:, 0].mean().item(), x[:, 0].std(correction=0).item(), 1e9)
    log_f0 = shift(x, source, target)[:, 0]
    assert log_f0.mean().item() == pytest.approx(target.mean, abs=0.02 * target.std)
    ratio = min(max(target.std / source.std, 0.6), 1.6)
    assert log_f0.std().item() == pytest.approx(ratio * source.std, rel=0.05)


def test_twelve_semitones_double_the_pitch():
    x = prosody(50)
    x[:, 0] += math.log(2)  # well within the range, halved too
    same = F0Statistics.of(x)
    torch.testing.assert_close(shift(x, same, same, 12)[:, 0].exp(), 2 * x[:, 0].exp())
    torch.testing.assert_close(shift(x, same, same, -12)[:, 0].exp(), x[:, 0].exp() / 2)


def test_a_shift_to_oneself_changes_nothing():
    x = prosody(50)
    same = F0Statistics.of(x)
    torch.testing.assert_close(shift(x, same, same), x)


@given(source=statistics, target=statistics, semitones=st.floats(-24, 24))
def test_shift_leaves_voicing_and_energy_and_stays_in_range(source, target, semitones):
    x = prosody(50)
    moved = shift(x, source, target, semitones)
    assert torch.equal(moved[:, 1:], x[:, 1:])
    assert 39.9 < moved[:, 0].exp().min() <= moved[:, 0].exp().max() < 1000.1
