"""The API for programs, called with `gradio_client`: /convert, /convert_batch, /embed and /voices."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import gradio as gr

from vcae import Audio, VcaeError, audio

from . import formats
from .studio import MAX_REFERENCE, SAMPLES, RefusedError, Studio, named, title
from .widgets.picker import chosen, make_own

FORMATS = [suffix.removeprefix(".") for suffix in formats.RATES]


class Page(gr.Blocks):
    """Blocks that answer arguments of a wrong type in one line, and print no traceback for them."""

    async def preprocess_data(self, *args: Any, **kwargs: Any) -> Any:
        """As in Gradio. Raises gr.Error."""
        try:
            return await super().preprocess_data(*args, **kwargs)
        except Exception as error:  # of any component
            # Gradio's own messages may name folders of the server.
            reason = str(error).splitlines()[0] if isinstance(error, gr.Error) else type(error).__name__
            raise gr.Error(f"an argument cannot be used ({reason})", print_exception=False) from None


@contextmanager
def answered() -> Iterator[None]:
    """Return an error to the caller as an error of the call."""
    try:
        yield
    except VcaeError as error:
        raise gr.Error(str(error), print_exception=False) from None
    except (TypeError, ValueError, AttributeError) as error:
        raise gr.Error(f"an argument cannot be used ({error})", print_exception=False) from None


def endpoints(studio: Studio) -> None:
    """Add the functions of the API, which are not visible on the page."""

    def convert(
        source: str,
        voice: str = "Man 1",
        references: list[str] | None = None,
        consent: bool = False,
        pitch_shift: float = 0.0,
        strength: float = 1.0,
        format: str = "wav",
    ) -> str:
        """Convert a recording into another voice, at the sample rate of the recording."""
        with answered():
            return str(_convert_all([source], voice, references, consent, pitch_shift, strength, format)[0])

    def convert_batch(
        sources: list[str],
        voice: str = "Man 1",
        references: list[str] | None = None,
        consent: bool = False,
        pitch_shift: float = 0.0,
        strength: float = 1.0,
        format: str = "wav",
    ) -> str:
        """Convert several recordings into one voice. The result is a zip file."""
        with answered():
            made = _convert_all(sources, voice, references, consent, pitch_shift, strength, format)
            return str(studio.shelf.zip(made, "converted"))

    def _convert_all(
        sources: list[str],
        voice: str,
        references: list[str] | None,
        consent: bool,
        pitch_shift: float,
        strength: float,
        suffix: str,
    ) -> list[Path]:
        if not sources:
            raise RefusedError("give at least one recording")
        if f".{suffix}" not in formats.RATES:
            raise RefusedError(f"format must be one of {', '.join(FORMATS)}, not {suffix}")
        own = None
        if references:
            if not consent:
                raise RefusedError("voices are people: say by consent=True that the speaker has agreed")
            entry = make_own(studio, references)
            voice, own = entry["name"], {entry["name"]: entry}
        elif voice not in SAMPLES:
            raise RefusedError(f"there is no voice {voice}; /voices lists them")
        target = chosen(studio, voice, own)
        made = []
        for source in sources:
            with named(source):
                *_, converted = studio.convert(studio.read(source), target.voice, pitch_shift, strength)
            path = studio.shelf.place(f"{title(source)} - {target.name}").path.with_suffix(f".{suffix}")
            formats.write(path, cast(Audio, converted), audio.decode(Path(source))[0])
            made.append(path)
        return made

    def embed(recording: str) -> list[float]:
        """Compute the speaker code of a recording. The dot product of two codes is their cosine."""
        with answered():
            sound = studio.read(recording, MAX_REFERENCE)
            return [float(x) for x in studio.compute(studio.converter.embed, sound)]

    def voices() -> dict[str, str]:
        """List the sample voices, and how they sound."""
        return {name: sample.sounds for name, sample in SAMPLES.items()}

    # The label of a component documents the parameter of the same place.
    with gr.Column(visible=False):
        settings = [
            gr.Dropdown([*SAMPLES], value="Man 1", label="a sample voice; ignored if there are references"),
            gr.File(
                file_count="multiple",
                label="one to five recordings of the target speaker, two minutes at most, or a .voice file",
            ),
            gr.Checkbox(label="whether the speaker of the references has agreed"),
            gr.Number(0, label="semitones added to the pitch range of the voice, -24 to 24"),
            gr.Number(1, label="1 is the target voice, 0 the voice of the source"),
            gr.Dropdown(FORMATS, value="wav", label="of the result"),
        ]
        source = gr.Audio(type="filepath", label="a recording of at most ten minutes")
        sources = gr.File(file_count="multiple", label="recordings of at most ten minutes each")
        made, archive = gr.File(label="the converted recording"), gr.File(label="a zip file of the results")
        gr.Button().click(convert, [source, *settings], made, api_name="convert")
        gr.Button().click(convert_batch, [sources, *settings], archive, api_name="convert_batch")
        reference = gr.Audio(type="filepath", label="a recording of at most two minutes")
        gr.Button().click(embed, reference, gr.JSON(label="the 192 numbers of the code"), api_name="embed")
        gr.Button().click(voices, None, gr.JSON(label="how each voice sounds, by name"), api_name="voices")
