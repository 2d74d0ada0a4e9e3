"""The tab that converts a recording."""

import html
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import gradio as gr

from vcae import Audio, VcaeError, Voice

from ..studio import MAX_SOURCE, MAX_UPLOAD, SAMPLES, Studio, keep, status_line, tell
from ..widgets import pictures
from ..widgets.picker import chosen, picker

NOBODY = "Nobody"
SHOWN = 30.0  # seconds of a recording that the pictures show


class Example(NamedTuple):
    """A button that fills in the form and converts. Source and voices are names of SAMPLES."""

    label: str
    source: str
    voice: str
    second: str = NOBODY


EXAMPLES = [
    Example("a woman's sentence in a man's voice", "Woman 1", "Man 1"),
    Example("a man's sentence in a woman's voice", "Man 2", "Woman 3"),
    Example("a voice between two", "Woman 2", "Woman 3", "Man 3"),
]


def tab(studio: Studio) -> None:
    """Build the tab: source, voice and result side by side, with spectrograms below."""
    first = EXAMPLES[0]
    with gr.Tab("Convert", id="convert"):
        with gr.Row(elem_classes="examples"):
            gr.HTML("<p>Hear an example:</p>", min_width=0)
            examples = [gr.Button(e.label, size="sm", min_width=0) for e in EXAMPLES]
        with gr.Row():
            with gr.Column(min_width=300):
                gr.HTML("<h2>1. What is said</h2>")
                source = gr.Audio(
                    str(SAMPLES[first.source]),
                    label="Record, drop a file, or keep this one",
                    sources=["upload", "microphone"],
                    type="filepath",
                    buttons=[],
                    editable=False,
                )
                gr.HTML(f"<p class='hint'>At most {MAX_SOURCE / 60:g} minutes and {MAX_UPLOAD} MB.</p>")
            with gr.Column(min_width=300):
                gr.HTML("<h2>2. Who says it</h2>")
                voice = picker(studio, first.voice)
            with gr.Column(min_width=300):
                gr.HTML("<h2>3. Listen</h2>")
                go = gr.Button("Convert", variant="primary", size="lg", elem_classes="go")
                stop = gr.Button("Cancel", visible=False)
                status = status_line("Press the button and listen.")
                result = gr.Audio(
                    label="The result", interactive=False, autoplay=True, buttons=[], elem_id="result"
                )
                download = gr.DownloadButton("Download", visible=False)
        with gr.Row():
            pitch = gr.Slider(-12, 12, 0, step=1, label="Pitch", info="semitones lower or higher")
            strength = gr.Slider(0, 100, 100, step=5, label="Strength", info="in %; 0 changes nothing")
            second = gr.Dropdown(
                [NOBODY, *SAMPLES], value=NOBODY, label="Mix in", info="a second voice", filterable=False
            )
            share = gr.Slider(0, 100, 50, step=5, label="Share", info="of the second voice, in %")
        picture = gr.HTML()

    settings = [source, second, share, pitch, strength, *voice.inputs]
    outputs = [stop, status, result, download, picture]
    cancelled: set[str | None] = set()  # sessions whose user pressed Cancel

    def run(
        request: gr.Request,
        path: str | None,
        other: str,
        shared: float,
        semitones: float,
        percent: float,
        *choice: Any,
    ) -> Iterator[dict[Any, Any]]:
        started = time.monotonic()
        cancelled.discard(request.session_hash)
        yield {stop: gr.Button(visible=True), status: "Listening…"}
        try:
            recording = studio.read(path)
            target, reference = chosen(studio, *choice)
            if other != NOBODY:
                target = Voice.mix([target, studio.sample(other)], [100 - shared, shared])
            for step in studio.convert(recording, target, semitones, percent / 100):
                if request.session_hash in cancelled:
                    yield {stop: gr.Button(visible=False), status: "Cancelled."}
                    return
                if isinstance(step, Audio):
                    converted = step
                else:
                    yield {status: _progress(step, recording.duration)}
            file = keep(converted, "converted.wav")
        except VcaeError as error:
            tell(error)
            yield {stop: gr.Button(visible=False), status: html.escape(str(error))}
            return
        taken = time.monotonic() - started
        yield {
            stop: gr.Button(visible=False),
            status: f"{converted.duration:.1f} seconds of speech, converted in {taken:.1f}.",
            result: file,
            download: gr.DownloadButton(value=file, visible=True),
        }
        yield {picture: _picture(studio, recording, reference, converted)}

    # With Gradio's own `cancels`, a pending status message would still arrive afterwards.
    def cancel(request: gr.Request) -> None:
        cancelled.add(request.session_hash)

    shown: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    # A click while the picture is being drawn takes effect afterwards.
    later = {**shown, "trigger_mode": "always_last"}
    running = [go.click(run, settings, outputs, **later)]
    for button, example in zip(examples, EXAMPLES, strict=True):
        values = str(SAMPLES[example.source]), example.voice, example.second
        filled = button.click(lambda v=values: v, None, [source, voice.choice, second], queue=False, **shown)
        running.append(filled.then(run, settings, outputs, **later))
    for event in running:
        event.then(None, js="() => document.querySelector('#result').scrollIntoView({block: 'nearest'})")
    stop.click(cancel, None, None, queue=False, **shown)


def _progress(done: float, seconds: float) -> str:
    text = f"Converting {seconds / 60:.1f} minutes of sound" if seconds > 60 else "Converting…"
    return f'{text}<progress value="{done:.3f}" aria-label="How much is converted"></progress>'


def _picture(studio: Studio, source: Audio, target: Audio, converted: Audio) -> str:
    """Mel spectrograms and F0 contours of the three recordings on one time axis."""
    rows = []
    for label, recording in (("Source", source), ("Target", target), ("Result", converted)):
        shown = Audio(recording.samples[: round(SHOWN * recording.sample_rate)], recording.sample_rate)
        mel, prosody = studio.compute(studio.look, shown)
        loudest = float(mel.max())
        seconds = shown.duration
        drawing = pictures.heat(mel, seconds, loudest - 9, loudest) + pictures.melody(prosody, seconds)
        rows.append(pictures.Row(label, drawing, seconds))
    caption = (
        "Mel spectrograms: time from left to right, low frequencies at the bottom, brighter is louder. "
        "The line is the pitch (F0, 50 to 600 Hz). It moves to the range of the target, "
        "while the timing of the words stays."
    )
    if max(r.duration for r in (source, converted)) > SHOWN:
        caption += f" The first {SHOWN:g} seconds are shown."
    return pictures.figure(rows, caption, "Spectrograms and pitch of source, target and result")
