"""What the tabs share: the converter and its one worker, the sample voices, limits, messages."""

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
"""Name on the page -> recording."""

MAX_UPLOAD = 50  # MB
MAX_SOURCE = 600.0  # seconds
MAX_REFERENCE = 120.0  # seconds
MAX_REFERENCES = 5
PIECE = 10.0  # seconds of sound that one user gets computed before it is the next one's turn
LISTENING = 0.25  # of the work on a long recording: hearing whose voice it is, before converting

P = ParamSpec("P")
T = TypeVar("T")


class Studio:
    """One converter for all users; what it computes, it computes in turns."""

    def __init__(self, converter: Converter) -> None:
        self.converter = converter
        self.rate = converter.sample_rate
        self.routes: list[BaseRoute] = []
        """What tabs answer beside what Gradio does."""
        self.consents: list[gr.Checkbox] = []
        """Where the page asks for consent; one answer is an answer to all."""
        # One thread, so that whoever asks first is served first, and a long recording, which asks piece by
        # piece, lets others in between.
        self._worker = ThreadPoolExecutor(1, "converter")
        self._samples = {name: self.later(converter.voice, path) for name, path in SAMPLES.items()}
        # The first time takes longest; so that no visitor waits for it.
        self.later(lambda: converter.convert(SAMPLES["Man 1"], self.sample("Woman 1")))

    def later(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have the worker do it when it is our turn."""
        return self._worker.submit(function, *args, **kwargs)

    def compute(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Have the worker do it when it is our turn, and wait."""
        return self.later(function, *args, **kwargs).result()

    def sample(self, name: str) -> Voice:
        """The voice of one of SAMPLES."""
        return self._samples[name].result()

    def read(self, path: str | Path | None, longest: float = MAX_SOURCE) -> Audio:
        """A recording at the converter's rate. Raises RefusedError."""
        if path is None:
            raise RefusedError("Record something or drop a file first.")
        with named(path):
            return audio.read(path, self.rate, longest)

    def voice(self, recording: Audio) -> Voice:
        """`Converter.voice`, piece by piece. Raises VoiceError."""
        pieces = self._pieces(recording)
        return _pooled(pieces, [self._heard(piece) for piece in pieces])

    def convert(
        self, source: Audio, voice: Voice, pitch_shift: float = 0.0, strength: float = 1.0
    ) -> Iterator[float | Audio]:
        """`Converter.convert`, piece by piece: how much is done, from 0 to 1, and in the end the result."""
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
        """The voice in a piece of a recording; in a pause there is none."""
        try:
            return self.compute(self.converter.voice, piece)
        except VcaeError:
            return None

    def look(self, recording: Audio) -> tuple[Array, Array]:
        """What pictures show: its mel (n_mels, T) and its prosody (3, T')."""
        mel = self.converter.log_mel(torch.from_numpy(recording.samples)[None, None])[0]
        return mel.numpy(), self.converter.encode(recording).prosody.numpy()


def _pooled(pieces: list[Audio], voices: list[Voice | None]) -> Voice:
    spoken = [(voice, piece.duration) for voice, piece in zip(voices, pieces, strict=True) if voice]
    if not spoken:
        raise VoiceError("the recording: holds no speech; give one of some seconds of a person talking")
    return Voice.mix([voice for voice, _ in spoken], [seconds for _, seconds in spoken], pool_pitch=True)


class RefusedError(VcaeError):
    """Why something cannot be done yet, in words for the page."""


@contextmanager
def named(path: str | Path) -> Iterator[None]:
    """What is wrong with this file as a `RefusedError` that names it without the server's folders."""
    name = Path(path).name
    try:
        yield
    except VcaeError as error:
        raise RefusedError(str(error).replace(str(path), name).replace("the recording", name)) from None


def tell(error: VcaeError) -> None:
    """Show on the page what a user can mend."""
    gr.Warning(html.escape(str(error)), title="Not yet", duration=20)


def keep(recording: Audio, name: str) -> str:
    """Write it where Gradio finds it and, in time, deletes it: the path of a WAV file."""
    path = Path(tempfile.mkdtemp(dir=os.environ["GRADIO_TEMP_DIR"]), name)
    recording.write(path)
    return str(path)


def status_line(text: str) -> gr.HTML:
    """A line of text, which screen readers speak when it changes."""
    return gr.HTML(text, elem_classes="status", js_on_load="element.setAttribute('role', 'status')")
