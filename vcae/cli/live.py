"""Live conversion: stream."""

import gc
import time
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
from rich.live import Live
from rich.text import Text
from tyro.conf import arg

from vcae.audio import decode
from vcae.cli import paths
from vcae.cli.console import err, stdout
from vcae.cli.options import Device, Model, References, load_converter
from vcae.errors import VcaeError
from vcae.inference.stream import Stream
from vcae.live.devices import DeviceError, devices, find, opened, rehearsed
from vcae.live.session import LiveSession


def stream(
    voice: References = (),
    microphone: str | None = None,
    loudspeaker: str | None = None,
    list_devices: Annotated[bool, arg(name="devices")] = False,
    input: Path | None = None,
    output: Path | None = None,
    realtime: bool = False,
    source_voice: Annotated[tuple[Path, ...], arg(metavar="REF")] = (),
    pitch_shift: float = 0.0,
    strength: float = 1.0,
    block: float = 20.0,
    jitter_buffer: float = 40.0,
    profile: bool = False,
    model: Model = None,
    device: Device = "cpu",
) -> None:
    """Convert live, from the microphone to the loudspeaker until Ctrl-C, or rehearse it with files.

    Args:
        voice: whose voice to speak in
        microphone: the device to hear, by name, a part of it, or number; default: the system's
        loudspeaker: the device to play to
        list_devices: list the devices, and do nothing else
        input: a file to hear instead of a microphone
        output: a file for what the loudspeaker would play
        realtime: hear the file at the pace of the clock, as a microphone does; default: as fast as possible
        source_voice: the speaker's own, recordings or a .voice file, which then need not be followed
        pitch_shift: semitones on top of the move to the voice's range
        strength: 1 is the voice, 0 the source's own; below 1 needs --source-voice
        block: milliseconds that are heard, converted and played at a time
        jitter_buffer: milliseconds of converted sound that wait to be played, for when the computer is busy
        profile: tell how long blocks took to convert
    """
    if list_devices:
        _list_devices()
        return
    if not voice:
        raise VcaeError("no voice was given; name recordings of the target speaker after --voice")
    if not 5 <= block <= 500:
        raise VcaeError(f"block must be between 5 and 500 ms, not {block:g}")
    if not 0 <= jitter_buffer <= 5000:
        raise VcaeError(f"jitter buffer must be between 0 and 5000 ms, not {jitter_buffer:g}")
    seconds = block / 1000
    if input and output:
        rate, source = decode(input)
        rates = rate, rate
        [(_, path)] = paths.outputs([input], output, keep=[*voice, *source_voice])
        ends = partial(rehearsed, source=source, out=path, block=seconds, realtime=realtime)
    elif input or output:
        raise VcaeError("a rehearsal needs both --input FILE and --output FILE")
    else:
        ears, mouth = find("microphone", microphone), find("loudspeaker", loudspeaker)
        rates = ears.sample_rate, mouth.sample_rate
        ends = partial(opened, microphone=ears, loudspeaker=mouth, block=seconds)
    converter = load_converter(model, device)
    begin = partial(
        converter.stream,
        converter.voice(paths.references(voice)),
        sample_rate=rates[0],
        output_rate=rates[1],
        pitch_shift=pitch_shift,
        strength=strength,
        source_voice=converter.voice(paths.references(source_voice)) if source_voice else None,
    )
    converter.trace()
    _make_ready(begin(), round(seconds * rates[0]))
    session = LiveSession(begin(), *rates, jitter_buffer / 1000)
    by_hand = _run(session, ends(session))
    _tell(session, seconds, profile)
    if not (by_hand or input):
        raise DeviceError("a sound device has stopped; plug it in and start again")


def _make_ready(stream: Stream, block: int) -> None:
    """Have the computer convert small blocks without delay."""
    import torch

    torch.set_num_threads(1)  # more only wait for each other
    for _ in range(20):  # the first blocks take longest
        stream.feed(np.zeros(block))
    gc.freeze()


def _run(session: LiveSession, ends: AbstractContextManager[None]) -> bool:
    """Convert between two ends until one of them is over, or Ctrl-C, which is told."""
    try:
        with ends, Live(console=err, auto_refresh=False, transient=True) as shown:
            told = time.monotonic()
            while session.convert(timeout=0.25):
                if err.is_terminal and time.monotonic() - told > 0.25:
                    told = time.monotonic()
                    shown.update(Text(session.line(), no_wrap=True), refresh=True)
    except KeyboardInterrupt:
        return True
    return False


def _tell(session: LiveSession, block: float, profile: bool) -> None:
    """Say how a live conversion went."""
    first, longest = 1000 * session.first_delay, 1000 * session.longest_delay
    p50, p95, p99 = session.block_times()
    stdout.print(session.latency(p50))
    stdout.print(f"the latency was {first:.0f} ms at first and {longest:.0f} ms at most")
    stdout.print(
        f"{timedelta(seconds=round(session.duration))} of sound, load {session.load:.0%}, "
        f"{session.underruns} underruns, {session.skipped:.2f} s dropped"
    )
    if session.stream.repaired:
        stdout.print(f"{session.stream.repaired} samples were no sound, and taken for silence")
    if profile:
        times = f"p50 {1000 * p50:.1f}, p95 {1000 * p95:.1f}, p99 {1000 * p99:.1f} ms"
        stdout.print(f"blocks of {1000 * block:g} ms took {times}")


def _list_devices() -> None:
    found = devices()
    if not found:
        stdout.print("there are no sound devices here")
    for d in found:
        kinds = [("default " if kind in d.default_for else "") + kind for kind in d.kinds]
        stdout.print(f"{d.index:3} {d.name} ({', '.join(kinds)}, {d.sample_rate} Hz)")
