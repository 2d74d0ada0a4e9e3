"""Compare `vcae pack` with speech codecs of low bit rate, and write the second table of BOTTLENECKS.md.

    python recipes/evaluate_packing.py --corpora ~/corpora --write-page

`--corpora` holds `librispeech`, whose readers of test-other are packed. Opus is that of PyAV. Codec2 is its
programs c2enc and c2dec (Debian: `apt install codec2`); without them its rows are left out. Bit rates are
those of the coded packets, without a container; a packed file's voice and head are given apart.
"""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import av
import evaluate_bundled
import evaluate_restoration
import numpy as np
import tyro

import vcae
from vcae.audio import Audio, Samples, concatenate, resample
from vcae.cli import console
from vcae.errors import VcaeError
from vcae.evaluation.metrics.cache import FeatureCache, default_cache_folder
from vcae.uses.pack import Packer

RATE = 16_000
CODEC2 = ("2400", "1200", "700C")
"""Modes of Codec2, in bit/s."""
OPUS = 6000
"""Bit/s asked of Opus, the least it has."""


@dataclass(frozen=True)
class Options:
    """What to evaluate, and where to write."""

    corpora: Path
    """Folder with the unpacked corpus librispeech."""
    model: str = "units"
    """units, which is bundled, or a folder with a prosody predictor."""
    recordings: int = 2
    """Number of recordings of each reader."""
    cache: Path | None = None
    """Folder for cached features; default: in the user's cache folder."""
    write_page: bool = False
    """Write the table into BOTTLENECKS.md."""


class Coded(NamedTuple):
    """A decoded recording, and how many bytes its code had."""

    audio: Audio
    size: int


Codec = Callable[[Audio], Coded]


def packed_by(packer: Packer) -> Codec:
    """`vcae pack` and `vcae unpack`; the size is that of units and prosody."""

    def code(audio: Audio) -> Coded:
        packed = packer.pack(audio)
        parts = packer.to_bytes(packed)
        samples = concatenate(packer.unpack(packed))[: len(audio.samples)]
        return Coded(Audio(samples, RATE), len(parts["units"]) + len(parts["prosody"]))

    return code


def opus(audio: Audio) -> Coded:
    """Opus for voice at its lowest bit rate (RFC 6716)."""
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format, encoder.bit_rate = RATE, "mono", "s16", OPUS
    encoder.options = {"application": "voip", "vbr": "on"}
    encoder.time_base = Fraction(1, RATE)
    encoder.open()
    size = encoder.frame_size
    padded = np.pad(audio.samples, (0, -len(audio.samples) % size + 2 * size))
    packets = []
    for start in range(0, len(padded), size):
        block = (padded[None, start : start + size] * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(block, "s16", "mono")
        frame.sample_rate, frame.pts = RATE, start
        packets += encoder.encode(frame)
    decoder = av.CodecContext.create("libopus", "r")
    decoder.extradata = encoder.extradata
    decoded = [frame.to_ndarray().ravel() for packet in packets for frame in decoder.decode(packet)]
    samples = np.concatenate(decoded).astype(np.float32)
    scale = 32768 if np.abs(samples).max() > 2 else 1
    narrow = resample(samples / np.float32(scale), decoder.sample_rate, RATE)
    return Coded(Audio(narrow[: len(audio.samples)], RATE), sum(p.size for p in packets))


def codec2(mode: str) -> Codec:
    """Codec2 in a mode (Rowe, 2010), which codes a band of 4 kHz."""

    def code(audio: Audio) -> Coded:
        with TemporaryDirectory() as folder:
            raw, coded, decoded = (str(Path(folder) / name) for name in ("in.raw", "coded.bit", "out.raw"))
            (resample(audio.samples, RATE, 8000) * 32767).astype("<i2").tofile(raw)
            for command in (["c2enc", mode, raw, coded], ["c2dec", mode, coded, decoded]):
                subprocess.run(command, check=True, capture_output=True)  # noqa: S603 -- fixed arguments
            samples: Samples = np.fromfile(decoded, "<i2").astype(np.float32) / np.float32(32768)
            narrow = resample(samples, 8000, RATE)[: len(audio.samples)]
            return Coded(Audio(narrow, RATE), Path(coded).stat().st_size)

    return code


def evaluate(options: Options) -> str:
    """The table. Raises VcaeError."""
    packer = Packer(vcae.load(options.model))
    found = evaluate_bundled.utterances_of("test-other", evaluate_bundled.Options(options.corpora))
    clean = list(evaluate_restoration.recordings_of(found, options.recordings).items())
    if not clean:
        raise VcaeError(f"{options.corpora}: holds no readers of test-other; unpack librispeech there")
    codecs: dict[str, Codec] = {
        "PCM, 16 bits": lambda audio: Coded(audio, 2 * len(audio.samples)),
        "vcae pack": packed_by(packer),
        "Opus": opus,
    }
    if shutil.which("c2enc") and shutil.which("c2dec"):
        codecs |= {f"Codec2, {mode}": codec2(mode) for mode in CODEC2}
    judge = evaluate_restoration.Judge(FeatureCache(options.cache or default_cache_folder()))
    rows: list[list[str]] = []
    for codec, code in codecs.items():
        scores, size, seconds = [], 0, 0.0
        for name, audio in console.track(clean, codec):
            coded = code(audio)
            case = evaluate_restoration.Case("", name, audio, audio)
            scores.append(judge.scores("packing", case, coded.audio))
            size, seconds = size + coded.size, seconds + audio.duration
        names = list(scores[0])
        rows = rows or [["", "bit/s", *names]]
        cells = [f"{evaluate_restoration.mean(scores, name):.2f}" for name in names]
        rows.append([codec, f"{8 * size / seconds:,.0f}", *cells])
    return evaluate_bundled.markdown(rows)


def main(options: Options) -> None:
    """Measure, print, and write the page. Raises VcaeError."""
    text = evaluate(options)
    print(text)
    if options.write_page:
        page = Path(__file__).with_name("BOTTLENECKS.md")
        evaluate_bundled.write_part("packing", text, page)


if __name__ == "__main__":
    with console.in_one_line():
        main(tyro.cli(Options, description=__doc__))
