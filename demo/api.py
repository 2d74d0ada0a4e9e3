"""What programs call by `gradio_client`: /convert and /embed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import gradio as gr

from vcae import Audio, VcaeError

from .studio import MAX_REFERENCE, SAMPLES, Studio, keep
from .widgets.picker import OWN, chosen


@contextmanager
def answered() -> Iterator[None]:
    """What a caller can mend as an error of the call."""
    try:
        yield
    except VcaeError as error:
        raise gr.Error(str(error), print_exception=False) from None


def endpoints(studio: Studio) -> None:
    """Two functions without anything on the page."""

    def convert(
        source: str,
        voice: str = "Man 1",
        references: list[str] | None = None,
        consent: bool = False,
        pitch_shift: float = 0.0,
        strength: float = 1.0,
    ) -> str:
        """Say what a recording says in another voice.

        Args:
            source: a recording of at most ten minutes
            voice: one of the sample voices; not looked at where there are references
            references: one to five recordings of the voice, two minutes each at most
            consent: that whoever's voice the references are has agreed
            pitch_shift: semitones on top of the move to the voice's range, -24 to 24
            strength: 1 is the voice, 0 the source's own

        Returns:
            a WAV file
        """
        with answered():
            recording = studio.read(source)
            target, _ = chosen(studio, OWN if references else voice, references, None, consent)
            *_, converted = studio.convert(recording, target, pitch_shift, strength)
            return keep(cast(Audio, converted), "converted.wav")

    def embed(recording: str) -> list[float]:
        """The speaker code of a recording: of unit length, so that a product of two is their cosine.

        Args:
            recording: a recording of at most two minutes

        Returns:
            its 192 numbers
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
