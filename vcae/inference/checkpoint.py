"""Weights on disk: safetensors with the configuration as JSON in the header. Nothing is ever unpickled."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from vcae.errors import VcaeError
from vcae.files import TensorFileError, load_tensors, save_tensors
from vcae.model.autoencoder import Autoencoder
from vcae.model.config import AutoencoderConfig, MelConfig, VocoderConfig
from vcae.model.vocoder import Vocoder

BUNDLED = Path(__file__).parents[1] / "weights"
"""The folder of the weights that come with the package."""

FORMAT = 1
"""Number of the layout of a checkpoint's header. Files without a number are of format 0, before 0.2."""

_Model = TypeVar("_Model", bound=nn.Module)


class CheckpointError(VcaeError):
    """Weights that cannot be used. One line that names the file and the mend."""


def save(path: Path, model: nn.Module, notes: dict[str, Any] | None = None) -> None:
    """Write a model in half precision with its `config`.

    notes: JSON that describes how the weights were made: steps, data, seed, version. Raises OutputError.
    """
    config: Any = getattr(model, "config", None)
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise TypeError(f"only a model with a config can be saved, not a {type(model).__name__}")
    tensors = {n: t.half() if t.is_floating_point() else t for n, t in model.state_dict().items()}
    about = {
        "format": FORMAT,
        "kind": type(model).__name__,
        "config": dataclasses.asdict(config),
        "notes": notes or {},
    }
    save_tensors(path, tensors, about)


@dataclass(frozen=True)
class Header:
    """What a checkpoint says of itself."""

    kind: str
    """Name of the model's class."""
    config: dict[str, Any]
    notes: dict[str, Any]
    """How the weights were made."""
    parameters: int


def read_header(path: Path) -> Header:
    """The header of any checkpoint. Raises CheckpointError."""
    tensors, about = _read(path)
    return Header(about["kind"], about["config"], about["notes"], sum(t.numel() for t in tensors.values()))


def load_autoencoder(path: Path = BUNDLED / "autoencoder.safetensors") -> Autoencoder:
    """The autoencoder in a file, float32, in eval mode. Raises CheckpointError."""
    return load(path, Autoencoder, AutoencoderConfig)


def load_vocoder(path: Path = BUNDLED / "vocoder.safetensors") -> Vocoder:
    """The vocoder in a file, float32, in eval mode. Raises CheckpointError."""
    return load(path, Vocoder, VocoderConfig)


def load(path: Path, kind: type[_Model], config: Any) -> _Model:
    """Any model that `save` wrote, float32, in eval mode: its class, and the class of its configuration.

    Raises CheckpointError.
    """
    tensors, about = _read(path)
    if about["kind"] != kind.__name__:
        raise CheckpointError(f"{path}: holds a {about['kind']}, not a {kind.__name__}")
    try:
        options = about["config"] | {"mel": MelConfig(**about["config"]["mel"])}
        model = kind(config(**options))
        model.load_state_dict({n: t.float() if t.is_floating_point() else t for n, t in tensors.items()})
    except (TypeError, KeyError, ValueError, RuntimeError) as error:
        first = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: made by another version of vcae ({first}); train it again") from error
    return model.eval()


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a checkpoint, the header in the layout of today's format."""
    try:
        tensors, about = load_tensors(path)
    except TensorFileError as error:
        raise CheckpointError(
            f"{path}: {error.reason}; name a folder that training wrote, or none for the bundled weights"
        ) from error
    if not isinstance(about.get("config"), dict) or not isinstance(about["config"].get("mel"), dict):
        raise CheckpointError(f"{path}: holds a {about.get('kind')}, not the weights of a model")
    if about.get("format", 0) not in (0, FORMAT):
        raise CheckpointError(f"{path}: made by a newer version of vcae; install that one to read it")
    if about.get("format", 0) == 0:
        about["config"]["mel"].pop("centred", None)  # there were mels that cannot stream
    return tensors, {"notes": {}} | about
