"""Commands for whole recordings: convert, reconstruct."""

import os
import secrets
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from vcae.audio import WRITABLE
from vcae.cli import console, paths
from vcae.cli.batch import Batch
from vcae.cli.options import (
    Device,
    Format,
    Jobs,
    Model,
    Output,
    References,
    SampleRate,
    Sources,
    Subtype,
    load_converter,
)
from vcae.errors import VcaeError
from vcae.files import OutputError
from vcae.inference.anonymizer import LEAST_SECRET, Anonymizer
from vcae.inference.voice import Voice

VARIABLE = "VCAE_SECRET"
"""Environment variable that may hold the secret of invented voices."""
SECRET_BYTES = 32
"""Random bytes of a secret that is made, written as twice as many characters."""
Secret = Annotated[
    Path | None,
    arg(
        help="with --anonymize: file with the secret, at least 16 characters; made if it does not exist. "
        f"Default: the environment variable {VARIABLE}, or else a secret that is forgotten",
        metavar="FILE",
    ),
]
Voices = Annotated[
    tuple[Path, ...],
    arg(
        help="several voices instead: .voice files, recordings, or folders of recordings, each one speaker",
        metavar="VOICE",
    ),
]


def convert(
    sources: Sources,
    out: Output,
    voice: References = (),
    voices: Voices = (),
    anonymize: bool = False,
    secret: Secret = None,
    speaker: str | None = None,
    watermark: bool = False,
    pitch_shift: float = 0.0,
    strength: float = 1.0,
    format: Format = None,
    sample_rate: SampleRate = None,
    subtype: Subtype = None,
    jobs: Jobs = 1,
    model: Model = "studio",
    device: Device = "cpu",
) -> None:
    """Convert recordings into another voice.

    A single source is written to the file --out; several sources, or folders, to files of the same names in
    the folder --out. Outputs that an earlier run has finished, with the same voice and options, are kept.

    With --anonymize, each speaker gets an invented voice, the same for all recordings of this speaker. A
    recording in a folder is of the speaker who is called like the folder that it lies in. A recording that
    is given by itself is of a speaker of its own, called like the file without its suffix. The same secret
    and the same name give the same voice again. Words, rhythm, melody, and names of files still tell about
    the speaker.

    Args:
        sources: recordings, or folders of them
        voice: recordings of the target speaker, or one .voice file
        voices: several voices; the outputs of each are in a folder of its name in --out
        anonymize: an invented voice for each speaker, instead of --voice
        speaker: with --anonymize: name of the one speaker of all sources
        watermark: add an inaudible mark that says that the speech is converted; `vcae detect` finds it
        out: a file for a single source, otherwise a folder; a slash at the end says that it is a folder
        pitch_shift: semitones in addition to the move to the target's F0 range
        strength: from 0, the voice of the source, to 1, the target voice
    """
    if [bool(voice), bool(voices), anonymize].count(True) != 1:
        raise VcaeError("give the target by --voice, several by --voices, or --anonymize")
    if not anonymize and (secret or speaker is not None):
        raise VcaeError("--secret and --speaker are for --anonymize; add it, or leave them out")
    if anonymize and strength != 1:
        raise VcaeError("--strength keeps a part of the voice that --anonymize is to hide; leave it out")
    folders = _folders(out, voices) if voices else out
    keep = (*voice, *voices, *([secret] if secret else []))
    batch = Batch(sources, folders, format, sample_rate, subtype, jobs, keep)
    key = read_secret(secret) if anonymize else b""
    converter = load_converter(model, device)
    targets: dict[Path, Voice]
    if anonymize:
        targets = _invented(Anonymizer(converter, key), sources, batch.plan, speaker)
    else:
        with console.Bar() as bar:
            groups = [[path] for path in voices] or [[*voice]]
            made = [converter.voice(paths.references(group), bar.update) for group in groups]
        targets = {path: made[number] for path, number in batch.number.items()}
    marks = {id(target): target.fingerprint for target in targets.values()}

    def process(source: Path, path: Path, **more: Any) -> None:
        converter.convert_file(
            source, path, targets[path], pitch_shift, strength, watermark=watermark, **more
        )

    def options(path: Path) -> tuple[object, ...]:
        more = ["watermark"] if watermark else []
        return (converter.fingerprint, marks[id(targets[path])], pitch_shift, strength, *more)

    batch.run(process, options)


