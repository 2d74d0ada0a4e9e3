"""The device, the precision and the processes of training, in one place."""

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, distributed

from vcae.training.config import Precision
from vcae.training.guards import TrainingError


def fabric_of(precision: Precision | None = None) -> Fabric:
    """All processes that `torchrun` has started, or one; each on a GPU of its own, else on the CPU.

    Without a precision: bf16-mixed on a GPU, 32-true on the CPU.
    """
    on_gpu, many = torch.cuda.is_available(), distributed.is_torchelastic_launched()
    here = int(os.environ["LOCAL_WORLD_SIZE"]) if many else 1
    fabric = Fabric(
        accelerator="cuda" if on_gpu else "cpu",
        devices=here,
        num_nodes=int(os.environ["WORLD_SIZE"]) // here if many else 1,
        strategy="ddp" if many else "auto",
        precision=precision or ("bf16-mixed" if on_gpu else "32-true"),
    )
    fabric.launch()
    return fabric


class Processes:
    """The processes that train one stage together, each on its part of every batch.

    Gradients are averaged explicitly, since torch's DDP wraps one forward pass, and a step of generator and
    discriminator has several. All methods raise TrainingError where another process has ended.
    """

    def __init__(self, fabric: Fabric, stage: str) -> None:
        self.number, self.rank = fabric.world_size, fabric.global_rank
        self._fabric, self._stage = fabric, stage
        self._left = False
        # Decisions are exchanged by the processors, so that no GPU waits for them.
        self._group: Any = distributed.new_group(backend="gloo") if self.number > 1 else None

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files and messages."""
        return self.rank == 0

    def share(self, batch: Any) -> Any:
        """This process's part of a batch, a named tuple of tensors (B, ...). Raises TrainingError."""
        if self.number == 1:
            return batch
        if len(batch[0]) % self.number:
            raise TrainingError(
                f"{self._stage}: a batch of {len(batch[0])} cannot be shared by {self.number} processes; set"
                " batch_size of its sampler to a multiple"
            )
        return type(batch)(*(x.chunk(self.number)[self.rank] for x in batch))

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the processes, in one message."""
        if self.number == 1 or self._left or not tensors:
            return
        flat = torch.cat([t.detach().flatten() for t in tensors])
        with self._all_there():
            self._fabric.all_reduce(flat, reduce_op="mean")
        means = flat.split([t.numel() for t in tensors])
        with torch.no_grad():
            torch._foreach_copy_(list(tensors), [m.view_as(t) for m, t in zip(means, tensors, strict=True)])

    def agree(self, *values: float) -> list[float]:
        """The largest of each value over the processes."""
        together = torch.tensor(values, dtype=torch.float64)
        if self.number > 1:
            with self._all_there():
                distributed.all_reduce(together, distributed.ReduceOp.MAX, self._group)
        return together.tolist()

    def leave(self) -> None:
        """Average with no other process from now on; they end when this one does."""
        self._left = True

    @contextmanager
    def _all_there(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise TrainingError(
                f"{self._stage}: another process of this run has ended; see its message, then run the same"
                " command to continue from the last checkpoint"
            ) from error


def name_of(device: torch.device) -> str:
    """The name of a device, such as "NVIDIA H100 80GB HBM3" or "Intel(R) Xeon(R), 2 threads"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    name = next(models, "") or platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} of {os.cpu_count()} threads"
