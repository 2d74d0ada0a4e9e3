"""Causal convolution, norms, FiLM and the ConvNeXt block that all networks are built from.

Inputs and outputs are (B, C, T). Layers are causal unless built with `causal=False`. Only
`StreamingInstanceNorm` computes statistics over time.

In memory, the channels of a frame are contiguous where possible, so that frame-wise operations, which are
most, are matrix products. Modules therefore compute on the view `x.mT`, (B, T, C), and pass it to each other
by `channels_last`.
"""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcae.model.state import Cache, with_past

FEW_FRAMES = 512
"""Up to this many frames in a batch, a matrix product is faster than the library's convolution."""


class Conv1d(nn.Module):
    """Convolution over time: (B, in, T) -> (B, out, T / stride).

    Causal: output i depends on inputs up to stride * (i + 1) - 1. Otherwise the padding is symmetric. groups:
    1, or the number of channels for a depthwise convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        causal: bool = True,
    ) -> None:
        super().__init__()
        initial = nn.Conv1d(in_channels, out_channels, kernel, groups=groups)
        self.depthwise = groups > 1
        # Depthwise: (kernel, out), the memory order in which the product over windows reads it.
        weight = initial.weight.squeeze(1).mT.contiguous() if self.depthwise else initial.weight
        self.weight = nn.Parameter(weight.detach())
        self.bias = nn.Parameter(initial.bias.detach())  # type: ignore[union-attr]
        self.stride, self.dilation, self.groups = stride, dilation, groups
        self.context = (kernel - 1) * dilation + 1 - stride
        self.causal = causal

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """(B, in, T) -> (B, out, T / stride)."""
        return self.channels_last(x.mT, cache).mT

    def channels_last(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """(B, T, in) -> (B, T / stride, out)."""
        if self.causal:
            x = with_past(x, self.context, cache, self, dim=1)
        else:
            x = F.pad(x, (0, 0, self.context // 2, self.context - self.context // 2))
        if x.shape[0] * x.shape[1] > FEW_FRAMES and x.dtype != torch.float64:
            weight = self.weight.mT.unsqueeze(1) if self.depthwise else self.weight  # (out, in or 1, kernel)
            return F.conv1d(x.mT, weight, self.bias, self.stride, 0, self.dilation, self.groups).mT
        windows = x.unfold(1, self.context + self.stride, self.stride)  # (B, T / stride, in, span)
        if self.dilation > 1:
            windows = windows[..., :: self.dilation]  # (B, T / stride, in, kernel)
        if self.depthwise:
            return (windows.mT * self.weight).sum(2) + self.bias
        return F.linear(windows.flatten(2), self.weight.flatten(1), self.bias)


class Pointwise(nn.Linear):
    """Linear layer on each frame: (B, in, T) -> (B, out, T)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, T) -> (B, out, T)."""
        return super().forward(x.mT).mT


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each frame (Ba et al., 2016): (B, C, T) -> (B, C, T)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        return super().forward(x.mT).mT


Modulation: TypeAlias = tuple[Tensor, ...]
"""Output of FiLM: scale and shift of each channel, (B, 1, C) each. For a fine-tuned voice four more matrices,
low-rank changes of the block's two linear layers (LoRA, Hu et al., 2022): (rank, C), (hidden, rank),
(rank, hidden) and (C, rank).
"""


class FiLM(nn.Module):
    """Feature-wise linear modulation (Perez et al., 2018): channel scales and shifts from a condition (B, E).

    The block applies them. They are computed apart, once for all blocks of a stream with the same condition.
    """

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.affine = nn.Linear(condition, 2 * channels)
        nn.init.normal_(self.affine.weight, std=0.02)
        nn.init.zeros_(self.affine.bias)

    def forward(self, condition: Tensor) -> Modulation:
        """(B, E) -> 2 x (B, 1, C)."""
        scale, shift = self.affine(condition).unsqueeze(1).chunk(2, dim=2)
        return 1 + scale, shift


class ConvNeXtBlock(nn.Module):
    """One-dimensional ConvNeXt block (Liu et al., 2022), as in Vocos: (B, C, T) -> (B, C, T).

    condition: size of the vector from which a `FiLM` computes the modulation; None for a block without FiLM.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        kernel: int = 7,
        dilation: int = 1,
        condition: int | None = None,
        causal: bool = True,
    ) -> None:
        super().__init__()
        self.depthwise = Conv1d(width, width, kernel, dilation=dilation, groups=width, causal=causal)
        self.norm = nn.LayerNorm(width)
        self.film = None if condition is None else FiLM(width, condition)
        self.expand = nn.Linear(width, hidden)
        self.project = nn.Linear(hidden, width)
        self.scale = nn.Parameter(torch.full((width,), 0.3))

    def forward(self, x: Tensor, cache: Cache | None = None, modulation: Modulation | None = None) -> Tensor:
        """(B, C, T), cache, modulation -> (B, C, T)."""
        return self.channels_last(x.mT, cache, modulation).mT

    def channels_last(
        self, x: Tensor, cache: Cache | None = None, modulation: Modulation | None = None
    ) -> Tensor:
        """(B, T, C), cache, modulation -> (B, T, C)."""
        y = self.norm(self.depthwise.channels_last(x, cache))
        low_rank: Sequence[Tensor] = ()
        if modulation is not None:
            scale, shift, *low_rank = modulation
            y = torch.addcmul(shift, y, scale)
        # Scaling the weights is cheaper than scaling the output, and free in a frozen graph.
        weight, bias = self.scale.unsqueeze(1) * self.project.weight, self.scale * self.project.bias
        if not low_rank:
            return x + F.linear(F.gelu(self.expand(y)), weight, bias)
        down, up, hidden_down, hidden_up = low_rank
        hidden = F.gelu(self.expand(y) + F.linear(F.linear(y, down), up))
        return x + F.linear(hidden, weight, bias) + F.linear(F.linear(hidden, hidden_down), hidden_up)