def _invented(
    anonymizer: Anonymizer, sources: tuple[Path, ...], plan: list[tuple[Path, Path]], speaker: str | None
) -> dict[Path, Voice]:
    """An invented voice for the speaker of each source, by output."""
    alone = {os.path.abspath(path) for path in paths.unique(sources) if not paths.is_folder(path)}  # noqa: PTH100
    names: dict[str, list[tuple[Path, Path]]] = {}
    for source, path in plan:
        if speaker is not None:
            name = speaker
        elif (absolute := os.path.abspath(source)) in alone:  # noqa: PTH100 -- links keep their names
            name = source.stem
        else:
            name = Path(absolute).parent.name
        names.setdefault(name, []).append((source, path))
    targets: dict[Path, Voice] = {}
    for name, files in names.items():
        voice = anonymizer.voice(name, [source for source, _ in files])
        targets.update((path, voice) for _, path in files)
    return targets


def read_secret(path: Path | None) -> bytes:
    """The secret of invented voices: of a file, of the environment, or a new one.

    A file that does not exist is made, for its owner only. Raises VcaeError for what is no secret.
    """
    if path is None:
        if text := os.environ.get(VARIABLE, "").strip():
            return _checked(f"the environment variable {VARIABLE}", os.fsencode(text))
        console.err.print(
            "vcae: the secret of the invented voices was made at random, and is forgotten;"
            " give --secret FILE to get the same voices again"
        )
        return secrets.token_hex(SECRET_BYTES).encode()
    try:
        return _checked(str(path), path.read_bytes().strip())
    except FileNotFoundError:
        pass
    except OSError as error:
        raise VcaeError(f"{path}: cannot be read ({error.strerror}); give a file with a secret") from None
    new = secrets.token_hex(SECRET_BYTES).encode()
    try:
        # Nobody else may read it at any time, and a file that another process has just made stays.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(new + b"\n")
    except OSError as error:
        raise OutputError(f"{path}: cannot be created ({error.strerror}); choose another --secret") from None
    console.err.print(
        f"vcae: {console.printable(path)}: a new secret; keep it, since it gives the same voices again,"
        " and keep it to yourself, since it tells which voice is whose"
    )
    return new


def _checked(name: str, secret: bytes) -> bytes:
    if len(secret) < LEAST_SECRET:
        raise VcaeError(
            f"{name}: holds a secret of {len(secret)} characters, which can be guessed;"
            f" use {LEAST_SECRET} or more"
        )
    return secret


def _folders(out: str, voices: tuple[Path, ...]) -> list[str]:
    """A folder in `out` for each voice, by its name."""
    if Path(out).suffix.lower() in WRITABLE and not Path(out).is_dir():
        raise VcaeError(f"{out}: is one file for several voices; give a folder")
    names = [voice.name if paths.is_folder(voice) else voice.stem for voice in voices]
    for name, count in Counter(names).items():
        if count > 1:
            raise VcaeError(
                f"{count} of the --voices are called {name}; rename them, since folders are named so"
            )
    return [os.path.join(out, name, "") for name in names]  # noqa: PTH118 -- the slash says that it is a folder


def reconstruct(
    sources: Sources,
    out: Output,
    format: Format = None,
    sample_rate: SampleRate = None,
    subtype: Subtype = None,
    jobs: Jobs = 1,
    model: Model = "studio",
    device: Device = "cpu",
) -> None:
    """Encode recordings and decode them in the voice of the same speaker.

    Args:
        sources: recordings, or folders of them
        out: a file for a single source, otherwise a folder; a slash at the end says that it is a folder
    """
    batch = Batch(sources, out, format, sample_rate, subtype, jobs)
    converter = load_converter(model, device)
    batch.run(converter.reconstruct_file, lambda _: converter.fingerprint)
