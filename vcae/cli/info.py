"""The command for checkpoint metadata: info."""

import dataclasses
from collections.abc import Iterator
from json import dumps
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from vcae.cli import console
from vcae.errors import VcaeError
from vcae.inference.checkpoint import BUNDLED, read_header


def info(model: Positional[Path | None] = None, json: bool = False) -> None:
    """Print the configuration and the training metadata of weights.

    Args:
        model: a folder that training wrote, or one file of it; default: the bundled weights
        json: print JSON instead of a table, with the settings of all earlier phases
    """
    folder = BUNDLED if model is None else model
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else [folder]
    if not files:
        raise VcaeError(f"{folder}: holds no .safetensors file; give a folder that training wrote")
    headers = {path: read_header(path) for path in files}
    if json:
        print(dumps({p.name: dataclasses.asdict(h) for p, h in headers.items()}, indent=1))  # noqa: T201 -- the result itself
        return
    rows = [["file", "entry", "value"]]
    for path, header in headers.items():
        rows.append([path.name, "kind", header.kind])
        rows.append([path.name, "size", f"{path.stat().st_size / 2**20:.1f} MiB"])
        rows.append([path.name, "parameters", f"{header.parameters / 1e6:.2f} M"])
        for name, entries in (("config", header.config), ("training", header.notes)):
            rows += [[path.name, f"{name}: {key}", value] for key, value in _flat(entries)]
    console.show(rows)


def _flat(entries: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested entries as pairs of dotted name and value, without the settings of earlier phases."""
    for key, value in entries.items():
        if key == "settings":
            continue
        if isinstance(value, list) and any(isinstance(each, dict) for each in value):
            value = {str(number): each for number, each in enumerate(value, start=1)}
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
