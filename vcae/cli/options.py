"""Options shared by several commands."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from vcae.errors import VcaeError
from vcae.inference.converter import Converter, load

Model = Annotated[str, arg(help="studio, live or units, which are bundled, or a folder that training wrote")]


Device = Annotated[str, arg(help="torch device: cpu, cuda, cuda:1, mps")]


References = Annotated[
    tuple[Path, ...], arg(help="recordings of the target speaker, or one .voice file", metavar="REF")
]


OptionalVoice = Annotated[
    tuple[Path, ...],
    arg(help="recordings of the target speaker, or one .voice file; default: the source", metavar="REF"),
]


Sources = Positional[tuple[Path, ...]]


Output = Annotated[str, arg(metavar="PATH")]
"""As typed, since a slash at the end says that it is a folder."""


Format = Annotated[
    Literal["wav", "flac", "ogg", "opus", "mp3"] | None,
    arg(help="format of the outputs; default: by the suffix of --out, or wav"),
]


SampleRate = Annotated[
    int | None,
    arg(help="of the outputs, in Hz; above that of the weights, the default, higher bands are generated"),
]


Subtype = Annotated[
    str | None,
    arg(help="libsndfile's name of an encoding, such as PCM_24 or FLOAT; default: 16 bits", metavar="NAME"),
]


Jobs = Annotated[int, arg(help="recordings converted at a time")]


OptionalJobs = Annotated[
    int | None, arg(help="recordings converted at a time; default: 1, or with --ray one on each core")
]


Ray = Annotated[
    str | None,
    arg(
        help="address of a Ray cluster that does the work: local, auto or HOST:PORT; default: none",
        metavar="ADDRESS",
    ),
]


def load_converter(model: str, device: str) -> Converter:
    """Load a model to a device. Raises VcaeError."""
    check_device(device)
    return load(model, device)


def check_device(device: str) -> None:
    """Raise VcaeError if a device is not available."""
    import torch

    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError):
        raise VcaeError(f"device '{device}' is not available; use --device cpu") from None
