"""Microphones and loudspeakers, by PortAudio, and files in place of them."""

import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Literal, TypeAlias

from vcae.audio import Samples, cut, write_blocks
from vcae.errors import VcaeError
from vcae.live.session import LiveSession

Kind: TypeAlias = Literal["microphone", "loudspeaker"]
KINDS: tuple[Kind, Kind] = ("microphone", "loudspeaker")


class DeviceError(VcaeError):
    """A sound device that is missing or cannot be used. The message is one line that says how to fix it."""


@dataclass(frozen=True)
class Device:
    """A microphone, a loudspeaker, or both."""

    index: int
    """PortAudio's number."""
    name: str
    sample_rate: int
    """The device's default sample rate, in Hz."""
    kinds: tuple[Kind, ...]
    default_for: tuple[Kind, ...]
    """The kinds for which this is the system's default device."""


def devices() -> list[Device]:
    """All devices that PortAudio lists. Raises DeviceError without PortAudio."""
    sd = _sounddevice()
    found = []
    for index, about in enumerate(sd.query_devices()):
        channels = {"microphone": about["max_input_channels"], "loudspeaker": about["max_output_channels"]}
        kinds = tuple(kind for kind in KINDS if channels[kind])
        default_for = tuple(
            kind for kind, default in zip(KINDS, sd.default.device, strict=True) if default == index
        )
        found.append(Device(index, about["name"], round(about["default_samplerate"]), kinds, default_for))
    return found


def find(kind: Kind, name: str | None = None) -> Device:
    """Find a device by its name, its number or a part of its name; without a name, the default device.

    Raises DeviceError for no device, or several.
    """
    candidates = [d for d in devices() if kind in d.kinds]
    if not candidates:
        raise DeviceError(f"there is no {kind} here; connect one, or give --input FILE and --output FILE")
    if name is None:
        return max(candidates, key=lambda d: kind in d.default_for)
    exact = [d for d in candidates if name in (d.name, str(d.index))]
    matches = exact or [d for d in candidates if name.lower() in d.name.lower()]
    if len(matches) != 1:
        listed = ", ".join(f"{d.index} '{d.name}'" for d in matches or candidates)
        number = f"{len(matches)} {kind}s" if matches else f"no {kind}"
        raise DeviceError(f"'{name}' matches {number}; choose one of {listed}")
    return matches[0]


@contextmanager
def device_streams(
    session: LiveSession, microphone: Device, loudspeaker: Device, block: float
) -> Iterator[None]:
    """Connect two devices to a live session within a `with` statement. block: seconds per callback.

    The session ends when a device stops. Raises DeviceError where a device cannot be opened.
    """
    sd = _sounddevice()

    def on_input(samples: Any, frames: int, when: Any, status: Any) -> None:
        if status:
            session.count_underrun()
        session.capture(samples[:, 0].copy())

    def on_output(samples: Any, frames: int, when: Any, status: Any) -> None:
        if status:
            session.count_underrun()
        samples[:] = session.play(frames)[:, None]

    with ExitStack() as stack:
        for stream_class, device, callback in (
            (sd.InputStream, microphone, on_input),
            (sd.OutputStream, loudspeaker, on_output),
        ):
            try:
                stream = stream_class(
                    device=device.index,
                    samplerate=device.sample_rate,
                    blocksize=round(block * device.sample_rate),
                    channels=1,
                    dtype="float32",
                    latency="low",
                    callback=callback,
                    finished_callback=session.end,
                )
                stack.callback(stream.close)
                stream.start()
            except sd.PortAudioError as error:
                raise DeviceError(
                    f"'{device.name}' cannot be opened ({' '.join(str(error).split())}); "
                    "choose another from `vcae stream --devices`"
                ) from None
            session.devices_delay += stream.latency
        yield


@contextmanager
def file_streams(
    session: LiveSession, source: Iterable[Samples], out: Path, block: float, realtime: bool
) -> Iterator[None]:
    """Connect files to a live session within a `with` statement: it captures `source` and plays to `out`.

    block: seconds captured and played at a time. realtime: run in real time, instead of as fast as the
    session converts. The session ends with the source. Raises AudioError of the source, OutputError.
    """
    stopped = threading.Event()

    def played() -> Iterator[Samples]:
        blocks = chain(cut(source, round(block * session.sample_rate)), repeat(None))
        started = time.monotonic()
        for count, samples in enumerate(blocks, start=1):
            if samples is None:
                session.end()
            else:
                session.capture(samples)
            if realtime:
                stopped.wait(max(0.0, started + count * block - time.monotonic()))
            else:
                while not (session.wait_converted(0.1) or stopped.is_set()):
                    pass
            if stopped.is_set() or session.finished:
                return
            yield session.play(round(block * session.output_rate))

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write_blocks, out, played(), session.output_rate)
        writing.add_done_callback(lambda _: session.end())
        try:
            yield
            # All is converted. Wait until the rest is written; raises the error if writing failed.
            writing.result()
        finally:
            stopped.set()


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError:
        raise DeviceError(
            "the package sounddevice is missing; install it with `pip install 'vcae[live]'`"
        ) from None
    except OSError:
        raise DeviceError(
            "PortAudio is missing; install it with `apt install libportaudio2` or `brew install portaudio`"
        ) from None
    return sounddevice
