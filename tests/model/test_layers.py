"""The causal layers: a common contract, then the behaviour of each."""

import pytest
import torch
from conftest import cuts, noise, streamed
from hypothesis import given
from hypothesis import strategies as st

from vcae.model.layers import ChannelNorm, Conv1d, ConvNeXtBlock, FiLM, Stack, StreamingInstanceNorm

CHANNELS, FRAMES = 6, 300

# Constructor and stride of each layer.
CAUSAL = {
    "conv": (lambda: Conv1d(CHANNELS, 4, 5), 1),
    "pointwise conv": (lambda: Conv1d(CHANNELS, 4, 1), 1),
    "dilated conv": (lambda: Conv1d(CHANNELS, 4, 3, dilation=4), 1),
    "grouped conv": (lambda: Conv1d(CHANNELS, CHANNELS, 7, groups=CHANNELS), 1),
    "strided conv": (lambda: Conv1d(CHANNELS, 4, 4, stride=2), 2),
    "strided conv, odd kernel": (lambda: Conv1d(CHANNELS, 4, 7, stride=3), 3),
    "strided conv without context": (lambda: Conv1d(CHANNELS, 4, 2, stride=2), 2),
    "block": (lambda: ConvNeXtBlock(CHANNELS, 12, dilation=2), 1),
    "stack": (lambda: Stack(CHANNELS, 12, [1, 2, 4]), 1),
    "streaming instance norm": (lambda: StreamingInstanceNorm(CHANNELS, time_constant=40), 1),
}


def build(name):
    torch.manual_seed(0)
    make, stride = CAUSAL[name]
    return make().eval(), stride


