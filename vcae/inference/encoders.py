"""The encoders as separate modules, for embeddings and content codes."""

from pathlib import Path
from typing import Self

from vcae.inference.checkpoint import BUNDLED, load_autoencoder
from vcae.model import content, speaker


class SpeakerEncoder(speaker.SpeakerEncoder):
    """`vcae.model.speaker.SpeakerEncoder` that can be loaded with trained weights."""

    @classmethod
    def from_pretrained(cls, model: str | Path | None = None) -> Self:
        """Load the bundled speaker encoder, or the one in a folder that training wrote, in eval mode.

        Raises CheckpointError.
        """
        whole = load_autoencoder(Path(model or BUNDLED) / "autoencoder.safetensors")
        encoder = cls.of(whole.config)
        encoder.load_state_dict(whole.speaker.state_dict())
        return encoder.eval()


class ContentEncoder(content.ContentEncoder):
    """`vcae.model.content.ContentEncoder` that can be loaded with trained weights."""

    @classmethod
    def from_pretrained(cls, model: str | Path | None = None) -> Self:
        """Load the bundled content encoder, or the one in a folder that training wrote, in eval mode.

        Raises CheckpointError.
        """
        whole = load_autoencoder(Path(model or BUNDLED) / "autoencoder.safetensors")
        encoder = cls.of(whole.config)
        encoder.load_state_dict(whole.content.state_dict())
        return encoder.eval()
