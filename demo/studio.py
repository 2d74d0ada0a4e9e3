"""What the tabs share: the converter and its worker thread, the sample voices, limits and messages."""

import html
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

import gradio as gr
import torch
from starlette.routing import BaseRoute

from vcae import Audio, Converter, VcaeError, Voice, audio
from vcae.audio import Samples

from .widgets.pictures import Array

FOLDER = Path(__file__).parent
SAMPLES = {
    "Woman 1": FOLDER / "voices" / "vcc2016-SF1-200001.flac",
    "Woman 2": FOLDER / "voices" / "vcc2016-TF2-200001.flac",
    "Woman 3": FOLDER / "voices" / "librispeech-40-121026-0007.flac",
    "Man 1": FOLDER / "voices" / "librispeech-78-368-0031.flac",
    "Man 2": FOLDER / "voices" / "vcc2016-SM1-200001.flac",
    "Man 3": FOLDER / "voices" / "librispeech-26-495-0007.flac",
}
"""Name of a sample voice on the page -> recording."""

MAX_UPLOAD = 50  # MB
MAX_SOURCE = 600.0  # seconds
MAX_REFERENCE = 120.0  # seconds
MAX_REFERENCES = 5
ANALYSIS = 0.25  # share of the work on a recording that is its analysis, before it is converted

P = ParamSpec("P")
T = TypeVar("T")


class Studio:
    """One converter for all users. A single worker thread computes for them in turns."""

    def __init__(self, converter: Converter) -> None:
        self.converter = converter
        self.rate = converter.sample_rate
        self.routes: list[BaseRoute] = []
        """HTTP routes of the tabs, in addition to Gradio's."""
        self.consents: list[gr.Checkbox] = []
        """The checkboxes for consent; all of them change together."""
        # One thread serves requests in order. A long recording is a request for each piece, so that other
        # users are served in between.
        self._worker = ThreadPoolExecutor(1, "converter")
        self._samples = {name: self.later(converter.voice, path) for name, path in SAMPLES.items()}
        # The first conversion is the slowest; run it before a visitor does.
        self.later(lambda: converter.convert(SAMPLES["Man 1"], self.sample("Woman 1")))

    def later(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queue a call for the worker thread."""
        return self._worker.submit(function, *args, **kwargs)

    def compute(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Queue a call for the worker thread, and wait for its result."""
        return self.later(function, *args, **kwargs).result()

    def sample(self, name: str) -> Voice:
        """The voice of a sample, by its name in SAMPLES."""
        return self._samples[name].result()

    def read(self, path: str | Path | None, longest: float = MAX_SOURCE) -> Audio:
        """Read a recording at the sample rate of the converter. Raises RefusedError."""
        if path is None:
            raise RefusedError("Record something or drop a file first.")
        with named(path):
            return audio.read(path, self.rate, longest)

    def voice(self, recording: Audio) -> Voice:
        """`Converter.voice`. Raises VoiceError."""
        return self.compute(self.converter.voice, recording)

    def convert(
        self, source: Audio, voice: Voice, pitch_shift: float = 0.0, strength: float = 1.0
    ) -> Iterator[float | Audio]:
        """`Converter.convert_blocks`, a turn a block: yields the progress from 0 to 1, then the result."""
        done = 0.0

        def follow(doing: str, seconds: float, total: float | None) -> None:
            nonlocal done
            share = seconds / total if total else 0.0
            done = ANALYSIS * share if doing == "analysing" else ANALYSIS + (1 - ANALYSIS) * share

        yield 0.0
        blocks = self.converter.convert_blocks(source, voice, pitch_shift, strength, progress=follow)
        converted: list[Samples] = []
        while (block := self.compute(next, blocks, None)) is not None:
            converted.append(block)
            yield done
        yield Audio(audio.concatenate(converted), self.rate)

    def look(self, recording: Audio) -> tuple[Array, Array]:
        """The mel (n_mels, T) and the prosody (3, T') of a recording, for pictures."""
        mel = self.converter.log_mel(torch.from_numpy(recording.samples)[None, None])[0]
        return mel.numpy(), self.converter.encode(recording).prosody.numpy()


class RefusedError(VcaeError):
    """A request that cannot be served. The message is for the page."""


@contextmanager
def named(path: str | Path) -> Iterator[None]:
    """Turn an error about a file into a RefusedError that does not reveal the folders of the server."""
    name = Path(path).name
    try:
        yield
    except VcaeError as error:
        raise RefusedError(str(error).replace(str(path), name).replace("the recording", name)) from None


def tell(error: VcaeError) -> None:
    """Show an error on the page."""
    gr.Warning(html.escape(str(error)), title="Not yet", duration=20)


def keep(recording: Audio, name: str) -> str:
    """Write a WAV file to the folder that Gradio serves and cleans up; returns its path."""
    path = Path(tempfile.mkdtemp(dir=os.environ["GRADIO_TEMP_DIR"]), name)
    recording.write(path)
    return str(path)


def status_line(text: str) -> gr.HTML:
    """A line of text that screen readers announce when it changes."""
    return gr.HTML(text, elem_classes="status", js_on_load="element.setAttribute('role', 'status')")
