"""References as people have them: where a recording holds speech, and what is wrong with it."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vcae.audio import Audio, loudness
from vcae.audio.measures import bandwidth, clipped_share, noise_level
from vcae.model.speaker import SpeakerEncoder

Array = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]

DOUBTS = {
    "short": "holds little speech; ten seconds of speech are better",
    "noisy": "is noisy; record it closer, in a quiet room",
    "clipped": "is clipped, since it was recorded too loud; record it again, with less gain",
    "two voices": "may hold two voices; give one person alone",
    "narrow band": "holds no speech above 4 kHz, as by telephone; give a recording of a wider band",
    "music": "may hold music; give speech alone",
    "another voice": "sounds like another speaker than the other references; give one person's",
}
"""What may be wrong with a reference, and how to do better."""

EXAMINED = 60.0
"""Seconds of a reference that are examined."""
DOUBTED = 0.3
"""Factor on the weight of a reference among several for each doubt about it."""
SHORT = 1.5
"""Seconds of voiced speech below which a reference is short; three seconds of talk hold so much."""
NOISY = 15.0
"""Level of speech over that of the quietest tenth, in dB, below which a reference is noisy."""
CLIPPED = 0.001
"""Share of the samples at the peak, from which on a reference is clipped; the doctor's limit."""
NARROW = 4400.0
"""Bandwidth of speech in Hz below which a reference is of narrow band."""
ONE_VOICE = 0.35
"""Cosine between two groups of windows below which a reference may hold two voices.

Of 15 recordings of one development speaker the lowest has .33, and one in twenty less than .40; of 30 of two
such speakers one in twenty has more than .32.
"""
LIVELY, STEADY = 0.6, 0.42
"""Music is less lively than the one, and its F0 steadier than the other.

Set on 115 recordings of speech and 40 excerpts of music, none of them held out.
"""

LAG = 10
"""Mel frames over which `change_of` measures how a spectrum moves."""

_SECOND = 100  # mel frames in about a second
_MOVING = 0.4  # least `change_of` speech, in noise too
_MOST = 1.0  # of `change_of` that counts, so that a chord does not move since it starts
_AROUND = 50  # frames around voiced speech that belong to it
_ACTIVE = 4.6  # nepers (40 dB) below the loudest frame: quieter frames are pauses
_WINDOW, _STEP = 160, 80  # frames of the speaker codes that are compared
_LEAST = 3  # windows of each voice of two


def speech_mask(change: Tensor, prosody: Tensor) -> Mask:
    """Which frames belong to speech: `change_of` its mel (T,), prosody (3, T) -> (T,).

    These are the voiced frames whose spectrum moves, as it does not in a tone or a chord, and what is not
    voiced within half a second of them. So pauses of up to a second belong to speech.
    """
    voiced = _voiced(prosody)
    around = torch.ones(1, 1, 2 * _SECOND + 1)
    counts, sums = (
        torch.nn.functional.conv1d(x[None, None], around, padding=_SECOND)[0, 0]
        for x in (voiced.float(), voiced * change.clamp(max=_MOST))
    )
    speech = voiced & (sums >= _MOVING * counts)
    near = torch.nn.functional.max_pool1d(speech[None].float(), 2 * _AROUND + 1, stride=1, padding=_AROUND)
    mask: Mask = ((near[0] > 0) & (speech | ~voiced)).numpy()
    return mask


def change_of(mel: Tensor) -> Tensor:
    """Mean change of the bands over LAG frames: (n_mels, T) -> (T,). Of a tone below 0.3, of speech 1.5."""
    lag = min(LAG, mel.shape[-1] - 1)
    change = (mel[:, lag:] - mel[:, : mel.shape[-1] - lag]).abs().mean(0)
    return torch.nn.functional.pad(change[None], (lag, 0), mode="replicate")[0]


