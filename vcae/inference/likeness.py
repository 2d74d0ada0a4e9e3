"""How alike two voices are: what a cosine of speaker codes says, calibrated on unseen speakers.

`recipes/calibrate.py` measures it and writes the file that is read here.
"""

import json
from typing import Any, Literal, TypeAlias

import numpy as np

from vcae.inference.checkpoint import BUNDLED

Answer: TypeAlias = Literal["same", "different", "unsure"]

CALIBRATION: dict[str, Any] = json.loads((BUNDLED / "likeness.json").read_text("utf-8"))
"""The measurements: for the weights with the fingerprint `fingerprint`, and the speaker encoder `made_by`."""
DIFFERENT_BELOW: float = CALIBRATION["answer"]["different_below"]
"""Cosine below which two recordings are of different speakers: 1 % of the pairs of one speaker are below."""
SAME_FROM: float = CALIBRATION["answer"]["same_from"]
"""Cosine from which on two recordings are of one speaker: 1 % of the pairs of two speakers are above."""


def answer(cosine: float) -> Answer:
    """Whether two recordings are of the same speaker, by the cosine of their speaker codes.

    It holds for speaker encoders with the hash `CALIBRATION["made_by"]` (`Converter.made_by`), and for
    recordings of two seconds or more. It is no proof of identity.
    """
    if cosine >= SAME_FROM:
        return "same"
    return "different" if cosine < DIFFERENT_BELOW else "unsure"


def likeness(cosine: float) -> float:
    """How alike two voices sound, from 0, as two people, to 1, as two recordings of one person.

    The mean of an independent measure, the cosine of Resemblyzer's embeddings, over natural and converted
    speech. It holds for the weights with the fingerprint `CALIBRATION["fingerprint"]`.
    """
    cosines, judged = zip(*CALIBRATION["curve"], strict=True)
    return float(np.clip(np.interp(cosine, cosines, judged), 0, 1))
