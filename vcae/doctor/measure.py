"""What the doctor measures of one recording."""

import hashlib
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib.stride_tricks import sliding_window_view

from vcae.audio import Samples, is_silent, loudness, read, resample, speech_seconds
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
_MAINS = (50, 60)  # Hz
_INAUDIBLE = 1e-8  # mean square, -80 dBFS
_WINDOW = 0.064  # seconds, of the spectra
_STEP = 0.5  # windows from one spectrum to the next
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
    if facts["silent"] or audio.duration < 2 * _WINDOW:
        return Measurement(**facts)
    narrow = x if rate == RATE else resample(x, rate, RATE)
    facts |= {
        "level": loudness(x, rate),
        "peak": _db(float(np.abs(x).max()) ** 2),
        "clipped": clipped_share(x),
        "noise": noise_level(x, rate),
        "bandwidth": bandwidth(x, rate),
        "hum": hum(x, rate),
        **_mel_facts(narrow),
    }
    if texts and utterance.text and utterance.language == "en":
        facts["text"] = text_score(narrow, RATE, utterance.text)
    return Measurement(**facts)


def clipped_share(x: Samples) -> float:
    """Share of the samples (N,) in runs of three or more within 1 % of the peak of their sign.

    Natural peaks are sharper; those of clipped speech are cut at one level.
    """
    share = 0
    for side in (x, -x):
        peak = side.max()
        if peak > 0:
            high = np.flatnonzero(side >= 0.99 * peak)
            borders = np.flatnonzero(np.diff(high, prepend=-2, append=high[-1] + 2) > 1)
            runs = np.diff(borders)
            share += int(runs[runs >= 3].sum())
    return share / len(x)


def noise_level(x: Samples, rate: int) -> float:
    """Level in dBFS of the quietest tenth of the frames of 20 ms, less those of digital silence."""
    size = rate // 50
    frames = x[: len(x) // size * size].reshape(-1, size)
    powers = np.sort(frames.var(axis=1))
    powers = powers[powers > 1e-10]  # -100 dBFS
    return _db(float(powers[: len(powers) // 10 + 1].mean())) if len(powers) else -100.0


def spectra(x: Samples, rate: int, window: float) -> Array:
    """Power spectra of (N,): (T, bins), from windows of so many seconds that overlap by half."""
    size = min(len(x), round(window * rate))
    frames = sliding_window_view(x, size)[:: max(1, round(size * _STEP))]
    shape = np.hanning(size).astype(np.float32)
    power: Array = np.abs(np.fft.rfft((frames - frames.mean(axis=1, keepdims=True)) * shape)) ** 2
    return power


def bandwidth(x: Samples, rate: int) -> float:
    """The highest frequency in Hz at which the loud moments of each band stand out of its quiet ones.

    A band counts where its 95th percentile over time is within 60 dB of the strongest band's, and 6 dB over
    its own 20th percentile: noise that is always there is no speech.
    """
    power = spectra(x, rate, _WINDOW)
    width = max(1, round(100 / (rate / 2 / (power.shape[1] - 1))))  # bins in 100 Hz
    count = (power.shape[1] - 1) // width
    bands = power[:, 1 : 1 + count * width].reshape(len(power), count, width).mean(axis=2)
    loud, quiet = np.percentile(bands, [95, 20], axis=0)
    speech = (loud > 1e-6 * loud.max()) & (loud > 4 * quiet)
    return float((np.flatnonzero(speech)[-1] + 1) * rate / 2 / count) if speech.any() else 0.0


def hum(x: Samples, rate: int) -> float:
    """How far a steady tone of the mains stands out of its surroundings, in dB: the mean of two harmonics.

    Of the multiples of 50 and 60 Hz up to 300 Hz, the two that stand out most of the same mains count. Voices
    move, so the quietest fifth of the windows of half a second tells hum from speech.
    """
    size = round(0.5 * rate)
    if len(x) < 2 * size:
        return float("nan")
    step = size / rate  # bins a Hz
    quiet = np.percentile(spectra(x, rate, 0.5)[:, : round(330 * step)], 20, axis=0)
    found = 0.0
    for mains in _MAINS:
        over = []
        for line in range(mains, 301, mains):
            at = round(line * step)
            around = np.r_[quiet[at - round(16 * step) : at - 3], quiet[at + 4 : at + round(16 * step) + 1]]
            tone = quiet[at - 1 : at + 2].max()
            audible = 8 * tone / size**2 > _INAUDIBLE  # else it is rounding in digital silence
            over.append(_db(float(tone / np.median(around))) if audible else 0.0)
        found = max(found, float(np.mean(sorted(over)[-2:])))
    return found


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


def _db(power: float) -> float:
    return float(10 * np.log10(max(power, 1e-20)))
