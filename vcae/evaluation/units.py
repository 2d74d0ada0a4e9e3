"""How the units of a discrete content code go with phones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vcae.evaluation.probes import UtteranceCodes
from vcae.model.phones import PHONES


@dataclass(frozen=True)
class UnitStatistics:
    """Statistics of units, and of units and phones together, over frames."""

    used: float
    """Share of all units that occur, 0 to 1."""
    perplexity: float
    """2 ** entropy of the units in bits: how many equally frequent ones would have the same entropy."""
    purity: float
    """Phone purity, 0 to 1: the share of frames whose phone is the most frequent one of their unit."""
    information: float
    """Phone-normalised mutual information, 0 to 1: that of unit and phone over the entropy of phones."""
    joint: npt.NDArray[np.int64]
    """(units, phones): number of frames of each unit with each phone of `vcae.model.phones.PHONES`."""


def unit_statistics(utterances: Sequence[UtteranceCodes], size: int) -> UnitStatistics:
    """Statistics of the units of utterances, of which some have phones; pauses are left out there.

    Phone purity and phone-normalised mutual information are those of "HuBERT" (Hsu et al., 2021,
    arXiv:2106.07447). size: number of units. Raises ValueError where the code is continuous.
    """
    counts = np.zeros(size, dtype=np.int64)
    joint = np.zeros((size, len(PHONES)), dtype=np.int64)
    for each in utterances:
        if each.units is None:
            raise ValueError("a continuous code has no units")
        counts += np.bincount(each.units, minlength=size)
        known = each.phones != ""
        np.add.at(joint, (each.units[known], [PHONES.index(name) for name in each.phones[known]]), 1)
    unit, phone = entropy(joint.sum(1)), entropy(joint.sum(0))
    return UnitStatistics(
        used=float((counts > 0).mean()),
        perplexity=float(2 ** entropy(counts)),
        purity=float(joint.max(1).sum() / max(joint.sum(), 1)),
        information=(unit + phone - entropy(joint.ravel())) / phone if phone else 0.0,
        joint=joint,
    )


def entropy(counts: npt.NDArray[np.int64]) -> float:
    """Entropy of a distribution, in bits, from counts (n,)."""
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log2(p)).sum())
