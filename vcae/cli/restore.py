"""Commands that restore recordings: denoise, superres, revoice."""

import math
from functools import partial
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from vcae.cli.batch import Batch
from vcae.cli.options import Device, Format, Jobs, Output, SampleRate, Sources, Subtype, check_device
from vcae.model.restorer import Task

Model = Annotated[Path | None, arg(help="folder that recipes/restore.py wrote; default: the bundled one")]
Pitch = Annotated[float | None, arg(help="mean F0 of the voice in Hz; default: estimated from the recording")]
AttenuationLimit = Annotated[
    float,
    arg(help="attenuate noise by no more than this, in dB; at 20, fewer words are lost"),
]


def denoise(
    sources: Sources,
    out: Output,
    attenuation_limit: AttenuationLimit = math.inf,
    format: Format = None,
    sample_rate: SampleRate = None,
    subtype: Subtype = None,
    jobs: Jobs = 1,
    model: Model = None,
    device: Device = "cpu",
) -> None:
    """Remove noise and reverberation from speech; the voice stays that of the speaker.

    Args:
        sources: recordings, or folders of them
        out: a file for a single source, otherwise a folder; a slash at the end says that it is a folder
    """
    batch = Batch(sources, out, format, sample_rate, subtype, jobs)
    _restore("denoise", batch, model, device, attenuation_limit=attenuation_limit)


def superres(
    sources: Sources,
    out: Output,
    format: Format = None,
    sample_rate: SampleRate = None,
    subtype: Subtype = None,
    jobs: Jobs = 1,
    model: Model = None,
    device: Device = "cpu",
) -> None:
    """Widen telephone sound of 8 kHz to 16 kHz: keep what is there, generate the band above.

    With --sample-rate 48000, recordings of 16 kHz are extended, too, up to 20 kHz.

    Args:
        sources: recordings, or folders of them
        out: a file for a single source, otherwise a folder; a slash at the end says that it is a folder
    """
    batch = Batch(sources, out, format, sample_rate, subtype, jobs)
    _restore("superres", batch, model, device)


def revoice(
    sources: Sources,
    out: Output,
    pitch: Pitch = None,
    format: Format = None,
    sample_rate: SampleRate = None,
    subtype: Subtype = None,
    jobs: Jobs = 1,
    model: Model = None,
    device: Device = "cpu",
) -> None:
    """Speak whispered or monotone speech with a voice and a melody.

    Args:
        sources: recordings, or folders of them
        out: a file for a single source, otherwise a folder; a slash at the end says that it is a folder
    """
    batch = Batch(sources, out, format, sample_rate, subtype, jobs)
    _restore("revoice", batch, model, device, pitch=pitch)


def _restore(
    task: Task,
    batch: Batch,
    model: Path | None,
    device: str,
    pitch: float | None = None,
    attenuation_limit: float = math.inf,
) -> None:
    from vcae.uses.restore import load

    check_device(device)
    restorer = load(model, device)
    batch.run(
        partial(restorer.restore_file, task=task, pitch=pitch, attenuation_limit=attenuation_limit),
        lambda *_: (restorer.fingerprint, task, pitch, attenuation_limit),
    )
