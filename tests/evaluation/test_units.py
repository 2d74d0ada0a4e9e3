"""Statistics of units and phones, against numbers by hand."""

import numpy as np
import pytest

from vcae.evaluation.probes import UtteranceCodes
from vcae.evaluation.units import unit_statistics


def utterance(units, phones) -> UtteranceCodes:
    nothing = np.zeros(0)
    return UtteranceCodes(
        "s", 1.0, nothing, None if units is None else np.array(units), nothing, nothing, np.array(phones),
        nothing, nothing, nothing, nothing,
    )  # fmt: skip


def test_units_that_are_phones_hold_all_information():
    found = unit_statistics([utterance([0, 0, 1, 1], ["AA", "AA", "B", "B"])], 4)
    assert (found.used, found.perplexity, found.purity) == (0.5, 2.0, 1.0)
    assert found.information == pytest.approx(1.0)
    assert found.joint.sum() == 4


def test_units_that_ignore_phones_hold_none():
    found = unit_statistics([utterance([0, 1, 0, 1], ["AA", "AA", "B", "B"])], 2)
    assert found.purity == 0.5 and found.information == pytest.approx(0.0)


def test_pauses_count_as_units_but_not_as_phones():
    found = unit_statistics([utterance([0, 1, 2, 2], ["AA", "B", "", ""])], 4)
    assert found.used == 0.75 and found.joint.sum() == 2 and found.purity == 1.0


def test_a_continuous_code_has_no_units():
    with pytest.raises(ValueError, match="no units"):
        unit_statistics([utterance(None, ["AA"])], 2)
