"""The tab that repairs a recording: removes noise, widens telephone sound, gives a voice to a whisper."""

from functools import cache
from typing import Any, NamedTuple

import gradio as gr
import numpy as np

from vcae import Audio, VcaeError, audio
from vcae.inference.output import full_band
from vcae.model.restorer import Task
from vcae.uses import restore

from ..studio import SAMPLES, Studio, heading, named, short_recording, status_line, title, told
from ..widgets import pictures
from ..widgets.player import Track, player

LONGEST = 60.0  # seconds of a recording that are used
SHOWN = 10.0  # seconds of it that the pictures show
TELEPHONE = 8_000  # sample rate in Hz
NOISE = 0.15  # of the RMS of the speech
FAULTS: list[tuple[str, Task]] = [
    ("Noise or echo", "denoise"),
    ("Dull, as by telephone", "superres"),
    ("Whispered, or on one note", "revoice"),
]


class Example(NamedTuple):
    """A button that damages a sample, and repairs it."""

    label: str
    source: str
    """A name of SAMPLES."""
    fault: Task


EXAMPLES = [
    Example("a sentence in noise", "Woman 2", "denoise"),
    Example("a telephone call", "Woman 1", "superres"),
    Example("a whisper", "Man 3", "revoice"),
]
CHIPS = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) trigger("chosen", { number: Number(button.dataset.number) });
});
"""
HELP = """
<p class="hint">This is a first version. It can help, and it can also harm: words may become less clear. The
result has a bandwidth of 8 kHz, that of dull sound one of 20 kHz.</p>
"""
CAPTION = """
Time goes from left to right, low tones are at the bottom, brighter is louder. The line is the pitch.
"""


def tab(studio: Studio) -> None:
    """Build the tab: a recording, its fault, and the repaired recording."""
    with gr.Tab("Repair", id="repair") as repair:
        chips = "".join(
            f'<button type="button" class="chip" data-number="{i}">{e.label}</button>'
            for i, e in enumerate(EXAMPLES)
        )
        examples = gr.HTML(f"<p>Hear an example:</p>{chips}", elem_classes="examples", js_on_load=CHIPS)
        with gr.Row():
            with gr.Column(min_width=300):
                heading(1, "What is said")
                source = short_recording(LONGEST)
            with gr.Column(min_width=300):
                heading(2, "What is wrong with it")
                fault = gr.Radio(FAULTS, value="denoise", label="The fault", show_label=False)
                gr.HTML(HELP)
            with gr.Column(min_width=300, elem_classes="outcome"):
                heading(3, "Before and after")
                with gr.Row(elem_classes="go"):
                    go = gr.Button("Repair", variant="primary", size="lg")
                status = status_line("Press the button and listen.")
                result = gr.HTML(elem_id="repaired")
        picture = gr.HTML()

    @cache
    def restorer() -> restore.SpeechRestorer:
        return studio.compute(restore.load)

    def run(path: str | None, fault: Task) -> dict[Any, Any]:
        try:
            before = studio.read(path)
            before = Audio(before.samples[: round(LONGEST * studio.rate)], studio.rate)
            with named(str(path)):
                # At its own rate, which tells what it lacks.
                heard = audio.read(str(path))
                heard = Audio(heard.samples[: round(LONGEST * heard.sample_rate)], heard.sample_rate)
                # A turn a block, so that other users are served in between.
                blocks, repaired = restorer().restore_blocks(heard, fault, full_band=True), []
                while (block := studio.compute(next, blocks, None)) is not None:
                    repaired.append(block)
        except VcaeError as error:
            return {status: told(error)}
        comment = restorer().comment(fault)
        after = Audio(audio.concatenate(repaired), restorer().sample_rate, comment)
        wide = studio.compute(full_band, after) if fault == "superres" else after
        name = title(str(path))
        rate = max(heard.sample_rate, wide.sample_rate)
        kept = studio.shelf.keep(wide, f"{name} - repaired", rate)
        tracks = [
            Track("Before", before, studio.shelf.keep(before, "sound").address),
            Track("After", after, kept.address),
        ]
        return {
            status: f"{after.duration:.1f} seconds, repaired.",
            result: player(tracks, name, kept),
            picture: _picture(studio, {"Before": before, "After": after}),
        }

    def fill(event: gr.EventData) -> tuple[str, Task]:
        example = EXAMPLES[int(event.number)]
        path = studio.shelf.place(example.label).path
        studio.compute(_damaged, studio, example).write(path)
        return str(path), example.fault

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    settings, outputs = [source, fault], [status, result, picture]
    start = "(...settings) => { demo.made('repaired', settings); return settings; }"
    repair.select(lambda: restorer() and None, None, None, **quiet)
    filled = examples.chosen(fill, None, settings, **quiet)
    for event in (
        go.click(run, settings, outputs, js=start, **quiet),
        filled.then(run, settings, outputs, js=start, **quiet),
    ):
        event.then(None, js="() => demo.show('repaired')")
    changed = "(...settings) => demo.changed('repaired', settings)"
    gr.on([source.change, fault.change], None, settings, js=changed)


def _damaged(studio: Studio, example: Example) -> Audio:
    """A sample with the fault of an example."""
    sample = audio.read(SAMPLES[example.source].path, studio.rate)
    if example.fault == "superres":
        return Audio(audio.resample(sample.samples, studio.rate, TELEPHONE), TELEPHONE)
    if example.fault == "revoice":
        content, prosody, voice = studio.converter.encode(sample)
        prosody = prosody.clone()
        prosody[1] = 0  # unvoiced
        return studio.converter.decode(content, prosody, voice)
    noise = np.random.default_rng(0).standard_normal(len(sample.samples)).astype(np.float32)
    loud = NOISE * float(np.sqrt(np.mean(sample.samples**2)))
    return Audio(sample.samples + loud * noise, studio.rate)


def _picture(studio: Studio, recordings: dict[str, Audio]) -> str:
    """Mel spectrograms and F0 contours, one below the other."""
    rows = []
    for label, sound in recordings.items():
        shown = Audio(sound.samples[: round(SHOWN * sound.sample_rate)], sound.sample_rate)
        mel, prosody = studio.compute(studio.look, shown)
        loudest, seconds = float(mel.max()), shown.duration
        drawing = pictures.heat(mel, seconds, loudest - 9, loudest) + pictures.melody(prosody, seconds)
        rows.append(pictures.Row(label, drawing, seconds))
    return pictures.figure(rows, CAPTION, "Spectrograms and pitch before and after")
