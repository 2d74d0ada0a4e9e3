"""Causal convolution, norms and the one residual block that every network here is made of.

Everything takes and gives (B, C, T). Nothing looks at the future unless it is built with `causal=False`,
and nothing takes statistics over time but `RecursiveNorm`.

In memory the channels of a frame lie side by side where they can, so that what is done frame by frame, which
is nearly all, is a matrix product: modules work on the view `x.mT`, (B, T, C), and give one back.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcae.cache import Cache, with_past

FEW_FRAMES = 512
"""Up to so many, counted over the batch, a convolution is quicker done by hand than by the library."""


class Conv1d(nn.Module):
    """Convolution over time: (B, in, T) -> (B, out, T / stride).

    Causal: output i sees inputs up to stride * (i + 1) - 1. Otherwise the padding is symmetric. Groups are
    1 or, for a depthwise convolution, as many as channels.
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
        self.conv = nn.Conv1d(
            in_channels, out_channels, kernel, stride=stride, dilation=dilation, groups=groups
        )
        self.stride, self.dilation = stride, dilation
        self.depthwise = groups > 1
        self.context = (kernel - 1) * dilation + 1 - stride
        self.causal = causal

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """(B, in, T) -> (B, out, T / stride)."""
        x = x.mT  # (B, T, in)
        if self.causal:
            x = with_past(x, self.context, cache, self, dim=1)
        else:
            x = F.pad(x, (0, 0, self.context // 2, self.context - self.context // 2))
        if x.shape[0] * x.shape[1] > FEW_FRAMES and x.dtype != torch.float64:
            return self.conv(x.mT)
        return self._over_windows(x).mT

    def _over_windows(self, x: Tensor) -> Tensor:
        """(B, context + T, in) -> (B, T / stride, out)."""
        weight, bias = self.conv.weight, self.conv.bias  # (out, in or 1, kernel), (out,)
        windows = x.unfold(1, self.context + self.stride, self.stride)  # (B, T / stride, in, span)
        if self.dilation > 1:
            windows = windows[..., :: self.dilation]  # (B, T / stride, in, kernel)
        if self.depthwise:
            return (windows.mT * weight.squeeze(1).mT).sum(2) + bias  # type: ignore[operator]
        return F.linear(windows.flatten(2), weight.flatten(1), bias)


class Pointwise(nn.Conv1d):
    """Each frame by itself, a convolution of kernel 1: (B, in, T) -> (B, out, T)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, T) -> (B, out, T)."""
        return F.linear(x.mT, self.weight.squeeze(-1), self.bias).mT


class ChannelNorm(nn.Module):
    """Layer norm of each frame over its channels: (B, C, T) -> (B, C, T)."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        weight, bias = self.weight.squeeze(-1), self.bias.squeeze(-1)
        return F.layer_norm(x.mT, weight.shape, weight, bias, self.eps).mT


class FiLM(nn.Module):
    """Feature-wise linear modulation (Perez et al., 2018): x (B, C, T), condition (B, E) -> (B, C, T)."""

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.affine = nn.Linear(condition, 2 * channels)
        nn.init.normal_(self.affine.weight, std=0.02)
        nn.init.zeros_(self.affine.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, C, T), (B, E) -> (B, C, T)."""
        scale, shift = self.affine(condition).unsqueeze(-1).chunk(2, dim=1)  # 2 x (B, C, 1)
        return x * (1 + scale) + shift


class ConvNeXtBlock(nn.Module):
    """ConvNeXt block in one dimension (Liu et al., 2022), as in Vocos: (B, C, T) -> (B, C, T).

    With `condition` channels, a vector (B, E) modulates each frame by FiLM.
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
        self.norm = ChannelNorm(width)
        self.film = None if condition is None else FiLM(width, condition)
        self.expand = Pointwise(width, hidden)
        self.project = Pointwise(hidden, width)
        self.scale = nn.Parameter(torch.full((width, 1), 0.3))

    def forward(self, x: Tensor, cache: Cache | None = None, condition: Tensor | None = None) -> Tensor:
        """(B, C, T), cache, (B, E) -> (B, C, T)."""
        y = self.norm(self.depthwise(x, cache))
        if self.film is not None:
            y = self.film(y, condition)
        return x + self.scale * self.project(F.gelu(self.expand(y)))


class Stack(nn.Module):
    """Residual blocks one after the other, a dilation each: (B, C, T) -> (B, C, T)."""

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

    def forward(self, x: Tensor, cache: Cache | None = None, condition: Tensor | None = None) -> Tensor:
        """(B, C, T), cache, (B, E) -> (B, C, T)."""
        for block in self.blocks:
            x = block(x, cache, condition)
        return x


class RecursiveNorm(nn.Module):
    """Normalise each channel by a running mean and variance: (B, C, T) -> (B, C, T).

    The statistics are exponential averages over the past (and the frame itself), in float32, started from
    those of the training corpus, which are tracked as in batch norm. `time_constant` is in frames.
    """

    chunk = 128
    mean: Tensor
    variance: Tensor
    weights: Tensor
    decay: Tensor

    def __init__(self, channels: int, time_constant: float, momentum: float = 0.01) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(channels, 1))
        self.register_buffer("variance", torch.ones(channels, 1))
        rate, steps = 1 / time_constant, torch.arange(self.chunk)
        age = steps - steps[:, None]  # of input s at output t, (s, t)
        weights = torch.where(age >= 0, rate * (1 - rate) ** age.clamp(min=0), 0.0)
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("decay", (1 - rate) ** (steps + 1), persistent=False)  # of the start

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            if self.training:
                self._track(x.detach())
            start = (self.mean, self.variance)
            if cache is not None:
                start = (cache.get((self, "mean"), self.mean), cache.get((self, "variance"), self.variance))
            mean = self._average(x, start[0])
            centred = x - mean
            variance = self._average(centred.square(), start[1])
            if cache is not None:
                cache[self, "mean"] = mean[..., -1:].clone()
                cache[self, "variance"] = variance[..., -1:].clone()
            return centred * torch.rsqrt(variance + 1e-4)

    @torch.no_grad()
    def _track(self, x: Tensor) -> None:
        mean = x.mean((0, 2)).unsqueeze(-1)
        self.mean.lerp_(mean, self.momentum)
        self.variance.lerp_((x - self.mean).square().mean((0, 2)).unsqueeze(-1), self.momentum)

    def _average(self, x: Tensor, start: Tensor) -> Tensor:
        """y[t] = (1 - rate) y[t - 1] + rate x[t] as a matrix product a chunk: (B, C, T) -> (B, C, T)."""
        out = []
        for piece in x.split(self.chunk, dim=-1):
            n = piece.shape[-1]
            y = piece @ self.weights[:n, :n] + start * self.decay[:n]
            start = y[..., -1:]
            out.append(y)
        return torch.cat(out, dim=-1)
