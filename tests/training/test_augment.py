"""What is done to the speech that an encoder sees."""

import dataclasses

import pytest
import torch
from conftest import noise

from vcae.model.config import PRESETS, MelConfig
from vcae.training import augment
from vcae.training.config import CONTENT, REFERENCE, MaskConfig, Ranges, RoomConfig

MEL = MelConfig()
NOTHING = Ranges(pitch=(1.0, 1.0), envelope=(1.0, 1.0), eq_db=0.0, share=0.0)
HERTZ = 700 * (10 ** (torch.arange(1, 81) * 2840.0230 / 81 / 2595) - 1)  # centres of the bands


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mels(batch: int = 4, frames: int = 200) -> torch.Tensor:
    return MEL.unstandardise(noise(batch, 80, frames)).clamp(min=-6.9)


def bump(hertz: float, bands: float) -> torch.Tensor:
    """A mel with a peak so many bands wide: (1, 80, 1)."""
    centre = (HERTZ - hertz).abs().argmin()
    return torch.exp(-(((torch.arange(80) - centre) / bands) ** 2) / 2)[None, :, None]


DRAWN = {
    "content wav": lambda g: augment.perturb_wav(noise(3, 1, 4000), CONTENT, MEL, g),
    "reference wav": lambda g: augment.perturb_wav(noise(3, 1, 4001), REFERENCE, MEL, g),
    "content mel": lambda g: augment.perturb_mel(mels(3, 50), CONTENT, MEL, g),
    "reference mel": lambda g: augment.perturb_mel(mels(3, 51), REFERENCE, MEL, g),
    "mask": lambda g: augment.mask(mels(3, 150), MaskConfig(), MEL, g),
}
SHAPES = dict(zip(DRAWN, [(3, 1, 4000), (3, 1, 4001), (3, 80, 50), (3, 80, 51), (3, 80, 150)], strict=True))


@pytest.mark.parametrize("name", DRAWN)
def test_what_is_drawn_keeps_the_shape_and_depends_on_the_generator_alone(name):
    torch.manual_seed(1)
    first = DRAWN[name](seeded())
    torch.manual_seed(2)
    assert torch.equal(first, DRAWN[name](seeded()))
    assert not torch.equal(first, DRAWN[name](seeded(1)))
    assert first.shape == SHAPES[name]
    assert first.isfinite().all()


@pytest.mark.parametrize("name", ["content wav", "reference wav"])
def test_silence_stays_finite(name):
    ranges = CONTENT if name.startswith("content") else REFERENCE
    assert augment.perturb_wav(torch.zeros(2, 1, 2000), ranges, MEL, seeded()).abs().max() < 1e-6


def test_the_mel_stays_above_its_floor():
    floor = torch.tensor(MEL.floor).log()
    assert augment.perturb_mel(mels(16), CONTENT, MEL, seeded()).min() >= floor - 1e-5


