"""The choice of the target voice: a sample, or a voice of the visitor's own, which the browser keeps.

The server keeps no voice. `static/voices.js` stores them in the browser, and sends those that are chosen with
each request, as `Own`.
"""

import base64
import io
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import gradio as gr
import soundfile

from vcae import Audio, Converter, VcaeError, Voice, audio
from vcae.inference.reference import DOUBTS

from ..shelf import file_name
from ..studio import (
    MAX_REFERENCE,
    MAX_REFERENCES,
    SAMPLES,
    RefusedError,
    Studio,
    named,
    sentences,
    status_line,
    told,
)

ADD = "+"
"""The choice that adds a voice."""
EXCERPT = 30.0  # seconds of the first recording of a voice that are kept with it
PREVIEW = """<audio controls preload="none" data-preview aria-label="{label}" src="samples/{file}"></audio>"""

Own: TypeAlias = dict[str, dict[str, Any]]
"""The visitor's voices by name. Each has `voices`: fingerprint of the weights -> .voice file in base64;
`excerpt`: a data URL of a recording, or empty; `doubts`: sentences."""


@dataclass(frozen=True)
class Chosen:
    """A voice, a recording of it where there is one, and likely reasons why it fails."""

    name: str
    voice: Voice
    recording: Audio | None
    doubts: list[str] = field(default_factory=list)


def choices(own: list[str]) -> list[tuple[Any, str]]:
    """Labels and values of the choice."""
    samples = [(f"{name}: {sample.sounds}", name) for name, sample in SAMPLES.items()]
    return [*samples, *((name, name) for name in own), ("Add a voice", ADD)]


def picker(studio: Studio, first: str = "Man 1") -> gr.Radio:
    """Add the choice to the page, with a voice of SAMPLES selected. All pickers change together."""
    choice = gr.Radio(choices([]), value=first, label="Voice", show_label=False, elem_classes="voices")
    gr.HTML(PREVIEW.format(label="How this voice sounds", file=SAMPLES[first].path.name))
    note = status_line("")
    with gr.Row(visible=False, elem_classes="tools") as tools:
        save = gr.Button("Save this voice", size="sm", min_width=0)
        remove = gr.Button("Remove", size="sm", min_width=0)
    with gr.Column(visible=False, elem_classes="own") as form:
        consent = gr.Checkbox(
            label=(
                "The person whose voice this is has agreed to it, and I will say that what I make here is "
                "made by a computer."
            ),
            container=True,
        )
        files = gr.File(
            label="Recordings of one person, or a .voice file",
            file_count="multiple",
            file_types=["audio", ".voice"],
            height=130,
        )
        spoken = gr.Audio(sources=["microphone"], type="filepath", label="or record it", editable=False)
        gr.HTML(
            "<p class='hint'>Ten seconds are good. The voice is kept in this browser for next time."
            " <button type='button' class='forget'>Forget all that is kept</button></p>"
        )
    studio.share("consent", consent)
    studio.share("voice", choice)
    made = gr.JSON(visible=False)

    def show(name: str) -> tuple[gr.Column, gr.Row]:
        return gr.Column(visible=name == ADD), gr.Row(visible=name not in SAMPLES and name != ADD)

    def make(paths: list[str] | None, spoken: str | None, agreed: bool) -> tuple[Any, Any]:
        recordings = [*(paths or []), *([spoken] if spoken else [])]
        if not recordings:
            return None, ""
        if not agreed:
            return None, "Confirm that the speaker has agreed, and the voice is added."
        try:
            entry = make_own(studio, recordings)
        except VcaeError as error:
            return None, told(error)
        return entry, sentences([f"Added and kept in this browser: {entry['name']}.", *entry["doubts"]])

    shown: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    preview = "(name) => { demo.preview(name); return [name]; }"
    choice.change(show, choice, [form, tools], queue=False, js=preview, **shown)
    gr.on(
        [files.upload, spoken.stop_recording, consent.input],
        make,
        [files, spoken, consent],
        [made, note],
        **shown,
    ).then(
        None,
        made,
        [files, spoken, studio.kept],
        js="async (entry) => entry ? [null, null, await demo.keep(entry)] : demo.skip(3)",
    )
    save.click(None, choice, None, js="(name) => demo.save(name)")
    remove.click(None, choice, studio.kept, js="async (name) => [await demo.remove(name)]")
    return choice


