"""Commands that make voice files: voice, mix."""

from pathlib import Path

from vcae.cli import console, paths
from vcae.cli.options import Device, Model, Sources, load_converter
from vcae.files import check_output
from vcae.inference.voice import Voice


def voice(references: Sources, out: Path, model: Model = None, device: Device = "cpu") -> None:
    """Keep the voice of one speaker in a file, to convert with it later.

    Args:
        references: recordings of the speaker
        out: the file, NAME.voice
    """
    check_output(out, [".voice"])
    converter = load_converter(model, device)
    with console.Bar() as bar:
        converter.voice(paths.references(references), bar.told).save(out)


def mix(voices: Sources, out: Path, weights: tuple[float, ...] = ()) -> None:
    """Make a voice that lies between others.

    Args:
        voices: `.voice` files
        out: the file, NAME.voice
        weights: how much of each; default: as much of each
    """
    check_output(out, [".voice"])
    Voice.mix([Voice.load(v) for v in voices], weights or None).save(out)
