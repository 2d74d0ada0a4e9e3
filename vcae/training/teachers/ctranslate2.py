"""Reader of CTranslate2 model files (`model.bin`) that does not need CTranslate2.

The format (python/ctranslate2/specs/model_spec.py in https://github.com/OpenNMT/CTranslate2), little-endian:
version, name and revision of the specification; the number of arrays; for each its name, rank, shape, type,
size and bytes; the number of aliases; for each its name and that of its array.
"""

import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vcae.errors import VcaeError

_VERSION = 6
_TYPES = (np.float32, np.int8, np.int16, np.int32, np.float16)  # by number; 5 is bfloat16, which NumPy lacks


class ModelFileError(VcaeError):
    """Weights of a teacher that cannot be read. The message is one line: file and reason."""


class _Reader:
    """Reads values from bytes in order. Raises struct.error or ValueError where the bytes end too early."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise ValueError("it ends too early")
        piece = self.data[self.at : self.at + count]
        self.at += count
        return piece

    def number(self, code: str) -> int:
        value: int = struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]
        return value

    def text(self) -> str:
        return self.take(self.number("H")).rstrip(b"\0").decode()


def read_ctranslate2(*parts: Path) -> dict[str, Tensor]:
    """All arrays by name, such as `encoder/conv1/weight`, in their stored types.

    parts: the file, or the parts of a file that was split, in order. Raises ModelFileError.
    """
    named = " + ".join(str(part) for part in parts)
    try:
        reader = _Reader(b"".join(part.read_bytes() for part in parts))
        version = reader.number("I")
        if version != _VERSION:
            raise ValueError(f"its format has version {version}, not {_VERSION}")
        reader.text(), reader.number("I")  # name and revision of the specification
        arrays = {}
        for _ in range(reader.number("I")):
            name = reader.text()
            shape = [reader.number("I") for _ in range(reader.number("B"))]
            kind, size = reader.number("B"), reader.number("I")
            if kind >= len(_TYPES):
                raise ValueError(f"{name} has type {kind}, which is not supported")
            values = np.frombuffer(reader.take(size), _TYPES[kind]).reshape(shape)
            arrays[name] = torch.from_numpy(values.copy())
        for _ in range(reader.number("I")):
            alias = reader.text()
            arrays[alias] = arrays[reader.text()]
    except (OSError, ValueError, KeyError, struct.error) as error:
        raise ModelFileError(f"{named}: not a CTranslate2 model that can be read ({error})") from error
    return arrays
