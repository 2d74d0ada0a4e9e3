"""The command for live conversion: stream."""

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
from vcae.live.devices import DeviceError, device_streams, devices, file_streams, find
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
    model: Model = "live",
    device: Device = "cpu",
) -> None:
    """Convert live from microphone to loudspeaker until Ctrl-C, or from file to file in the same way.

    Args:
        voice: recordings of the target speaker, or one .voice file
        microphone: input device: name, part of its name, or number; default: the system's
        loudspeaker: output device: name, part of its name, or number; default: the system's
        list_devices: list the sound devices and exit
        input: file to read instead of a microphone
        output: file to write instead of playing to a loudspeaker
        realtime: read the file in real time, like a microphone; default: as fast as possible
        source_voice: recordings of the source speaker, or one .voice file; default: estimate while streaming
        pitch_shift: semitones in addition to the move to the target's F0 range
        strength: from 0, the voice of the source, to 1, the target voice; below 1 needs --source-voice
        block: milliseconds of audio that are captured, converted and played at a time
        jitter_buffer: milliseconds of converted audio to buffer before playback, against underruns
        profile: print percentiles of the time to convert a block
    """
    if list_devices:
        _list_devices()
        return
    if not voice:
        raise VcaeError("no voice was given; give recordings of the target speaker after --voice")
    if not 5 <= block <= 500:
        raise VcaeError(f"block must be between 5 and 500 ms, not {block:g}")
    if not 0 <= jitter_buffer <= 5000:
        raise VcaeError(f"jitter buffer must be between 0 and 5000 ms, not {jitter_buffer:g}")
    seconds = block / 1000
    if input and output:
        rate, source = decode(input)
        rates = rate, rate
        [(_, path)] = paths.outputs([input], output, keep=[*voice, *source_voice])
        connect = partial(file_streams, source=source, out=path, block=seconds, realtime=realtime)
    elif input or output:
        raise VcaeError(
            "give both --input FILE and --output FILE to convert a file, or neither for sound devices"
        )
    else:
        input_device, output_device = find("microphone", microphone), find("loudspeaker", loudspeaker)
        rates = input_device.sample_rate, output_device.sample_rate
        connect = partial(device_streams, microphone=input_device, loudspeaker=output_device, block=seconds)
    converter = load_converter(model, device)
    new_stream = partial(
        converter.stream,
        converter.voice(paths.references(voice)),
        sample_rate=rates[0],
        output_rate=rates[1],
        pitch_shift=pitch_shift,
        strength=strength,
        source_voice=converter.voice(paths.references(source_voice)) if source_voice else None,
    )
    session = LiveSession(new_stream(), *rates, jitter_buffer / 1000)  # first, since it refuses bad options
    converter.trace()
    _warm_up(new_stream(), round(seconds * rates[0]))
    interrupted = _run(session, connect(session))
    _print_summary(session, seconds, profile)
    if not (interrupted or input):
        raise DeviceError("a sound device has stopped; reconnect it and start again")


def _warm_up(stream: Stream, block: int) -> None:
    """Prepare the process for converting small blocks without delay."""
    import torch

    torch.set_num_threads(1)  # for small blocks, synchronising threads costs more than it saves
    for _ in range(20):  # the first blocks take longest
        stream.feed(np.zeros(block))
    gc.freeze()


def _run(session: LiveSession, streams: AbstractContextManager[None]) -> bool:
    """Convert until a device or the source file ends, or Ctrl-C; returns whether it was Ctrl-C."""
    try:
        with streams, Live(console=err, auto_refresh=False, transient=True) as status:
            updated = time.monotonic()
            while session.convert(timeout=0.25):
                if err.is_terminal and time.monotonic() - updated > 0.25:
                    updated = time.monotonic()
                    status.update(Text(session.status_line(), no_wrap=True), refresh=True)
    except KeyboardInterrupt:
        return True
    return False


def _print_summary(session: LiveSession, block: float, profile: bool) -> None:
    """Print latency, load, underruns and dropped audio of a live session."""
    first, longest = 1000 * session.first_delay, 1000 * session.longest_delay
    p50, p95, p99 = session.block_times()
    stdout.print(session.latency_line(p50))
    stdout.print(f"the latency was {first:.0f} ms at first and {longest:.0f} ms at most")
    stdout.print(
        f"{timedelta(seconds=round(session.duration))} of sound, load {session.load:.0%}, "
        f"{session.underruns} underruns, {session.dropped_seconds:.2f} s dropped"
    )
    if session.stream.repaired:
        stdout.print(
            f"{session.stream.repaired} samples were NaN, infinite or huge, and were replaced by zeros"
        )
    if profile:
        times = f"p50 {1000 * p50:.1f}, p95 {1000 * p95:.1f}, p99 {1000 * p99:.1f} ms"
        stdout.print(f"blocks of {1000 * block:g} ms took {times}")


def _list_devices() -> None:
    found = devices()
    if not found:
        stdout.print("no sound devices found")
    for d in found:
        kinds = [("default " if kind in d.default_for else "") + kind for kind in d.kinds]
        stdout.print(f"{d.index:3} {d.name} ({', '.join(kinds)}, {d.sample_rate} Hz)")
