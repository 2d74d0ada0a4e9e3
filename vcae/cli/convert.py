"""Commands for whole recordings: convert, reconstruct."""

import hashlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from vcae.audio import comment, encoding_of
from vcae.cli import console, paths
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
from vcae.inference.converter import Converter
from vcae.inference.voice import Voice
from vcae.progress import Progress

MIN_RATE, MAX_RATE = 1_000, 192_000


def convert(
    sources: Sources,
    voice: References,
    out: Output,
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
        out: a file for a single source, otherwise a folder; a slash at the end says that it is a folder
        pitch_shift: semitones in addition to the move to the target's F0 range
        strength: from 0, the voice of the source, to 1, the target voice
    """
    batch = _Batch(sources, out, format, sample_rate, subtype, jobs, voice)
    converter = load_converter(model, device)
    with console.Bar() as bar:
        target = converter.voice(paths.references(voice), bar.update)
    batch.run(
        partial(converter.convert_file, voice=target, pitch_shift=pitch_shift, strength=strength),
        converter,
        _fingerprint(target),
        pitch_shift,
        strength,
    )


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
    batch = _Batch(sources, out, format, sample_rate, subtype, jobs)
    converter = load_converter(model, device)
    batch.run(converter.reconstruct_file, converter)


class _Batch:
    """Recordings to convert, each to a file. Checks the options, before the weights are loaded."""

    def __init__(
        self,
        sources: tuple[Path, ...],
        out: str,
        format: str | None,
        sample_rate: int | None,
        subtype: str | None,
        jobs: int,
        keep: tuple[Path, ...] = (),
    ) -> None:
        if jobs < 1:
            raise VcaeError(f"--jobs must be 1 or more, not {jobs}")
        if sample_rate is not None and not MIN_RATE <= sample_rate <= MAX_RATE:
            raise VcaeError(f"--sample-rate must be from {MIN_RATE} to {MAX_RATE} Hz, not {sample_rate}")
        self.plan = paths.outputs(sources, out, format and f".{format}", keep)
        encoding_of(self.plan[0][1], subtype)
        self.sample_rate, self.subtype, self.jobs = sample_rate, subtype, jobs

    def run(self, process: Callable[..., None], converter: Converter, *options: object) -> None:
        """Convert what has not been converted with the same options."""
        kept: list[Path] = []

        def one(source: Path, path: Path, progress: Progress) -> None:
            note = self._note(source, converter, *options)
            if note and path.is_file() and note in comment(path):
                kept.append(path)
                return
            process(
                source,
                path,
                progress=progress,
                sample_rate=self.sample_rate,
                subtype=self.subtype,
                # What was made from a part of a source is not finished: the next run tells it again.
                note=lambda: "" if console.notices.is_partial(source) else note,
            )

        failed = console.for_each(self.plan, one, self.jobs)
        if kept:
            console.err.print(f"vcae: {len(kept)} of {len(self.plan)} were converted before, and are kept")
        console.report(failed)

    def _note(self, source: Path, converter: Converter, *options: object) -> str:
        """A mark of all that an output depends on, for its metadata; empty for a source that is missing."""
        try:
            status = source.stat()
        except (OSError, ValueError):
            return ""
        about = (
            os.fsencode(source.absolute()),
            status.st_size,
            status.st_mtime_ns,
            self.sample_rate,
            self.subtype,
        )
        digest = hashlib.sha256(repr((converter.fingerprint, options, about)).encode())
        return f"job {digest.hexdigest()[:16]}"


def _fingerprint(voice: Voice) -> str:
    digest = hashlib.sha256(repr(voice.f0).encode())
    for part in (voice.embedding, voice.tokens):
        digest.update(part.numpy().tobytes())
    return digest.hexdigest()
