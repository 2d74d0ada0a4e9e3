"""Weights on disk: safetensors with the configuration as JSON in the header. Nothing is ever unpickled."""

import dataclasses
import json
import struct
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vcae.autoencoder import Autoencoder, AutoencoderConfig
from vcae.mel import MelConfig
from vcae.vocoder import Vocoder, VocoderConfig

BUNDLED = Path(__file__).parent / "weights"
"""The folder of the weights that come with the package."""

_Model = TypeVar("_Model", Autoencoder, Vocoder)


class CheckpointError(ValueError):
    """Weights that cannot be used. One line that names the file and the mend."""


def save_tensors(path: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write tensors and JSON to one file, under a temporary name first."""
    temporary = path.with_name(path.name + ".part")
    save_file({n: t.detach().cpu().contiguous() for n, t in tensors.items()}, temporary, {"vcae": json.dumps(about)})
    temporary.replace(path)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote. Raises CheckpointError for anything else."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; name a folder that training wrote, or none for the bundled")
    try:
        with safe_open(path, "pt") as f:
            about = json.loads((f.metadata() or {})["vcae"])
            return {name: f.get_tensor(name) for name in f.keys()}, about  # noqa: SIM118
    except (SafetensorError, KeyError, json.JSONDecodeError, struct.error, OSError) as error:
        raise CheckpointError(f"{path}: not a file of vcae weights ({error}); train or download it again") from error


def save(path: Path, model: nn.Module, notes: dict[str, Any] | None = None) -> None:
    """Write a model in half precision with its configuration. `notes` (JSON) go along, e.g. steps."""
    if not isinstance(model, Autoencoder | Vocoder):
        raise TypeError(f"only an Autoencoder or a Vocoder is saved, not a {type(model).__name__}")
    tensors = {n: t.half() if t.is_floating_point() else t for n, t in model.state_dict().items()}
    about = {"kind": type(model).__name__, "config": dataclasses.asdict(model.config), "notes": notes or {}}
    save_tensors(path, tensors, about)


def load_autoencoder(path: Path = BUNDLED / "autoencoder.safetensors") -> Autoencoder:
    """The autoencoder in a file, float32, in eval mode. Raises CheckpointError."""
    return _load(path, Autoencoder, AutoencoderConfig)


def load_vocoder(path: Path = BUNDLED / "vocoder.safetensors") -> Vocoder:
    """The vocoder in a file, float32, in eval mode. Raises CheckpointError."""
    return _load(path, Vocoder, VocoderConfig)


def _load(path: Path, kind: type[_Model], config: Any) -> _Model:
    tensors, about = load_tensors(path)
    if about.get("kind") != kind.__name__:
        raise CheckpointError(f"{path}: holds a {about.get('kind')}, not a {kind.__name__}")
    try:
        options = about["config"] | {"mel": MelConfig(**about["config"]["mel"])}
        model = kind(config(**options))
        model.load_state_dict({n: t.float() if t.is_floating_point() else t for n, t in tensors.items()})
    except (TypeError, KeyError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: made by another version of vcae ({first}); train it again") from error
    return model.eval()