@pytest.mark.parametrize("name", CAUSAL)
@given(data=st.data())
def test_block_by_block_equals_whole(name, data):
    layer, stride = build(name)
    x = 3 * noise(2, CHANNELS, FRAMES) + 1
    whole = layer(x)
    assert whole.shape[-1] == FRAMES // stride
    borders = data.draw(cuts(FRAMES, multiple=stride))
    torch.testing.assert_close(streamed(layer, x, borders), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", CAUSAL)
@given(data=st.data())
def test_no_output_depends_on_the_future(name, data):
    layer, stride = build(name)
    i = data.draw(st.integers(0, FRAMES // stride - 2))
    x = noise(1, CHANNELS, FRAMES)
    later, last = x.clone(), x.clone()
    later[..., stride * (i + 1) :] += 10 * noise(CHANNELS, 1, seed=1)
    last[..., stride * (i + 1) - 1] += 10 * noise(CHANNELS, seed=1)
    y = layer(x)
    torch.testing.assert_close(layer(later)[..., : i + 1], y[..., : i + 1], atol=1e-6, rtol=0)
    assert (layer(last)[..., i] - y[..., i]).abs().max() > 1e-3


@pytest.mark.parametrize("name", CAUSAL)
def test_two_streams_can_share_one_layer(name):
    layer, stride = build(name)
    one, other = noise(1, CHANNELS, 12 * stride), noise(1, CHANNELS, 12 * stride, seed=1)
    half = 6 * stride
    caches = {}, {}
    parts = [
        [layer(x[..., a : a + half], c) for x, c in zip((one, other), caches, strict=True)] for a in (0, half)
    ]
    for x, *y in zip((one, other), *parts, strict=True):
        torch.testing.assert_close(torch.cat(y, -1), layer(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("frames", [1, 2, 17, 50])
@pytest.mark.parametrize(
    "layer",
    [
        Conv1d(CHANNELS, CHANNELS, 7, causal=False),
        Conv1d(CHANNELS, CHANNELS, 4, causal=False),
        ConvNeXtBlock(CHANNELS, 12, dilation=3, causal=False),
        Stack(CHANNELS, 12, [1, 2, 3], causal=False),
    ],
    ids=["conv", "even kernel", "block", "stack"],
)
def test_layers_that_are_not_causal_keep_the_length(layer, frames):
    assert layer(noise(1, CHANNELS, frames)).shape == (1, CHANNELS, frames)


def test_a_block_that_is_not_causal_depends_on_past_and_future_alike():
    block = ConvNeXtBlock(CHANNELS, 12, dilation=3, causal=False)
    x = noise(1, CHANNELS, 61)
    nudged = x.clone()
    nudged[..., 30] += noise(CHANNELS, seed=1)
    changed = ((block(nudged) - block(x)).abs().amax((0, 1)) > 1e-6).nonzero().flatten().tolist()
    assert changed == [21, 24, 27, 30, 33, 36, 39]


# Norms


def test_channel_norm_normalises_every_frame_by_itself():
    x = 5 * noise(2, 64, 10) + 3
    y = ChannelNorm(64)(x)
    torch.testing.assert_close(y.mean(1), torch.zeros(2, 10), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.std(1, correction=0), torch.ones(2, 10), atol=1e-4, rtol=0)
    expected = torch.nn.functional.layer_norm(x.transpose(1, 2), (64,)).transpose(1, 2)
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=0)


def test_streaming_instance_norm_adapts_to_another_level_and_spread():
    norm = StreamingInstanceNorm(3, time_constant=50).eval()
    level, spread = torch.tensor([[-4.0], [0.0], [20.0]]), torch.tensor([[0.1], [1.0], [5.0]])
    y = norm(noise(8, 3, 1000) * spread + level)[..., 500:]  # after ten time constants
    assert y.mean((0, 2)).abs().max() < 0.05
    assert (y.std((0, 2)) - 1).abs().max() < 0.1


@pytest.mark.parametrize("frames", [1, 127, 128, 129, 400])
def test_streaming_instance_norm_equals_a_plain_loop(frames):
    norm = StreamingInstanceNorm(3, time_constant=30, prior=7).eval()
    norm.mean.copy_(noise(3, 1, seed=1))
    norm.variance.copy_(noise(3, 1, seed=2).exp())
    x = 2 * noise(2, 3, frames) + 1
    mean, variance = norm.mean.double(), norm.variance.double()
    expected, count = [], 7.0
    for frame in x.double().split(1, dim=-1):
        count = count * 29 / 30 + 1
        mean = mean + (frame - mean) / count
        variance = variance + ((frame - mean) ** 2 - variance) / count
        expected.append((frame - mean) / (variance + 1e-4).sqrt())
    torch.testing.assert_close(norm(x).double(), torch.cat(expected, -1), atol=1e-5, rtol=0)


def test_streaming_instance_norm_starts_from_the_statistics_of_training():
    norm = StreamingInstanceNorm(2, time_constant=1e9, momentum=0.1)
    for seed in range(100):
        norm(3 * noise(4, 2, 50, seed=seed) + 5)
    y = norm.eval()(3 * noise(4, 2, 500, seed=100) + 5)
    assert y.mean().abs() < 0.1
    assert (y.std() - 1).abs() < 0.1


def test_streaming_instance_norm_in_eval_keeps_its_statistics():
    norm = StreamingInstanceNorm(CHANNELS, time_constant=10).eval()
    norm(noise(1, CHANNELS, 50) + 5)
    assert not norm.mean.any()
    assert (norm.variance == 1).all()


def test_streaming_instance_norm_stays_in_float32_under_autocast():
    norm = StreamingInstanceNorm(CHANNELS, time_constant=10).eval()
    x = noise(1, CHANNELS, 50)
    with torch.autocast("cpu", torch.bfloat16):
        y = norm(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, norm(x), atol=0, rtol=0)


# FiLM


def test_a_conditioned_block_scales_and_shifts_each_channel_alike_at_all_times():
    block = ConvNeXtBlock(4, 8, condition=3)
    seen = []
    block.expand.register_forward_pre_hook(lambda _, args: seen.append(args[0].mT))
    x, condition = noise(2, 4, 9), noise(2, 3, seed=1)
    block(x), block(x, None, block.film(condition))
    scale, shift = block.film.affine(condition).chunk(2, dim=1)
    torch.testing.assert_close(seen[1], seen[0] * (1 + scale[..., None]) + shift[..., None])


def test_film_of_a_zero_condition_is_the_identity():
    scale, shift = FiLM(4, 3)(torch.zeros(2, 3))
    assert (scale == 1).all() and (shift == 0).all()


def test_the_output_of_a_conditioned_stack_depends_on_its_condition():
    stack = Stack(CHANNELS, 12, [1, 1], condition=3)
    x = noise(1, CHANNELS, 9)
    a, b = (stack(x, None, stack.modulations(noise(1, 3, seed=s))) for s in (1, 2))
    assert (a - b).abs().max() > 1e-3
