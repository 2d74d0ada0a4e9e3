"""Microphones and loudspeakers, by way of PortAudio, and files that stand in for them."""

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
    """A sound device that is not there or cannot be used. One line that says what to do about it."""


@dataclass(frozen=True)
class Device:
    """A microphone, a loudspeaker, or both."""

    index: int
    """PortAudio's number."""
    name: str
    sample_rate: int
    """In Hz, what the device does best."""
    kinds: tuple[Kind, ...]
    default_for: tuple[Kind, ...]
    """What the system uses it for unless told otherwise."""


def devices() -> list[Device]:
    """All devices that PortAudio knows here. Raises DeviceError where there is no PortAudio."""
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
    """The default device of this kind, or the one with this name, this number or this in its name.

    Raises DeviceError where there is none, or several.
    """
    there = [d for d in devices() if kind in d.kinds]
    if not there:
        raise DeviceError(f"there is no {kind} here; plug one in, or rehearse with --input and --output FILE")
    if name is None:
        return max(there, key=lambda d: kind in d.default_for)
    exact = [d for d in there if name in (d.name, str(d.index))]
    fitting = exact or [d for d in there if name.lower() in d.name.lower()]
    if len(fitting) != 1:
        listed = ", ".join(f"{d.index} '{d.name}'" for d in fitting or there)
        number = f"{len(fitting)} {kind}s" if fitting else f"no {kind}"
        raise DeviceError(f"'{name}' names {number}; choose one of {listed}")
    return fitting[0]


@contextmanager
def opened(session: LiveSession, microphone: Device, loudspeaker: Device, block: float) -> Iterator[None]:
    """Let two devices capture and play for a session, in blocks of so many seconds, as long as this lasts.

    The session ends when one of them stops. Raises DeviceError where one cannot be opened.
    """
    sd = _sounddevice()

    def captured(samples: Any, frames: int, when: Any, status: Any) -> None:
        if status:
            session.lose()
        session.capture(samples[:, 0].copy())

    def wanted(samples: Any, frames: int, when: Any, status: Any) -> None:
        if status:
            session.lose()
        samples[:] = session.play(frames)[:, None]

    with ExitStack() as stack:
        for kind, device, callback in (
            (sd.InputStream, microphone, captured),
            (sd.OutputStream, loudspeaker, wanted),
        ):
            try:
                stream = kind(
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
                    "choose another one that `vcae stream --devices` lists"
                ) from None
            session.devices_delay += stream.latency
        yield


@contextmanager
def rehearsed(
    session: LiveSession, source: Iterable[Samples], out: Path, block: float, realtime: bool
) -> Iterator[None]:
    """Let files stand in for devices: a session captures the source, and what it plays is written.

    That goes in blocks of so many seconds, at the pace of the clock or else as fast as the session converts,
    which ends with the source. Raises what reading and writing raise.
    """
    stopped = threading.Event()

    def played() -> Iterator[Samples]:
        blocks = chain(cut(source, round(block * session.sample_rate)), repeat(None))
        begun = time.monotonic()
        for count, samples in enumerate(blocks, start=1):
            if samples is None:
                session.end()
            else:
                session.capture(samples)
            if realtime:
                stopped.wait(max(0.0, begun + count * block - time.monotonic()))
            else:
                while not (session.settle(0.1) or stopped.is_set()):
                    pass
            if stopped.is_set() or session.finished:
                return
            yield session.play(round(block * session.output_rate))

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write_blocks, out, played(), session.output_rate)
        writing.add_done_callback(lambda _: session.end())
        try:
            yield
            # All has been converted; the rest is played yet, unless writing failed.
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
            "PortAudio is not there; install it with `apt install libportaudio2` or `brew install portaudio`"
        ) from None
    return sounddevice
