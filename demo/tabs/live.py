"""The tab that converts the microphone in real time."""

import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from vcae import Stream, VcaeError

from ..studio import RefusedError, Studio, tell
from ..widgets.picker import chosen, picker

SEATS = 2  # number of simultaneous users; a laptop cannot serve more in real time
IDLE = 10.0  # seconds without a block after which a seat is free again
LARGEST = 2**20  # bytes of a request
SCRIPT = (Path(__file__).parents[1] / "static" / "live.js").read_text("utf-8")
PANEL = """
<p role="status" data-live="state">Press Start, allow the microphone, and speak.</p>
<p><b class="figure" data-live="latency">0 ms</b>
<span class="hint" data-live="detail">from mouth to ear</span></p>
<label class="level">You <meter data-live="in"></meter></label>
<label class="level">The voice <meter data-live="out"></meter></label>
"""


def tab(studio: Studio) -> None:
    """Build the tab: choice of the voice, buttons, latency and levels."""
    seats = Seats()
    studio.routes.append(Route("/live/{ticket}", seats.convert, methods=["POST"]))
    studio.later(studio.converter.trace)
    stream = studio.converter.stream
    latency = 1000 * stream(studio.sample("Man 1")).latency / studio.rate
    with gr.Tab("Live", id="live"):
        gr.HTML(
            "<p>Speak, and hear yourself in another voice a moment later. <b>Wear headphones</b>, or else "
            "the microphone hears the loudspeaker and howls.</p>"
        )
        with gr.Row():
            with gr.Column(min_width=300):
                gr.HTML("<h2>1. Whose voice</h2>")
                voice = picker(studio, "Man 1")
            with gr.Column(min_width=300):
                gr.HTML("<h2>2. Speak</h2>")
                with gr.Row():
                    start = gr.Button("Start", variant="primary", size="lg", min_width=100)
                    stop = gr.Button("Stop", size="lg", min_width=100)
                gr.HTML(PANEL, js_on_load=SCRIPT)
                pitch = gr.Slider(-12, 12, 0, step=1, label="Pitch", info="semitones lower or higher")
                gr.HTML(
                    "<p class='hint'>The delay is measured from the moment the browser receives a sound to "
                    f"the moment it plays the converted sound. {latency:.0f} ms of it are the algorithmic "
                    "latency of the model; the rest is transport and computation.</p>"
                )
        rate, ticket = gr.Number(visible=False), gr.Textbox(visible=False)

    def begin(rate: float | None, semitones: float, *choice: Any) -> str:
        if not rate:  # no microphone: the page shows the reason
            return ""
        try:
            target, _ = chosen(studio, *choice)
            return seats.take(stream(target, sample_rate=int(rate), pitch_shift=semitones))
        except VcaeError as error:
            tell(error)
            return ""

    open_microphone = "async (_, ...others) => [await window.live.open(), ...others]"
    shown: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    begun = start.click(
        begin, [rate, pitch, *voice.inputs], ticket, js=open_microphone, trigger_mode="always_last", **shown
    )
    begun.then(None, ticket, None, js="(ticket) => window.live.run(ticket)")
    stop.click(None, None, None, js="() => window.live.stop()")


@dataclass
class Seat:
    """A live stream of one user."""

    stream: Stream
    heard: float
    """Time of the last block, on the monotonic clock."""


class Seats:
    """The live streams in use. A stream is accessible only with its ticket, which only this page issues."""

    def __init__(self) -> None:
        self._taken: dict[str, Seat] = {}

    def take(self, stream: Stream) -> str:
        """Reserve a seat for a stream and return its ticket. Raises RefusedError if none is free."""
        now = time.monotonic()
        self._taken = {ticket: seat for ticket, seat in self._taken.items() if now - seat.heard < IDLE}
        if len(self._taken) >= SEATS:
            raise RefusedError(
                f"{SEATS} others are speaking just now, and more would stutter; try again in a minute."
            )
        ticket = secrets.token_urlsafe()
        self._taken[ticket] = Seat(stream, now)
        return ticket

    async def convert(self, request: Request) -> Response:
        """Convert the float32 samples of the body and return those that are ready.

        An empty body frees the seat.
        """
        ticket = request.path_params["ticket"]
        seat = self._taken.get(ticket)
        if seat is None:
            return Response(status_code=404)
        if int(request.headers.get("content-length", LARGEST + 1)) > LARGEST:
            return Response(status_code=413)
        body = await request.body()
        if not body:
            del self._taken[ticket]
            return Response()
        seat.heard = time.monotonic()
        samples = np.frombuffer(body[: len(body) // 4 * 4], dtype="<f4")
        # Not in the queue of the worker, since a block that waits there is too late for playback.
        converted = await run_in_threadpool(seat.stream.feed, samples)
        return Response(converted.astype("<f4").tobytes(), media_type="application/octet-stream")
