"""Discriminators."""

import pytest
import torch
from conftest import noise
from torch.nn import functional as F

from vcae.training.discriminators import (
    MelDiscriminator,
    PeriodDiscriminator,
    SpectrumDiscriminator,
    WaveDiscriminator,
)
from vcae.training.losses import feature_matching, hinge_discriminator, hinge_generator

SPEAKERS = F.normalize(noise(3, 12, seed=1), dim=1)


@pytest.fixture(params=["mel", "spectrum", "period", "wave"])
def scored(request):
    """A seeded discriminator as a function of one tensor, its numbers of scores and features, an input."""
    torch.manual_seed(0)
    if request.param == "mel":
        mel = MelDiscriminator(12, 4)
        return mel, lambda x: mel(x, SPEAKERS[: len(x)]), (1, 4), noise(3, 80, 37)
    wav, sizes = {
        "spectrum": (SpectrumDiscriminator(channels=4), (3, 12)),
        "period": (PeriodDiscriminator((2, 5), channels=4), (2, 10)),
        "wave": (WaveDiscriminator((256, 512), 4, (3,), 4), (3, 13)),
    }[request.param]
    return wav, wav, sizes, 0.1 * noise(3, 1, 3210)


def test_shapes(scored):
    _, score, sizes, x = scored
    scores, features = score(x)
    assert (len(scores), len(features)) == sizes
    assert all(s.ndim == 2 and len(s) == 3 for s in scores)
    assert all(f.ndim == 4 and len(f) == 3 for f in features)


def test_examples_are_judged_apart(scored):
    _, score, _, x = scored
    together, alone = score(x), score(x[:1])
    for a, b in zip([*together[0], *together[1]], [*alone[0], *alone[1]], strict=True):
        assert torch.allclose(a[:1], b, atol=1e-5)


@pytest.mark.parametrize("what", ["noise", "silence"])
def test_gradients_are_finite(scored, what):
    module, score, _, x = scored
    fake = (x if what == "noise" else torch.zeros_like(x)).clone().requires_grad_()
    real = score(noise(*x.shape, seed=5))
    loss = hinge_discriminator(real, score(fake)) + hinge_generator(score(fake))
    (loss + feature_matching(real[1], score(fake)[1])).backward()
    assert fake.grad.isfinite().all()
    for name, p in module.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), name


def test_a_few_steps_separate_natural_from_made(scored):
    module, score, _, x = scored
    made = 0.3 * x.roll(1, -1).abs()
    optimiser = torch.optim.Adam(module.parameters(), 5e-3)
    found = []
    for _ in range(15):
        loss = hinge_discriminator(score(x), score(made))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        found.append(float(loss.detach()))
    assert found[-1] < 0.8 * found[0]


def test_the_mel_is_scored_for_its_speaker():
    torch.manual_seed(0)
    discriminator, mel = MelDiscriminator(12, 4), noise(2, 80, 40)
    own, others = discriminator(mel, SPEAKERS[:2]), discriminator(mel, SPEAKERS[1:])
    assert not torch.allclose(own[0][0], others[0][0])
    assert all(torch.equal(a, b) for a, b in zip(own[1], others[1], strict=True))  # features know no speaker


def test_a_period_is_scored_by_phase():
    """Samples of one phase of a period are in one column: a change of one phase changes no other column."""
    torch.manual_seed(0)
    discriminator, wav = PeriodDiscriminator((4,), channels=4), noise(1, 1, 4 * 300)
    other = wav.clone()
    other[..., 2::4] = 0
    (a,), (b,) = (discriminator(x)[0] for x in (wav, other))
    changed = (a != b).reshape(-1, 4).any(0)
    assert changed.tolist() == [False, False, True, False]


def test_without_periods_only_spectra_are_scored():
    wav = noise(1, 1, 4096)
    assert len(WaveDiscriminator((256,), 4, (), 4)(wav)[0]) == 1


def test_the_resolutions_are_the_ones_asked_for():
    scores, _ = SpectrumDiscriminator(sizes=(256, 512), channels=4)(noise(1, 1, 4096))
    assert len(scores) == 2
