"""Weights on disk: safetensors with the configuration as JSON in the header. Nothing is ever unpickled."""

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from vcae.errors import VcaeError
from vcae.files import TensorFileError, load_tensors, save_tensors
from vcae.model.autoencoder import Autoencoder
from vcae.model.config import AutoencoderConfig, MelConfig, VocoderConfig
from vcae.model.vocoder import Vocoder

BUNDLED = Path(__file__).parents[1] / "weights"
"""The folder of the weights that come with the package."""

_Model = TypeVar("_Model", bound=nn.Module)


class CheckpointError(VcaeError):
    """Weights that cannot be used. One line that names the file and the mend."""


def save(path: Path, model: nn.Module, notes: dict[str, Any] | None = None) -> None:
    """Write a model in half precision with its `config`. `notes` (JSON) go along, e.g. steps."""
    config: Any = getattr(model, "config", None)
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise TypeError(f"only what has a config is saved, not a {type(model).__name__}")
    tensors = {n: t.half() if t.is_floating_point() else t for n, t in model.state_dict().items()}
    about = {"kind": type(model).__name__, "config": dataclasses.asdict(config), "notes": notes or {}}
    save_tensors(path, tensors, about)


def load_autoencoder(path: Path = BUNDLED / "autoencoder.safetensors") -> Autoencoder:
    """The autoencoder in a file, float32, in eval mode. Raises CheckpointError."""
    return load(path, Autoencoder, AutoencoderConfig)


def load_vocoder(path: Path = BUNDLED / "vocoder.safetensors") -> Vocoder:
    """The vocoder in a file, float32, in eval mode. Raises CheckpointError."""
    return load(path, Vocoder, VocoderConfig)


def load(path: Path, kind: type[_Model], config: Any) -> _Model:
    """Any model that `save` wrote: its class, and that of its configuration. Raises CheckpointError."""
    try:
        tensors, about = load_tensors(path)
    except TensorFileError as error:
        raise CheckpointError(
            f"{path}: {error.reason}; name a folder that training wrote, or none for the bundled weights"
        ) from error
    if about.get("kind") != kind.__name__:
        raise CheckpointError(f"{path}: holds a {about.get('kind')}, not a {kind.__name__}")
    try:
        options = about["config"] | {"mel": MelConfig(**about["config"]["mel"])}
        model = kind(config(**options))
        model.load_state_dict({n: t.float() if t.is_floating_point() else t for n, t in tensors.items()})
    except (TypeError, KeyError, ValueError, RuntimeError) as error:
        first = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: made by another version of vcae ({first}); train it again") from error
    return model.eval()
