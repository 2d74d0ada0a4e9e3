"""What the tabs share: models and their worker thread, sample voices, limits, results, controls."""

import html
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

import gradio as gr
import torch
from starlette.routing import BaseRoute

from vcae import Audio, Converter, VcaeError, Voice, audio, watermark
from vcae.audio import Samples

from .shelf import Shelf
from .widgets.pictures import Array

FOLDER = Path(__file__).parent


class Sample(NamedTuple):
    """A sample voice: its recording, and how it sounds."""

    path: Path
    sounds: str


def _sample(name: str, sounds: str) -> Sample:
    return Sample(FOLDER / "voices" / f"{name}.flac", sounds)


# How they sound: pitch by the mean of F0 (232, 211, 181 Hz; 104, 84 Hz), calm where its standard deviation is
# below 3 semitones, bright or dark by the share of high mel bands.
SAMPLES = {
    "Woman 1": _sample("vcc2016-SF1-200001", "lively"),
    "Woman 2": _sample("vcc2016-TF2-200001", "high, bright"),
    "Woman 3": _sample("librispeech-40-121026-0007", "lower, calm"),
    "Man 1": _sample("librispeech-78-368-0031", "deep, dark"),
    "Man 2": _sample("vcc2016-SM1-200001", "low, calm"),
    "Man 3": _sample("librispeech-26-495-0007", "deep, bright"),
}
"""The sample voices by their names on the page."""

MAX_UPLOAD = 50  # MB
MAX_SOURCE = 600.0  # seconds
MAX_REFERENCE = 120.0  # seconds
MAX_REFERENCES = 5
ANALYSIS = 0.25  # share of the work on a recording that is its analysis, before it is converted

P = ParamSpec("P")
T = TypeVar("T")


