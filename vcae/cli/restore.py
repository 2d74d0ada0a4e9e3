"""Commands that restore recordings: denoise, superres, revoice."""

from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from vcae.cli import console, paths
from vcae.cli.options import Device, Sources, check_device
from vcae.model.restorer import Task
from vcae.progress import Progress

Model = Annotated[Path | None, arg(help="folder that recipes/restore.py wrote; no weights are bundled yet")]
Pitch = Annotated[float | None, arg(help="mean F0 of the voice in Hz; default: estimated from the recording")]


def denoise(sources: Sources, out: Path, model: Model = None, device: Device = "cpu") -> None:
    """Remove noise and reverberation from speech; the voice stays that of the speaker.

    Args:
        sources: recordings, or folders of them
        out: a file for a single source, otherwise a folder
    """
    _restore("denoise", sources, out, model, device)


def superres(sources: Sources, out: Path, model: Model = None, device: Device = "cpu") -> None:
    """Widen telephone sound of 8 kHz to 16 kHz: keep what is there, generate the band above.

    Args:
        sources: recordings, or folders of them
        out: a file for a single source, otherwise a folder
    """
    _restore("superres", sources, out, model, device)


def revoice(
    sources: Sources, out: Path, pitch: Pitch = None, model: Model = None, device: Device = "cpu"
) -> None:
    """Speak whispered or monotone speech with a voice and a melody.

    Args:
        sources: recordings, or folders of them
        out: a file for a single source, otherwise a folder
    """
    _restore("revoice", sources, out, model, device, pitch)


def _restore(
    task: Task,
    sources: tuple[Path, ...],
    out: Path,
    model: Path | None,
    device: str,
    pitch: float | None = None,
) -> None:
    plan = paths.outputs(sources, out)
    from vcae.uses.restore import load

    check_device(device)
    restorer = load(model, device)

    def restore_one(source: Path, path: Path, progress: Progress) -> None:
        restorer.restore_file(source, path, task, pitch, progress)

    console.report(console.for_each(plan, restore_one))
