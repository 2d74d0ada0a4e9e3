"""The tab that reads a recording as phones, and speaks them when they are edited."""

from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import cache
from itertools import zip_longest
from typing import Any

import gradio as gr

from vcae import Audio, Phone, Transcriber, VcaeError
from vcae.inference.transcriber import load_codec
from vcae.model.phones import PHONES

from ..studio import RefusedError, Studio, heading, named, short_recording, status_line, title, told
from ..widgets import pictures
from ..widgets.picker import Own, chosen, picker
from ..widgets.pictures import Row
from ..widgets.player import Track, player

LONGEST = 10.0  # seconds of a recording that are used
INSERTED = 0.08  # seconds that a phone lasts which is not in the recording
OWN, OTHER = "of the recording", "chosen here"
ABOUT = """
<p>What is said can be read from the content code as phones of English. Change some of them, and hear the
recording with the change.</p>
"""
HELP = f"""
<p class="hint">The phones are those of CMUdict (ARPAbet), separated by spaces; SIL is a pause. A phone can
be renamed, removed or inserted; one that is inserted lasts {1000 * INSERTED:g} ms. About a third of the
phones is read wrongly, and a change is not always heard.</p>
<details><summary>All phones</summary><p class="hint" translate="no">{" ".join(PHONES)}</p></details>
"""
CAPTION = """
Time goes from left to right, low tones are at the bottom, brighter is louder. Below the first row are the
phones that were read, below the second those that were spoken.
"""


def tab(studio: Studio) -> None:
    """Build the tab: a recording, its phones to edit, a voice, and the result."""
    with gr.Tab("Read", id="read"):
        gr.HTML(ABOUT, elem_classes="about")
        with gr.Row():
            with gr.Column(min_width=300):
                heading(1, "What is read")
                source = short_recording(LONGEST)
                read = gr.Button("Read", size="lg")
                text = gr.Textbox(label="Phones", lines=4, info="press Read, then edit them")
                gr.HTML(HELP)
            with gr.Column(min_width=300):
                heading(2, "Who speaks it")
                whose = gr.Radio([OWN, OTHER], value=OWN, label="Voice")
                voice = picker(studio)
            with gr.Column(min_width=300, elem_classes="outcome"):
                heading(3, "Hear it")
                with gr.Row(elem_classes="go"):
                    speak = gr.Button("Speak", variant="primary", size="lg")
                status = status_line("Press Read, change a phone, and press Speak.")
                result = gr.HTML(elem_id="spoken")
        picture = gr.HTML()

    @cache
    def transcriber() -> Transcriber:
        return studio.compute(Transcriber, studio.converter, load_codec())

    def phones_of(path: str | None) -> tuple[Audio, list[Phone]]:
        recording = studio.read(path)
        recording = Audio(recording.samples[: round(LONGEST * studio.rate)], studio.rate)
        with named(str(path)):
            return recording, studio.compute(transcriber().transcribe, recording)

    def show(path: str | None) -> dict[Any, Any]:
        try:
            recording, phones = phones_of(path)
        except VcaeError as error:
            return {status: told(error)}
        return {
            text: " ".join(phone.name for phone in phones),
            status: f"{len(phones)} phones were read. Change some, and press Speak.",
            result: "",
            picture: _picture(studio, {title(str(path)): (recording, phones)}),
        }

    def run(path: str | None, written: str, whose: str, voice: str, own: Own | None) -> dict[Any, Any]:
        try:
            recording, phones = phones_of(path)
            target = chosen(studio, voice, own) if whose == OTHER else None
            changed = edited(phones, written.upper().split()) if written.strip() else phones
            given = target.voice if target else None
            spoken = [
                studio.marked(studio.compute(transcriber().speak, recording, each, given))
                for each in (phones, changed)
            ]
        except VcaeError as error:
            return {status: told(error)}
        name = title(str(path))
        who = target.name if target else name
        kept = studio.shelf.keep(spoken[1], f"{name} - {who} - edited")
        tracks = [
            Track(label, sound, studio.shelf.keep(sound, "sound").address)
            for label, sound in (("Source", recording), ("As read", spoken[0]))
        ]
        tracks.append(Track("Edited", spoken[1], kept.address))
        count = sum(old != new for old, new in zip_longest(phones, changed))
        return {
            status: f"{count} phones differ from those that were read." if count else "No phone was changed.",
            result: player(tracks, f"{name} → {who}", kept),
            picture: _picture(
                studio, {"Source": (recording, phones), "Edited": (spoken[1], respoken(changed))}
            ),
        }

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    settings = [source, text, whose, voice]
    start = (
        "(...settings) => { demo.made('spoken', settings.slice(0, -1)); return demo.attach(...settings); }"
    )
    read.click(show, source, [text, status, result, picture], **quiet)
    speak.click(
        run,
        [*settings, studio.own],
        [status, result, picture],
        js=start,
        **quiet,
    ).then(None, js="() => demo.show('spoken')")
    changed = "(...settings) => demo.changed('spoken', settings)"
    gr.on([c.change for c in (source, text, whose, voice)], None, settings, js=changed)


def edited(phones: Sequence[Phone], names: Sequence[str]) -> list[Phone]:
    """Phones of a recording with other names, fewer or more of them; the same ones keep their times.

    Raises RefusedError for a name that is no phone.
    """
    if unknown := [name for name in names if name not in PHONES]:
        raise RefusedError(f"{unknown[0]}: no such phone; there are {', '.join(PHONES)}")
    made: list[Phone] = []
    old = [phone.name for phone in phones]
    for _, a, b, c, d in SequenceMatcher(None, old, names, autojunk=False).get_opcodes():
        for phone, name in zip_longest(phones[a:b], names[c:d]):
            if phone and name:
                made.append(phone._replace(name=name))
            elif name:
                at = made[-1].end if made else phones[0].start
                made.append(Phone(at, at, name, INSERTED))
    return made


def respoken(phones: Sequence[Phone]) -> list[Phone]:
    """The phones with the times at which they are spoken."""
    made, at = [], 0.0
    for phone in phones:
        end = at + (phone.end - phone.start if phone.duration is None else phone.duration)
        made.append(Phone(at, end, phone.name))
        at = end
    return made


def _picture(studio: Studio, recordings: dict[str, tuple[Audio, list[Phone]]]) -> str:
    """Mel spectrograms with phones below, on one time axis."""
    rows = []
    for label, (sound, phones) in recordings.items():
        mel, prosody = studio.compute(studio.look, sound)
        loudest, seconds = float(mel.max()), sound.duration
        drawing = pictures.heat(mel, seconds, loudest - 9, loudest) + pictures.melody(prosody, seconds)
        rows.append(Row(label, drawing, seconds, names=[(p.start, p.end, p.name) for p in phones]))
    return pictures.figure(rows, CAPTION, f"Spectrogram and phones of {' and of '.join(recordings)}")