@dataclass(frozen=True)
class Quality:
    """What the first minute of a reference holds."""

    speech: float
    """Seconds of voiced speech."""
    snr: float
    """Level of speech over that of the quietest tenth, in dB."""
    clipped: float
    """Share of the samples that lie in runs at the peak."""
    bandwidth: float
    """Highest frequency of the speech in Hz."""
    lively: float
    """`change_of` the voiced frames times the standard deviation of log-energy: 1 to 2.2 in speech."""
    steady: float
    """Share of the voiced frames whose F0 stays within 0.3 semitones for 50 ms."""
    one_voice: float
    """Cosine between two groups of windows, 1 where there are too few windows."""

    @classmethod
    def of(cls, audio: Audio, mel: Tensor, prosody: Tensor, encoder: SpeakerEncoder) -> "Quality":
        """Measure a recording at its own rate, its mel (n_mels, T) and its prosody (3, T)."""
        x, rate = audio.samples, audio.sample_rate
        change = change_of(mel)
        voiced = _voiced(prosody) & torch.from_numpy(speech_mask(change, prosody))
        log_f0, energy = prosody[0], prosody[2]
        semitones = 12 / math.log(2) * (log_f0[5:] - log_f0[:-5]).abs()[voiced[5:] & voiced[:-5]]
        active = energy[energy > energy.max() - _ACTIVE]
        lively = change[voiced].mean() * active.std() if voiced.any() else torch.tensor(0.0)
        return cls(
            speech=float(voiced.sum()) / encoder.mel.frame_rate,
            snr=loudness(x, rate) - noise_level(x, rate),
            clipped=clipped_share(x),
            bandwidth=bandwidth(x, rate),
            lively=float(lively),
            steady=float((semitones < 0.3).float().mean()) if len(semitones) else 0.0,
            one_voice=_one_voice(mel, voiced, encoder),
        )

    @property
    def weight(self) -> float:
        """Of the recording among several of one speaker: its seconds of speech, less for each doubt."""
        return self.speech * DOUBTED ** len(self.doubts) + 1e-3

    @cached_property
    def doubts(self) -> tuple[str, ...]:
        """What may be wrong, keys of DOUBTS; none for a good reference."""
        found = {
            "short": self.speech < SHORT,
            "noisy": self.snr < NOISY,
            "clipped": self.clipped > CLIPPED,
            "two voices": self.one_voice < ONE_VOICE,
            "narrow band": self.bandwidth < NARROW,
            "music": self.lively < LIVELY and self.steady >= STEADY,
        }
        return tuple(name for name, is_so in found.items() if is_so)


def _voiced(prosody: Tensor) -> Tensor:
    """Voiced frames that are no pauses: (3, T) -> (T,), bool."""
    _, voicing, energy = prosody
    return (voicing > 0.5) & (energy > energy.max() - _ACTIVE)


def _one_voice(mel: Tensor, voiced: Tensor, encoder: SpeakerEncoder) -> float:
    """Cosine between the mean speaker codes of two groups of windows; 1 where there are too few windows."""
    if mel.shape[-1] < 2 * _LEAST * _STEP + _WINDOW:
        return 1.0
    windows = mel.unfold(-1, _WINDOW, _STEP).transpose(0, 1)  # (N, n_mels, W)
    spoken = voiced.float().unfold(-1, _WINDOW, _STEP).mean(-1) > 0.2
    if spoken.sum() < 2 * _LEAST:
        return 1.0
    device = next(encoder.parameters()).device
    second, cosine = split_in_two(encoder(windows[spoken].to(device)).cpu().double().numpy())
    return cosine if min(second.sum(), (~second).sum()) >= _LEAST else 1.0


def split_in_two(codes: Array) -> tuple[npt.NDArray[np.bool_], float]:
    """Split speaker codes (N, E) by 2-means: mask of the smaller group (N,), and cosine of the means."""
    centred = codes - codes.mean(axis=0)
    axis = np.linalg.svd(centred, full_matrices=False)[2][0]
    second = centred @ axis > 0
    for _ in range(10):
        if second.all() or not second.any():
            return np.zeros(len(codes), bool), 1.0
        first_mean, second_mean = (unit(codes[part].mean(axis=0)) for part in (~second, second))
        moved = codes @ second_mean > codes @ first_mean
        if (moved == second).all():
            break
        second = moved
    return (second if second.sum() <= len(second) / 2 else ~second), float(first_mean @ second_mean)


def unit(x: Array) -> Array:
    """A vector (E,) at unit norm."""
    return x / max(float(np.linalg.norm(x)), 1e-9)
