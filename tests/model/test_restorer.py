"""The restorer: its spectrum, its look-ahead, streaming, and the ways to use what it predicts."""

import copy
import dataclasses
import math

import pytest
import torch
from conftest import TINY, TINY_VOCODER, cuts, noise, seeded, streamed
from hypothesis import given
from hypothesis import strategies as st

from vcae.model.config import MelConfig
from vcae.model.restorer import TASKS, Restorer, RestorerConfig
from vcae.model.vocoder import Vocoder

SMALL = RestorerConfig(TINY.mel, delay=3, width=16, hidden=32, dilations=(1, 2), pitches=24)
HOP = SMALL.mel.hop_length


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    return seeded(Restorer, SMALL)


def test_the_waveform_of_a_spectrum_is_the_signal(restorer):
    wav, late = noise(2, 1, 20 * HOP), SMALL.mel.win_length - HOP
    back = restorer.waveform(restorer.spectrum(wav))
    torch.testing.assert_close(back[..., late:], wav[..., :-late], atol=1e-5, rtol=0)
    assert restorer.delay == SMALL.delay * HOP + late


@given(st.data())
@pytest.mark.parametrize("task", TASKS)
def test_blocks_give_what_the_whole_signal_gives(restorer, task, data):
    wav = noise(1, 1, 24 * HOP)

    def run(x, cache=None):
        spectrum = restorer.spectrum(x, cache)
        out = restorer(spectrum, restorer.conditions([task]), cache)
        mel, prosody = restorer.vocoder_input(out)
        masked = restorer.waveform(restorer.masked(restorer.delayed(spectrum, cache), out), cache)
        return torch.cat([masked.unflatten(-1, (-1, HOP)).mT.flatten(1, 2), mel, prosody], dim=1)

    with torch.no_grad():
        whole = run(wav)
        parts = streamed(run, wav, data.draw(cuts(24 * HOP, HOP)))
    torch.testing.assert_close(parts, whole, atol=1e-4, rtol=1e-4)


def test_each_task_and_the_place_of_the_voice_are_heard(restorer):
    spectrum = restorer.spectrum(noise(1, 1, 20 * HOP))
    centre = torch.tensor([5.0])
    told = [([task], None) for task in TASKS] + [(["revoice"], centre), (["revoice"], centre + 0.5)]
    with torch.no_grad():
        outs = [restorer(spectrum, restorer.conditions(*each)).envelope for each in told]
    for k, one in enumerate(outs):
        assert not any(torch.equal(one, other) for other in outs[:k])
    unknown = restorer(spectrum, restorer.conditions(["revoice"], torch.tensor([torch.nan]))).envelope
    torch.testing.assert_close(unknown, outs[2])


def test_an_open_mask_leaves_the_signal_late(restorer):
    wav = noise(1, 1, 30 * HOP)
    spectrum = restorer.spectrum(wav)
    out = restorer(spectrum, restorer.conditions(["denoise"]))
    opened = out._replace(mask=torch.ones_like(out.mask))
    back = restorer.waveform(restorer.masked(restorer.delayed(spectrum), opened))
    torch.testing.assert_close(back[..., restorer.delay :], wav[..., : -restorer.delay], atol=1e-5, rtol=0)


def test_a_closed_mask_leaves_its_floor():
    restorer = seeded(Restorer, dataclasses.replace(SMALL, floor_db=-20.0))
    spectrum = restorer.spectrum(noise(1, 1, 30 * HOP))
    out = restorer(spectrum, restorer.conditions(["denoise"]))
    closed = out._replace(mask=torch.zeros_like(out.mask))
    torch.testing.assert_close(
        restorer.masked(restorer.delayed(spectrum), closed), 0.1 * restorer.delayed(spectrum)
    )


def test_the_crossover_keeps_the_input_below_and_takes_the_rest_from_above(restorer):
    low, high = SMALL.crossover
    hertz = torch.linspace(0, SMALL.mel.sample_rate / 2, SMALL.mel.win_length // 2 + 1)
    spectrum, other = (restorer.spectrum(noise(1, 1, 20 * HOP, seed=k)) for k in (0, 1))
    made = restorer.crossed(spectrum, other)
    assert torch.equal(made[:, hertz <= low], spectrum[:, hertz <= low])
    assert torch.equal(made[:, hertz >= high], other[:, hertz >= high])


def test_a_copy_fills_the_band_above_from_the_band_below(restorer):
    hertz = torch.linspace(0, SMALL.mel.sample_rate / 2, SMALL.mel.win_length // 2 + 1)
    below = hertz <= SMALL.crossover[0]
    spectrum = restorer.spectrum(noise(1, 1, 20 * HOP)) * below[:, None]
    made = restorer.copied(spectrum)
    assert torch.equal(made[:, below], spectrum[:, below])
    for row in made[0, ~below]:
        assert any(torch.equal(row, other) for other in spectrum[0, below][40:])


def test_spread_scales_the_deviation_of_f0_from_its_mean(restorer):
    wide = seeded(Restorer, dataclasses.replace(SMALL, spread=2.0))
    out = restorer(restorer.spectrum(noise(1, 1, 20 * HOP)), restorer.conditions(["revoice"]))
    plain, centre = restorer.vocoder_input(out)[1][:, 0], torch.tensor([5.0])
    spread = wide.vocoder_input(out, centre)[1][:, 0]
    torch.testing.assert_close(spread - 5.0, 2 * (plain - 5.0))
    torch.testing.assert_close(restorer.vocoder_input(out, centre)[1][:, 0], plain)


def test_another_hop_is_refused():
    with pytest.raises(ValueError, match="a quarter of its win_length"):
        Restorer(RestorerConfig(MelConfig(win_length=512, hop_length=160)))


def test_makeup_amplifies_what_the_mel_permits(restorer):
    vocoder = seeded(Vocoder, TINY_VOCODER)
    seen = restorer.spectrum(noise(1, 1, 20 * HOP))
    out = restorer(seen, restorer.conditions(["denoise"]))
    out = out._replace(mask=torch.full_like(out.mask, 0.5))
    own = torch.log((vocoder.bands @ seen.abs()).clamp(min=1e-5))  # levels of the source
    louder = copy.deepcopy(restorer)
    louder.config = dataclasses.replace(restorer.config, makeup_db=6.0)
    for model, gain in ((restorer, 0.5), (louder, 10 ** (6 / 20) / 2)):
        for limit, factor in ((own + 9, 1.0), (own + math.log(0.1), 0.1 / gain)):
            made = model.limited(seen, out, limit + vocoder.level, vocoder)[..., 2:]
            share = (made.abs().sum() / seen[..., 2:].abs().sum()).item()
            assert share == pytest.approx(gain * factor, rel=0.05)
