"""Voice conversion with a feature-disentangling autoencoder.

A content encoder and a speaker encoder split speech into content and speaker; a decoder shared by all
speakers combines the content of one recording with the speaker of another.

    import vcae
    vc = vcae.load()
    vc.convert("source.wav", voice="target.wav").write("converted.wav")
"""

import signal
import sys

# ruff: noqa: E402
# As a program, loading takes a second or two, in which Ctrl-C should not print a traceback.
# `vcae.cli.main` takes over.
_program = sys.argv[0] if sys.argv else ""
_program = sys.orig_argv[-len(sys.argv)] if _program == "-m" else _program
if _program.endswith("vcae") and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from vcae.audio import Audio, Detection, detect, watermark
from vcae.errors import AudioError, VcaeError
from vcae.inference.anonymizer import Anonymizer
from vcae.inference.checkpoint import CheckpointError
from vcae.inference.converter import Converter, Parts, load
from vcae.inference.encoders import ContentEncoder, SpeakerEncoder
from vcae.inference.stream import Stream
from vcae.inference.transcriber import PhoneError, Transcriber
from vcae.inference.voice import Voice, VoiceError
from vcae.model.autoencoder import Autoencoder
from vcae.model.bottleneck import Code
from vcae.model.config import PRESETS, AutoencoderConfig, MelConfig, VocoderConfig
from vcae.model.mel import LogMel
from vcae.model.phones import Phone
from vcae.model.vocoder import Vocoder

__version__ = "0.2.0"

__all__ = [
    "PRESETS",
    "Anonymizer",
    "Audio",
    "AudioError",
    "Autoencoder",
    "AutoencoderConfig",
    "CheckpointError",
    "Code",
    "ContentEncoder",
    "Converter",
    "Detection",
    "LogMel",
    "MelConfig",
    "Parts",
    "Phone",
    "PhoneError",
    "SpeakerEncoder",
    "Stream",
    "Transcriber",
    "VcaeError",
    "Vocoder",
    "VocoderConfig",
    "Voice",
    "VoiceError",
    "detect",
    "load",
    "watermark",
]
