"""Voice conversion with a feature-disentangling autoencoder.

A content encoder keeps what is said, a speaker encoder who says it, and one decoder puts any content
together with any speaker.

    import vcae
    vc = vcae.load()
    vc.convert("source.wav", voice="target.wav").write("converted.wav")
"""

from vcae.audio import Audio, AudioError
from vcae.autoencoder import Autoencoder, AutoencoderConfig
from vcae.bottleneck import Code
from vcae.checkpoint import CheckpointError
from vcae.content import ContentEncoder
from vcae.converter import Converter, Parts, load
from vcae.errors import VcaeError
from vcae.mel import PRESETS, LogMel, MelConfig
from vcae.speaker import SpeakerEncoder, Voice, VoiceError
from vcae.streaming import Stream
from vcae.vocoder import Vocoder, VocoderConfig

__version__ = "0.1.0"

__all__ = [
    "PRESETS",
    "Audio",
    "AudioError",
    "Autoencoder",
    "AutoencoderConfig",
    "CheckpointError",
    "Code",
    "ContentEncoder",
    "Converter",
    "LogMel",
    "MelConfig",
    "Parts",
    "SpeakerEncoder",
    "Stream",
    "VcaeError",
    "Vocoder",
    "VocoderConfig",
    "Voice",
    "VoiceError",
    "load",
]
