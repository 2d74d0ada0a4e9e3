"""The encoders by themselves, for embeddings."""

from pathlib import Path
from typing import Self

from vcae.inference.checkpoint import BUNDLED, load_autoencoder
from vcae.model import content, speaker
from vcae.model.autoencoder import Autoencoder


class SpeakerEncoder(speaker.SpeakerEncoder):
    """`vcae.model.speaker.SpeakerEncoder`, with trained weights on request."""

    @classmethod
    def from_pretrained(cls, model: str | Path | None = None) -> Self:
        """The bundled speaker encoder, or that of a folder that training wrote, in eval mode.

        Raises CheckpointError.
        """
        autoencoder = _autoencoder(model)
        encoder = cls.of(autoencoder.config)
        encoder.load_state_dict(autoencoder.speaker.state_dict())
        return encoder.eval()


class ContentEncoder(content.ContentEncoder):
    """`vcae.model.content.ContentEncoder`, with trained weights on request."""

    @classmethod
    def from_pretrained(cls, model: str | Path | None = None) -> Self:
        """The bundled content encoder, or that of a folder that training wrote, in eval mode.

        Raises CheckpointError.
        """
        autoencoder = _autoencoder(model)
        encoder = cls.of(autoencoder.config)
        encoder.load_state_dict(autoencoder.content.state_dict())
        return encoder.eval()


def _autoencoder(model: str | Path | None) -> Autoencoder:
    return load_autoencoder(Path(model or BUNDLED) / "autoencoder.safetensors")
