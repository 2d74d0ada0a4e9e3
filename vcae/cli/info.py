"""The command for checkpoint metadata: info."""

import dataclasses
from collections.abc import Iterator
from json import dumps
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from vcae.cli import console
from vcae.errors import VcaeError
from vcae.inference.checkpoint import BUNDLED, MODELS, model_files, read_header


def info(model: Positional[str | None] = None, json: bool = False) -> None:
    """Print the configuration and the training metadata of weights.

    Args:
        model: studio or live, a folder that training wrote, or one file of it; default: all bundled files
        json: print JSON instead of a table, with the settings of all earlier phases
    """
    headers = {path: read_header(path) for path in _files(model)}
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


def _files(model: str | None) -> list[Path]:
    """The files to describe. Raises VcaeError for a folder without any."""
    if model in MODELS:
        return model_files(model).all
    path = BUNDLED if model is None else Path(model)
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files:
        raise VcaeError(f"{path}: holds no .safetensors file; give a folder that training wrote")
    return files


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
