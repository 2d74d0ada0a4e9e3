"""Options shared by several commands."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from vcae.errors import VcaeError
from vcae.inference.converter import Converter, load

Model = Annotated[str, arg(help="studio or live, which are bundled, or a folder that training wrote")]


Device = Annotated[str, arg(help="torch device: cpu, cuda, cuda:1, mps")]


References = Annotated[
    tuple[Path, ...], arg(help="recordings of the target speaker, or one .voice file", metavar="REF")
]


Sources = Positional[tuple[Path, ...]]


def load_converter(model: str, device: str) -> Converter:
    """Load a model to a device. Raises VcaeError."""
    import torch

    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError):
        raise VcaeError(f"device '{device}' is not available; use --device cpu") from None
    return load(model, device)
