"""Commands that convert recordings: convert, reconstruct."""

from pathlib import Path

from vcae.audio import Progress
from vcae.cli import console, paths
from vcae.cli.options import Device, Model, References, Sources, load_converter


def convert(
    sources: Sources,
    voice: References,
    out: Path,
    pitch_shift: float = 0.0,
    strength: float = 1.0,
    model: Model = None,
    device: Device = "cpu",
) -> None:
    """Convert recordings into another voice.

    One file is written to --out; of several, or of folders, each to a WAV file of the same name under --out.

    Args:
        sources: recordings, or folders of them
        voice: whose voice to speak in
        out: a file for one source, else a folder
        pitch_shift: semitones on top of the move to the voice's range
        strength: 1 is the voice, 0 the source's own
    """
    plan = paths.outputs(sources, out, keep=voice)
    converter = load_converter(model, device)
    with console.Bar() as bar:
        target = converter.voice(paths.references(voice), bar.told)

    def one(source: Path, path: Path, progress: Progress) -> None:
        converter.convert_file(source, path, target, pitch_shift, strength, progress)

    console.report(console.each(plan, one))


def reconstruct(sources: Sources, out: Path, model: Model = None, device: Device = "cpu") -> None:
    """Encode SOURCES and decode them in their own voice: the plain autoencoder.

    Args:
        sources: recordings, or folders of them
        out: a file for one source, else a folder
    """
    plan = paths.outputs(sources, out)
    converter = load_converter(model, device)
    console.report(console.each(plan, converter.reconstruct_file))
