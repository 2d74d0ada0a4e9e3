"""Corruptions of clean speech, from which it is restored."""

import math
from dataclasses import replace

import pytest
import torch
from conftest import noise, vowel

from vcae.training import corrupt
from vcae.training.config import NoiseConfig, RoomConfig, TelephoneConfig, VoicelessConfig

RATE = 16_000
SNR = NoiseConfig(snr_db=(5.0, 5.0), rooms=RoomConfig(share=0.0))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def speech(batch: int = 4, f0: float = 120.0) -> torch.Tensor:
    return vowel(f0).expand(batch, -1, -1)


def labels(batch: int = 4, f0: float = 120.0) -> torch.Tensor:
    return torch.full((batch, 100), f0)


DRAWN = {
    "noisy": lambda g: corrupt.noisy(speech(), noise(4, 1, RATE), NoiseConfig(), RATE, g)[0],
    "telephone": lambda g: corrupt.telephone(speech(), TelephoneConfig(), RATE, g),
    "voiceless": lambda g: corrupt.voiceless(speech(), labels(), 160, VoicelessConfig(), RATE, g),
}


@pytest.mark.parametrize("name", DRAWN)
def test_corruptions_keep_the_shape_and_depend_on_the_generator_alone(name):
    torch.manual_seed(1)
    first = DRAWN[name](seeded())
    torch.manual_seed(2)
    assert torch.equal(first, DRAWN[name](seeded()))
    assert not torch.equal(first, DRAWN[name](seeded(1)))
    assert first.shape == (4, 1, RATE) and first.isfinite().all()


@pytest.mark.parametrize("name", DRAWN)
def test_silence_stays_finite(name):
    silent = torch.zeros(2, 1, RATE)
    made = {
        "noisy": lambda: corrupt.noisy(silent, silent, NoiseConfig(), RATE, seeded())[0],
        "telephone": lambda: corrupt.telephone(silent, TelephoneConfig(), RATE, seeded()),
        "voiceless": lambda: corrupt.voiceless(
            silent, torch.zeros(2, 100), 160, VoicelessConfig(), RATE, seeded()
        ),
    }
    assert made[name]().isfinite().all()


def test_noise_has_the_ratio_that_is_set():
    wav = speech()
    seen, clean = corrupt.noisy(wav, noise(4, 1, RATE), SNR, RATE, seeded())
    torch.testing.assert_close(clean, wav)
    ratio = clean.square().mean(-1) / (seen - clean).square().mean(-1)
    torch.testing.assert_close(10 * ratio.log10(), torch.full((4, 1), 5.0), atol=0.01, rtol=0)


def test_each_kind_of_noise_has_its_share():
    silent = torch.zeros(3, 1, RATE)
    voices = torch.cat([vowel(f0) for f0 in (110.0, 170.0, 260.0)])
    only = {k: replace(SNR, shares=tuple(float(k == j) for j in range(5))) for k in range(5)}

    def added(kind, recorded):
        seen, clean = corrupt.noisy(voices, recorded, only[kind], RATE, seeded())
        return seen - clean

    assert added(0, silent).abs().max() == 0  # nothing was recorded
    for kind in (1, 2, 3, 4):  # what was recorded has no influence
        assert torch.equal(added(kind, silent), added(kind, noise(3, 1, RATE)))
        assert added(kind, silent).abs().max() > 0.01


def test_periodic_noise_has_a_fundamental_in_its_range():
    steady = replace(SNR, periodic_hz=(100.0, 100.0), modulation_db=(0.0, 0.0), slope=(0.0, 0.0))
    made = corrupt.periodic(torch.zeros(4, 1, RATE), steady, RATE, seeded())
    assert (periodicity(made, 100.0) > 0.45).all()  # half of the power or more is periodic
    assert (periodicity(made, 137.0) < 0.3).all()


def test_other_voices_are_never_of_the_example_itself():
    for batch in (5, 3):
        voices = torch.zeros(batch, 1, 100)
        voices[2] = 1.0
        made = corrupt.babble(voices, seeded())
        assert made[2].abs().max() == 0 and (made[:2] > 0).all()
    assert corrupt.babble(noise(1, 1, 100), seeded()).abs().max() == 0


