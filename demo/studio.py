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
import numpy as np
import torch
from starlette.routing import BaseRoute

from vcae import Audio, Converter, VcaeError, Voice, VoiceError, audio

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
PIECE = 10.0  # seconds of audio that are computed for one user before the next user's turn
LISTENING = 0.25  # share of the progress bar for the speaker code of a long source, before conversion

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
        """`Converter.voice`, computed piece by piece. Raises VoiceError."""
        pieces = self._pieces(recording)
        return _pooled(pieces, [self._heard(piece) for piece in pieces])

    def convert(
        self, source: Audio, voice: Voice, pitch_shift: float = 0.0, strength: float = 1.0
    ) -> Iterator[float | Audio]:
        """`Converter.convert`, computed piece by piece: yields the progress from 0 to 1, then the result."""
        yield 0.0
        pieces = self._pieces(source)
        if len(pieces) == 1:
            yield self.compute(self.converter.convert, source, voice, pitch_shift, strength)
            return
        heard = []
        for i, piece in enumerate(pieces):
            heard.append(self._heard(piece))
            yield LISTENING * (i + 1) / len(pieces)
        stream = self.converter.stream(
            voice,
            sample_rate=self.rate,
            pitch_shift=pitch_shift,
            strength=strength,
            source_voice=_pooled(pieces, heard),
            level=audio.loudness(source.samples, self.rate),
        )
        converted = []
        for i, piece in enumerate(pieces):
            converted.append(self.compute(stream.feed, piece.samples))
            yield LISTENING + (1 - LISTENING) * (i + 1) / len(pieces)
        converted.append(self.compute(stream.flush))
        yield Audio(np.concatenate(converted), self.rate)

    def _pieces(self, recording: Audio) -> list[Audio]:
        size = round(PIECE * self.rate)
        starts = range(0, len(recording.samples), size)
        return [Audio(recording.samples[at : at + size], self.rate) for at in starts]

    def _heard(self, piece: Audio) -> Voice | None:
        """The voice of a piece of a recording, or None for a pause."""
        try:
            return self.compute(self.converter.voice, piece)
        except VcaeError:
            return None

    def look(self, recording: Audio) -> tuple[Array, Array]:
        """The mel (n_mels, T) and the prosody (3, T') of a recording, for pictures."""
        mel = self.converter.log_mel(torch.from_numpy(recording.samples)[None, None])[0]
        return mel.numpy(), self.converter.encode(recording).prosody.numpy()


def _pooled(pieces: list[Audio], voices: list[Voice | None]) -> Voice:
    """The mean voice of the pieces, weighted by length. Raises VoiceError if no piece has speech."""
    spoken = [(voice, piece.duration) for voice, piece in zip(voices, pieces, strict=True) if voice]
    if not spoken:
        raise VoiceError("the recording: holds no speech; give one of some seconds of a person talking")
    return Voice.mix(*zip(*spoken, strict=True), pool_pitch=True)


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
