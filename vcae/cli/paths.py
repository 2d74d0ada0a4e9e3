"""Input and output paths of commands: recordings, folders of recordings, and the outputs for them."""

import os
from collections import Counter
from collections.abc import Collection, Iterable
from glob import glob, has_magic
from pathlib import Path

from vcae.audio import WRITABLE, Audio, find_audio
from vcae.errors import AudioError, VcaeError
from vcae.files import check_output


def unique(paths: Iterable[Path]) -> list[Path]:
    """The paths without duplicates, in order, wildcards expanded. Raises VcaeError for none."""
    expanded = [found for path in paths for found in _expanded(path)]
    if not expanded:
        raise VcaeError("no recording was given; give one or more, or a folder, before the options")
    return list({os.path.abspath(path): path for path in reversed(expanded)}.values())[::-1]  # noqa: PTH100


def _expanded(path: Path) -> list[Path]:
    """What a name with wildcards stands for, where the shell has not expanded it."""
    if not has_magic(str(path)) or os.path.lexists(path):
        return [path]
    return [Path(found) for found in sorted(glob(str(path), recursive=True))] or [path]  # noqa: PTH207


def references(paths: Iterable[Path]) -> list[str | Path | Audio]:
    """The files among the paths, and the audio files in the folders. Raises VcaeError for none."""
    return [found for path in unique(paths) for found in (audio_in(path) if is_folder(path) else [path])]


def is_folder(path: Path) -> bool:
    """Whether this is a folder; false for names that cannot exist, for which `Path.is_dir` raises OSError."""
    return os.path.isdir(path)  # noqa: PTH112


def audio_in(path: Path, without: Path | None = None) -> list[Path]:
    """The audio files in a folder, but not those in the folder `without`, or the file itself.

    Raises VcaeError for none.
    """
    found = find_audio(path, without)
    if not found:
        raise VcaeError(f"{path}: holds no audio files; give a folder that holds some, or files")
    return found


def recordings(sources: Iterable[Path], without: Path | None = None) -> list[tuple[Path, Path]]:
    """Each recording with its name below its source, a file or a folder.

    Files that do not exist are among them, so that they are reported and do not stop the others. Raises
    VcaeError where no source exists.
    """
    sources = unique(sources)
    missing = [source for source in sources if not os.path.exists(source)]  # noqa: PTH110
    if len(missing) == len(sources):
        raise AudioError(f"{missing[0]}: {_why_missing(missing[0])}")
    found = []
    for source in sources:
        if is_folder(source):
            found += [(path, path.relative_to(source)) for path in audio_in(source, without)]
        else:
            found.append((source, Path(source.name)))
    return list({os.path.abspath(path): (path, name) for path, name in found}.values())  # noqa: PTH100


def _why_missing(path: Path) -> str:
    try:
        path.lstat()
    except FileNotFoundError:
        return "no such file; check the path"
    except (OSError, ValueError) as error:
        return f"cannot be opened ({getattr(error, 'strerror', None) or error}); check name and permissions"
    return f"is a link to {path.readlink()}, which does not exist"


def outputs(
    sources: Iterable[Path],
    out: str | Path,
    suffix: str | None = None,
    keep: Iterable[Path] = (),
    written: Collection[str] = WRITABLE,
) -> list[tuple[Path, Path]]:
    """Pairs of source and output file.

    A single file becomes the file `out`; several, or folders, become files of the same names in the folder
    `out`, and so does a single file if `out` ends in a slash or is a folder. suffix: of the outputs, such as
    .flac; default: that of `out`, or .wav. written: the suffixes that outputs may have. Raises VcaeError
    where an output cannot be written, or would overwrite a source or a file of `keep`.
    """
    slash = str(out).endswith(("/", os.sep))
    out = Path(out)
    sources = unique(sources)
    found = recordings(sources, without=out)
    one = len(sources) == 1 and not (is_folder(sources[0]) or is_folder(out) or slash)
    if one:
        if suffix and not out.suffix:
            out = out.with_name(out.name + suffix)
        if suffix and out.suffix.lower() != suffix:
            raise VcaeError(f"{out}: has another suffix than {suffix}; give that, or leave out --format")
        plan = [(sources[0], out)]
    else:
        names = _names([path for path, _ in found], [name for _, name in found], suffix or ".wav")
        plan = [(path, out / name) for (path, _), name in zip(found, names, strict=True)]
    inputs = {path.resolve() for path in (*keep, *(source for source, _ in plan))}
    for _, path in plan:
        if path.resolve() in inputs:
            raise VcaeError(f"{path}: is an input, too; choose another --out")
    if one:
        check_output(out, written)
        return plan
    if out.suffix.lower() in written and not (slash or is_folder(out)):
        raise VcaeError(f"{out}: is one file for several recordings; give a folder")
    for folder in sorted({path.parent for _, path in plan}):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise VcaeError(f"{folder}: cannot be created ({error.strerror}); choose another --out") from None
    return plan


def _names(paths: list[Path], names: list[Path], suffix: str) -> list[Path]:
    """Names of outputs, all different: with their folders where names are equal, with their suffixes too
    where stems are."""
    if len(_equal([name.with_suffix(suffix) for name in names])):
        absolute = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100 -- links keep their names
        top = os.path.commonpath([path.parent for path in absolute])
        names = [path.relative_to(top) for path in absolute] if _folders_differ(absolute, names) else names
    outputs = [name.with_suffix(suffix) for name in names]
    equal = _equal(outputs)
    return [
        name.with_name(name.name + suffix) if out in equal else out
        for name, out in zip(names, outputs, strict=True)
    ]


def _equal(names: list[Path]) -> set[Path]:
    return {name for name, count in Counter(names).items() if count > 1}


def _folders_differ(paths: list[Path], names: list[Path]) -> bool:
    """Whether recordings of equal stems are in different folders."""
    folders: dict[Path, Path] = {}
    return any(
        folders.setdefault(name.with_suffix(""), path.parent) != path.parent
        for path, name in zip(paths, names, strict=True)
    )
