"""The tab that converts the microphone in real time."""

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from vcae import Stream, VcaeError

from ..studio import RefusedError, Studio, heading, status_line, told, tuning
from ..widgets.picker import ADD, Own, chosen, picker

SEATS = 2  # number of simultaneous users; a laptop cannot serve more in real time
WAITING = 20  # users in the line
IDLE = 10.0  # seconds without a request after which a seat or a place in the line is free again
LARGEST = 2**20  # bytes of a request
PANEL = """
<div class="live">
<p role="status" data-live="state">Press Start, allow the microphone, and speak. Wear headphones, or else the
microphone hears the loudspeaker and howls.</p>
<p><b class="figure" data-live="latency">0 ms</b> <span class="hint">from mouth to ear.
<span data-live="dropouts">No dropouts.</span></span></p>
<label class="level">You <meter data-live="in"></meter></label>
<label class="level">Result <meter data-live="out"></meter></label>
<div class="save"><button type="button" class="chip" data-live="record" disabled>Record</button>
<a class="download" data-live="recording" download hidden>Download what was said</a></div>
<label class="level">Microphone <select data-live="microphone">
<option value="">as the browser chooses</option></select></label>
<label class="level" data-live="speakers" hidden>Loudspeaker <select data-live="speaker">
<option value="">as the browser chooses</option></select></label>
</div>
"""


def tab(studio: Studio) -> None:
    """Build the tab: choice of the voice, buttons, delay and levels."""
    seats = Seats()
    studio.routes.append(Route("/live/{ticket}", seats.answer, methods=["GET", "POST"]))
    stream = studio.live.stream
    latency = 1000 * stream(studio.sample("Man 1", studio.live)).latency / studio.live.sample_rate
    with gr.Tab("Live", id="live"), gr.Row():
        with gr.Column(min_width=300):
            heading(1, "Speak")
            with gr.Row(elem_classes="go"):
                start = gr.Button("Start", variant="primary", size="lg", min_width=100)
                stop = gr.Button("Stop", size="lg", min_width=100, interactive=False)
            gr.HTML(PANEL, js_on_load="demo.live.show(element)")
            status = status_line("")
        with gr.Column(min_width=300):
            heading(2, "Whose voice")
            voice = picker(studio)
            pitch, strength = tuning(
                studio, "in %; below 100 it works once your voice is known, after some seconds"
            )
            gr.HTML(
                "<p class='hint'>Voice, pitch and strength can be changed while you speak. The delay is "
                "measured from the moment the browser receives a sound to the moment it plays the converted "
                "sound. "
                f"{latency:.0f} ms of it are the model's; the rest is transport and computation.</p>"
            )
        rate, ticket = gr.Number(visible=False), gr.Textbox(visible=False)
        # The end of a session, however it comes, arrives as a click on this button.
        ended = gr.Button(elem_id="live-ended", visible="hidden")

    def begin(rate: float | None, voice: str, pitch: float, strength: float, own: Own | None) -> Any:
        if not rate:  # no microphone: the page shows the reason
            return "", ""
        try:
            target = chosen(studio, voice, own, studio.live).voice
            started = stream(target, sample_rate=int(rate), pitch_shift=pitch)
            started.change(target, pitch, strength / 100)
            return seats.take(started), ""
        except VcaeError as error:
            return "", told(error)

    def change(ticket: str, voice: str, pitch: float, strength: float, own: Own | None) -> str:
        if not ticket or voice == ADD:
            return ""
        try:
            target = chosen(studio, voice, own, studio.live).voice
            seats.use(ticket, lambda stream: stream.change(target, pitch, strength / 100))
        except VcaeError as error:
            return told(error)
        return ""

    settings = [voice, pitch, strength, studio.own]
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    script = "async (_, ...settings) => [await demo.live.open(), ...(await demo.attach(...settings))]"
    begun = start.click(
        begin, [rate, *settings], [ticket, status], js=script, trigger_mode="always_last", **quiet
    )
    running = "{__type__: 'update', interactive: %s}"
    begun.then(
        None,
        ticket,
        [start, stop],
        js="(ticket) => demo.live.run(ticket) "
        f"? [{running % 'false'}, {running % 'true'}] : [{running % 'true'}, {running % 'false'}]",
    )
    gr.on(
        [voice.change, pitch.change, strength.change],
        change,
        [ticket, *settings],
        status,
        js="async (ticket, ...settings) => [demo.live.ticket(), ...(await demo.attach(...settings))]",
        trigger_mode="always_last",
        **quiet,
    )
    stop.click(None, None, None, js="() => demo.live.stop()")
    ended.click(None, None, [start, stop], js=f"() => [{running % 'true'}, {running % 'false'}]")


@dataclass
class Seat:
    """A live stream of one user."""

    stream: Stream
    heard: float
    """Time of the last request, on the monotonic clock."""
    lock: threading.Lock = field(default_factory=threading.Lock)


class Seats:
    """The live streams in use, then those in the line, in the order of their arrival.

    A stream is accessible only with its ticket, which only this page issues.
    """

    def __init__(self) -> None:
        self._taken: dict[str, Seat] = {}

    def take(self, stream: Stream) -> str:
        """Reserve a seat for a stream, or a place in the line, and return its ticket. Raises RefusedError."""
        self._leave_idle()
        if len(self._taken) >= SEATS + WAITING:
            raise RefusedError(f"{WAITING} others are waiting already; try again in some minutes.")
        ticket = secrets.token_urlsafe()
        self._taken[ticket] = Seat(stream, time.monotonic())
        return ticket

    def place(self, ticket: str) -> int:
        """Place in the line of a ticket that was issued: 0 for one with a seat, 1 for the next one."""
        self._leave_idle()
        return max(0, list(self._taken).index(ticket) - SEATS + 1)

    def use(self, ticket: str, function: Callable[[Stream], Any]) -> Any:
        """Call a function with the stream of a ticket; nothing happens for one that is not known."""
        if seat := self._taken.get(ticket):
            with seat.lock:
                return function(seat.stream)
        return None

    def _leave_idle(self) -> None:
        now = time.monotonic()
        self._taken = {t: seat for t, seat in self._taken.items() if now - seat.heard < IDLE}

    async def answer(self, request: Request) -> Response:
        """GET: the place in the line. POST: convert the float32 samples of the body and return those ready.

        An empty body frees the seat.
        """
        ticket = request.path_params["ticket"]
        seat = self._taken.get(ticket)
        if seat is None:
            return Response(status_code=404)
        seat.heard = time.monotonic()
        if request.method != "POST":
            return JSONResponse({"place": self.place(ticket)})
        if int(request.headers.get("content-length", LARGEST + 1)) > LARGEST:
            return Response(status_code=413)
        body = await request.body()
        if not body:
            self._taken.pop(ticket, None)
            return Response()
        if self.place(ticket):
            return Response(status_code=409)
        samples = np.frombuffer(body[: len(body) // 4 * 4], dtype="<f4")
        # Not in the queue of the worker, since a block that waits there is too late for playback.
        converted = await run_in_threadpool(self.use, ticket, lambda stream: stream.feed(samples))
        if converted is None:  # the seat became free in the meantime
            return Response(status_code=404)
        return Response(converted.astype("<f4").tobytes(), media_type="application/octet-stream")
