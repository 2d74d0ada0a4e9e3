"""The tab that converts a recording."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from vcae import Audio, Converter, VcaeError, Voice, audio
from vcae.inference.likeness import CALIBRATION, likeness

from ..studio import (
    MAX_SOURCE,
    MAX_UPLOAD,
    SAMPLES,
    Studio,
    heading,
    named,
    record_or_upload,
    sentences,
    status_line,
    title,
    told,
    tuning,
)
from ..widgets import pictures
from ..widgets.picker import ADD, Chosen, Own, choices, chosen, picker
from ..widgets.player import Track, player

NOBODY = "-"
"""The choice that mixes nothing in."""
SHOWN = 30.0  # seconds of a recording that the pictures show
JUDGED = 60.0  # seconds of a result whose voice is judged
ALIKE = [(0.8, "very like it"), (0.6, "like it"), (0.35, "somewhat like it"), (-1.0, "not like it")]
"""Least likeness -> in words."""
LEAST_SPEECH = 0.3  # seconds of voiced speech in a recording that holds speech
FAILED = 0.35  # likeness to the voice below which the conversion failed


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
EXAMPLES_SCRIPT = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button || (demo.own && !confirm(element.querySelector("[data-ask]").textContent))) return;
  trigger("chosen", { number: Number(button.dataset.number) });
});
"""


def tab(studio: Studio) -> None:
    """Build the tab: source, voice and result side by side, with spectrograms below."""
    first = EXAMPLES[0]
    with gr.Tab("Convert", id="convert"):
        buttons = "".join(
            f'<button type="button" class="chip" data-number="{i}">{e.label}</button>'
            for i, e in enumerate(EXAMPLES)
        )
        examples = gr.HTML(
            f"<p>Hear an example:</p>{buttons}"
            f"<span hidden data-ask>The example replaces your recording. Go on?</span>",
            elem_classes="examples",
            js_on_load=EXAMPLES_SCRIPT,
        )
        with gr.Row():
            with gr.Column(min_width=300):
                heading(1, "What is said")
                source = record_or_upload(
                    first.source, f"At most {MAX_SOURCE / 60:g} minutes and {MAX_UPLOAD} MB."
                )
            with gr.Column(min_width=300):
                heading(2, "Who says it")
                voice = picker(studio, first.voice)
            with gr.Column(min_width=300, elem_classes="outcome"):
                heading(3, "Listen")
                with gr.Row(elem_classes="go"):
                    go = gr.Button("Convert", variant="primary", size="lg", min_width=120)
                    stop = gr.Button("Cancel", visible=False, min_width=90)
                status = status_line("Press the button and listen.")
                result = gr.HTML(elem_id="result")
                alike = gr.HTML(elem_id="alike")
        with gr.Row(elem_classes="tuning"):
            pitch, strength = tuning(studio)
            second = gr.Dropdown(
                others([]), value=NOBODY, label="Mix in", info="a second voice", filterable=False
            )
            share = gr.Slider(
                *(0, 100, 50),
                step=5,
                label="Share",
                info="of the second voice, in %",
                interactive=False,
            )
        with gr.Row(elem_classes="tuning"):
            preset = gr.Dropdown([], label="Your presets", info="kept in this browser", value=None)
            name = gr.Textbox(label="Keep these settings as", info="a name of your choice", max_length=40)
            keep = gr.Button("Keep", size="sm", min_width=90, scale=0)
            remove = gr.Button("Remove", size="sm", min_width=90, scale=0)
        picture = gr.HTML()

    studio.share("second", second)
    studio.share("share", share)
    studio.source, studio.presets = source, preset
    settings = [source, voice, second, share, pitch, strength]
    outputs = [stop, status, result, alike, picture]
    cancelled: set[str | None] = set()  # sessions whose visitor pressed Cancel

    def run(
        request: gr.Request,
        path: str | None,
        voice: str,
        other: str,
        shared: float,
        semitones: float,
        percent: float,
        own: Own | None,
    ) -> Iterator[dict[Any, Any]]:
        started = time.monotonic()
        cancelled.discard(request.session_hash)
        yield {stop: gr.Button(visible=True), status: "Converting…"}
        try:
            recording = studio.read(path)
            target = mixed(studio, chosen(studio, voice, own), other, shared, own)
            with named(str(path)):
                for step in studio.convert(recording, target.voice, semitones, percent / 100):
                    if request.session_hash in cancelled:
                        yield {stop: gr.Button(visible=False), status: "Cancelled."}
                        return
                    if isinstance(step, Audio):
                        converted = step
                    else:
                        yield {status: _progress(step, recording.duration)}
        except VcaeError as error:
            yield {stop: gr.Button(visible=False), status: told(error)}
            return
        about = describe(title(str(path)), target.name, semitones, percent)
        kept = studio.shelf.keep(
            converted, f"{title(str(path))} - {target.name}", audio.decode(Path(str(path)))[0]
        )
        tracks = [("Source", recording), ("Voice", target.recording)]
        shown = [
            Track(label, sound, studio.shelf.keep(sound, "sound").address) for label, sound in tracks if sound
        ]
        shown.append(Track("Result", converted, kept.address))
        taken = time.monotonic() - started
        speech = studio.compute(studio.converter.examine, recording).speech >= LEAST_SPEECH
        warning = "No speech was heard in it."
        yield {
            stop: gr.Button(visible=False),
            status: f"{converted.duration:.1f} seconds, converted in {taken:.1f}."
            + ("" if speech else f' <span class="warning">{warning}</span>'),
            result: player(shown, about, kept),
            alike: "",
        }
        if speech:
            yield {alike: studio.compute(_alike, studio.converter, recording, target, converted)}
        yield {picture: _picture(studio, recording, target.recording, converted)}

    # With Gradio's own `cancels`, a pending status message would still arrive afterwards.
    def cancel(request: gr.Request) -> None:
        cancelled.add(request.session_hash)

    def fill(event: gr.EventData) -> tuple[Any, ...]:
        example = EXAMPLES[int(event.number)]
        return (str(SAMPLES[example.source].path), example.voice, example.second, 50, 0, 100)

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    start = (
        "(...settings) => { demo.made('result', settings.slice(0, -1)); return demo.attach(...settings); }"
    )
    # A click while the picture is being drawn takes effect afterwards.
    later = {**quiet, "trigger_mode": "always_last"}
    inputs = [*settings, studio.own]
    running = [go.click(run, inputs, outputs, js=start, **later)]
    filled = examples.chosen(fill, None, settings, queue=False, **quiet)
    running.append(filled.then(run, inputs, outputs, js=start, **later))
    for event in running:
        event.then(None, js="() => demo.show('result')")
    stop.click(cancel, None, None, queue=False, **quiet)
    second.change(
        None,
        second,
        share,
        js=f"(name) => [{{__type__: 'update', interactive: name !== {json.dumps(NOBODY)}}}]",
    )
    controls = (source, voice, second, share, pitch, strength)
    gr.on(
        [c.change for c in controls], None, settings, js="(...settings) => demo.changed('result', settings)"
    )
    source.change(None, source, None, js="(file) => { demo.source(file); }")
    chosen_ones = [voice, second, share, pitch, strength]
    keep.click(
        None, [name, *chosen_ones], studio.kept, js="async (...all) => [await demo.keepPreset(...all)]"
    )
    remove.click(None, preset, studio.kept, js="async (name) => [await demo.removePreset(name)]")
    preset.input(None, preset, chosen_ones, js="(name) => demo.preset(name) ?? demo.skip(5)")


