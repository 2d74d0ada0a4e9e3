"""The choice of the target voice: a sample, or the user's recordings with the consent of the speaker."""

from dataclasses import dataclass

import gradio as gr

from vcae import Audio, Voice

from ..studio import MAX_REFERENCE, MAX_REFERENCES, SAMPLES, RefusedError, Studio, named

OWN = "My own recordings"
CONSENT = (
    "The person whose voice this is has agreed to it, and I will say that what I make here is made by a "
    "computer."
)


@dataclass(frozen=True)
class Picker:
    """The components of the choice of a voice."""

    choice: gr.Radio
    preview: gr.Audio
    files: gr.File
    spoken: gr.Audio
    consent: gr.Checkbox

    @property
    def inputs(self) -> list[gr.components.Component]:
        """The arguments of `chosen` after the studio, in order."""
        return [self.choice, self.files, self.spoken, self.consent]


def picker(studio: Studio, first: str) -> Picker:
    """Add the components to the page, with a voice of SAMPLES selected."""
    choice = gr.Radio([*SAMPLES, OWN], value=first, label="Voice", show_label=False)
    preview = gr.Audio(
        str(SAMPLES[first]),
        label="How this voice sounds",
        interactive=False,
        buttons=[],
        elem_classes="player",
    )
    with gr.Column(visible=False) as own:
        files = gr.File(
            label=f"1 to {MAX_REFERENCES} recordings of one person",
            file_count="multiple",
            file_types=["audio"],
            height=160,
        )
        gr.HTML(f"<p class='hint'>Some seconds each; at most {MAX_REFERENCE / 60:g} minutes.</p>")
        spoken = gr.Audio(
            sources=["microphone"],
            type="filepath",
            label="or record one",
            editable=False,
            elem_classes="player",
        )
        consent = gr.Checkbox(label=CONSENT, container=True)
    studio.consents.append(consent)

    def show(name: str) -> tuple[gr.Audio, gr.Column]:
        sample = name in SAMPLES
        return gr.Audio(str(SAMPLES[name]) if sample else None, visible=sample), gr.Column(visible=not sample)

    choice.change(show, choice, [preview, own], queue=False, api_visibility="private", show_progress="hidden")
    return Picker(choice, preview, files, spoken, consent)


def chosen(
    studio: Studio, choice: str, files: list[str] | None, spoken: str | None, consent: bool
) -> tuple[Voice, Audio]:
    """The chosen voice and a recording of it. Raises RefusedError if recordings or consent are missing."""
    if choice in SAMPLES:
        return studio.sample(choice), studio.read(SAMPLES[choice])
    recordings = [*(files or []), *([spoken] if spoken else [])]
    if not recordings:
        raise RefusedError(
            "Drop or record a few seconds of the voice first, or choose one of the sample voices."
        )
    if len(recordings) > MAX_REFERENCES:
        raise RefusedError(
            f"{len(recordings)} recordings are more than needed; give at most {MAX_REFERENCES}."
        )
    if not consent:
        raise RefusedError("Voices are people: confirm first that the speaker has agreed.")
    references = [studio.read(path, MAX_REFERENCE) for path in recordings]
    voices = []
    for path, reference in zip(recordings, references, strict=True):
        with named(path):
            voices.append(studio.voice(reference))
    return Voice.mix(voices, [r.duration for r in references], pool_pitch=True), references[0]
