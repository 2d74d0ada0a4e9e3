"""The encoders by themselves, for embeddings."""

from pathlib import Path
from typing import Self

from vcae.inference.checkpoint import load_autoencoder, model_files
from vcae.model import content, speaker
from vcae.model.autoencoder import Autoencoder


class SpeakerEncoder(speaker.SpeakerEncoder):
    """`vcae.model.speaker.SpeakerEncoder`, with trained weights on request."""

    @classmethod
    def from_pretrained(cls, model: str | Path | None = None) -> Self:
        """The speaker encoder of a bundled model or of a folder that training wrote, in eval mode.

        Raises CheckpointError.
        """
        autoencoder = _autoencoder(model)
        encoder = cls(autoencoder.config.speaker)
        encoder.load_state_dict(autoencoder.speaker.state_dict())
        return encoder.eval()


class ContentEncoder(content.ContentEncoder):
    """`vcae.model.content.ContentEncoder`, with trained weights on request."""

    @classmethod
    def from_pretrained(cls, model: str | Path | None = None) -> Self:
        """The content encoder of a bundled model or of a folder that training wrote, in eval mode.

        Raises CheckpointError.
        """
        autoencoder = _autoencoder(model)
        encoder = cls.of(autoencoder.config)
        encoder.load_state_dict(autoencoder.content.state_dict())
        return encoder.eval()


def _autoencoder(model: str | Path | None) -> Autoencoder:
    return load_autoencoder(model_files(model).autoencoder)
