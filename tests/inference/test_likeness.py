"""Likeness of voices: the calibration and the answers."""

import numpy as np
import pytest

import vcae
from vcae.inference.likeness import CALIBRATION, DIFFERENT_BELOW, SAME_FROM, answer, likeness


def test_the_calibration_is_that_of_the_bundled_weights():
    vc = vcae.load()
    assert CALIBRATION["fingerprint"] == vc.fingerprint, "run recipes/calibrate.py again"
    assert CALIBRATION["made_by"] == vc.made_by, "run recipes/calibrate.py again"


def test_likeness_rises_with_the_cosine():
    values = [likeness(c) for c in np.linspace(-1, 1, 50)]
    assert values == sorted(values)
    assert values[0] < 0.2 < 0.7 < values[-1]


@pytest.mark.parametrize(
    ("cosine", "expected"),
    [
        (-1, "different"),
        (DIFFERENT_BELOW - 0.01, "different"),
        (DIFFERENT_BELOW, "unsure"),
        (SAME_FROM - 0.01, "unsure"),
        (SAME_FROM, "same"),
        (1, "same"),
    ],
)
def test_the_answer_goes_from_different_to_same(cosine, expected):
    assert answer(cosine) == expected


def test_the_shares_of_the_answers_add_up():
    for shares in CALIBRATION["answer"]["shares"].values():
        for kind, wrong in (("one_speaker", "different"), ("two_speakers", "same")):
            assert sum(shares[kind].values()) == pytest.approx(1, abs=1e-3)
            assert shares[kind][wrong] < 0.03
