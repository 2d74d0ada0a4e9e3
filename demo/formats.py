"""Results in the formats that visitors want, at the sample rate of their recording."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np

from vcae import Audio, audio
from vcae.inference.output import at_rate

MPEG = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
"""The sample rates of MP3; those of AAC begin with them."""
RATES: dict[str, tuple[int, ...]] = {
    ".wav": (),
    ".flac": (),
    ".mp3": MPEG,
    ".opus": (8_000, 12_000, 16_000, 24_000, 48_000),
    ".m4a": (*MPEG, 64_000, 88_200, 96_000),
}
"""Suffix of a format -> the sample rates it has, in Hz; none given: it has all."""
AAC_BITS = 128_000  # a second


def write(path: Path, sound: Audio, rate: int) -> None:
    """Write a file in the format of its suffix, at a sample rate in Hz, or the next that the format has."""
    rates = RATES[path.suffix]
    if rates:
        rate = min((r for r in rates if r >= rate), default=max(rates))
    blocks = at_rate([sound.samples], sound.sample_rate, rate)
    sound = Audio(audio.concatenate(blocks), rate, sound.comment)
    writer: Callable[[Path, Audio], None] = _write_aac if path.suffix == ".m4a" else audio.write
    writer(path, sound)


def _write_aac(path: Path, sound: Audio) -> None:
    with av.open(str(path), "w", format="ipod") as container:
        container.metadata["comment"] = sound.comment
        stream = container.add_stream("aac", rate=sound.sample_rate, layout="mono")
        stream.bit_rate = AAC_BITS
        samples = np.ascontiguousarray(sound.samples.clip(-1, 1)[None])
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = sound.sample_rate
        container.mux([*stream.encode(frame), *stream.encode(None)])
