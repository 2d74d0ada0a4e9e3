"""The device, the precision and the autocast of training, in one place."""

import os
import platform
from pathlib import Path

import torch
from lightning_fabric import Fabric

from vcae.training.config import Precision


def fabric_of(precision: Precision | None = None) -> Fabric:
    """One process on a GPU if there is one, else on the CPU.

    Without a precision: bf16-mixed on a GPU, 32-true on the CPU.
    """
    on_gpu = torch.cuda.is_available()
    return Fabric(
        accelerator="cuda" if on_gpu else "cpu",
        devices=1,
        precision=precision or ("bf16-mixed" if on_gpu else "32-true"),
    )


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
