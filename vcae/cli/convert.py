"""Commands for whole recordings: convert, reconstruct."""

from pathlib import Path

from vcae.cli import console, paths
from vcae.cli.options import Device, Model, References, Sources, load_converter
from vcae.progress import Progress


def convert(
    sources: Sources,
    voice: References,
    out: Path,
    pitch_shift: float = 0.0,
    strength: float = 1.0,
    model: Model = "studio",
    device: Device = "cpu",
) -> None:
    """Convert recordings into another voice.

    A single source is written to the file --out; several sources, or folders, to WAV files of the same names
    in the folder --out.

    Args:
        sources: recordings, or folders of them
        voice: recordings of the target speaker, or one .voice file
        out: a file for a single source, otherwise a folder
        pitch_shift: semitones in addition to the move to the target's F0 range
        strength: from 0, the voice of the source, to 1, the target voice
    """
    plan = paths.outputs(sources, out, keep=voice)
    converter = load_converter(model, device)
    with console.Bar() as bar:
        target = converter.voice(paths.references(voice), bar.update)

    def convert_one(source: Path, path: Path, progress: Progress) -> None:
        converter.convert_file(source, path, target, pitch_shift, strength, progress)

    console.report(console.for_each(plan, convert_one))


def reconstruct(sources: Sources, out: Path, model: Model = "studio", device: Device = "cpu") -> None:
    """Encode recordings and decode them in the voice of the same speaker.

    Args:
        sources: recordings, or folders of them
        out: a file for a single source, otherwise a folder
    """
    plan = paths.outputs(sources, out)
    converter = load_converter(model, device)
    console.report(console.for_each(plan, converter.reconstruct_file))
