"""Commands for voice files: voice, mix."""

from pathlib import Path

from vcae.cli import console, paths
from vcae.cli.options import Device, Model, Sources, load_converter
from vcae.files import check_output
from vcae.inference.voice import Voice


def voice(references: Sources, out: Path, model: Model = "studio", device: Device = "cpu") -> None:
    """Compute the voice of a speaker and save it to a file, for `vcae convert --voice`.

    Args:
        references: recordings of the speaker, or folders of them
        out: the file, NAME.voice
    """
    check_output(out, [".voice"])
    converter = load_converter(model, device)
    with console.Bar() as bar:
        converter.voice(paths.references(references), bar.update).save(out)


def mix(voices: Sources, out: Path, weights: tuple[float, ...] = ()) -> None:
    """Mix voices by weights.

    Args:
        voices: .voice files
        out: the file, NAME.voice
        weights: one number for each voice; default: equal
    """
    check_output(out, [".voice"])
    Voice.mix([Voice.load(v) for v in voices], weights or None).save(out)
