"""What a command line names: recordings, folders of them, and which file is written for which."""

from collections.abc import Iterable
from pathlib import Path

from vcae.audio import WRITABLE, Audio, find_audio
from vcae.errors import VcaeError
from vcae.files import check_output


def some(paths: Iterable[Path]) -> list[Path]:
    """Each path once. Raises VcaeError for none."""
    paths = list(dict.fromkeys(paths))
    if not paths:
        raise VcaeError("no recording was given; name one or more, or a folder, before the options")
    return paths


def references(paths: Iterable[Path]) -> list[str | Path | Audio]:
    """Files as they are, folders as what is in them."""
    return [found for path in some(paths) for found in (audio_in(path) if path.is_dir() else [path])]


def audio_in(path: Path) -> list[Path]:
    """The audio files in a folder, or the file itself. Raises VcaeError where there are none."""
    found = find_audio(path)
    if not found:
        raise VcaeError(f"{path}: holds no audio files; name a folder that does, or the files")
    return found


def outputs(sources: Iterable[Path], out: Path, keep: Iterable[Path] = ()) -> list[tuple[Path, Path]]:
    """Which file is written for which source.

    Raises VcaeError where two would be one, where it is a source or among what to `keep`, and where it
    cannot be written.
    """
    sources = some(sources)
    if len(sources) == 1 and not sources[0].is_dir() and not out.is_dir():
        plan = [(sources[0], out)]
    else:
        plan = []
        for source in sources:
            for path in audio_in(source):
                name = path.relative_to(source) if source.is_dir() else Path(path.name)
                plan.append((path, out / name.with_suffix(".wav")))
    untouched = {path.resolve() for path in (*keep, *(source for source, _ in plan))}
    taken: dict[Path, Path] = {}
    for source, path in plan:
        if path in taken:
            raise VcaeError(f"{path}: both {taken[path]} and {source} would go there; convert them apart")
        if path.resolve() in untouched:
            raise VcaeError(f"{path}: is read itself; write somewhere else")
        taken[path] = source
    if plan[0][1] == out:
        check_output(out, WRITABLE)
    else:
        if out.suffix.lower() in WRITABLE and not out.is_dir():
            raise VcaeError(f"{out}: several files do not go into one; name a folder")
        for folder in sorted({path.parent for _, path in plan}):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise VcaeError(f"{folder}: cannot be made ({error.strerror}); name another --out") from None
    return plan
