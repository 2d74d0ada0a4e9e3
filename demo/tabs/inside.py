"""The tab that encodes two recordings, swaps, freezes or blanks the codes, and decodes them."""

from functools import cache
from typing import Any, NamedTuple

import gradio as gr
import numpy as np
import torch
from torch import Tensor

from vcae import Audio, Parts, VcaeError, Voice

from ..studio import SAMPLES, RefusedError, Studio, heading, named, short_recording, status_line, title, told
from ..widgets import pictures, table
from ..widgets.picker import Own, chosen, picker
from ..widgets.pictures import Row
from ..widgets.player import Track, player
from ..widgets.units import KINDS, Units

LONGEST = 20.0  # seconds of a recording that are used
A, B, FROZEN, BLANK = "A's", "B's", "Frozen", "Blank"
TOGETHER = "Result"


class Experiment(NamedTuple):
    """A button that puts parts together, and what can be heard then."""

    label: str
    content: str
    prosody: str
    speaker: str
    heard: str


EXPERIMENTS = [
    Experiment("A in B's voice", A, A, B, "B says A's sentence, as A said it."),
    Experiment("A with B's melody", A, B, A, "A says A's sentence, with the pitch and loudness of B's."),
    Experiment("B's words in A's voice", B, B, A, "A says B's sentence, as B said it."),
    Experiment("one pitch", A, FROZEN, A, "A says A's sentence on one note."),
    Experiment("a whisper", A, BLANK, A, "A whispers A's sentence."),
    Experiment("one long sound", FROZEN, A, A, "A holds one sound; only the melody of A's sentence is left."),
    Experiment(
        "no words", BLANK, A, A, "Only the melody of A's sentence is left, without any sound of speech."
    ),
    Experiment("nobody's voice", A, A, BLANK, "The mean of all sample voices says A's sentence."),
]
CHIPS = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) trigger("chosen", { number: Number(button.dataset.number) });
});
"""
ABOUT = """
<p>A recording becomes three things: what is said, how it is said (pitch and loudness), and who says it.
Each can be taken from another recording, held still, or left out.</p>
"""
HELP = """
<p class="hint"><b>Frozen:</b> "what" stays at A's loudest moment; "how" has A's mean pitch throughout.
<b>Blank:</b> "what" is empty; "how" is unvoiced, which sounds like a whisper; "who" is the mean of the
sample voices. "Who" cannot be frozen, since it is one code for the whole recording.</p>
"""
CAPTION = f"""
Time goes from left to right. <b>What:</b> a colour for each 20 ms of content, by {KINDS} clusters of the
sample voices; similar colours are similar sounds, grey is blank. <b>How:</b> the line is pitch (50 to 600
Hz), the shade is loudness. The last three rows show the result.
"""
NUMBERS = """
<p>The cosine of the speaker code of the result is {a:.2f} to A and {b:.2f} to B; the same voice has 1,
different voices have about 0. "What" is 64 numbers every 20 ms, "how" is pitch, voicing and loudness every
10 ms, "who" is 192 numbers for the whole recording.</p>
"""
PARTS = {"What is said": 0, "How it is said": 1, "Who says it": 2}


def tab(studio: Studio) -> None:
    """Build the tab: experiments and their result, two recordings, and a table of conversions."""
    with gr.Tab("Look inside", id="inside") as inside:
        gr.HTML(ABOUT, elem_classes="about")
        chips = "".join(
            f'<button type="button" class="chip" data-number="{i}">{e.label}</button>'
            for i, e in enumerate(EXPERIMENTS)
        )
        experiments = gr.HTML(f"<p>Hear:</p>{chips}", elem_classes="examples", js_on_load=CHIPS)
        with gr.Row():
            with gr.Column(min_width=300, elem_classes="outcome"):
                heading(None, "Put together")
                status = status_line("Press one of the buttons above and listen.")
                result = gr.HTML(elem_id="together")
                glance = gr.HTML(_glance([A, A, B]))
            with gr.Column(min_width=300):
                what = gr.Radio([A, B, FROZEN, BLANK], value=A, label="What is said")
                how = gr.Radio([A, B, FROZEN, BLANK], value=A, label="How it is said")
                who = gr.Radio([A, B, BLANK], value=B, label="Who says it")
                with gr.Row(elem_classes="go"):
                    go = gr.Button("Put together", variant="primary", size="lg")
                gr.HTML(HELP)
        with gr.Row():
            with gr.Column(min_width=300):
                heading(None, "Recording A")
                source = short_recording(LONGEST)
            with gr.Column(min_width=300):
                heading(None, "Recording B")
                voice = picker(studio)
        picture = gr.HTML()
        table.table(studio)

    def run(path: str | None, what: str, how: str, who: str, voice: str, own: Own | None) -> dict[Any, Any]:
        try:
            target = chosen(studio, voice, own)
            if target.recording is None:
                raise RefusedError(f"{voice}: holds no recording, only a voice; choose another for B")
            recordings = {A: _start(studio.read(path)), B: _start(target.recording)}
            with named(str(path)):
                parts = {name: studio.compute(studio.converter.encode, r) for name, r in recordings.items()}
        except VcaeError as error:
            return {status: told(error)}
        units = kinds()
        a = parts[A]
        whats = {A: a.content, B: parts[B].content, FROZEN: _held(a), BLANK: torch.zeros_like(a.content)}
        hows = {A: a.prosody, B: parts[B].prosody, FROZEN: _monotone(a), BLANK: _whispered(a)}
        whos = {A: a.voice, B: target.voice, BLANK: Voice.mix([studio.sample(name) for name in SAMPLES])}
        given = whos[who]
        if what in parts:  # the content code still contains some of the source speaker
            given = studio.converter.guided(given, parts[what].voice)
        together = Parts(whats[what], hows[how], given)
        sound = studio.marked(studio.compute(studio.converter.decode, *together))
        heard = studio.compute(studio.converter.encode, sound)
        rows = [
            *_rows("A", recordings[A], a, units),
            *_rows("B", recordings[B], parts[B], units),
            *_rows(TOGETHER, sound, together, units),
        ]
        alt = "Waveform, content and prosody of A, of B, and of what was put together"
        samples = {name: studio.sample(name) for name in SAMPLES}
        placed = {"A": a.voice, "B": parts[B].voice, TOGETHER: heard.voice}
        to_a, to_b = (float(heard.voice.embedding @ parts[name].voice.embedding) for name in (A, B))
        names = {A: title(str(path)), B: target.name}
        label = next((e.label for e in EXPERIMENTS if e[1:4] == (what, how, who)), "parts")
        kept = studio.shelf.keep(sound, f"{names[A]} - {names[B]} - {label}")
        tracks = [
            Track(name[0], recording, studio.shelf.keep(recording, "sound").address)
            for name, recording in recordings.items()
        ]
        tracks.append(Track("Result", sound, kept.address))
        return {
            status: _sentence(what, how, who),
            result: player(tracks, f"A: {names[A]} · B: {names[B]}", kept),
            glance: _glance([what, how, who]),
            picture: pictures.figure(rows, CAPTION, alt)
            + f"<h3>Who: similar voices are close to each other</h3>{_map(samples, placed)}"
            + f"<details><summary>The numbers</summary>{NUMBERS.format(a=to_a, b=to_b)}</details>",
        }

    @cache
    def kinds() -> Units:
        return studio.compute(Units, studio.converter)

    def prepare() -> None:
        kinds()

    def fill(event: gr.EventData) -> tuple[str, ...]:
        return EXPERIMENTS[int(event.number)][1:4]

    inputs, outputs = [source, what, how, who, voice, studio.own], [status, result, glance, picture]
    settings = inputs[:-1]
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    start = (
        "(...settings) => { demo.made('together', settings.slice(0, -1)); return demo.attach(...settings); }"
    )
    inside.select(prepare, **quiet)
    filled = experiments.chosen(fill, None, [what, how, who], queue=False, **quiet)
    for event in (
        go.click(run, inputs, outputs, js=start, **quiet),
        filled.then(run, inputs, outputs, js=start, **quiet),
    ):
        event.then(None, js="() => demo.show('together')")
    changed = "(...settings) => demo.changed('together', settings)"
    gr.on([c.change for c in (source, what, how, who, voice)], None, settings, js=changed)


def _sentence(what: str, how: str, who: str) -> str:
    """What can be heard, in plain words."""
    for experiment in EXPERIMENTS:
        if experiment[1:4] == (what, how, who):
            return experiment.heard
    return f"What: {what}. How: {how}. Who: {who}."


def _glance(choice: list[str]) -> str:
    """A table that shows from which recording each part is."""
    columns = {A: "A", B: "B", FROZEN: "frozen", BLANK: "blank"}
    head = "".join(f'<th scope="col">{name}</th>' for name in columns.values())
    rows = "".join(
        f'<tr><th scope="row">{part}</th>'
        + "".join(
            f'<td class="{"on" if choice[i] == column else ""}">{"●" if choice[i] == column else ""}</td>'
            for column in columns
        )
        + "</tr>"
        for part, i in PARTS.items()
    )
    return (
        f'<table class="glance"><caption>From where each part is</caption>'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _start(recording: Audio) -> Audio:
    return Audio(recording.samples[: round(LONGEST * recording.sample_rate)], recording.sample_rate)


def _held(parts: Parts) -> Tensor:
    """Content frozen at the loudest moment, (D, T)."""
    loudest = int(parts.prosody[2].argmax()) * parts.content.shape[1] // parts.prosody.shape[1]
    return parts.content[:, [loudest]].expand_as(parts.content)


def _monotone(parts: Parts) -> Tensor:
    """Prosody with constant F0, the mean of the voice, (3, P)."""
    prosody = parts.prosody.clone()
    prosody[0] = parts.voice.f0.mean
    return prosody


def _whispered(parts: Parts) -> Tensor:
    """Prosody without voicing, (3, P)."""
    prosody = parts.prosody.clone()
    prosody[1] = 0
    return prosody


def _rows(name: str, sound: Audio, parts: Parts, units: Units) -> list[Row]:
    """Rows of a picture: waveform, content and prosody of a recording."""
    seconds = sound.duration
    prosody = parts.prosody.numpy()
    return [
        Row(name, pictures.waveform(sound.samples, seconds), seconds, height=56),
        Row("what", pictures.image(units.paint(parts.content.numpy()), seconds, smooth=False), seconds, 28),
        Row(
            "how",
            pictures.loudness(prosody, seconds) + pictures.melody(prosody, seconds),
            seconds,
            height=64,
        ),
    ]


def _map(samples: dict[str, Voice], placed: dict[str, Voice]) -> str:
    """Speaker codes in the plane of the first two principal components of the sample voices."""
    codes = np.stack([voice.embedding.numpy() for voice in samples.values()])
    middle = codes.mean(0)
    plane = np.linalg.svd(codes - middle, full_matrices=False)[2][:2]
    kinds = {**dict.fromkeys(samples, "sample"), **dict.fromkeys(placed, "placed"), TOGETHER: "result"}
    points = [
        (name, kinds[name], plane @ (voice.embedding.numpy() - middle))
        for name, voice in {**samples, **placed}.items()
    ]
    return pictures.chart(
        points,
        "Map of speaker codes: " + "; ".join(f"{name} at {x:.2f}, {y:.2f}" for name, _, (x, y) in points),
    )
