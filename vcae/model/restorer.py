"""One network that restores speech: from noise, from the telephone, from a whisper or a monotone.

It reads the spectrum of corrupted speech and predicts, `delay` frames late, two descriptions of the clean
speech: a mask on the spectrum that it read, as denoisers do (Wang and Chen, 2018), and the input of a
`Vocoder`, log-mel and prosody, as a denoising autoencoder does (Vincent et al., 2008). The mask serves where
the input still holds the speech, the vocoder where it does not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcae.model.config import MelConfig
from vcae.model.harmonics import HarmonicTemplate
from vcae.model.layers import ChannelNorm, Conv1d, Modulation, Pointwise, Stack
from vcae.model.mel import magnitude
from vcae.model.prosody import F0_CEIL, F0_FLOOR, LOG_MIDDLE, energy_of
from vcae.model.spectrum import inverse_stft, stft
from vcae.model.state import Cache, delay
from vcae.model.vocoder import Vocoder

Task = Literal["denoise", "superres", "revoice"]
"""What a recording is restored from: noise and rooms; telephone bandwidth; missing or flat voicing."""
TASKS: tuple[Task, ...] = get_args(Task)
_SHARPEN = 2.0
"""Exponent of the pitch probabilities, as in the prosody encoder."""
_MEAN, _STD = -3.7, 1.9
"""Of the log-magnitudes of speech at `vcae.audio.LEVEL`."""


@dataclass(frozen=True)
class RestorerConfig:
    """Sizes of a `Restorer`, and settings that its weights were trained or tuned for."""

    mel: MelConfig = field(default_factory=MelConfig)
    delay: int = 8
    """The look-ahead L in mel frames: output frame t describes frame t - L."""
    width: int = 256
    """Channels."""
    hidden: int = 512
    """Hidden channels of a block."""
    dilations: tuple[int, ...] = (1, 1, 2, 2, 4, 4, 8, 8)
    """Dilations of the blocks."""
    pitches: int = 128
    """Number of pitches that the prediction of F0 distinguishes."""
    floor_db: float = -40.0
    """Lowest gain of the mask."""
    makeup_db: float = 0.0
    """Gain of the masked spectrum where the predicted mel permits it, since a mask attenuates speech, too."""
    crossover: tuple[float, float] = (3300.0, 3700.0)
    """In Hz: widened speech is the input below the first and generated above the second frequency."""
    spread: float = 1.0
    """Factor on the deviation of predicted F0 from its mean, since a prediction varies less than speech."""

    def __post_init__(self) -> None:
        for name in ("dilations", "crossover"):  # lists, when they come from JSON
            object.__setattr__(self, name, tuple(getattr(self, name)))


class Restoration(NamedTuple):
    """What a `Restorer` predicts of clean speech.

    mask: gain of each bin, 0 to 1, (B, bins, T). envelope, depth: (B, n_mels, T), standardised log-mel
    without its harmonics, and the weight of these. pitch: logits (B, pitches, T). voicing: logits (B, 1, T).
    """

    mask: Tensor
    envelope: Tensor
    depth: Tensor
    pitch: Tensor
    voicing: Tensor


class Restorer(nn.Module):
    """Spectrum (B, bins, T) of corrupted speech -> `Restoration`, `config.delay` frames late; causal.

    bins = win_length / 2 + 1. Raises ValueError unless hop_length is a quarter of win_length.
    """

    window: Tensor
    pitches: Tensor
    generated: Tensor

    def __init__(self, config: RestorerConfig) -> None:
        super().__init__()
        c, mel = config, config.mel
        if mel.win_length != 4 * mel.hop_length:
            raise ValueError("the restorer needs a mel whose hop_length is a quarter of its win_length")
        self.config = config
        self.delay = c.delay * mel.hop_length + mel.win_length - mel.hop_length
        """Delay of a restored waveform, in samples."""
        bins = mel.win_length // 2 + 1
        self.input = Conv1d(bins, c.width, 3)
        self.blocks = Stack(c.width, c.hidden, c.dilations, condition=len(TASKS) + 2)
        self.norm = ChannelNorm(c.width)
        self.mask = Pointwise(c.width, bins)
        nn.init.constant_(self.mask.bias, 2.0)  # starts with little suppression
        self.mel = Pointwise(c.width, 2 * mel.n_mels)
        self.prosody = Pointwise(c.width, c.pitches + 1)
        self.harmonics = HarmonicTemplate(mel)
        self.register_buffer("window", torch.hann_window(mel.win_length), persistent=False)
        pitches = torch.linspace(math.log(F0_FLOOR), math.log(F0_CEIL), c.pitches)
        self.register_buffer("pitches", pitches, persistent=False)
        low, high = c.crossover
        hertz = torch.linspace(0, mel.sample_rate / 2, bins)[:, None]
        self.register_buffer("generated", ((hertz - low) / (high - low)).clamp(0, 1), persistent=False)

    def conditions(self, tasks: Sequence[Task], centre: Tensor | None = None) -> list[Modulation]:
        """What the network is told: the task of each example, and where its voice lies.

        centre: (B,), mean log-F0 of the voice, NaN where unknown; None: unknown.
        """
        device = self.window.device
        index = torch.tensor([TASKS.index(task) for task in tasks], device=device)
        place = torch.full((len(tasks),), torch.nan, device=device) if centre is None else centre
        known = ~place.isnan()
        offset = ((place.float() - LOG_MIDDLE) / 0.5).where(known, 0.0)
        condition = [F.one_hot(index, len(TASKS)).float(), known[:, None].float(), offset[:, None]]
        return self.blocks.modulations(torch.cat(condition, dim=1))

    def spectrum(self, wav: Tensor, cache: Cache | None = None) -> Tensor:
        """STFT in the geometry of the mel: (B, 1, N) -> complex (B, bins, N / hop_length)."""
        return stft(wav, self.window, cache, (self, "samples"))

    def waveform(self, spectrum: Tensor, cache: Cache | None = None) -> Tensor:
        """Inverse of `spectrum`, win_length - hop_length samples late: (B, bins, T) -> (B, 1, N)."""
        return inverse_stft(spectrum, self.window, cache, (self, "frames"))

    def forward(
        self, spectrum: Tensor, conditions: Sequence[Modulation], cache: Cache | None = None
    ) -> Restoration:
        """Complex (B, bins, T), output of `conditions` -> `Restoration`."""
        level = (magnitude(spectrum) + self.config.mel.floor).log()
        x = self.blocks(self.input((level - _MEAN) / _STD, cache), cache, conditions)
        x = self.norm(x)
        envelope, depth = self.mel(x).float().chunk(2, dim=1)
        prosody = self.prosody(x).float()
        mask = self.mask(x).float().sigmoid()
        return Restoration(mask, envelope, depth, prosody[:, :-1], prosody[:, -1:])

    def masked(self, seen: Tensor, out: Restoration) -> Tensor:
        """What `delayed` made of the spectrum that was read, under the mask: complex (B, bins, T)."""
        floor = 10 ** (self.config.floor_db / 20)
        return seen * out.mask.clamp(min=floor)

    def limited(self, seen: Tensor, out: Restoration, mel: Tensor, vocoder: Vocoder) -> Tensor:
        """The masked spectrum, `config.makeup_db` louder, where no band of `vocoder` exceeds a log-mel.

        seen: as for `masked`. mel: (B, n_mels, T). Returns complex (B, bins, T).
        """
        makeup = 10 ** (self.config.makeup_db / 20)
        return vocoder.shaped(makeup * self.masked(seen, out), mel, most=0.0)

    def delayed(self, spectrum: Tensor, cache: Cache | None = None) -> Tensor:
        """The spectrum, `config.delay` frames late."""
        return delay(spectrum, self.config.delay, cache, (self, "spectrum"))

    def log_mel(self, out: Restoration, prosody: Tensor) -> Tensor:
        """Log-mel (B, n_mels, T) of the predicted envelope with the harmonics of a prosody (B, 3, T)."""
        return self.config.mel.unstandardise(out.envelope + out.depth * self.harmonics(prosody))

    def vocoder_input(self, out: Restoration, centre: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Log-mel (B, n_mels, T) and prosody (B, 3, T), as predicted.

        centre: (B,), mean log-F0 about which F0 is spread by `config.spread`; None: it is not spread.
        """
        weights = (_SHARPEN * out.pitch).softmax(1)
        log_f0 = (weights * self.pitches[:, None]).sum(1, keepdim=True)  # (B, 1, T)
        if centre is not None:
            middle = centre[:, None, None]
            log_f0 = middle + self.config.spread * (log_f0 - middle)
        prosody = torch.cat([log_f0, out.voicing.sigmoid(), torch.zeros_like(log_f0)], dim=1)
        mel = self.log_mel(out, prosody)
        return mel, torch.cat([prosody[:, :2], energy_of(mel)], dim=1)

    def crossed(self, spectrum: Tensor, generated: Tensor) -> Tensor:
        """The first spectrum below the crossover, the other above it: (B, bins, T) each."""
        return spectrum * (1 - self.generated) + generated * self.generated

    def copied(self, spectrum: Tensor) -> Tensor:
        """The band below the crossover, from its third part on, again and again above it: (B, bins, T).

        As spectral band replication (Dietz et al., 2002).
        """
        top = int((self.generated == 0).sum())
        bottom, bins = top // 3, torch.arange(len(self.generated), device=spectrum.device)
        return spectrum[:, torch.where(bins < top, bins, bottom + (bins - bottom) % (top - bottom))]
