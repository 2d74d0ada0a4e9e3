"""The tab that converts several recordings in one go, into one zip file."""

import html
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr

from vcae import Audio, VcaeError, audio

from .. import formats
from ..studio import (
    MAX_SOURCE,
    MAX_UPLOAD,
    RefusedError,
    Studio,
    heading,
    named,
    status_line,
    title,
    told,
    tuning,
)
from ..widgets.picker import Own, chosen, picker
from ..widgets.player import FORMATS

MOST = 100  # files


def tab(studio: Studio) -> None:
    """Build the tab: files, voice, format, and a line of progress for each file."""
    with gr.Tab("Files", id="files"):
        with gr.Row():
            with gr.Column(min_width=300):
                heading(1, "What is said")
                files = gr.File(
                    label=f"Up to {MOST} recordings",
                    file_count="multiple",
                    file_types=["audio"],
                    height=220,
                )
                gr.HTML(f"<p class='hint'>At most {MAX_SOURCE / 60:g} minutes and {MAX_UPLOAD} MB each.</p>")
            with gr.Column(min_width=300):
                heading(2, "Who says it")
                voice = picker(studio)
            with gr.Column(min_width=300, elem_classes="outcome"):
                heading(3, "Convert them")
                with gr.Row(elem_classes="go"):
                    go = gr.Button("Convert all", variant="primary", size="lg", min_width=120)
                    stop = gr.Button("Cancel", visible=False, min_width=90)
                suffix = gr.Radio(
                    [(name, suffix) for suffix, name in FORMATS.items()],
                    value=".wav",
                    label="Format",
                    info="at the sample rate of each recording",
                )
                status = status_line("Drop some files first.")
                result = gr.HTML(elem_id="batch")
                lines = gr.HTML(elem_id="progress")
        with gr.Row(elem_classes="tuning"):
            pitch, strength = tuning(studio)
    cancelled: set[str | None] = set()  # sessions whose visitor pressed Cancel

    def run(
        request: gr.Request,
        paths: list[str] | None,
        voice: str,
        suffix: str,
        semitones: float,
        percent: float,
        own: Own | None,
    ) -> Iterator[dict[Any, Any]]:
        cancelled.discard(request.session_hash)
        try:
            if not paths:
                raise RefusedError("Drop some files first.")
            if len(paths) > MOST:
                raise RefusedError(f"{len(paths)} files are more than {MOST}; convert them in parts.")
            target = chosen(studio, voice, own)
        except VcaeError as error:
            yield {status: told(error)}
            return
        batch = _Batch(paths)
        yield {stop: gr.Button(visible=True), status: "Converting…", result: "", lines: batch.lines()}
        made: list[Path] = []
        for number, path in enumerate(paths):
            try:
                with named(path):
                    for step in studio.convert(studio.read(path), target.voice, semitones, percent / 100):
                        if request.session_hash in cancelled:
                            break
                        if isinstance(step, float):
                            batch.done[number] = step
                            yield {lines: batch.lines(), status: batch.left()}
                    else:
                        out = studio.shelf.place(f"{title(path)} - {target.name}").path.with_suffix(suffix)
                        formats.write(out, _sound(step), audio.decode(Path(path))[0])
                        made.append(out)
                        batch.done[number] = 1.0
            except VcaeError as error:
                batch.errors[number] = str(error)
            if request.session_hash in cancelled:
                break
            yield {lines: batch.lines(), status: batch.left()}
        archive = studio.shelf.zip(made, f"vcae - {target.name}") if made else None
        ended = f"{len(made)} of {len(paths)} converted."
        yield {
            stop: gr.Button(visible=False),
            status: f"Cancelled: {ended}" if request.session_hash in cancelled else f"Done: {ended}",
            lines: batch.lines(),
            result: ""
            if archive is None
            else f'<a class="download" href="kept/{archive.parent.name}/{quote(archive.name)}" download>'
            f"Download {html.escape(archive.name)}</a>",
        }

    def cancel(request: gr.Request) -> None:
        cancelled.add(request.session_hash)

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    inputs = [files, voice, suffix, pitch, strength, studio.own]
    started = go.click(run, inputs, [stop, status, result, lines], js="demo.attach", **quiet)
    started.then(None, js="() => demo.reveal('batch')")
    stop.click(cancel, None, None, queue=False, **quiet)


def _sound(step: float | Audio) -> Audio:
    assert isinstance(step, Audio)  # noqa: S101 -- the last step is the result
    return step


class _Batch:
    """How far each file is."""

    def __init__(self, paths: list[str]) -> None:
        self.names = [Path(path).name for path in paths]
        self.done = [0.0] * len(paths)
        self.errors: dict[int, str] = {}
        self.began = time.monotonic()

    def lines(self) -> str:
        """A line for each file, as HTML."""
        lines = []
        for number, (name, done) in enumerate(zip(self.names, self.done, strict=True)):
            if number in self.errors:
                lines.append(f'<li class="error">{html.escape(self.errors[number])}</li>')
            else:
                name = html.escape(name)
                bar = f'<progress value="{done:.3f}" aria-label="{name}"></progress>'
                lines.append(f"<li>{name} {bar}</li>")
        return f'<ul class="batch">{"".join(lines)}</ul>'

    def left(self) -> str:
        """About how long it still takes, as if all files were equally long."""
        share = (sum(self.done) + len(self.errors)) / len(self.done)
        if share < 0.02:
            return "Converting…"
        seconds = (time.monotonic() - self.began) * (1 - share) / share
        return f"Converting… about {seconds:.0f} s left"
