"""Sizes of the networks and geometry of the mel spectrogram, as stored in a checkpoint."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class MelConfig:
    """Geometry of a log-mel spectrogram: HTK mel scale, no norm, magnitude, natural log.

    Lengths are in samples. Magnitudes below `floor` are raised to `floor` before the log. `mean` and `std`
    are those of speech in this geometry; networks read and predict values scaled by `standardise`.
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
        """Number of frames of a signal of this many samples."""
        return -(-samples // self.hop_length)

    def standardise(self, mel: Tensor) -> Tensor:
        """Scale a log-mel to about zero mean and unit variance."""
        return (mel - self.mean) / self.std

    def unstandardise(self, x: Tensor) -> Tensor:
        """Invert `standardise`."""
        return x * self.std + self.mean


PRESETS: dict[str, MelConfig] = {
    "16k": MelConfig(),  # the bundled weights
    "24k": MelConfig(sample_rate=24_000, win_length=960, hop_length=240, n_mels=100, mean=-0.9),
}


@dataclass(frozen=True)
class SpeakerConfig:
    """Sizes of a `SpeakerEncoder`."""

    mel: MelConfig = field(default_factory=MelConfig)
    width: int = 192
    """Channels of the encoder."""
    hidden: int = 384
    """Hidden channels of the encoder's blocks."""
    dim: int = 192
    """Channels of the embedding."""
    tokens: int = 12
    """Number of timbre tokens."""
    token_dim: int = 64
    """Channels of a timbre token."""


@dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes of an `Autoencoder`, and settings that its weights were trained or tuned for.

    delay: the look-ahead L in mel frames: output frame t describes frame t - L (`vcae.model.alignment`).
    prosody_look_ahead: the part of the delay that the prosody encoder was trained for; None: all of it.
    expansion: hidden channels of a ConvNeXt block of content encoder and decoder, as a multiple of its width.
    content_fine, content_coarse: dilations of the content encoder's blocks before and after its stride.
    bottleneck: "kind", a key of `vcae.model.bottleneck.BOTTLENECKS`, and the options of that class.
    guidance_scale: scale of speaker guidance (`vcae.Voice.guided`), tuned for one set of weights.
    """

    mel: MelConfig = field(default_factory=MelConfig)
    delay: int = 2
    content_width: int = 192
    content_dim: int = 64
    content_fine: tuple[int, ...] = (1, 1, 1)
    content_coarse: tuple[int, ...] = (1, 1, 2, 2, 4, 1, 1)
    bottleneck: dict[str, Any] = field(default_factory=lambda: {"kind": "continuous", "noise": 0.15})
    prosody_width: int = 96
    prosody_look_ahead: int | None = None
    speaker_width: int = 192
    speaker_dim: int = 192
    tokens: int = 12
    token_dim: int = 64
    decoder_width: int = 192
    expansion: int = 4
    guidance_scale: float = 0.45

    def __post_init__(self) -> None:
        for name in ("content_fine", "content_coarse"):  # lists, when they come from JSON
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def speaker(self) -> SpeakerConfig:
        """Sizes of the speaker encoder."""
        width = self.speaker_width
        return SpeakerConfig(self.mel, width, 2 * width, self.speaker_dim, self.tokens, self.token_dim)


@dataclass(frozen=True)
class VocoderConfig:
    """Sizes of a `Vocoder`."""

    mel: MelConfig = field(default_factory=MelConfig)
    width: int = 192
    hidden: int = 512
    blocks: int = 6
    shape_points: int = 15
    """Number of points of the gain curve over a window, which is linear between them."""