def test_in_a_room_the_clean_speech_is_the_direct_sound():
    rooms = RoomConfig(share=1.0, ratio_db=(6.0, 6.0))
    config = replace(SNR, snr_db=(60.0, 60.0), rooms=rooms)
    wav = noise(4, 1, RATE, seed=3)  # unlike a vowel, it is unlike its own reflections
    seen, clean = corrupt.noisy(wav, noise(4, 1, RATE), config, RATE, seeded())
    gain = clean.norm(dim=-1) / wav.norm(dim=-1)
    assert ((gain > 0.8) & (gain < 1.0)).all()  # the whole has the level of the source
    ratio = 10 * (clean.square().sum(-1) / (seen - clean).square().sum(-1)).log10()
    assert ((ratio > 5.0) & (ratio < 7.5)).all()


@pytest.mark.parametrize("companded", [0.0, 1.0])
def test_a_telephone_holds_its_band_and_no_more(companded):
    config = TelephoneConfig((3600.0, 3600.0), (300.0, 300.0), share_low=1.0, share_companded=companded)
    wav = 0.1 * noise(2, 1, RATE)
    seen = corrupt.telephone(wav, config, RATE, seeded())
    before, after = (torch.fft.rfft(x).abs()[..., : RATE // 2] for x in (wav, seen))  # a bin is a hertz
    torch.testing.assert_close(
        after[..., 400:3400], before[..., 400:3400], atol=0.6 * companded + 1e-3, rtol=0.1
    )
    assert after[..., 4001:].max() < 1e-3
    assert after[..., :200].max() < (3 if companded else 1e-3)
    assert companded == 0 or not torch.allclose(after[..., 400:3400], before[..., 400:3400], rtol=1e-4)


def test_a_length_that_does_not_fit_8_khz_is_refused():
    with pytest.raises(ValueError, match="16001 samples at 16000 Hz"):
        corrupt.telephone(noise(1, 1, 16_001), TelephoneConfig(), RATE, seeded())


def test_companding_has_255_steps_of_about_a_fifth_of_a_decibel_or_so():
    x = torch.linspace(-1, 1, 100_001)
    y = corrupt.companding(x)
    assert len(y.unique()) == 255 and torch.equal(y, -y.flip(0))
    torch.testing.assert_close(corrupt.companding(y), y)
    loud = x.abs() > 0.02
    assert ((y - x).abs()[loud] / x.abs()[loud]).max() < 0.03


def periodicity(wav: torch.Tensor, f0: float) -> torch.Tensor:
    """Correlation of each example with itself a period later."""
    lag = round(RATE / f0)
    a, b = wav[..., 2000:-2000], wav.roll(lag, -1)[..., 2000:-2000]
    return (a * b).mean(-1) / a.square().mean(-1)


def test_a_whisper_has_no_pitch_and_keeps_envelope_and_level():
    wav = speech()
    seen = corrupt.voiceless(wav, labels(), 160, VoicelessConfig(1.0, (0.0, 0.0), (0.0, 0.0)), RATE, seeded())
    assert (periodicity(wav, 120.0) > 0.9).all()
    assert (periodicity(seen, 120.0).abs() < 0.25).all()
    torch.testing.assert_close(seen.square().mean(-1), wav.square().mean(-1))
    power = torch.fft.rfft(seen).abs().square().mean((0, 1))
    first, between = power[500:700].mean(), power[1200:1500].mean()  # the vowel's formant is at 600 Hz
    assert first > 10 * between


def test_monotone_speech_has_one_pitch():
    sweep = torch.linspace(math.log(110.0), math.log(160.0), RATE).exp()
    f0 = sweep[::160].expand(2, -1)
    wav = vowel(sweep).expand(2, -1, -1)
    seen = corrupt.voiceless(wav, f0, 160, VoicelessConfig(whispered=0.0), RATE, seeded())
    mean = float(corrupt.mean_log_f0(f0)[0].exp())
    assert (periodicity(seen, mean) > 0.8).all() and (periodicity(wav, mean) < 0.6).all()


def test_the_mean_f0_is_that_of_the_voiced_frames():
    f0 = torch.tensor([[0.0, 100.0, 400.0], [0.0, 0.0, 0.0]])
    mean = corrupt.mean_log_f0(f0)
    assert mean[0] == pytest.approx(math.log(200.0)) and mean[1].isnan()
