"""Tensors on disk: safetensors with JSON in the header. Nothing is ever unpickled."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vcae.errors import VcaeError
from vcae.output import replacing


class TensorFileError(VcaeError):
    """A file that holds no tensors of ours. `reason` is the message without the file's name."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


def save_tensors(path: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write tensors and JSON to one file, under a temporary name first. Raises OutputError."""
    unshared = {}
    seen = set()
    for name, t in tensors.items():  # safetensors takes no two tensors of the same memory
        t = t.detach().cpu().contiguous()
        unshared[name] = t.clone() if t.data_ptr() in seen else t
        seen.add(t.data_ptr())
    with replacing(path) as unfinished:
        try:
            save_file(unshared, unfinished, {"vcae": json.dumps(about)})
        except SafetensorError as error:
            raise OSError(str(error)) from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote. Raises TensorFileError for anything else."""
    if not path.is_file():
        raise TensorFileError(path, "no such file")
    try:
        with safe_open(path, "pt") as f:
            about = json.loads((f.metadata() or {})["vcae"])
            if not isinstance(about, dict):
                raise TensorFileError(path, "not a file that vcae wrote (its header is no object)")
            return {name: f.get_tensor(name) for name in f.keys()}, about  # noqa: SIM118
    except (SafetensorError, KeyError, json.JSONDecodeError, OSError) as error:
        raise TensorFileError(path, f"not a file that vcae wrote ({error})") from error
