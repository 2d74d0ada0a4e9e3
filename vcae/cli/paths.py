"""Input and output paths of commands: recordings, folders of recordings, and the outputs for them."""

from collections.abc import Iterable
from pathlib import Path

from vcae.audio import WRITABLE, Audio, find_audio
from vcae.errors import VcaeError
from vcae.files import check_output


def unique(paths: Iterable[Path]) -> list[Path]:
    """The paths without duplicates, in order. Raises VcaeError for none."""
    paths = list(dict.fromkeys(paths))
    if not paths:
        raise VcaeError("no recording was given; give one or more, or a folder, before the options")
    return paths


def references(paths: Iterable[Path]) -> list[str | Path | Audio]:
    """The files among the paths, and the audio files in the folders. Raises VcaeError for none."""
    return [found for path in unique(paths) for found in (audio_in(path) if path.is_dir() else [path])]


def audio_in(path: Path) -> list[Path]:
    """The audio files in a folder, or the file itself. Raises VcaeError for none."""
    found = find_audio(path)
    if not found:
        raise VcaeError(f"{path}: holds no audio files; give a folder that holds some, or files")
    return found


def outputs(sources: Iterable[Path], out: Path, keep: Iterable[Path] = ()) -> list[tuple[Path, Path]]:
    """Pairs of source and output file.

    Raises VcaeError where an output cannot be written, is the output of two sources, or would overwrite a
    source or a file of `keep`.
    """
    sources = unique(sources)
    if len(sources) == 1 and not sources[0].is_dir() and not out.is_dir():
        plan = [(sources[0], out)]
    else:
        plan = []
        for source in sources:
            for path in audio_in(source):
                name = path.relative_to(source) if source.is_dir() else Path(path.name)
                plan.append((path, out / name.with_suffix(".wav")))
    inputs = {path.resolve() for path in (*keep, *(source for source, _ in plan))}
    source_of: dict[Path, Path] = {}
    for source, path in plan:
        if path in source_of:
            raise VcaeError(
                f"{path}: is the output for both {source_of[path]} and {source}; convert them separately"
            )
        if path.resolve() in inputs:
            raise VcaeError(f"{path}: is an input, too; choose another --out")
        source_of[path] = source
    if plan[0][1] == out:
        check_output(out, WRITABLE)
    else:
        if out.suffix.lower() in WRITABLE and not out.is_dir():
            raise VcaeError(f"{out}: is one file for several recordings; give a folder")
        for folder in sorted({path.parent for _, path in plan}):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise VcaeError(
                    f"{folder}: cannot be created ({error.strerror}); choose another --out"
                ) from None
    return plan
