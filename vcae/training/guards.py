"""What can go wrong with a run: no room on the disk, no memory, steps that are not finite."""

import shutil
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vcae.errors import VcaeError
from vcae.files import OutputError


class TrainingError(VcaeError):
    """A run that cannot go on. The message is one line that says why and what to do."""


def check_folder(folder: Path, needed: int) -> None:
    """Create a folder; raise OutputError if nothing can be written there, or if it has fewer bytes free."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink(missing_ok=True)  # another process of the run may have removed it
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({error.strerror or error}); choose another folder, or change its"
            " permissions"
        ) from None
    if free < needed:
        raise OutputError(
            f"{folder}: {free / 1e6:.0f} MB are free, and a checkpoint needs {needed / 1e6:.0f} MB;"
            " make room, or choose another folder"
        )


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


class NotFinite(NamedTuple):
    """Steps that were not finite since the last look."""

    first: int
    """The first of them."""
    number: int
    in_a_row: int
    """How many of them came last, one after the other."""


class FiniteWatch:
    """Counts steps whose gradient is not finite, without waiting for the device until it is asked."""

    def __init__(self, device: torch.device) -> None:
        self._first, self._count, self._row = (torch.tensor(n, device=device) for n in (-1, 0, 0))

    def update(self, step: int, norms: list[Tensor]) -> None:
        """Take note of a step by the norms of its gradients."""
        bad = ~torch.stack([norm.detach().isfinite() for norm in norms]).all()
        self._first = self._first.where(~bad | (self._first >= 0), step)
        self._count = self._count + bad
        self._row = (self._row + 1) * bad

    def look(self) -> NotFinite | None:
        """What there was since the last look, if anything. Waits for the device."""
        found = NotFinite(*(int(x) for x in (self._first, self._count, self._row)))
        if found.number == 0:
            return None
        self._first, self._count = torch.full_like(self._first, -1), torch.zeros_like(self._count)
        return found
