"""Audio files and waveforms: read, write, find, resample, measure level, mark as converted.

All waveforms are mono: float32 arrays of shape (N,) with values in [-1, 1]. Files are decoded, resampled and
written in blocks, so that memory does not grow with their length (`Recording`, `write_blocks`).
"""

from vcae.audio.blocks import Samples, concatenate, cut, split
from vcae.audio.highpass import HighPass
from vcae.audio.level import LEVEL, gain_to, is_silent, is_sound, loudness, speech_seconds
from vcae.audio.mix import Mix
from vcae.audio.reader import AUDIO_SUFFIXES, AudioFile, comment, decode, find_audio, read
from vcae.audio.recording import Recording, Source, beginning
from vcae.audio.resampler import Resampler, resample, resampled
from vcae.audio.watermarking import Detection, detect, watermark, watermarked
from vcae.audio.waveform import Audio, write
from vcae.audio.writer import WRITABLE, encoding_of, write_blocks
from vcae.errors import AudioError, AudioWarning, PartialWarning

__all__ = [
    "AUDIO_SUFFIXES",
    "LEVEL",
    "WRITABLE",
    "Audio",
    "AudioError",
    "AudioFile",
    "AudioWarning",
    "Detection",
    "HighPass",
    "Mix",
    "PartialWarning",
    "Recording",
    "Resampler",
    "Samples",
    "Source",
    "beginning",
    "comment",
    "concatenate",
    "cut",
    "decode",
    "detect",
    "encoding_of",
    "find_audio",
    "gain_to",
    "is_silent",
    "is_sound",
    "loudness",
    "read",
    "resample",
    "resampled",
    "speech_seconds",
    "split",
    "watermark",
    "watermarked",
    "write",
    "write_blocks",
]
