"""Files that are written: checked before the work, there whole or not at all."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

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