@pytest.mark.parametrize("preset", PRESETS)
def test_ranges_of_nothing_do_nothing(preset):
    config = PRESETS[preset]
    mel = noise(8, config.n_mels, 20)
    assert torch.allclose(augment.perturb_mel(mel, NOTHING, config, seeded()), mel, atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_so_many_get_noise(share):
    wav = noise(400, 1, 400)
    ranges = dataclasses.replace(CONTENT, share=share)
    change = (augment.perturb_wav(wav, ranges, MEL, seeded()) - wav).square().mean(-1).sqrt()
    assert (change > 5e-3).double().mean() == pytest.approx(share, abs=0.08)


@pytest.mark.parametrize("snr", [-5.0, 0.0, 20.0, 40.0])
def test_noise_is_added_at_the_ratio(snr):
    wav, hiss = 0.1 * noise(2, 1, 4000), 3 * noise(2, 1, 4000, seed=1)
    added = augment.add_noise(wav, hiss, torch.full((2,), snr)) - wav
    found = 10 * (wav.square().mean(-1) / added.square().mean(-1)).log10()
    assert torch.allclose(found, torch.full_like(found, snr), atol=0.05)


@pytest.mark.parametrize("slope", [0.0, 1.0, 2.0])
def test_coloured_noise_falls_by_its_slope(slope):
    white = noise(8, 1, 2**14)
    power = torch.fft.rfft(augment.colour(white, torch.full((8,), slope))).abs().square().mean((0, 1))
    octave = 10 * (power[500:1000].mean() / power[1000:2000].mean()).log10()
    assert octave == pytest.approx(3.01 * slope, abs=0.5)
    if not slope:
        assert torch.allclose(augment.colour(white, torch.zeros(8)), white, atol=1e-5)


def test_hum_is_of_the_mains():
    hum = augment.hum(torch.zeros(32, 1, MEL.sample_rate), MEL.sample_rate, seeded())
    power = torch.fft.rfft(hum[:, 0] * torch.hann_window(MEL.sample_rate)).abs().square()  # (32, Hz)
    near = torch.arange(-4, 5)  # 0.5 % of the eighth, and the window
    bands = torch.stack([power[:, f * k + near].sum(1) for f in (50, 60) for k in range(1, 9)])
    shares = (bands / power.sum(1)).unflatten(0, (2, 8))  # (mains, order, 32)
    assert shares.sum(1).amax(0).min() > 0.999
    fundamental = shares[:, 0].amax(0)
    assert (fundamental > 0.95).any() and (fundamental < 0.5).any()


def test_warping_by_one_is_the_identity():
    mel, one = mels(), torch.ones(4)
    assert torch.allclose(augment.warp(mel, one, one, MEL), mel, atol=0.02)


@pytest.mark.parametrize("factor", [0.7, 0.8, 1.25, 1.4])
@pytest.mark.parametrize(("what", "bands"), [("pitch", 0.7), ("envelope", 9.0)])
def test_warping_moves_a_peak_by_its_factor(what, bands, factor):
    """A narrow peak is a harmonic, a broad one a formant; the other factor leaves it where it is."""
    mel = bump(1500, bands)
    of_it, one = torch.tensor([factor]), torch.ones(1)
    pitch, envelope = (of_it, one) if what == "pitch" else (one, of_it)
    moved = augment.warp(mel, pitch, envelope, MEL).argmax(1)
    kept = augment.warp(mel, envelope, pitch, MEL).argmax(1)
    start = HERTZ[mel.argmax(1)]
    assert abs(moved - (HERTZ - factor * start).abs().argmin()) <= 1
    assert abs(kept - mel.argmax(1)) <= 1


def test_warping_takes_a_factor_an_example():
    mel = mels(2)
    both = augment.warp(mel, torch.tensor([0.8, 1.2]), torch.tensor([1.1, 0.9]), MEL)
    alone = augment.warp(mel[1:], torch.tensor([1.2]), torch.tensor([0.9]), MEL)
    assert torch.allclose(both[1:], alone, atol=1e-5)


def test_the_equaliser_adds_what_it_says():
    curve = torch.tensor([[6.0] * 6, [-10.0, 0.0, 0.0, 0.0, 0.0, 10.0]])
    db = 20 / torch.log(torch.tensor(10.0)) * augment.equaliser(curve, 80)
    assert torch.allclose(db[0], torch.full_like(db[0], 6), atol=0.01)
    assert torch.allclose(db[1, [0, 40, 79]].mean(-1), torch.tensor([-10.0, 0.0, 10.0]), atol=0.01)


@pytest.mark.parametrize("cut", [60.0, 300.0, 500.0])
def test_a_band_limit_leaves_what_is_above_its_lower_end(cut):
    mel = mels(1)
    change = (augment.band_limit(mel, torch.tensor([cut]), torch.tensor([8000.0]), MEL) - mel)[0, :, 0]
    above = cut <= HERTZ
    assert (change[above] == 0).all()
    assert (change[~above] < -0.6).all() and (~above).any()
    assert (change.diff() >= -1e-5).all()


def test_only_those_that_are_meant_to_get_a_high_pass():
    mel, ranges = mels(200), dataclasses.replace(NOTHING, share=0.5)
    through = augment.perturb_mel(mel, dataclasses.replace(ranges, low_hz=(100.0, 400.0)), MEL, seeded())
    lost = (through - mel)[:, 0].mean(1) < -0.3  # the lowest band
    assert 0.35 < lost.double().mean() < 0.65
    whole = augment.perturb_mel(mel, ranges, MEL, seeded())
    torch.testing.assert_close(whole[:, 0], mel[:, 0])


@pytest.mark.parametrize("cut", [3000.0, 5000.0, 8000.0])
def test_a_band_limit_leaves_what_is_below_its_upper_end(cut):
    mel = mels(1)
    change = (augment.band_limit(mel, torch.tensor([0.0]), torch.tensor([cut]), MEL) - mel)[0, :, 0]
    below = cut >= HERTZ
    assert (change[below] == 0).all()
    assert (change[~below][1:] < -0.6).all()
    assert (change.diff() <= 1e-5).all()


def test_a_mask_hides_some_and_leaves_the_rest():
    mel = mels(32)
    masked = augment.mask(mel, MaskConfig(), MEL, seeded())
    hidden = masked != mel
    assert (masked[hidden] == MEL.mean).all()
    assert 0.1 < hidden.double().mean() < 0.4
    assert hidden.all(2).any() and hidden.all(1).any()  # whole bands, whole frames
    rebuilt = hidden.all(2)[:, :, None] | hidden.all(1)[:, None]
    assert torch.equal(rebuilt, hidden)


def test_reverberation_keeps_position_and_level():
    rng = torch.Generator().manual_seed(0)
    wav = torch.zeros(8, 1, 16_000)
    wav[..., 4_000] = 1.0
    wet = augment.reverberate(wav, RoomConfig(share=1.0), 16_000, rng)
    assert (wet[..., :4_000].abs() < 1e-3).all()
    assert (wet.abs().argmax(-1) == 4_000).float().mean() > 0.7
    torch.testing.assert_close(wet.square().sum(-1), wav.square().sum(-1), rtol=1e-3, atol=0)
    assert torch.equal(augment.reverberate(wav, RoomConfig(share=0.0), 16_000, rng), wav)
    some = augment.reverberate(wav.repeat(20, 1, 1), RoomConfig(share=0.25), 16_000, rng)
    assert 20 < (some[..., 4_001:] != 0).any(-1).sum() < 60


def test_a_room_response_decays_by_60_db_in_its_reverberation_time():
    rng = torch.Generator().manual_seed(0)
    response = augment.room_response(
        torch.tensor([0.4]), torch.tensor([3.0]), torch.tensor([0.01]), 16_000, 16_000, rng
    )[0, 0]
    assert response[0] == 1 and (response[1:161] == 0).all()
    assert 10 * torch.log10(response[1:].square().sum()) == pytest.approx(-3, abs=0.1)
    early, late = (response[n : n + 1600].square().sum() for n in (200, 200 + 3200))
    assert 10 * torch.log10(early / late) == pytest.approx(30, abs=1.5)
