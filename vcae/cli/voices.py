"""Commands for voice files: voice, mix."""

from pathlib import Path

from vcae.cli import console, paths
from vcae.cli.options import Device, Model, Sources, load_converter
from vcae.files import check_output
from vcae.inference.converter import pooled
from vcae.inference.voice import Voice


def voice(
    references: Sources,
    out: Path,
    verbose: bool = False,
    model: Model = "studio",
    device: Device = "cpu",
) -> None:
    """Compute the voice of a speaker and save it to a file, for `vcae convert --voice`.

    Args:
        references: recordings of the speaker, or folders of them
        out: the file, NAME.voice
        verbose: show what each recording adds: seconds of voiced speech, share in the voice, cosine to it,
            and what may be wrong
    """
    check_output(out, [".voice"])
    converter = load_converter(model, device)
    with console.Bar() as bar:
        weighed = converter.weigh(paths.references(references), bar.update)
    made = pooled(weighed)
    made.save(out)
    if verbose:
        rows = [["recording", "speech", "share", "cosine", "doubts"]]
        for each in weighed:
            cosine = float(each.voice.embedding @ made.embedding)
            speech, share = f"{each.quality.speech:.1f} s", f"{each.share:.0%}"
            rows.append([each.name, speech, share, f"{cosine:.2f}", ", ".join(each.doubts) or "none"])
        console.show(rows)


def mix(voices: Sources, out: Path, weights: tuple[float, ...] = ()) -> None:
    """Mix voices by weights.

    Args:
        voices: .voice files
        out: the file, NAME.voice
        weights: one number for each voice; default: equal
    """
    check_output(out, [".voice"])
    Voice.mix([Voice.load(v) for v in voices], weights or None).save(out)