class Stack(nn.Module):
    """A sequence of ConvNeXt blocks, one for each dilation: (B, C, T) -> (B, C, T)."""

    def __init__(
        self,
        width: int,
        hidden: int,
        dilations: Iterable[int],
        condition: int | None = None,
        causal: bool = True,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(width, hidden, dilation=d, condition=condition, causal=causal) for d in dilations
        )

    def modulations(self, condition: Tensor) -> list[Modulation]:
        """FiLM scale and shift of every block: (B, E) -> 2 x (B, 1, C) for each."""
        return [block.film(condition) for block in self.blocks]  # type: ignore[operator]

    def forward(
        self, x: Tensor, cache: Cache | None = None, modulations: Sequence[Modulation] | None = None
    ) -> Tensor:
        """(B, C, T), cache, output of `modulations` -> (B, C, T)."""
        x = x.mT  # (B, T, C)
        for i, block in enumerate(self.blocks):
            x = block.channels_last(x, cache, modulations[i] if modulations else None)  # type: ignore[operator]
        return x.mT


class StreamingInstanceNorm(nn.Module):
    """Normalise each channel by a running mean and variance: (B, C, T) -> (B, C, T).

    The statistics are exponential averages over the frame and its past, in float32, with `time_constant` in
    frames. They start from the statistics of the training corpus, tracked as in batch norm, with the weight
    of `prior` frames. The prior is short because the statistics of an utterance depend on the speaker.
    """

    chunk = 128
    mean: Tensor
    variance: Tensor
    kernel: Tensor
    decay: Tensor

    def __init__(
        self, channels: int, time_constant: float, prior: float = 2.0, momentum: float = 0.01
    ) -> None:
        super().__init__()
        self.prior = prior
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(channels, 1))
        self.register_buffer("variance", torch.ones(channels, 1))
        keep, steps = 1 - 1 / time_constant, torch.arange(self.chunk)
        age = steps - steps[:, None]  # of input s at output t, (s, t)
        kernel = torch.where(age >= 0, keep ** age.clamp(min=0), 0.0)
        self.register_buffer("kernel", kernel, persistent=False)
        self.register_buffer("decay", keep ** (steps + 1), persistent=False)  # of the initial sum

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            if self.training:
                self._track(x.detach())
            state = {"count": x.new_full((1, 1), self.prior), "mean": self.mean, "variance": self.variance}
            if cache is not None:
                state = {name: cache.get((self, name), start) for name, start in state.items()}
            initial = state["count"]
            count = self._sum(x.new_ones(1, 1, x.shape[-1]), initial)  # weight of each average, in frames
            mean = self._sum(x, state["mean"] * initial) / count
            centred = x - mean
            variance = self._sum(centred.square(), state["variance"] * initial) / count
            if cache is not None:
                for name, y in (("count", count), ("mean", mean), ("variance", variance)):
                    cache[self, name] = y[..., -1:].clone()
            return centred * torch.rsqrt(variance + 1e-4)

    @torch.no_grad()
    def _track(self, x: Tensor) -> None:
        mean = x.mean((0, 2)).unsqueeze(-1)
        self.mean.lerp_(mean, self.momentum)
        self.variance.lerp_((x - self.mean).square().mean((0, 2)).unsqueeze(-1), self.momentum)

    def _sum(self, x: Tensor, start: Tensor) -> Tensor:
        """Leaky sum y[t] = keep y[t - 1] + x[t], y[-1] = start: (B, C, T) -> (B, C, T).

        One matrix product within all chunks, and one over the sums of the chunks.
        """
        frames, chunk = x.shape[-1], self.chunk
        if frames <= chunk:
            return x @ self.kernel[:frames, :frames] + start * self.decay[:frames]
        chunks = F.pad(x, (0, -frames % chunk)).unflatten(-1, (-1, chunk))  # (B, C, chunks, chunk)
        within = chunks @ self.kernel
        totals = torch.cat([start.expand(len(x), -1, 1), within[..., :-1, -1]], dim=-1)  # (B, C, chunks)
        index = torch.arange(totals.shape[-1], device=x.device)
        age = index - index[:, None]
        before = totals @ torch.where(age >= 0, self.decay[-1] ** age.clamp(min=0), 0.0)
        y: Tensor = within + before.unsqueeze(-1) * self.decay
        return y.flatten(-2)[..., :frames]
