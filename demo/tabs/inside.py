"""The tab that encodes two recordings, swaps, freezes or blanks the codes, and decodes them."""

from functools import cache
from typing import Any

import gradio as gr
import numpy as np
import torch
from torch import Tensor

from vcae import Audio, Parts, VcaeError, Voice

from ..studio import SAMPLES, Studio, keep, tell
from ..widgets import pictures, table
from ..widgets.picker import chosen, picker
from ..widgets.pictures import Row
from ..widgets.units import KINDS, Units

LONGEST = 20.0  # seconds of a recording that are used
A, B, FROZEN, BLANK = "A's", "B's", "Frozen", "Blank"
TOGETHER = "Put together"
EXPERIMENTS = {
    "A in B's voice": (A, A, B),
    "A with B's melody": (A, B, A),
    "B's words in A's voice": (B, B, A),
    "one pitch": (A, FROZEN, A),
    "a whisper": (A, BLANK, A),
    "one long sound": (FROZEN, A, A),
    "no words": (BLANK, A, A),
    "nobody's voice": (A, A, BLANK),
}
"""Label of a button -> choice of content, prosody and speaker."""
ABOUT = """
<p>An autoencoder encodes sound as a few numbers and decodes these into sound. This one has three codes:</p>
<ul>
<li><b>What</b> is said: 64 numbers every 20 ms, which should not depend on the speaker.</li>
<li><b>How</b> it is said: pitch, voicing and loudness every 10 ms.</li>
<li><b>Who</b> says it: one code for the whole recording, and the range of the voice's pitch.</li>
</ul>
<p>If the codes are independent, each can be swapped, frozen or blanked without changing the others. Listen
to what changes, and whether anything else does.</p>
"""
HELP = """
<p class="hint"><b>Frozen</b>: "what" stays at A's loudest moment; "how" has A's mean pitch throughout.
<b>Blank</b>: "what" is empty; "how" is unvoiced, which sounds like a whisper; "who" is the mean of the
sample voices. "Who" cannot be frozen, since it is one code for the whole recording.</p>
"""
CAPTION = f"""
Time goes from left to right. <b>What</b>: a colour for each 20 ms of content, by {KINDS} clusters of the
sample voices; similar colours are similar sounds, grey is blank. <b>How</b>: the line is pitch (50 to 600
Hz), the shade is loudness. The last three rows show the result.
"""
MAP = """
<b>Who</b>: speaker codes on a map of the sample voices; similar voices are close to each other. The speaker
code of the result has a cosine of {a:.2f} to A and {b:.2f} to B; the same voice has 1, different voices have
about 0.
"""


def tab(studio: Studio) -> None:
    """Build the tab: two recordings, their codes, the decoded combination, and a table of conversions."""
    with gr.Tab("Look inside", id="inside") as inside:
        gr.HTML(ABOUT, elem_classes="about")
        with gr.Row(elem_classes="examples"):
            gr.HTML("<p>Hear:</p>", min_width=0)
            experiments = [gr.Button(label, size="sm", min_width=0) for label in EXPERIMENTS]
        with gr.Row():
            with gr.Column(min_width=300):
                gr.HTML("<h2>Recording A</h2>")
                source = gr.Audio(
                    str(SAMPLES["Woman 1"]),
                    label="Record, drop a file, or keep this one",
                    sources=["upload", "microphone"],
                    type="filepath",
                    buttons=[],
                    editable=False,
                )
                gr.HTML(f"<p class='hint'>The first {LONGEST:g} seconds are used.</p>")
            with gr.Column(min_width=300):
                gr.HTML("<h2>Recording B</h2>")
                voice = picker(studio, "Man 2")
        gr.HTML("<h2>Put together</h2>")
        with gr.Row():
            with gr.Column(min_width=300, scale=2):
                what = gr.Radio([A, B, FROZEN, BLANK], value=A, label="What is said")
                how = gr.Radio([A, B, FROZEN, BLANK], value=A, label="How it is said")
                who = gr.Radio([A, B, BLANK], value=B, label="Who says it")
                gr.HTML(HELP)
            with gr.Column(min_width=300):
                go = gr.Button("Put together", variant="primary", size="lg")
                result = gr.Audio(
                    label="The result", interactive=False, autoplay=True, buttons=[], elem_id="together"
                )
        picture = gr.HTML()
        table.table(studio)

    def run(path: str | None, what: str, how: str, who: str, *choice: Any) -> tuple[Any, Any]:
        try:
            voice, reference = chosen(studio, *choice)
            recordings = {A: _start(studio.read(path)), B: _start(reference)}
            parts = {name: studio.compute(studio.converter.encode, r) for name, r in recordings.items()}
        except VcaeError as error:
            tell(error)
            return gr.skip(), gr.skip()
        units = kinds()
        a = parts[A]
        whats = {A: a.content, B: parts[B].content, FROZEN: _held(a), BLANK: torch.zeros_like(a.content)}
        hows = {A: a.prosody, B: parts[B].prosody, FROZEN: _monotone(a), BLANK: _whispered(a)}
        whos = {A: a.voice, B: voice, BLANK: Voice.mix([studio.sample(name) for name in SAMPLES])}
        given = whos[who]
        if what in parts:  # the content code still contains some of the source speaker
            given = studio.converter.guided(given, parts[what].voice)
        together = Parts(whats[what], hows[how], given)
        sound = studio.compute(studio.converter.decode, *together)
        heard = studio.compute(studio.converter.encode, sound)
        rows = [
            *_rows("A", recordings[A], a, units),
            *_rows("B", recordings[B], parts[B], units),
            *_rows(TOGETHER, sound, together, units),
        ]
        alt = "Waveform, content and prosody of A, of B, and of what was put together"
        samples = {name: studio.sample(name) for name in SAMPLES}
        placed = {"A": a.voice, "B": parts[B].voice, TOGETHER: heard.voice}
        return keep(sound, "together.wav"), pictures.figure(rows, CAPTION, alt) + _map(samples, placed)

    @cache
    def kinds() -> Units:
        return studio.compute(Units, studio.converter)

    def prepare() -> None:
        kinds()

    inputs, outputs = [source, what, how, who, *voice.inputs], [result, picture]
    shown: dict[str, Any] = {"show_progress_on": result, "api_visibility": "private"}
    inside.select(prepare, show_progress="hidden", api_visibility="private")
    go.click(run, inputs, outputs, **shown)
    for button, values in zip(experiments, EXPERIMENTS.values(), strict=True):
        filled = button.click(lambda v=values: v, None, [what, how, who], queue=False, **shown)
        filled.then(run, inputs, outputs, **shown)


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
    a, b, result = (voice.embedding for voice in placed.values())
    return pictures.chart(
        points,
        MAP.format(a=float(result @ a), b=float(result @ b)),
        "Map of speaker codes: " + "; ".join(f"{name} at {x:.2f}, {y:.2f}" for name, _, (x, y) in points),
    )
