"""A table of sentences converted to several voices, with a player in each cell."""

import base64
import html
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from vcae import Audio

from ..studio import SAMPLES, RefusedError, Studio, status_line, told

PLAY = (Path(__file__).parents[1] / "static" / "table.js").read_text("utf-8")


def table(studio: Studio) -> None:
    """Build the choice of sentences and voices, and the table of all conversions."""
    gr.HTML(
        "<h2>Every sentence in every voice</h2><p>Along a row, the words and the melody should stay; down a "
        "column, the voice should.</p>"
    )
    with gr.Row():
        sentences = gr.CheckboxGroup([*SAMPLES], value=["Woman 1", "Woman 3", "Man 3"], label="Sentences of")
        voices = gr.CheckboxGroup([*SAMPLES], value=["Woman 2", "Man 1", "Man 2"], label="In the voices of")
    with gr.Row():
        go = gr.Button("Make the table")
        stop = gr.Button("Cancel", visible=False)
    status = status_line("")
    grid = gr.HTML(js_on_load=PLAY)

    def run(rows: list[str], columns: list[str]) -> Iterator[dict[Any, Any]]:
        if not (rows and columns):
            yield {status: told(RefusedError("Choose at least one sentence and one voice."))}
            return
        cells: dict[tuple[str, str], str] = {}
        yield {stop: gr.Button(visible=True), status: "", grid: _grid(rows, columns, cells)}
        for row in rows:
            cells[row, ""] = _button(studio.read(SAMPLES[row].path), f"{row}'s own recording")
        for column in columns:
            cells["", column] = _button(studio.read(SAMPLES[column].path), f"{column}'s own recording")
        for row in rows:
            for column in columns:
                sound = studio.compute(studio.converter.convert, SAMPLES[row].path, studio.sample(column))
                cells[row, column] = _button(
                    studio.marked(sound), f"{row}'s sentence in the voice of {column}"
                )
                yield {grid: _grid(rows, columns, cells)}
        yield {stop: gr.Button(visible=False)}

    shown: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    running = go.click(run, [sentences, voices], [stop, status, grid], **shown)
    stop.click(lambda: gr.Button(visible=False), None, stop, cancels=running, queue=False, **shown)


def _grid(rows: list[str], columns: list[str], cells: dict[tuple[str, str], str]) -> str:
    """An HTML table of the cells by (row, column); the name "" stands for a head."""
    waiting = '<span class="waiting">…</span>'
    head = "".join(f'<th scope="col">{html.escape(c)} {cells.get(("", c), "")}</th>' for c in columns)
    body = "".join(
        f'<tr><th scope="row">{html.escape(r)} {cells.get((r, ""), "")}</th>'
        + "".join(f"<td>{cells.get((r, c), waiting)}</td>" for c in columns)
        + "</tr>"
        for r in rows
    )
    return (
        '<div class="grid"><table><caption>Rows: whose sentence. Columns: in whose voice.</caption>'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _button(sound: Audio, name: str) -> str:
    """A button with its sound as MP3 in a data URI; table.js plays it."""
    with tempfile.TemporaryDirectory(dir=os.environ["GRADIO_TEMP_DIR"]) as folder:
        path = Path(folder, "cell.mp3")
        sound.write(path)
        data = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<button type="button" class="play" data-sound="data:audio/mpeg;base64,{data}"'
        f' aria-label="Play {html.escape(name)}">▶</button>'
    )
