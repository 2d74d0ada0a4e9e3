"""Weights out of a stage's checkpoint, in float32 and with the training-only networks."""

from pathlib import Path

from torch import Tensor, nn

from vcae.files import load_tensors
from vcae.inference.checkpoint import CheckpointError


def load_averaged(path: Path, modules: dict[str, nn.Module]) -> None:
    """Fill modules with the averaged weights in a checkpoint, by the names under which it averages them.

    Raises TensorFileError, and CheckpointError where the checkpoint is of other networks.
    """
    tensors = load_tensors(path)[0]
    try:
        for name, module in modules.items():
            module.load_state_dict(under(f"ema.{name}.", tensors))
    except RuntimeError as error:
        first = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path}: of other networks than these ({first}); train the stages in an empty folder"
        ) from error


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose name starts with the prefix, by the rest of the name."""
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
