"""Commands for whole recordings: convert, reconstruct."""

import os
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

    Args:
        sources: recordings, or folders of them
        voice: recordings of the target speaker, or one .voice file
        voices: several voices; the outputs of each are in a folder of its name in --out
        out: a file for a single source, otherwise a folder; a slash at the end says that it is a folder
        pitch_shift: semitones in addition to the move to the target's F0 range
        strength: from 0, the voice of the source, to 1, the target voice
    """
    if bool(voice) == bool(voices):
        raise VcaeError("give the target by --voice, or several by --voices")
    folders = _folders(out, voices) if voices else out
    batch = Batch(sources, folders, format, sample_rate, subtype, jobs, (*voice, *voices))
    converter = load_converter(model, device)
    with console.Bar() as bar:
        groups = [[path] for path in voices] or [[*voice]]
        targets = [converter.voice(paths.references(group), bar.update) for group in groups]
    marks = [target.fingerprint for target in targets]

    def process(source: Path, path: Path, **more: Any) -> None:
        target = targets[batch.number[path]]
        converter.convert_file(source, path, target, pitch_shift, strength, **more)

    batch.run(process, lambda path: (converter.fingerprint, marks[batch.number[path]], pitch_shift, strength))


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