class Studio:
    """The models for all users. A single worker thread computes for them in turns."""

    kept: gr.JSON
    """What the browser keeps, as `demo.kept` of static/voices.js returns it."""
    own: gr.JSON
    """The visitor's own voices that a request needs, filled in by `demo.attach` of static/voices.js."""
    source: gr.Audio
    """The recording that is converted."""
    presets: gr.Dropdown
    """Settings that the visitor has named."""

    def __init__(self, converter: Converter, live: Converter, folder: Path, watermark: bool = True) -> None:
        """converter: for recordings. live: for the Live tab; may be the same. folder: for temporary files.
        watermark: mark converted recordings; live speech is not marked.
        """
        self.watermark = watermark
        self.converter, self.live = converter, live
        self.rate = converter.sample_rate
        self.shelf = Shelf(folder / "shelf")
        self.routes: list[BaseRoute] = [*self.shelf.routes]
        """HTTP routes of the tabs, in addition to Gradio's."""
        self.shared: dict[str, list[gr.components.Component]] = {}
        """Controls that are on several tabs and change together, by what they are for."""
        # One thread serves requests in order. A long recording is a request for each piece, so that other
        # users are served in between.
        self._worker = ThreadPoolExecutor(1, "converter")
        self._samples = {
            (name, model.made_by): self.later(model.voice, sample.path)
            for model in self.models
            for name, sample in SAMPLES.items()
        }
        # The first conversion is the slowest; run it before a visitor does.
        self.later(lambda: converter.convert(SAMPLES["Man 1"].path, self.sample("Woman 1")))

    @property
    def models(self) -> list[Converter]:
        """The different models: one, where recordings and live speech have the same."""
        return list({model.made_by: model for model in (self.converter, self.live)}.values())

    def share(self, role: str, component: gr.components.Component) -> None:
        """Let a control change together with those of the same role on other tabs."""
        self.shared.setdefault(role, []).append(component)

    def later(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queue a call for the worker thread."""
        return self._worker.submit(function, *args, **kwargs)

    def compute(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Queue a call for the worker thread, and wait for its result."""
        return self.later(function, *args, **kwargs).result()

    def sample(self, name: str, model: Converter | None = None) -> Voice:
        """The voice of a sample, by its name in SAMPLES, for a model (default: the one for recordings)."""
        return self._samples[name, (model or self.converter).made_by].result()

    def read(self, path: str | Path | None, longest: float = MAX_SOURCE) -> Audio:
        """Read a recording at the sample rate of the converter. Raises RefusedError."""
        if path is None:
            raise RefusedError("Record something or drop a file first.")
        with named(path):
            return audio.read(path, self.rate, longest)

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
        blocks = self.converter.convert_blocks(source, voice, pitch_shift, strength, follow, self.watermark)
        converted: list[Samples] = []
        while (block := self.compute(next, blocks, None)) is not None:
            converted.append(block)
            yield done
        yield Audio(audio.concatenate(converted), self.rate, self.converter.comment("converted"))

    def marked(self, sound: Audio) -> Audio:
        """Speech that was made here, with the watermark if there is to be one."""
        return watermark(sound) if self.watermark else sound

    def look(self, recording: Audio) -> tuple[Array, Array]:
        """The mel (n_mels, T) and the prosody (3, T') of a recording, for pictures."""
        mel = self.converter.log_mel(torch.from_numpy(recording.samples)[None, None])[0]
        return mel.numpy(), self.converter.encode(recording).prosody.numpy()


class RefusedError(VcaeError):
    """A request that cannot be served. The message is for the page."""


@contextmanager
def named(path: str | Path, name: str | None = None) -> Iterator[None]:
    """Turn an error about a file into a RefusedError that names the file, and no folder of the server."""
    name = name or Path(path).name
    try:
        yield
    except VcaeError as error:
        raise RefusedError(str(error).replace(str(path), name).replace("the recording", name)) from None


def title(path: str | Path) -> str:
    """What a recording is called on the page: a sample voice, or its file without the suffix."""
    samples = {sample.path.name: name for name, sample in SAMPLES.items()}
    return samples.get(Path(path).name) or Path(path).stem


def told(error: VcaeError) -> str:
    """An error as HTML, which screen readers announce at once."""
    return f'<p class="error" role="alert">{html.escape(str(error))}</p>'


def sentences(texts: Sequence[str]) -> str:
    """Sentences as HTML, each for itself, so that each is translated."""
    return " ".join(f"<span>{html.escape(text)}</span>" for text in texts)


def short_recording(longest: float) -> gr.Audio:
    """A recording, at first a sample, of which so many seconds are used."""
    return record_or_upload("Woman 1", f"The first {longest:g} seconds are used.")


def record_or_upload(sample: str, hint: str) -> gr.Audio:
    """A recording, at first a sample, with a hint below it. sample: a name of SAMPLES."""
    component = gr.Audio(
        str(SAMPLES[sample].path),
        label="Record, drop a file, or keep this one",
        sources=["upload", "microphone"],
        type="filepath",
        buttons=[],
        editable=False,
    )
    gr.HTML(f"<p class='hint'>{hint}</p>")
    return component


def status_line(text: Any) -> gr.HTML:
    """A line of text that screen readers announce when it changes."""
    return gr.HTML(text, elem_classes="status", js_on_load="element.setAttribute('role', 'status')")


def tuning(studio: Studio, strength: str = "in %; 0 keeps the voice") -> tuple[gr.Slider, gr.Slider]:
    """Pitch and strength, which change together on all tabs. strength: what its slider says of itself."""
    sliders = (
        gr.Slider(-12, 12, 0, step=1, label="Pitch", info="semitones lower or higher"),
        gr.Slider(0, 100, 100, step=5, label="Strength", info=strength),
    )
    for role, slider in zip(("pitch", "strength"), sliders, strict=True):
        studio.share(role, slider)
    return sliders


def heading(number: int | None, text: str) -> gr.HTML:
    """A heading of a part of a tab, with the number of its step."""
    return gr.HTML(f"<h2>{f'{number}. ' if number else ''}<span>{text}</span></h2>")
