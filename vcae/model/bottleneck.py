"""Bottlenecks between content encoder and decoder: a family of modules with one contract.

A bottleneck maps (B, D, T) to a `Code` whose z has the same shape, and passes a gradient to the encoder.
`bits_per_frame` is an upper bound on the information in z. In eval mode `decode(ids)` of a discrete
bottleneck equals z.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Code(NamedTuple):
    """Output of a bottleneck.

    z: (B, D, T), the decoder's input. ids: (B, T) integers, or None for a continuous code.
    loss: scalar, a term of the training loss; zero where the bottleneck has none.
    """

    z: Tensor
    ids: Tensor | None
    loss: Tensor


class Bottleneck(nn.Module):
    """Base class: `forward`, `decode`, `bits_per_frame`."""

    bits_per_frame: float
    discrete: bool = True

    def decode(self, ids: Tensor) -> Tensor:
        """Look up the codes of ids: (B, T) -> (B, D, T). Raises ValueError for a continuous bottleneck."""
        raise ValueError(f"a {type(self).__name__} has no ids to decode; train with a discrete one")


class Continuous(Bottleneck):
    """Frames scaled to unit RMS, with Gaussian noise added in training to limit the rate.

    `bits_per_frame` is the capacity of this noisy channel, D / 2 log2(1 + 1 / noise^2) (Shannon, 1948).
    """

    discrete = False

    def __init__(self, dim: int, noise: float = 0.15) -> None:
        super().__init__()
        self.noise = noise
        self.bits_per_frame = dim / 2 * math.log2(1 + 1 / noise**2) if noise else math.inf

    def forward(self, x: Tensor) -> Code:
        """(B, D, T) -> Code."""
        z = x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-5)
        if self.training:
            z = z + self.noise * torch.randn_like(z)
        return Code(z, None, z.new_zeros(()))


class VQ(Bottleneck):
    """Vector quantisation (van den Oord et al., 2017): the nearest of `size` learned vectors by cosine."""

    def __init__(self, dim: int, size: int = 512) -> None:
        super().__init__()
        from vector_quantize_pytorch import VectorQuantize

        self.bits_per_frame = math.log2(size)
        self.quantiser = VectorQuantize(
            dim=dim,
            codebook_size=size,
            use_cosine_sim=True,
            kmeans_init=False,
            threshold_ema_dead_code=2,
            channel_last=False,
        )

    def forward(self, x: Tensor) -> Code:
        """(B, D, T) -> Code."""
        z, ids, loss = self.quantiser(x)
        return Code(z, ids, loss.sum())

    def decode(self, ids: Tensor) -> Tensor:
        """(B, T) -> (B, D, T)."""
        return self.quantiser.get_codes_from_indices(ids)  # channels first, by channel_last=False


class FSQ(Bottleneck):
    """Finite scalar quantisation (Mentzer et al., 2023): a few channels, channel i rounded to levels[i]."""

    def __init__(self, dim: int, levels: tuple[int, ...] = (8, 5, 5, 5)) -> None:
        super().__init__()
        from vector_quantize_pytorch import FSQ as Quantiser  # noqa: N811

        self.bits_per_frame = math.log2(math.prod(levels))
        self.quantiser = Quantiser(levels=list(levels), dim=dim, channel_first=True)

    def forward(self, x: Tensor) -> Code:
        """(B, D, T) -> Code."""
        z, ids = self.quantiser(x)
        return Code(z, ids, z.new_zeros(()))

    def decode(self, ids: Tensor) -> Tensor:
        """(B, T) -> (B, D, T)."""
        return self.quantiser.indices_to_codes(ids)


BOTTLENECKS: dict[str, type[Bottleneck]] = {"continuous": Continuous, "vq": VQ, "fsq": FSQ}


def bottleneck(kind: str, dim: int, **options: Any) -> Bottleneck:
    """Build the bottleneck that `BOTTLENECKS` lists under `kind`, for `dim` channels.

    Raises ValueError for an unknown kind, TypeError for unknown options.
    """
    if kind not in BOTTLENECKS:
        raise ValueError(f"unknown bottleneck '{kind}'; choose one of {', '.join(BOTTLENECKS)}")
    return BOTTLENECKS[kind](dim, **options)
