"""Losses and the classifiers that they need."""

import pytest
import torch
from conftest import noise, vowel
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from vcae.training import losses
from vcae.training.losses import MarginClassifier

PITCHES = torch.linspace(4, 6.4, 49)


def scores(*values: float, features: float = 0.0) -> losses.Scores:
    return [torch.full((2, 5), v) for v in values], [torch.full((2, 3, 4), features)]


# Spectra


def test_stft_loss_is_zero_at_equality_and_grows_with_noise():
    wav = vowel(150.0)
    found = [float(losses.stft_loss(wav + level * noise(*wav.shape), wav)) for level in (0, 1e-3, 1e-2, 0.1)]
    assert found[0] == 0
    assert found == sorted(found) and found[1] > 0


@pytest.mark.parametrize("what", ["silence", "speech"])
def test_stft_loss_has_a_finite_gradient(what):
    target = vowel(150.0) if what == "speech" else torch.zeros(1, 1, 16_000)
    for start in (target, torch.zeros_like(target)):
        wav = start.clone().requires_grad_()
        losses.stft_loss(wav, target).backward()
        assert wav.grad.isfinite().all()


def test_loudness_loss_minds_what_is_loud():
    mel = noise(1, 80, 50)
    assert losses.loudness_loss(mel, mel) == 0
    loud, soft = mel.clone(), mel.clone()
    mel[..., :25] -= 4  # 35 dB
    loud[..., :25], soft[..., :25] = mel[..., :25], mel[..., :25]
    loud[..., 25:] += 0.1
    soft[..., :25] += 0.1
    assert losses.loudness_loss(loud, mel) > 2 * losses.loudness_loss(soft, mel) > 0


@given(gain=st.floats(-3, 3))
def test_loudness_loss_is_the_same_at_any_level(gain):
    a, b = noise(1, 80, 20), noise(1, 80, 20, seed=1)
    torch.testing.assert_close(losses.loudness_loss(a + gain, b + gain), losses.loudness_loss(a, b))


def test_feature_matching_is_zero_at_equality_and_relative():
    real = scores(0, features=2.0)
    assert losses.feature_matching(real[1], real[1]) == 0
    half = losses.feature_matching(real[1], scores(0, features=1.0)[1])
    assert half == pytest.approx(0.5)
    assert losses.feature_matching(scores(0, features=20.0)[1], scores(0, features=10.0)[1]) == half


def test_feature_matching_has_no_gradient_into_the_real():
    real, fake = torch.ones(2, 3, requires_grad=True), torch.zeros(2, 3, requires_grad=True)
    losses.feature_matching([real], [fake]).backward()
    assert real.grad is None and fake.grad.abs().sum() > 0


# Adversaries


@given(st.floats(-5, 5), st.floats(-5, 5))
def test_hinge_is_zero_only_beyond_the_margin(real, fake):
    found = float(losses.hinge_discriminator(scores(real, real), scores(fake, fake)))
    assert found == pytest.approx(max(0, 1 - real) + max(0, 1 + fake), abs=1e-5)


def test_hinge_signs():
    right, wrong = (scores(2.0), scores(-2.0)), (scores(-2.0), scores(2.0))
    assert losses.hinge_discriminator(*right) == 0
    assert losses.hinge_discriminator(*wrong) == 6
    assert losses.hinge_generator(scores(2.0)) < losses.hinge_generator(scores(-2.0))


# Pitch


@pytest.mark.parametrize("bin_", [3, 20, 45])
def test_pitch_loss_is_lowest_at_the_right_bin(bin_):
    f0 = PITCHES[bin_].exp().expand(1, 4)
    found = [
        float(losses.pitch_loss(10 * F.one_hot(torch.full((1, 4), k), 49).mT.float(), f0, PITCHES))
        for k in range(49)
    ]
    assert min(range(49), key=found.__getitem__) == bin_


def test_pitch_loss_is_lowest_at_the_gaussian_itself():
    f0 = torch.tensor([[180.0, 95.0]])
    wanted = -(((f0.log().unsqueeze(1) - PITCHES[:, None]) / (PITCHES[1] - PITCHES[0])) ** 2) / 2
    best = losses.pitch_loss(wanted, f0, PITCHES)
    assert all(losses.pitch_loss(wanted + noise(1, 49, 2, seed=k), f0, PITCHES) > best for k in range(5))


def test_pitch_loss_has_no_gradient_where_unvoiced():
    logits = noise(1, 49, 3).requires_grad_()
    losses.pitch_loss(logits, torch.tensor([[100.0, 0.0, 200.0]]), PITCHES).backward()
    assert logits.grad[..., 1].abs().sum() == 0
    assert (logits.grad[..., [0, 2]].abs().sum(1) > 0).all()


def test_pitch_loss_of_silence_is_zero():
    logits = noise(1, 49, 3).requires_grad_()
    loss = losses.pitch_loss(logits, torch.zeros(1, 3), PITCHES)
    loss.backward()
    assert loss == 0 and logits.grad.isfinite().all()


# Speakers


@pytest.fixture
def margin() -> MarginClassifier:
    torch.manual_seed(0)
    return MarginClassifier(8, 5)


def test_margin_is_lower_for_the_right_speaker(margin):
    at = F.normalize(margin.weight.detach(), dim=1)  # the embedding at each speaker's own direction
    own = torch.arange(5)
    assert margin(at, own) < margin(at, own.roll(1))


