"""Bottlenecks between content encoder and decoder: a family of modules with one contract.

A bottleneck maps (B, D, T) to a `Code` whose z has the same shape, and passes a gradient to the encoder.
Frames of z have unit RMS, so that one decoder can serve several kinds. `bits_per_frame` is an upper bound on
the information in z. In eval mode `decode(ids)` of a discrete bottleneck equals z.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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

    @property
    def size(self) -> int:
        """Number of ids of a discrete bottleneck, which are 0 to size - 1."""
        return round(2**self.bits_per_frame)

    def decode(self, ids: Tensor) -> Tensor:
        """Look up the codes of ids: (B, T) -> (B, D, T). Raises ValueError for a continuous bottleneck."""
        raise ValueError(f"a {type(self).__name__} has no ids to decode; train with a discrete one")


def unit_rms(x: Tensor) -> Tensor:
    """Scale each frame of (B, D, T) to unit RMS."""
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-5)


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
        z = unit_rms(x)
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
        return Code(unit_rms(z), ids, loss.sum())

    def decode(self, ids: Tensor) -> Tensor:
        """(B, T) -> (B, D, T)."""
        return unit_rms(self.quantiser.get_codes_from_indices(ids))  # channels first, by channel_last=False


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
        return Code(unit_rms(z), ids, z.new_zeros(()))

    def decode(self, ids: Tensor) -> Tensor:
        """(B, T) -> (B, D, T)."""
        return unit_rms(self.quantiser.indices_to_codes(ids))


class Binary(Bottleneck):
    """Binary codes by lookup-free quantisation (Yu et al., 2024): `bits` channels of -1 or 1.

    Gradients pass by the straight-through estimator. In training, an entropy loss makes the bits of each
    frame certain, and all ids equally frequent.
    """

    def __init__(self, dim: int, bits: int = 8, entropy_weight: float = 0.1) -> None:
        super().__init__()
        from vector_quantize_pytorch import LFQ

        self.bits_per_frame = float(bits)
        self.quantiser = LFQ(
            dim=dim, codebook_size=2**bits, entropy_loss_weight=entropy_weight, channel_first=True
        )

    def forward(self, x: Tensor) -> Code:
        """(B, D, T) -> Code."""
        z, ids, loss = self.quantiser(x)
        return Code(unit_rms(z), ids, loss)

    def decode(self, ids: Tensor) -> Tensor:
        """(B, T) -> (B, D, T)."""
        return unit_rms(self.quantiser.indices_to_codes(ids))


class OneHot(Bottleneck):
    """One of `size` classes per frame, each with a learned vector.

    In training, the class is drawn by the straight-through Gumbel-softmax (Jang et al., 2017); in eval mode,
    it is the most likely one. The loss is `usage_weight` times the KL divergence, in nats, of the mean class
    distribution from the uniform one, so that all classes are used.
    """

    def __init__(
        self, dim: int, size: int = 256, temperature: float = 1.0, usage_weight: float = 0.1
    ) -> None:
        super().__init__()
        self.bits_per_frame = math.log2(size)
        self.temperature, self.usage_weight = temperature, usage_weight
        self.classes = nn.Linear(dim, size)
        self.embedding = nn.Linear(size, dim, bias=False)

    def forward(self, x: Tensor) -> Code:
        """(B, D, T) -> Code."""
        logits = self.classes(x.mT)  # (B, T, size)
        if not self.training:
            ids = logits.argmax(2)
            return Code(self.decode(ids), ids, x.new_zeros(()))
        one_hot = F.gumbel_softmax(logits, self.temperature, hard=True)  # (B, T, size)
        mean = logits.softmax(2).mean((0, 1))
        divergence = math.log(len(mean)) + (mean * (mean + 1e-9).log()).sum()
        return Code(unit_rms(self.embedding(one_hot).mT), one_hot.argmax(2), self.usage_weight * divergence)

    def decode(self, ids: Tensor) -> Tensor:
        """(B, T) -> (B, D, T)."""
        return unit_rms(F.embedding(ids, self.embedding.weight.T).mT)


BOTTLENECKS: dict[str, type[Bottleneck]] = {
    "continuous": Continuous,
    "vq": VQ,
    "fsq": FSQ,
    "binary": Binary,
    "onehot": OneHot,
}


def bottleneck(kind: str, dim: int, **options: Any) -> Bottleneck:
    """Build the bottleneck that `BOTTLENECKS` lists under `kind`, for `dim` channels.

    Raises ValueError for an unknown kind, TypeError for unknown options.
    """
    if kind not in BOTTLENECKS:
        raise ValueError(f"unknown bottleneck '{kind}'; choose one of {', '.join(BOTTLENECKS)}")
    return BOTTLENECKS[kind](dim, **options)
