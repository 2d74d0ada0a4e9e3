"""What the doctor measures of one recording."""

import hashlib
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vcae.audio import Samples, is_silent, loudness, read, resample, speech_seconds
from vcae.audio.level import decibels
from vcae.audio.measures import WINDOW, bandwidth, clipped_share, hum, noise_level
from vcae.corpora.phones import text_score
from vcae.corpora.utterance import Utterance
from vcae.doctor.containers import is_truncated
from vcae.errors import AudioError
from vcae.inference.encoders import SpeakerEncoder
from vcae.model.mel import LogMel

Array = npt.NDArray[np.floating[Any]]

RATE = 16_000
"""Sample rate in Hz of the speaker encoder, the fingerprint and the text check."""
LONGEST = 3600.0
"""Files longer than this, in seconds, are not measured."""
CODE_SECONDS = 20.0
"""The speaker code is of the first so many seconds."""
_FINGERPRINT = (16, 24)  # bands, frames
_DEEPEST = 6.0  # nepers below the peak, to which a fingerprint reaches


@dataclass(frozen=True)
class Measurement:
    """What is known of a recording. Levels are in dBFS; nan or None where it cannot be measured."""

    error: str | None = None
    """Why the file cannot be read, without its name; then the rest is not measured."""
    rate: int = 0
    """Sample rate in Hz."""
    seconds: float = 0.0
    speech: float = 0.0
    """Seconds that are within 40 dB of the loudest."""
    truncated: bool = False
    """Whether the file ends before its container says."""
    silent: bool = False
    """Whether all samples are below -60 dBFS."""
    level: float = float("nan")
    """`vcae.audio.loudness`."""
    peak: float = float("nan")
    clipped: float = float("nan")
    """Share of the samples that lie in runs at the peak."""
    noise: float = float("nan")
    """Level of the quietest tenth of the frames."""
    bandwidth: float = float("nan")
    """Highest frequency in Hz of the speech; above it there is nothing but noise or nothing at all."""
    dc: float = float("nan")
    """Mean of the samples, 1 is full scale."""
    hum: float = float("nan")
    """Level of a steady tone at 50 or 60 Hz or their multiples over its surroundings, in dB."""
    text: float | None = None
    """`vcae.corpora.phones.text_score`; None for no text, or one that is not English."""
    digest: bytes = b""
    """Hash of the samples as 16-bit integers, without silence at the ends."""
    fingerprint: Array = field(default_factory=lambda: np.zeros(0, np.float16))
    """(384,), unit norm: the mel in coarse steps. Copies in other formats and levels have nearly the same."""
    code: Array = field(default_factory=lambda: np.zeros(0, np.float16))
    """(E,), unit norm: the speaker code; empty where there is no speech."""

    @property
    def snr(self) -> float:
        """Level over noise, in dB."""
        return self.level - self.noise


def measure(utterance: Utterance, texts: bool = True) -> Measurement:
    """Measure a recording. texts: whether its text is compared with it. Never raises for a bad file."""
    try:
        audio = read(utterance.path, longest=LONGEST)
    except AudioError as error:
        cut_off = utterance.path.is_file() and is_truncated(utterance.path, 0.0)  # as a FLAC may be
        return Measurement(str(error).removeprefix(f"{utterance.path}: "), truncated=cut_off)
    x, rate = audio.samples, audio.sample_rate
    facts: dict[str, Any] = {
        "rate": rate,
        "seconds": audio.duration,
        "speech": speech_seconds(x, rate),
        "truncated": is_truncated(utterance.path, audio.duration),
        "silent": is_silent(x),
        "dc": float(x.mean()),
        "digest": _digest(x),
    }
    if facts["silent"] or audio.duration < 2 * WINDOW:
        return Measurement(**facts)
    narrow = x if rate == RATE else resample(x, rate, RATE)
    facts |= {
        "level": loudness(x, rate),
        "peak": decibels(float(np.abs(x).max())),
        "clipped": clipped_share(x),
        "noise": noise_level(x, rate),
        "bandwidth": bandwidth(x, rate),
        "hum": hum(x, rate),
        **_mel_facts(narrow),
    }
    if texts and utterance.text and utterance.language == "en":
        facts["text"] = text_score(narrow, RATE, utterance.text)
    return Measurement(**facts)


def _mel_facts(narrow: Samples) -> dict[str, Any]:
    """Speaker code and fingerprint, of (N,) at RATE."""
    encoder, log_mel = _networks()
    with torch.inference_mode():
        mel = log_mel(torch.from_numpy(narrow)[None, None])  # (1, n_mels, T)
        code = encoder(mel[..., : round(CODE_SECONDS * log_mel.config.frame_rate)])[0]
    # What codecs and levels change: edges, quiet parts, the highest bands.
    mel = (mel - mel.max()).clamp(min=-_DEEPEST)[:, : 3 * mel.shape[1] // 4]
    sound = (mel.mean(1)[0] > 0.1 - _DEEPEST).nonzero()
    mel = mel[..., sound[0, 0] : sound[-1, 0] + 1] if len(sound) else mel
    coarse = torch.nn.functional.adaptive_avg_pool2d(mel, _FINGERPRINT).flatten()
    coarse = torch.nn.functional.normalize(coarse - coarse.mean(), dim=0)
    return {"code": code.half().numpy(), "fingerprint": coarse.half().numpy()}


@cache
def _networks() -> tuple[SpeakerEncoder, LogMel]:
    encoder = SpeakerEncoder.from_pretrained()
    return encoder, LogMel(encoder.mel)


def _digest(x: Samples) -> bytes:
    values = np.rint(x * 32767).astype(np.int16)
    sound = np.flatnonzero(values)
    return hashlib.blake2b(values[sound[0] : sound[-1] + 1].tobytes() if len(sound) else b"").digest()[:16]
