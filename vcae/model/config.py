"""Sizes of the networks and geometry of the mel spectrogram, as they are stored in a checkpoint."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class MelConfig:
    """Geometry of a log-mel spectrogram: HTK mel scale, no norm, magnitude, natural log.

    Lengths are in samples. `floor` is the magnitude below which the log is clipped. `mean` and `std` are
    those of speech in this geometry; networks see and predict `standardise`d values.
    """

    sample_rate: int = 16_000
    n_fft: int = 1024
    win_length: int = 640
    hop_length: int = 160
    n_mels: int = 80
    floor: float = 1e-3
    mean: float = -0.7
    std: float = 2.3

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length

    def frames(self, samples: int) -> int:
        """How many frames a signal of so many samples has."""
        return -(-samples // self.hop_length)

    def standardise(self, mel: Tensor) -> Tensor:
        """Log-mel to about zero mean and unit variance."""
        return (mel - self.mean) / self.std

    def unstandardise(self, x: Tensor) -> Tensor:
        """The inverse of `standardise`."""
        return x * self.std + self.mean


PRESETS: dict[str, MelConfig] = {
    "16k": MelConfig(),  # the bundled weights
    "24k": MelConfig(sample_rate=24_000, win_length=960, hop_length=240, n_mels=100, mean=-0.9),
}


@dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes of an `Autoencoder`, and what its weights were trained and tuned for.

    delay: the look-ahead L in mel frames: output frame t describes frame t - L (`vcae.model.alignment`).
    expansion: hidden channels of a block of the content encoder and of the decoder, in widths.
    bottleneck: one of `vcae.model.bottleneck.BOTTLENECKS` under "kind"; the rest are its options.
    guidance_scale: of the speaker code in conversion, see `vcae.Voice.guided`; tuned for one set of weights.
    """

    mel: MelConfig = field(default_factory=MelConfig)
    delay: int = 2
    content_width: int = 192
    content_dim: int = 64
    bottleneck: dict[str, Any] = field(default_factory=lambda: {"kind": "continuous", "noise": 0.15})
    prosody_width: int = 96
    speaker_width: int = 192
    speaker_dim: int = 192
    tokens: int = 12
    token_dim: int = 64
    decoder_width: int = 192
    expansion: int = 4
    guidance_scale: float = 0.45


@dataclass(frozen=True)
class VocoderConfig:
    """Sizes of a `Vocoder`."""

    mel: MelConfig = field(default_factory=MelConfig)
    width: int = 192
    hidden: int = 512
    blocks: int = 6
    shape_points: int = 15
    """In how many points of a window, with straight lines between them, its loudness is shaped."""
