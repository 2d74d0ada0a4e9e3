"""Commands that store speech as units: pack, unpack."""

from pathlib import Path
from typing import Unpack

from vcae.cli import console, paths
from vcae.cli.batch import Batch
from vcae.cli.options import (
    Device,
    Format,
    Jobs,
    Model,
    OptionalVoice,
    Output,
    SampleRate,
    Sources,
    Subtype,
    load_converter,
)
from vcae.errors import VcaeError
from vcae.inference.output import Encoding, write_speech
from vcae.progress import Progress
from vcae.uses.pack import SUFFIX, Packer


def pack(
    files: Sources,
    out: Output,
    without_voice: bool = False,
    model: Model = "units",
    device: Device = "cpu",
) -> None:
    """Store speech as units, a coarse prosody and one voice: some 500 bits a second and a kilobyte.

    The rate of each file is printed. What is unpacked is speech, not the recording: noise and music are lost.

    Args:
        files: recordings, or folders of them
        out: a file NAME.packed for a single recording, otherwise a folder
        without_voice: leave the voice out; `vcae unpack` then needs a --voice
    """
    plan = paths.outputs(files, out, SUFFIX, written=[SUFFIX])
    packer = Packer(load_converter(model, device))

    def one(source: Path, path: Path, progress: Progress) -> None:
        packed = packer.pack(source, not without_voice)
        packer.save(path, packed)
        parts = {name: len(part) for name, part in packer.to_bytes(packed).items()}
        seconds = len(packed.units) * packer.converter.step / packer.converter.sample_rate
        units, prosody = (8 * parts[name] / seconds for name in ("units", "prosody"))
        console.stdout.print(
            f"{path}: {sum(parts.values())} bytes, {8 * sum(parts.values()) / seconds:.0f} bit/s"
            f" ({units:.0f} units, {prosody:.0f} prosody; voice {parts['voice']} bytes)"
        )

    console.report(console.for_each(plan, one))


def unpack(
    files: Sources,
    out: Output,
    voice: OptionalVoice = (),
    format: Format = None,
    sample_rate: SampleRate = None,
    subtype: Subtype = None,
    jobs: Jobs = 1,
    model: Model = "units",
    device: Device = "cpu",
) -> None:
    """Speak packed recordings, in their own voice or another.

    Args:
        files: files that `vcae pack` wrote, or folders of them
        out: a file for a single recording, otherwise a folder; a slash at the end says that it is a folder
    """
    sources = _packed(files)
    if any(paths.is_folder(path) for path in files):
        out += "/"
    batch = Batch(sources, out, format, sample_rate, subtype, jobs, keep=voice)
    converter = load_converter(model, device)
    packer = Packer(converter)
    target = converter.voice(paths.references(voice)) if voice else None

    def one(source: Path, path: Path, progress: Progress, **encoding: Unpack[Encoding]) -> None:
        packed = packer.load(source)
        if packed.voice is None and target is None:
            raise VcaeError(f"{source}: was packed without a voice; give one with --voice")
        blocks = packer.unpack(packed, target)
        write_speech(path, blocks, converter.sample_rate, converter.comment("decoded"), **encoding)

    batch.run(one, lambda *_: (converter.fingerprint, target and target.fingerprint))


def _packed(files: tuple[Path, ...]) -> tuple[Path, ...]:
    """The files, and the packed files in folders. Raises VcaeError for a folder without any."""
    found: list[Path] = []
    for path in paths.unique(files):
        inside = sorted(path.rglob(f"*{SUFFIX}")) if paths.is_folder(path) else [path]
        if not inside:
            raise VcaeError(f"{path}: holds no {SUFFIX} files; give a folder that `vcae pack` wrote")
        found += inside
    return tuple(found)
