"""The tab that converts the microphone as one speaks."""

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

SEATS = 2  # who may speak at the same time; a laptop could not keep up with more
IDLE = 10.0  # seconds without sound after which a seat is free again
LARGEST = 2**20  # bytes of a block
SCRIPT = (Path(__file__).parents[1] / "static" / "live.js").read_text("utf-8")
PANEL = """
<p role="status" data-live="state">Press Start, allow the microphone, and speak.</p>
<p><b class="figure" data-live="latency">0 ms</b>
<span class="hint" data-live="detail">from mouth to ear</span></p>
<label class="level">You <meter data-live="in"></meter></label>
<label class="level">The voice <meter data-live="out"></meter></label>
"""


def tab(studio: Studio) -> None:
    """Choose a voice, press a button, speak."""
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
                    "<p class='hint'>The delay is measured, not promised: from the moment the browser has a "
                    f"sound to the moment it plays it converted. {latency:.0f} ms of it are the model's own, "
                    "which waits for that much sound; the rest is spent on the way and on computing.</p>"
                )
        rate, ticket = gr.Number(visible=False), gr.Textbox(visible=False)

    def begin(rate: float | None, semitones: float, *choice: Any) -> str:
        if not rate:  # no microphone: the page has told why
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
    """A microphone that is being converted."""

    stream: Stream
    heard: float
    """When it last sent something, on the monotonic clock."""


class Seats:
    """Who is speaking. A ticket is the only way in, and the page gives it only to those it lets in itself."""

    def __init__(self) -> None:
        self._taken: dict[str, Seat] = {}

    def take(self, stream: Stream) -> str:
        """A ticket for this stream."""
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
        """float32 samples in the body -> those that became ready; an empty body gives the seat back."""
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
        # Beside the worker's queue: a block that waits for its turn comes too late to be played.
        converted = await run_in_threadpool(seat.stream.feed, samples)
        return Response(converted.astype("<f4").tobytes(), media_type="application/octet-stream")
