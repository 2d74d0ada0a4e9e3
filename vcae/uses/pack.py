"""Speech stored as units, a coarse prosody and one voice: some 500 bits a second."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from vcae.audio import Samples, Source
from vcae.errors import VcaeError
from vcae.files import replacing
from vcae.inference.checkpoint import fingerprint
from vcae.inference.converter import Converter, Reference
from vcae.inference.voice import Voice
from vcae.model.prosody import F0Statistics

SUFFIX = ".packed"
"""Of packed files."""
GROUP = 4
"""Units that share one value of F0 and one of energy: 80 ms."""
F0_BITS, F0_STEP = 5, 0.05
"""Log-F0 over the mean of the voice, in 32 levels of 0.9 semitones."""
ENERGY_BITS, ENERGY_STEP = 4, 0.35
"""Log-energy over the expected one, in 16 levels of 3 dB."""
_HEAD = struct.Struct("<4s8sI?")
"""Mark of the format, hash of the weights, number of units, and whether there is a voice."""
_MARK = b"vpk1"


class PackError(VcaeError):
    """A recording that cannot be packed or unpacked. One line that says why, and how to fix it."""


@dataclass(frozen=True)
class Packed:
    """A packed recording.

    units: (T,) ids of the content code. f0, energy: levels, one for each `GROUP` units. voice: of the
    speaker; None where it is kept elsewhere, as for many recordings of one speaker.
    """

    units: npt.NDArray[np.int64]
    f0: npt.NDArray[np.int64]
    energy: npt.NDArray[np.int64]
    voice: Voice | None


class Packer:
    """Packs recordings by a model with a discrete code and a prosody predictor, such as `units`.

    The file holds the ids, with as many bits as all ids need, F0 on a coarse grid, and how much the energy on
    this grid differs from that which the predictor expects; voicing is as expected. Raises PackError for
    other models.
    """

    def __init__(self, converter: Converter) -> None:
        bottleneck = converter.autoencoder.bottleneck
        if not bottleneck.discrete or converter.predictor is None:
            raise PackError(
                "packing needs a model with a discrete code and a prosody predictor; use --model units"
            )
        self.converter = converter
        self.bits = (bottleneck.size - 1).bit_length()
        networks = converter.autoencoder
        self._weights = fingerprint(networks.content, bottleneck, networks.speaker)[:8].encode()

    def pack(self, source: Source, with_voice: bool = True) -> Packed:
        """Pack a recording. Raises AudioError."""
        ids, prosody, voice = self.converter.encode(source, units=True)
        log_f0, voicing, energy = F.avg_pool1d(prosody[None], prosody.shape[-1] // len(ids))[0]  # (T,) each
        voiced = (voicing > 0.5).float()
        f0 = _mean((log_f0 - voice.f0.mean) * voiced) / _mean(voiced).clamp(min=1e-6)
        expected = self.converter.expected_prosody(ids)[2]
        return Packed(
            units=ids.numpy().astype(np.int64),
            f0=_levels(f0, F0_BITS, F0_STEP),
            energy=_levels(_mean(energy - expected), ENERGY_BITS, ENERGY_STEP),
            voice=voice if with_voice else None,
        )

    def unpack(self, packed: Packed, voice: Reference | None = None) -> Iterator[Samples]:
        """Yield the samples of a packed recording block by block, in its voice or another.

        Raises PackError where there is no voice, VoiceError.
        """
        target = packed.voice if voice is None else self.converter.voice(voice)
        if target is None:
            raise PackError("it was packed without a voice; give one (--voice)")
        ids = torch.from_numpy(packed.units)
        expected = self.converter.expected_prosody(ids)
        f0 = _spread(_values(packed.f0, F0_BITS, F0_STEP), len(ids))
        energy = _spread(_values(packed.energy, ENERGY_BITS, ENERGY_STEP), len(ids))
        prosody = torch.stack([f0 + target.f0.mean, expected[1], expected[2] + energy])
        # Packed without a voice, the spread of F0 is unknown; it is taken for that of the target.
        own = packed.voice or target
        source_f0 = F0Statistics.around(target.f0.mean, own.f0.std, 1e6)
        return self.converter.decode_blocks(ids, prosody, target, source_f0=source_f0)

    def to_bytes(self, packed: Packed) -> dict[str, bytes]:
        """The parts of a file, in order: "header", "voice", "units", "prosody"."""
        head = _HEAD.pack(_MARK, self._weights, len(packed.units), packed.voice is not None)
        prosody = _to_bits(packed.f0, F0_BITS) + _to_bits(packed.energy, ENERGY_BITS)
        voice = _voice_to_bytes(packed.voice) if packed.voice else b""
        return {
            "header": head,
            "voice": voice,
            "units": _to_bits(packed.units, self.bits),
            "prosody": prosody,
        }

    def save(self, path: Path, packed: Packed) -> None:
        """Write a packed recording. Raises OutputError."""
        with replacing(path) as unfinished:
            unfinished.write_bytes(b"".join(self.to_bytes(packed).values()))

    def load(self, path: Path) -> Packed:
        """Read what `save` wrote. Raises PackError, also for what another model packed."""
        try:
            data = path.read_bytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise PackError(f"{path}: cannot be read ({reason}); check name and permissions") from None
        if not data.startswith(_MARK) or len(data) < _HEAD.size:
            raise PackError(f"{path}: is no packed recording; name a file that `vcae pack` wrote")
        _, weights, count, has_voice = _HEAD.unpack_from(data)
        if weights != self._weights:
            raise PackError(f"{path}: was packed by other weights; unpack it with the same --model")
        groups = -(-count // GROUP)
        sizes = [_HEAD.size, self._voice_size if has_voice else 0, -(-count * self.bits // 8)]
        sizes += [-(-groups * F0_BITS // 8), -(-groups * ENERGY_BITS // 8)]
        if not count or len(data) != sum(sizes):
            raise PackError(f"{path}: is damaged or breaks off; copy it again, or pack the recording again")
        ends = np.cumsum(sizes)
        _, voice, units, f0, energy = (data[end - size : end] for size, end in zip(sizes, ends, strict=True))
        packed = Packed(
            units=_from_bits(units, self.bits, count),
            f0=_from_bits(f0, F0_BITS, groups),
            energy=_from_bits(energy, ENERGY_BITS, groups),
            voice=self._voice(voice) if has_voice else None,
        )
        if packed.units.max() >= self.converter.autoencoder.bottleneck.size:
            raise PackError(f"{path}: is damaged; copy it again, or pack the recording again")
        return packed

    @property
    def _voice_size(self) -> int:
        sizes = self.converter.autoencoder.config.speaker
        return 3 * 4 + 2 * 4 + sizes.dim + sizes.token_dim * sizes.tokens

    def _voice(self, data: bytes) -> Voice:
        """Read what `_voice_to_bytes` wrote."""
        sizes = self.converter.autoencoder.config.speaker
        frames, mean, std, scale, token_scale = struct.unpack_from("<5f", data)
        levels = torch.frombuffer(bytearray(data[20:]), dtype=torch.int8).float()
        embedding = F.normalize(scale * levels[: sizes.dim], dim=0)
        tokens = token_scale * levels[sizes.dim :].view(sizes.token_dim, sizes.tokens)
        return Voice(embedding, tokens, F0Statistics.around(mean, std, frames), self.converter.made_by)


def _voice_to_bytes(voice: Voice) -> bytes:
    """F0 statistics and the two scales in float32, embedding and tokens in 8 bits a number."""
    frames = voice.f0.frames
    mean, std = voice.f0.total / frames, voice.f0.squares / frames
    std = max(std - mean**2, 1e-4) ** 0.5
    scales = [float(x.abs().max()) / 127 for x in (voice.embedding, voice.tokens)]
    levels = [
        (x.flatten() / max(scale, 1e-12)).round().to(torch.int8).numpy().tobytes()
        for x, scale in zip((voice.embedding, voice.tokens), scales, strict=True)
    ]
    return struct.pack("<5f", frames, mean, std, *scales) + b"".join(levels)


def _mean(x: Tensor) -> Tensor:
    """The mean of each group: (T,) -> (ceil(T / GROUP),)."""
    return F.avg_pool1d(x[None], GROUP, ceil_mode=True)[0]


def _spread(x: Tensor, length: int) -> Tensor:
    """From the middles of the groups to all frames, linearly: (G,) -> (length,)."""
    return F.interpolate(x[None, None], scale_factor=GROUP, mode="linear")[0, 0, :length]


def _levels(x: Tensor, bits: int, step: float) -> npt.NDArray[np.int64]:
    half = 2 ** (bits - 1)
    return (x / step).round().clamp(-half, half - 1).add(half).long().numpy()


def _values(levels: npt.NDArray[np.int64], bits: int, step: float) -> Tensor:
    return step * (torch.from_numpy(levels).float() - 2 ** (bits - 1))


def _to_bits(numbers: npt.NDArray[np.int64], bits: int) -> bytes:
    """Each number in as many bits, the highest first."""
    return np.packbits((numbers[:, None] >> np.arange(bits)[::-1]) & 1).tobytes()


def _from_bits(data: bytes, bits: int, count: int) -> npt.NDArray[np.int64]:
    found = np.unpackbits(np.frombuffer(data, dtype=np.uint8))[: count * bits].reshape(count, bits)
    return found.astype(np.int64) @ (1 << np.arange(bits)[::-1])
