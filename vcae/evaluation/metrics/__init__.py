"""Metrics of converted speech, one a file. Nothing in this package was trained on them."""

from vcae.evaluation.metrics.base import Judge
from vcae.evaluation.metrics.distortion import CepstralDistortion
from vcae.evaluation.metrics.intelligibility import Intelligibility
from vcae.evaluation.metrics.naturalness import Naturalness
from vcae.evaluation.metrics.pitch import Melody
from vcae.evaluation.metrics.quality import SignalQuality
from vcae.evaluation.metrics.similarity import SpeakerSimilarity

JUDGES: tuple[type[Judge], ...] = (
    SpeakerSimilarity,
    Intelligibility,
    Naturalness,
    SignalQuality,
    Melody,
    CepstralDistortion,
)
"""All metrics; each is made without arguments."""