def make_own(studio: Studio, paths: list[str]) -> dict[str, Any]:
    """A voice of recordings, or of one .voice file, for the browser to keep. Raises RefusedError."""
    if len(paths) > MAX_REFERENCES:
        raise RefusedError(f"{len(paths)} recordings are more than needed; give at most {MAX_REFERENCES}.")
    name = file_name(Path(paths[0]).stem)
    if name in (*SAMPLES, ADD) or name == "audio":  # which browsers call what they record
        name = "my voice"
    files = [path for path in paths if Path(path).suffix == ".voice"]
    if files:
        if len(paths) > 1:
            raise RefusedError(f"{Path(files[0]).name}: give a .voice file alone.")
        voices = {m.made_by: v for m in studio.models if (v := _loaded(studio, m, files[0]))}
        if not voices:
            raise RefusedError(
                f"{Path(files[0]).name}: was made with other weights; make it again from recordings"
            )
        return {"name": name, "voices": _packed(voices), "excerpt": "", "doubts": []}
    recordings = [studio.read(path, MAX_REFERENCE) for path in paths]
    voices = {model.made_by: voice_of(studio, model, paths, recordings) for model in studio.models}
    start = Audio(recordings[0].samples[: round(EXCERPT * studio.rate)], studio.rate)
    found = studio.compute(studio.converter.examine, start)
    return {
        "name": name,
        "voices": _packed(voices),
        "excerpt": _data_url(start),
        "doubts": [f"The recording of the voice {DOUBTS[doubt]}." for doubt in found.doubts],
    }


def voice_of(studio: Studio, model: Converter, paths: list[str], recordings: list[Audio]) -> Voice:
    """The voice of recordings of one person, with errors that name their files."""
    weighed = []
    for path, recording in zip(paths, recordings, strict=True):
        with named(path):
            weighed += studio.compute(model.weigh, [recording])
    return Voice.mix([w.voice for w in weighed], [w.quality.weight for w in weighed], pool_pitch=True)


def chosen(studio: Studio, name: str, own: Own | None, model: Converter | None = None) -> Chosen:
    """The chosen voice, for a model (default: the one for recordings). Raises RefusedError."""
    model = model or studio.converter
    if name in SAMPLES:
        return Chosen(name, studio.sample(name, model), studio.read(SAMPLES[name].path))
    if name == ADD:
        raise RefusedError(
            "Confirm that the speaker has agreed, then drop or record some seconds of the voice; "
            "or choose another voice."
        )
    entry = (own or {}).get(name)
    if not isinstance(entry, dict):
        raise RefusedError(f"{name}: is no longer kept in this browser; add the voice again")
    recording = _excerpt(studio, name, entry.get("excerpt", ""))
    packed = entry.get("voices", {}).get(model.made_by)
    if packed:
        voice = _unpacked(studio, model, name, packed)
    elif recording:
        with named(name, name):
            voice = studio.compute(model.voice, recording)
    else:
        raise RefusedError(f"{name}: was made with other weights; add the voice again from recordings")
    return Chosen(name, voice, recording, list(entry.get("doubts", [])))


def _loaded(studio: Studio, model: Converter, path: str) -> Voice | None:
    """The voice of a .voice file; None where other weights made it. Raises RefusedError."""
    with named(path):
        voice = Voice.load(path)
    return studio.compute(model.voice, voice) if voice.made_by == model.made_by else None


def _packed(voices: dict[str, Voice]) -> dict[str, str]:
    packed = {}
    with tempfile.TemporaryDirectory() as folder:
        for made_by, voice in voices.items():
            path = Path(folder, "packed.voice")
            voice.save(path)
            packed[made_by] = base64.b64encode(path.read_bytes()).decode()
    return packed


def _unpacked(studio: Studio, model: Converter, name: str, packed: str) -> Voice:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{file_name(name)}.voice")
        path.write_bytes(_bytes(name, packed))
        voice = _loaded(studio, model, str(path))
    if voice is None:
        raise RefusedError(f"{name}: was made with other weights; add the voice again from recordings")
    return voice


def _data_url(recording: Audio) -> str:
    file = io.BytesIO()
    soundfile.write(file, recording.samples, recording.sample_rate, format="OGG", subtype="OPUS")
    return f"data:audio/ogg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _excerpt(studio: Studio, name: str, url: str) -> Audio | None:
    if not url:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{file_name(name)}.opus")
        path.write_bytes(_bytes(name, url.partition(",")[2]))
        with named(path, name):
            return audio.read(path, studio.rate, EXCERPT + 1)


def _bytes(name: str, packed: str) -> bytes:
    try:
        return base64.b64decode(packed, validate=True)
    except ValueError:
        raise RefusedError(f"{name}: is damaged; add the voice again") from None