def test_margin_makes_it_harder(margin):
    x, own = F.normalize(noise(5, 8), dim=1), torch.arange(5)
    plain = F.cross_entropy(30 * x @ F.normalize(margin.weight, dim=1).T, own)
    assert margin(x, own) > plain


def test_margin_never_turns_back_up():
    """Nearer to the speaker's own direction is better, from the very opposite on."""
    margin = MarginClassifier(3, 2)
    margin.weight.data = torch.tensor([[1.0, 0, 0], [0, 0, 1.0]])
    angles = torch.linspace(0, torch.pi, 60)
    path = torch.stack([angles.cos(), angles.sin(), torch.zeros(60)], dim=1)
    with torch.no_grad():
        found = torch.stack([margin(x[None], torch.tensor([0])) for x in path])
    assert (found.diff() >= 0).all()


def test_margin_ignores_the_unknown(margin):
    x = F.normalize(noise(4, 8), dim=1)
    some = margin(x, torch.tensor([0, -1, 3, -1]))
    assert torch.allclose(some, margin(x[[0, 2]], torch.tensor([0, 3])))


def test_margin_has_a_finite_gradient_at_the_poles(margin):
    at = F.normalize(margin.weight.detach(), dim=1)
    x = torch.cat([at, -at]).requires_grad_()
    margin(x, torch.arange(5).repeat(2)).backward()
    assert x.grad.isfinite().all() and margin.weight.grad.isfinite().all()


@pytest.mark.parametrize("shape", [(4, 7), (4, 7, 3)])
def test_cross_entropy_over_what_is_known(shape):
    logits = noise(*shape)
    label = torch.arange(logits[:, 0].numel()).reshape(logits[:, 0].shape) % 7
    assert torch.allclose(losses.known_cross_entropy(logits, label), F.cross_entropy(logits, label))
    label[1:] = -1
    assert torch.allclose(losses.known_cross_entropy(logits, label), F.cross_entropy(logits[:1], label[:1]))


def test_divergence_is_zero_for_the_same_classes_only():
    target = torch.randn(2, 5, 7)
    assert losses.divergence(target + 3.0, target) == pytest.approx(0, abs=1e-6)  # logits have no zero
    other = torch.randn(2, 5, 7)
    p, q = (torch.distributions.Categorical(logits=x.mT) for x in (target, other))
    torch.testing.assert_close(
        losses.divergence(other, target), torch.distributions.kl_divergence(p, q).mean()
    )


def test_divergence_teaches_only_the_first():
    logits, wanted = (torch.randn(2, 5, 7, requires_grad=True) for _ in range(2))
    losses.divergence(logits, wanted).backward()
    assert logits.grad is not None and wanted.grad is None


def test_distance_is_the_mean_over_layers():
    a, b = [torch.zeros(2, 3, 4), torch.zeros(2, 3, 8)], [torch.ones(2, 3, 4), torch.full((2, 3, 8), 3.0)]
    assert losses.distance(a, b) == 2


def test_cross_entropy_of_nothing_known_is_zero():
    logits = noise(4, 7).requires_grad_()
    loss = losses.known_cross_entropy(logits, torch.full((4,), -1))
    loss.backward()
    assert loss == 0 and (logits.grad == 0).all()


@pytest.fixture
def classifier() -> losses.SpeakerClassifier:
    torch.manual_seed(0)
    return losses.SpeakerClassifier(4, 8, width=16)


def leaking(batch: int = 12, frames: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes, each at its speaker's own level, and the speakers' embeddings."""
    level = noise(batch, 4, 1)
    embedding = F.normalize(torch.cat([level.squeeze(-1), -level.squeeze(-1)], dim=1), dim=1)
    return level + 0.1 * noise(batch, 4, frames, seed=1), embedding


def test_the_speaker_in_a_code_is_found(classifier):
    speaker = torch.arange(12)
    optimiser = torch.optim.Adam(classifier.parameters(), 1e-2)
    for _ in range(60):
        finds, _ = losses.speaker_adversary_losses(classifier, *leaking(), speaker)
        optimiser.zero_grad()
        finds.backward()
        optimiser.step()
    assert finds < 0.5 < losses.speaker_adversary_losses(classifier, *leaking(), speaker)[1]
    # A code that says nothing is at chance, and there is nothing more to gain.
    nothing, embedding = torch.zeros(12, 4, 20), leaking()[1]
    assert losses.speaker_adversary_losses(classifier, nothing, embedding, speaker)[1] == 0


def test_classifier_and_encoder_learn_apart(classifier):
    code, embedding = leaking()
    code.requires_grad_(), embedding.requires_grad_()
    finds, adversary = losses.speaker_adversary_losses(classifier, code, embedding, torch.arange(12))
    adversary = adversary - finds.detach()
    adversary.backward()
    assert all(p.grad is None for p in classifier.parameters()) and embedding.grad is None
    code.grad = None
    finds.backward()
    assert code.grad is None and embedding.grad is None
    assert all(p.grad is not None for p in classifier.parameters())


def test_examples_of_one_speaker_need_not_be_distinguished(classifier):
    code, embedding = leaking(4)
    same = losses.speaker_adversary_losses(classifier, code, embedding, torch.zeros(4, dtype=torch.long))
    assert torch.stack(same).abs().max() < 1e-6
    unknown = losses.speaker_adversary_losses(classifier, code, embedding, torch.full((4,), -1))
    apart = losses.speaker_adversary_losses(classifier, code, embedding, torch.arange(4))
    assert torch.equal(torch.stack(unknown), torch.stack(apart))
