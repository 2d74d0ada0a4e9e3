"""Write made speech to files, at any sample rate; above that of the networks, its bandwidth is extended."""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np
import torch

from vcae.audio import Audio, Samples, concatenate, cut, resampled, split, write_blocks
from vcae.inference.checkpoint import BUNDLED, load
from vcae.model.bandwidth import BandwidthExtender, BandwidthExtenderConfig
from vcae.model.state import Cache

_BLOCK = 256  # windows that are extended at a time


class Encoding(TypedDict, total=False):
    """How `write_speech` writes a file.

    sample_rate: in Hz; default: that of the blocks. subtype: libsndfile's name of an encoding. note: returns
    text for the metadata, after the comment; called when the source has been read.
    """

    sample_rate: int | None
    subtype: str | None
    note: Callable[[], str]


def write_speech(
    path: str | Path, blocks: Iterable[Samples], rate: int, comment: str, **encoding: Unpack[Encoding]
) -> None:
    """Write a waveform in blocks at `rate`, like `vcae.audio.write_blocks`, at another rate if wanted."""
    wanted = encoding.get("sample_rate") or rate
    note = encoding.get("note", str)
    write_blocks(
        path,
        at_rate(blocks, rate, wanted),
        wanted,
        encoding.get("subtype"),
        lambda: "; ".join(filter(None, [comment, note()])),
    )


def at_rate(blocks: Iterable[Samples], rate: int, wanted: int) -> Iterable[Samples]:
    """Speech at another sample rate in Hz, block by block: extended, where `rate` does not hold its band."""
    if wanted > rate == bundled_extender().sample_rate:
        blocks, rate = extended(blocks, bundled_extender()), bundled_extender().output_rate
    return blocks if wanted == rate else resampled(blocks, rate, wanted)


def full_band(audio: Audio, sample_rate: int = 48_000) -> Audio:
    """Speech of 16 kHz at a higher sample rate in Hz; what is above 7.2 kHz is generated, up to 20 kHz."""
    blocks = at_rate(split(audio.samples), audio.sample_rate, sample_rate)
    return Audio(concatenate(blocks), sample_rate, audio.comment)


def extended(blocks: Iterable[Samples], extender: BandwidthExtender) -> Iterator[Samples]:
    """Yield speech at the extender's output rate, block by block: of N samples factor * N.

    The output is the same, up to rounding errors, for any sizes of the blocks.
    """
    received = 0

    def padded() -> Iterator[Samples]:
        nonlocal received
        for block in blocks:
            received += len(block)
            yield block
        yield np.zeros(extender.delay + extender.step, dtype=np.float32)

    factor = extender.config.factor
    state: Cache = {}
    position = -factor * extender.delay  # in the output, of the next block
    for block in cut(padded(), _BLOCK * extender.step):
        whole = torch.from_numpy(block[: len(block) // extender.step * extender.step])
        if not len(whole):  # of the padding
            return
        with torch.inference_mode():
            made: Samples = extender(whole[None, None], state)[0, 0].numpy()
        begin, end = max(0, -position), factor * received - position
        position += len(made)
        yield made[begin:end].clip(-1, 1)


@cache
def bundled_extender() -> BandwidthExtender:
    """The bandwidth extender in the package. Raises CheckpointError."""
    return load(BUNDLED / "bandwidth.safetensors", BandwidthExtender, BandwidthExtenderConfig)
