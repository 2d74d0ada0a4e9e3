"""Recordings in a report: a player and a mel picture each, inside of the HTML file."""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
import soundfile
import torch
from matplotlib import colormaps
from PIL import Image

from vcae.audio import Samples, read
from vcae.errors import AudioError
from vcae.model.config import MelConfig
from vcae.model.mel import LogMel

RATE = 16_000
"""Sample rate in Hz of the players and mel pictures."""
MAX_SECONDS = 30
"""Longest clip of a player; the report holds only the first part of a longer recording."""
LOUD, QUIET = 4.0, -5.0
"""Log magnitudes at the two ends of the colour scale of a mel picture."""


@dataclass(frozen=True)
class Clip:
    """A recording with player and mel picture."""

    seconds: float
    sound: str
    """A data URI: MP3, which every browser plays."""
    picture: str
    """A data URI: the mel spectrogram, one pixel for each frame."""
    cut: bool
    """Whether the recording is longer than the clip."""


Clips: TypeAlias = Callable[..., Clip | str]
"""Takes a path, or None where there is no recording, and the second from which on it is shown."""


def clip_reader(max_seconds: float = MAX_SECONDS) -> Clips:
    """A function that reads a clip, each file once, or returns the reason why it cannot be read."""
    log_mel = LogMel(MelConfig(hop_length=320))  # 50 pixels a second
    palette = (colormaps["magma"](np.arange(256))[:, :3] * 255).astype(np.uint8)

    @cache
    def clip(path: Path | None, start: float = 0.0) -> Clip | str:
        if path is None:
            return "there is no recording"
        try:
            samples = read(path, RATE).samples[round(start * RATE) :]
        except AudioError as error:
            return str(error)
        played = samples[: round(max_seconds * RATE)]
        mel = log_mel(torch.from_numpy(played)[None, None])[0].numpy()
        levels = np.clip((mel - QUIET) / (LOUD - QUIET), 0, 1) * 255
        image = Image.fromarray(levels[::-1].astype(np.uint8))
        image.putpalette(palette.tobytes())
        picture = io.BytesIO()
        image.save(picture, "PNG", optimize=True)
        return Clip(
            len(played) / RATE,
            _data_uri("audio/mpeg", _mp3(played)),
            _data_uri("image/png", picture.getvalue()),
            len(played) < len(samples),
        )

    return clip


def _mp3(samples: Samples) -> bytes:
    sound = io.BytesIO()
    soundfile.write(sound, samples.clip(-1, 1), RATE, format="MP3", subtype="MPEG_LAYER_III")
    return sound.getvalue()


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
