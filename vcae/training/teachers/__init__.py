"""Pretrained networks that teach encoders by distillation; none runs at inference.

`WhisperEncoder` teaches content, `CamPlusPlus` teaches speakers. No network that a metric uses is a teacher.
The weights are not part of this package; `vcae.training.teachers.whisper` and
`vcae.training.teachers.campplus` say where they come from.
"""

from vcae.training.teachers.campplus import CamPlusPlus, convert_campplus, load_campplus
from vcae.training.teachers.whisper import WhisperEncoder, load_whisper

__all__ = ["CamPlusPlus", "WhisperEncoder", "convert_campplus", "load_campplus", "load_whisper"]
