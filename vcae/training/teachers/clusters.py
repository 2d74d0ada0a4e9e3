"""Clusters of features by k-means (Lloyd, 1982), and their agreement with labels."""

import torch
from torch import Tensor


def assign(features: Tensor, centres: Tensor, piece: int = 16_384) -> Tensor:
    """The nearest centre of each feature: (N, D), (K, D) -> (N,) int64."""
    half = centres.square().sum(1) / 2
    return torch.cat([(x.float() @ centres.T - half).argmax(1) for x in features.split(piece)])


def k_means(features: Tensor, count: int, steps: int = 20, seed: int = 0) -> Tensor:
    """Centres of `count` clusters: (N, D) -> (count, D), float32.

    Centres start at random features, and again where a cluster is empty. Raises ValueError for fewer features
    than clusters.
    """
    if len(features) < count:
        raise ValueError(f"{len(features)} features are too few for {count} clusters")
    generator = torch.Generator().manual_seed(seed)
    centres = features[torch.randperm(len(features), generator=generator)[:count]].float()
    for _ in range(steps):
        ids = assign(features, centres)
        sums = torch.zeros_like(centres).index_add_(0, ids, features.float())
        sizes = torch.bincount(ids, minlength=count)
        again = features[torch.randint(len(features), (count,), generator=generator)].float()
        centres = torch.where(sizes[:, None] > 0, sums / sizes.clamp(min=1)[:, None], again)
    return centres


def agreement(ids: Tensor, labels: Tensor) -> tuple[float, float]:
    """Agreement of clusters (N,) with labels (N,), which are negative where unknown; both values are 0 to 1.

    Purity, and the mutual information as a share of the labels' entropy (PNMI, HuBERT, Hsu et al., 2021).
    """
    known = labels >= 0
    classes = int(labels.max()) + 1
    table = torch.bincount(ids[known] * classes + labels[known], minlength=(int(ids.max()) + 1) * classes)
    joint = table.view(-1, classes).double() / known.sum()
    by_id, by_label = joint.sum(1, keepdim=True), joint.sum(0, keepdim=True)
    information = torch.xlogy(joint, joint / (by_id * by_label).clamp(min=1e-30)).sum()
    entropy = -torch.xlogy(by_label, by_label).sum()
    return float(joint.amax(1).sum()), float(information / entropy.clamp(min=1e-12))
