"""Bandwidth extension: speech sampled at 16 kHz becomes speech of 48 kHz.

As in spectral band replication (Dietz et al., 2002), the fine structure above the input's own band is a copy
of the band below, and only the energies of bands are set. There the encoder transmits them; here a network
predicts them from the spectrum of the input.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from vcae.model.config import MelConfig
from vcae.model.layers import ChannelNorm, Conv1d, Pointwise, Stack
from vcae.model.mel import magnitude
from vcae.model.spectrum import inverse_stft, stft
from vcae.model.state import Cache, delay

_MEAN, _STD = -4.0, 2.0
"""Of the log-magnitudes of speech at `vcae.audio.LEVEL`."""
_FLOOR = 1e-10
"""Of energies."""


@dataclass(frozen=True)
class BandwidthExtenderConfig:
    """Sizes of a `BandwidthExtender`."""

    mel: MelConfig = field(default_factory=MelConfig)
    """The mel of the networks that make its input, for the sample rate."""
    factor: int = 3
    """Sample rate of the output, as a multiple of that of the input."""
    win_length: int = 256
    """Window in samples of the input: 16 ms, because bursts are short."""
    delay: int = 4
    """The look-ahead in windows, which start a quarter of their length apart."""
    width: int = 96
    """Channels."""
    hidden: int = 192
    """Hidden channels of a block."""
    dilations: tuple[int, ...] = (1, 2, 4, 8)
    """Dilations of the blocks."""
    crossover: float = 7200.0
    """In Hz: the output is the input below and generated above. Resamplers are flat up to here."""
    top: float = 20_000.0
    """In Hz: nothing is generated above, where nothing is heard, and codecs of training data keep nothing."""
    spacing: float = 1000.0
    """Distance of the bands' centres in Hz; the first is at the crossover."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "dilations", tuple(self.dilations))  # a list, when it comes from JSON


class BandwidthExtender(nn.Module):
    """wav (B, 1, N) -> wav (B, 1, factor * N), late by `delay` samples of the input; causal.

    N is a multiple of `step`.
    """

    window: Tensor
    wide_window: Tensor
    source: Tensor
    bands: Tensor
    interpolation: Tensor

    def __init__(self, config: BandwidthExtenderConfig) -> None:
        super().__init__()
        c = self.config = config
        self.sample_rate = c.mel.sample_rate
        """Of the input, in Hz."""
        self.output_rate = c.factor * self.sample_rate
        """Of the output, in Hz."""
        self.step = c.win_length // 4
        """Samples of the input from one window to the next."""
        self.delay = (c.delay + 3) * self.step
        """Delay of the output, in samples of the input."""
        bins = c.win_length // 2 + 1
        hertz = torch.arange(0, c.top, self.sample_rate / c.win_length)
        first = int((hertz < c.crossover).sum())  # bin that is generated
        # Copies are moved by multiples of four bins, so that the phases of successive windows stay in step.
        shift = first // 2 // 4 * 4
        index = torch.arange(len(hertz))
        source = torch.where(index < first, index, first - shift + (index - first) % shift)
        self.register_buffer("source", source, persistent=False)  # (wide,), bins of the input
        centres = torch.arange(c.crossover, c.top, c.spacing)
        triangles = (1 - (hertz[:, None] - centres).abs() / c.spacing).clamp(min=0)
        triangles[:first] = 0
        interpolation = triangles / triangles.sum(1, keepdim=True).clamp(min=1e-9)
        self.register_buffer("interpolation", interpolation, persistent=False)  # (wide, bands)
        self.register_buffer("bands", (triangles / triangles.sum(0)).T.contiguous(), persistent=False)
        self.register_buffer("window", torch.hann_window(c.win_length), persistent=False)
        self.register_buffer("wide_window", torch.hann_window(c.factor * c.win_length), persistent=False)
        self.input = Conv1d(bins, c.width, 3)
        self.blocks = Stack(c.width, c.hidden, c.dilations)
        self.norm = ChannelNorm(c.width)
        self.energies = Pointwise(c.width, len(centres))

    def forward(self, wav: Tensor, cache: Cache | None = None) -> Tensor:
        """(B, 1, N) -> (B, 1, factor * N)."""
        c = self.config
        seen = stft(wav, self.window, cache, (self, "samples"))
        wanted = self.predict(seen, cache)
        made = delay(seen, c.delay, cache, (self, "spectrum"))[:, self.source]  # (B, wide, T)
        gain = self.interpolation @ (wanted - self.band_energies(made)) / 2  # zero below the crossover
        made = c.factor * made * gain.clamp(max=12).exp()
        return inverse_stft(made, self.wide_window, cache, (self, "frames"))

    def predict(self, spectrum: Tensor, cache: Cache | None = None) -> Tensor:
        """Log-energies of the bands, `config.delay` windows late: complex (B, bins, T) -> (B, bands, T)."""
        level = (magnitude(spectrum) + 1e-5).log()
        x = self.blocks(self.input((level - _MEAN) / _STD, cache), cache)
        energies: Tensor = self.energies(self.norm(x)).float()
        return 2 * (_MEAN + _STD * energies)

    def band_energies(self, spectrum: Tensor) -> Tensor:
        """Log of the mean energy in each band: complex (B, wide, T) -> (B, bands, T)."""
        power = spectrum.real.square() + spectrum.imag.square()
        return (self.bands @ power).clamp(min=_FLOOR).log()

    def wide_energies(self, wav: Tensor) -> Tensor:
        """Log-energies of the bands of speech at `output_rate`: (B, 1, factor * N) -> (B, bands, T)."""
        spectrum = stft(wav, self.wide_window / self.config.factor)
        return self.band_energies(spectrum[:, : len(self.source)])
