"""Commands for whole recordings: convert, reconstruct."""

import os
import secrets
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from vcae.audio import WRITABLE, Source
from vcae.cli import console, paths
from vcae.cli.batch import Batch
from vcae.cli.cluster import Cluster, Loaded
from vcae.cli.options import (
    Device,
    Format,
    Jobs,
    Model,
    OptionalJobs,
    Output,
    Ray,
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
    jobs: OptionalJobs = None,
    ray: Ray = None,
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
    named = _named(out, voices)
    folders = [os.path.join(out, name, "") for name in named]  # noqa: PTH118 -- the slash says: a folder
    keep = (*voice, *voices, *([secret] if secret else []))
    workers = Cluster(ray, jobs, device) if ray else None
    threads = 1 if jobs is None else jobs
    batch = Batch(sources, folders or out, format, sample_rate, subtype, threads, keep, workers)
    key = read_secret(secret) if anonymize else b""
    loaded = Loaded(load_converter, model, device)
    speaker_of = _speaker_of(sources, speaker)

    def target_of(source: Path, path: Path) -> str:
        if anonymize:
            return speaker_of(source)
        return path.relative_to(out).parts[0] if named else ""

    targets: dict[str, Voice]
    if anonymize:
        targets = _invented(Anonymizer(loaded.it, key), [source for source, _ in batch.plan], speaker_of)
    else:
        groups = {name: [path] for name, path in named.items()} or {"": [*voice]}
        with console.Bar() as bar:
            targets = {
                name: loaded.it.voice(paths.references(group), bar.update) for name, group in groups.items()
            }
    marks = {name: target.fingerprint for name, target in targets.items()}

    def process(source: Path, path: Path, **more: Any) -> None:
        target = targets[target_of(source, path)]
        loaded.it.convert_file(source, path, target, pitch_shift, strength, watermark=watermark, **more)

    def options(source: Path, path: Path) -> tuple[object, ...]:
        more = ["watermark"] if watermark else []
        mark = marks[target_of(source, path)]
        return (loaded.it.fingerprint, mark, pitch_shift, strength, *more)

    batch.run(process, options)


def _speaker_of(sources: tuple[Path, ...], speaker: str | None) -> Callable[[Path], str]:
    """A function that names the speaker of a recording among these sources."""
    alone = {os.path.abspath(path) for path in paths.unique(sources) if not paths.is_folder(path)}  # noqa: PTH100

    def name(source: Path) -> str:
        if speaker is not None:
            return speaker
        absolute = os.path.abspath(source)  # noqa: PTH100 -- links keep their names
        return source.stem if absolute in alone else Path(absolute).parent.name

    return name


def _invented(
    anonymizer: Anonymizer, recordings: list[Path], speaker_of: Callable[[Path], str]
) -> dict[str, Voice]:
    """An invented voice for each speaker, by name."""
    names: dict[str, list[Source]] = {}
    for recording in recordings:
        names.setdefault(speaker_of(recording), []).append(recording)
    return {name: anonymizer.voice(name, files) for name, files in names.items()}


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


def _named(out: str, voices: tuple[Path, ...]) -> dict[str, Path]:
    """The voices by the names of their folders in `out`."""
    if voices and Path(out).suffix.lower() in WRITABLE and not Path(out).is_dir():
        raise VcaeError(f"{out}: is one file for several voices; give a folder")
    names = [voice.name if paths.is_folder(voice) else voice.stem for voice in voices]
    for name, count in Counter(names).items():
        if count > 1:
            raise VcaeError(
                f"{count} of the --voices are called {name}; rename them, since folders are named so"
            )
    return dict(zip(names, voices, strict=True))


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
    batch.run(converter.reconstruct_file, lambda *_: converter.fingerprint)
