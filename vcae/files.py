"""Output files, which are written completely or not at all, and files of tensors."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import getnode, uuid4

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vcae.errors import VcaeError


class OutputError(VcaeError):
    """A file that cannot be written. The message is one line that names the file and how to fix it."""


def check_output(path: Path, suffixes: Iterable[str]) -> None:
    """Raise OutputError if a file of this name cannot be written. To be called before long work."""
    suffixes = list(suffixes)
    with _os_errors(path):
        if path.is_dir():
            raise OutputError(f"{path}: is a folder; give a file name that ends in {' or '.join(suffixes)}")
        if path.suffix.lower() not in suffixes:
            raise OutputError(
                f"{path}: has a suffix that cannot be written; choose one of {', '.join(suffixes)}"
            )
        if not path.parent.is_dir():
            raise OutputError(f"{path}: folder {path.parent} does not exist; create it first")
    check_writable(path)


def check_writable(path: Path) -> None:
    """Raise OutputError if a file exists and is read-only: it could be replaced, but is not meant to be."""
    with _os_errors(path):
        if path.is_file() and not (path.stat().st_mode & 0o222 and os.access(path, os.W_OK)):
            raise OutputError(f"{path}: exists and is read-only; choose another name, or make it writable")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name in the same folder; after the `with` statement it is renamed to `path`.

    If writing fails, the temporary file is deleted. Raises OutputError for an OSError.
    """
    # Hidden, so that it is not mistaken for the result; of another name in each process; and short, since
    # the name of the result may be as long as the file system admits.
    owner = hashlib.sha256(str(getnode()).encode() + os.fsencode(path.name))
    prefix = f".{owner.hexdigest()[:12]}"
    unfinished = path.with_name(f"{prefix}-{os.getpid()}-{uuid4().hex[:12]}.part")
    check_writable(path)
    _delete_abandoned(path.parent, prefix)
    try:
        with _os_errors(path):
            unfinished.touch(exist_ok=False)
            mode = unfinished.stat().st_mode
            yield unfinished
            unfinished.chmod(mode)  # safetensors makes its files readable by their owner only
            unfinished.replace(path)
    finally:
        with suppress(OSError):
            unfinished.unlink()


def _delete_abandoned(folder: Path, prefix: str) -> None:
    """Delete unfinished files of the same output whose process on this machine was killed."""
    if os.name != "posix":
        return
    mine = [path for path in _unfinished(folder.absolute()) if path.name.startswith(f"{prefix}-")]
    with suppress(OSError):
        for left in mine:
            try:
                os.kill(int(left.name.split("-")[1]), 0)  # signal 0 only asks whether there is the process
            except ProcessLookupError:
                left.unlink(missing_ok=True)
            except PermissionError:  # somebody else's, which runs
                continue


@cache
def _unfinished(folder: Path) -> tuple[Path, ...]:
    """Unfinished files as this process first writes to a folder, since a folder of outputs may be large."""
    return tuple(folder.glob(".*-*-*.part"))


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder; after the `with` statement its files are moved to `path`, unless it fails.

    Raises OutputError if `path` exists and is not an empty folder, and for an OSError.
    """
    with _os_errors(path):
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise OutputError(f"{path}: exists already; give a new or an empty folder")
        if not path.parent.is_dir():
            raise OutputError(f"{path}: folder {path.parent} does not exist; create it first")
        with TemporaryDirectory(prefix=".", suffix=".part", dir=path.parent) as unfinished:
            yield Path(unfinished)
            path.mkdir(exist_ok=True)
            for file in Path(unfinished).iterdir():
                file.rename(path / file.name)


@contextmanager
def _os_errors(path: Path) -> Iterator[None]:
    """Raise OutputError for an OSError."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); check name, permissions and free space"
        ) from None


class TensorFileError(VcaeError):
    """A file that `load_tensors` cannot read. `reason` is the message without the file's name."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


def save_tensors(path: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write tensors, and `about` as JSON in the header, to a safetensors file. Raises OutputError."""
    unshared = {}
    pointers = set()
    for name, t in tensors.items():  # safetensors rejects tensors that share memory
        t = t.detach().cpu().contiguous()
        unshared[name] = t.clone() if t.data_ptr() in pointers else t
        pointers.add(t.data_ptr())
    with replacing(path) as unfinished:
        try:
            save_file(unshared, unfinished, {"vcae": json.dumps(about)})
        except SafetensorError as error:
            raise OSError(str(error)) from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file that `save_tensors` wrote. Raises TensorFileError for any other file."""
    if not path.is_file():
        raise TensorFileError(path, "no such file")
    try:
        with safe_open(path, "pt") as f:
            about = json.loads((f.metadata() or {})["vcae"])
            if not isinstance(about, dict):
                raise TensorFileError(path, "not a file that vcae wrote (its header is not a JSON object)")
            return {name: f.get_tensor(name) for name in f.keys()}, about  # noqa: SIM118
    except (SafetensorError, KeyError, json.JSONDecodeError, OSError) as error:
        raise TensorFileError(path, f"not a file that vcae wrote ({error})") from error
