"""Files that are written: checked before the work, there whole or not at all."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vcae.errors import VcaeError


class OutputError(VcaeError):
    """A file that cannot be written. One line that names it and says what to do about it."""


def check_output(path: Path, suffixes: Iterable[str]) -> None:
    """Raise OutputError where a file of this name cannot be written, so that no work is lost for it."""
    known = list(suffixes)
    with _explained(path):
        if path.is_dir():
            raise OutputError(f"{path}: is a folder; name a file in it, ending in {' or '.join(known)}")
        if path.suffix.lower() not in known:
            raise OutputError(f"{path}: cannot write this kind of file; choose one of {', '.join(known)}")
        if not path.parent.is_dir():
            raise OutputError(f"{path}: folder {path.parent} does not exist; create it first")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write to, in the same folder; what is there in the end takes the place of `path`.

    Nothing stays of it where writing fails. Raises OutputError for an OSError.
    """
    unfinished = path.with_name(f".{path.name}.part")  # hidden, so that nobody takes it for finished
    try:
        with _explained(path):
            unfinished.touch()
            mode = unfinished.stat().st_mode
            yield unfinished
            unfinished.chmod(mode)  # safetensors keeps its files to their owner
            unfinished.replace(path)
    finally:
        with suppress(OSError):
            unfinished.unlink()


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to write files into, which are moved to `path` in the end, or nowhere where that fails.

    Raises OutputError where `path` is there and no empty folder, and for an OSError.
    """
    with _explained(path):
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise OutputError(f"{path}: is there already; name a new folder, or an empty one")
        if not path.parent.is_dir():
            raise OutputError(f"{path}: folder {path.parent} does not exist; create it first")
        with TemporaryDirectory(prefix=".", suffix=".part", dir=path.parent) as unfinished:
            yield Path(unfinished)
            path.mkdir(exist_ok=True)
            for file in Path(unfinished).iterdir():
                file.rename(path / file.name)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """An OSError as an OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); check name, permissions and free space"
        ) from None


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
