"""The API for programs, called with `gradio_client`: /convert and /embed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import gradio as gr

from vcae import Audio, VcaeError

from .studio import MAX_REFERENCE, SAMPLES, Studio, keep
from .widgets.picker import OWN, chosen


@contextmanager
def answered() -> Iterator[None]:
    """Return a VcaeError to the caller as an error of the call."""
    try:
        yield
    except VcaeError as error:
        raise gr.Error(str(error), print_exception=False) from None


def endpoints(studio: Studio) -> None:
    """Add the two functions of the API, which are not visible on the page."""

    def convert(
        source: str,
        voice: str = "Man 1",
        references: list[str] | None = None,
        consent: bool = False,
        pitch_shift: float = 0.0,
        strength: float = 1.0,
    ) -> str:
        """Convert a recording into another voice.

        Args:
            source: a recording of at most ten minutes
            voice: name of a sample voice; ignored if there are references
            references: one to five recordings of the target speaker, at most two minutes each
            consent: whether the speaker of the references has agreed
            pitch_shift: semitones added to the pitch range of the target, -24 to 24
            strength: 1 is the target voice, 0 the voice of the source

        Returns:
            a WAV file
        """
        with answered():
            recording = studio.read(source)
            target, _ = chosen(studio, OWN if references else voice, references, None, consent)
            *_, converted = studio.convert(recording, target, pitch_shift, strength)
            return keep(cast(Audio, converted), "converted.wav")

    def embed(recording: str) -> list[float]:
        """The speaker code of a recording, at unit norm: the dot product of two codes is their cosine.

        Args:
            recording: a recording of at most two minutes

        Returns:
            the 192 numbers of the code
        """
        with answered():
            return [
                float(x)
                for x in studio.compute(studio.converter.embed, studio.read(recording, MAX_REFERENCE))
            ]

    with gr.Column(visible=False):
        source, references = gr.Audio(type="filepath"), gr.File(file_count="multiple")
        settings = [
            source,
            gr.Dropdown([*SAMPLES], value="Man 1"),
            references,
            gr.Checkbox(),
            gr.Number(0),
            gr.Number(1),
        ]
        gr.Button().click(convert, settings, gr.Audio(label="converted"), api_name="convert")
        gr.Button().click(embed, source, gr.JSON(label="embedding"), api_name="embed")
