"""Contract of all bottlenecks."""

import math

import pytest
import torch
from conftest import noise

from vcae.model.bottleneck import BOTTLENECKS, Code, bottleneck

DIM = 16

# By hand: D / 2 log2(1 + 1 / 0.15^2); log2 of 512 vectors; log2(8 * 5 * 5 * 5);
# 8 bits; log2 of 256 classes.
BITS = {
    "continuous": 8 * math.log2(1 + 400 / 9),
    "vq": 9.0,
    "fsq": math.log2(1000),
    "binary": 8.0,
    "onehot": 8.0,
}

every = pytest.mark.parametrize("kind", BOTTLENECKS)
every_discrete = pytest.mark.parametrize("kind", [k for k, b in BOTTLENECKS.items() if b.discrete])
every_continuous = pytest.mark.parametrize("kind", [k for k, b in BOTTLENECKS.items() if not b.discrete])


def build(kind, **options):
    torch.manual_seed(0)
    return bottleneck(kind, DIM, **options)


@every
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("frames", [1, 25])
def test_the_code_has_the_shape_of_the_input(kind, training, frames):
    code = build(kind).train(training)(noise(3, DIM, frames))
    assert isinstance(code, Code)
    assert code.z.shape == (3, DIM, frames)
    assert code.z.isfinite().all()
    assert code.loss.shape == ()
    assert code.loss.isfinite()


@every
def test_a_gradient_reaches_the_encoder(kind):
    x = noise(2, DIM, 25).requires_grad_()
    code = build(kind).train()(x)
    ((code.z * noise(2, DIM, 25, seed=1)).sum() + code.loss).backward()
    assert x.grad.isfinite().all()
    assert (x.grad.abs().amax(1) > 0).all()  # at every frame


@every
def test_the_output_in_eval_depends_on_the_input_alone(kind):
    layer = build(kind).eval()
    x = noise(2, DIM, 25)
    one, other = layer(x), layer(x)
    assert torch.equal(one.z, other.z)
    assert not torch.equal(one.z, layer(noise(2, DIM, 25, seed=1)).z)
    # Frames do not mix.
    torch.testing.assert_close(layer(x[..., 10:]).z, one.z[..., 10:], atol=1e-6, rtol=0)


@every
def test_bits_per_frame_are_those_counted_by_hand(kind):
    assert build(kind).bits_per_frame == pytest.approx(BITS[kind])
    assert 0 < build(kind).bits_per_frame < math.inf


@pytest.mark.parametrize(
    ("kind", "options", "bits"),
    [
        ("continuous", {"noise": 1.0}, 8),
        ("vq", {"size": 64}, 6),
        ("fsq", {"levels": (4, 4)}, 4),
        ("binary", {"bits": 5}, 5),
        ("onehot", {"size": 16}, 4),
    ],
)
def test_bits_per_frame_follow_the_options(kind, options, bits):
    assert build(kind, **options).bits_per_frame == pytest.approx(bits)


@every_discrete
def test_ids_stand_for_the_code(kind):
    layer = build(kind).eval()
    code = layer(noise(3, DIM, 200))
    assert code.ids.shape == (3, 200)
    assert not code.ids.is_floating_point()
    assert len(code.ids.unique()) > 10
    assert 0 <= code.ids.min() <= code.ids.max() < 2**layer.bits_per_frame + 0.5
    torch.testing.assert_close(layer.decode(code.ids), code.z, atol=1e-6, rtol=0)


@every_discrete
def test_ids_stand_for_the_code_after_training(kind):
    layer = build(kind).train()
    for seed in range(5):
        layer(noise(4, DIM, 100, seed=seed))
    code = layer.eval()(noise(1, DIM, 50))
    torch.testing.assert_close(layer.decode(code.ids), code.z, atol=1e-6, rtol=0)


def test_unused_classes_cost_most():
    layer = build("onehot", size=8, usage_weight=1.0).train()
    layer.classes.weight.data.zero_()
    layer.classes.bias.data.zero_()
    assert layer(noise(1, DIM, 50)).loss.item() == pytest.approx(0, abs=1e-5)
    layer.classes.bias.data[0] = 50.0
    assert layer(noise(1, DIM, 50)).loss.item() == pytest.approx(math.log(8), abs=1e-3)


@every_continuous
def test_a_continuous_code_has_no_ids(kind):
    layer = build(kind).eval()
    assert layer(noise(1, DIM, 5)).ids is None
    with pytest.raises(ValueError, match="ids"):
        layer.decode(torch.zeros(1, 5, dtype=torch.long))


def test_the_continuous_code_has_unit_power_and_noise_in_training_only():
    layer = build("continuous", noise=0.5)
    x = 7 * noise(2, DIM, 5000)
    quiet, loud = layer.eval()(x).z, layer.train()(x).z
    torch.testing.assert_close(quiet.square().mean(1), torch.ones(2, 5000), atol=1e-4, rtol=0)
    assert (loud - quiet).std().item() == pytest.approx(0.5, rel=0.02)


def test_an_unknown_kind_is_refused_by_naming_the_kinds():
    with pytest.raises(ValueError, match="magic") as refusal:
        bottleneck("magic", DIM)
    assert all(kind in str(refusal.value) for kind in BOTTLENECKS)


def test_unknown_options_are_refused():
    with pytest.raises(TypeError):
        bottleneck("vq", DIM, levels=3)
