"""Metrics of converted speech, one in each file."""

from vcae.evaluation.metrics.base import Metric
from vcae.evaluation.metrics.distortion import CepstralDistortion
from vcae.evaluation.metrics.intelligibility import Intelligibility
from vcae.evaluation.metrics.naturalness import Naturalness
from vcae.evaluation.metrics.pitch import Intonation
from vcae.evaluation.metrics.quality import SignalQuality
from vcae.evaluation.metrics.similarity import SpeakerSimilarity

METRICS: tuple[type[Metric], ...] = (
    SpeakerSimilarity,
    Intelligibility,
    Naturalness,
    SignalQuality,
    Intonation,
    CepstralDistortion,
)
"""All metrics. Each can be created without arguments."""