def others(own: list[str]) -> list[tuple[str, str]]:
    """Labels and values of the voices that can be mixed in."""
    return [("Nobody", NOBODY), *((label, name) for label, name in choices(own) if name != ADD)]


def mixed(studio: Studio, target: Chosen, other: str, percent: float, own: Own | None) -> Chosen:
    """A voice with a share of another, in %."""
    if other == NOBODY:
        return target
    second = chosen(studio, other, own)
    voice = Voice.mix([target.voice, second.voice], [100 - percent, percent])
    return Chosen(
        f"{target.name} + {other} {percent:g} %",
        voice,
        target.recording if percent < 50 else second.recording,
        [*target.doubts, *second.doubts],
    )


def describe(source: str, voice: str, semitones: float, percent: float) -> str:
    """What a result is made of, in a line without words."""
    more = [f"{semitones:+g}"] * bool(semitones) + [f"{percent:g} %"] * (percent != 100)
    return " · ".join([f"{source} → {voice}", *more])


def _start(recording: Audio, seconds: float) -> Audio:
    return Audio(recording.samples[: round(seconds * recording.sample_rate)], recording.sample_rate)


def _progress(done: float, seconds: float) -> str:
    text = f"Converting… {seconds / 60:.1f} min" if seconds > 60 else "Converting…"
    return f'{text}<progress value="{done:.3f}" aria-label="How much is converted"></progress>'


def _alike(converter: Converter, source: Audio, target: Chosen, converted: Audio) -> str:
    """How alike the result is to the voice and to the source, as HTML."""
    code = converter.embed(_start(converted, JUDGED))
    to_voice = float(code @ target.voice.embedding.numpy())
    to_source = float(code @ converter.embed(_start(source, JUDGED)))
    if converter.fingerprint != CALIBRATION["fingerprint"]:
        return (
            f"<p class='hint'>Cosine of the speaker codes: voice {to_voice:.2f}, "
            f"source {to_source:.2f}. Not calibrated for these weights.</p>"
        )
    rows = "".join(
        f"<dt>{name}</dt><dd><meter value='{likeness(cosine):.2f}' aria-label='{name}'></meter> "
        f"{next(words for least, words in ALIKE if likeness(cosine) >= least)}</dd>"
        for name, cosine in (("The voice", to_voice), ("The source", to_source))
    )
    warning = ""
    if likeness(to_voice) < FAILED:
        reasons = target.doubts or ["A low strength, or a source that is hard to hear, can be the reason."]
        told = sentences(["The voice was not reached.", *reasons])
        warning = f'<p class="warning" role="alert">{told}</p>'
    elif target.doubts:
        warning = f'<p class="hint">{sentences(target.doubts)}</p>'
    return (
        f"<h3>How alike?</h3><dl class='alike'>{rows}</dl>{warning}"
        f"<p class='hint'>Measured by the program. Whether the words are clear, only your ear can tell.</p>"
    )


def _picture(studio: Studio, source: Audio, target: Audio | None, converted: Audio) -> str:
    """Mel spectrograms and F0 contours of the recordings on one time axis."""
    rows = []
    for label, recording in (("Source", source), ("Voice", target), ("Result", converted)):
        if recording is None:
            continue
        shown = _start(recording, SHOWN)
        mel, prosody = studio.compute(studio.look, shown)
        loudest = float(mel.max())
        seconds = shown.duration
        drawing = pictures.heat(mel, seconds, loudest - 9, loudest) + pictures.melody(prosody, seconds)
        rows.append(pictures.Row(label, drawing, seconds))
    caption = (
        "Time goes from left to right, low tones are at the bottom, brighter is louder. The line is the "
        "pitch: it moves to the range of the voice, while the timing of the words stays."
    )
    more = ""
    if max(r.duration for r in (source, converted)) > SHOWN:
        more = f" <span>The first {SHOWN:g} seconds are shown.</span>"
    return pictures.figure(rows, f"{caption}{more}", "Spectrograms and pitch of source, voice and result")
