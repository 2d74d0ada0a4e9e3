"""Evaluate the bandwidth extender, and write its table of RESTORATION.md.

    python recipes/evaluate_bandwidth.py --corpora ~/corpora --write-page

`--corpora` holds `vctk-sample`, whose four speakers at 48 kHz were kept from training
(`recipes/bandwidth.py`). Each recording is resampled to 16 kHz and extended again.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from bandwidth import HELD_OUT
from evaluate_bundled import write_part
from evaluate_restoration import PAGE, band_distance
from torch import Tensor

from vcae.audio import Audio, Samples, concatenate, read, resample
from vcae.cli import console
from vcae.corpora.layouts import read_corpora
from vcae.errors import VcaeError
from vcae.inference.checkpoint import BUNDLED, load
from vcae.inference.output import extended
from vcae.model.bandwidth import BandwidthExtender, BandwidthExtenderConfig
from vcae.model.state import Cache

WINDOW = 1536  # samples, 32 ms
BINS = slice(256, 640)  # of this window: 8 to 20 kHz


@dataclass(frozen=True)
class Options:
    """What to evaluate, and where to write."""

    corpora: Path
    """Folder with the unpacked corpus vctk-sample."""
    weights: Path = BUNDLED / "bandwidth.safetensors"
    """The bandwidth extender."""
    listen: Path | None = None
    """Folder to which the recordings are written."""
    write_page: bool = False
    """Write the table into RESTORATION.md."""


def main(options: Options) -> None:
    """Extend all recordings, and print the table. Raises VcaeError."""
    extender = load(options.weights, BandwidthExtender, BandwidthExtenderConfig)
    rate, wide = extender.sample_rate, extender.output_rate
    found = [u for u in read_corpora(options.corpora, ["vctk-sample"]) if u.speaker in HELD_OUT]
    if not found:
        raise VcaeError(f"{options.corpora}: holds no vctk-sample; unpack it there")
    clean = {u.id: read(u.path, wide).samples for u in console.track(found, "reading")}
    baseline = AtLevels(extender.config)
    energies = torch.cat([extender.wide_energies(torch.from_numpy(x)[None, None]) for x in clean.values()], 2)
    baseline.levels = energies.mean(2, keepdim=True)
    systems: dict[str, Callable[[Samples], Samples]] = {
        "sinc resampling": lambda x: resample(x, rate, wide),
        "copy at the mean level of each band": lambda x: concatenate(extended([x], baseline)),
        "vcae": lambda x: concatenate(extended([x], extender)),
    }
    lines = ["| | LSD | level error | level correlation | CPU-s a second |", "|---|---|---|---|---|"]
    for name, system in systems.items():
        rows, seconds = [], 0.0
        for key, natural in console.track(clean.items(), name):
            narrow, start = resample(natural, wide, rate), time.process_time()
            made = system(narrow)[: len(natural)]
            seconds += time.process_time() - start
            rows.append([band_distance(natural, made, WINDOW, BINS), *level_scores(natural, made, extender)])
            if options.listen:
                options.listen.mkdir(parents=True, exist_ok=True)
                Audio(made, wide).write(options.listen / f"{key}-{name.replace(' ', '-')}.wav")
        scores = [f"{x:.2f}" for x in np.mean(rows, axis=0)]
        cost = seconds * wide / sum(map(len, clean.values()))
        lines.append(f"| {name} | {' | '.join(scores)} | {cost:.3f} |")
    print("\n".join(lines))
    if options.write_page:
        write_part("full band", "\n".join(lines), PAGE)


class AtLevels(BandwidthExtender):
    """A baseline whose bands have the same log-energies, (1, bands, 1), at all times."""

    levels: Tensor

    def predict(self, spectrum: Tensor, cache: Cache | None = None) -> Tensor:
        """(B, bins, T) -> (B, bands, T)."""
        return self.levels.expand(len(spectrum), -1, spectrum.shape[2])


def level_scores(natural: Samples, made: Samples, extender: BandwidthExtender) -> tuple[float, float]:
    """Mean error in dB of the bands' levels, window by window, and their correlation over time.

    Levels below -60 dB of the natural recording's loudest count as these.
    """
    wanted, found = (extender.wide_energies(torch.from_numpy(x)[None, None])[0] for x in (natural, made))
    floor = wanted.max() - 6 * np.log(10)
    # The first band begins at 7.2 kHz.
    wanted, found = (energies.clamp(min=floor)[1:] for energies in (wanted, found))
    error = float((found - wanted).abs().mean()) * 10 / np.log(10)
    bands = [pair for pair in zip(wanted.numpy(), found.numpy(), strict=True) if pair[0].std() > 1e-3]
    correlations = [np.corrcoef(pair)[0, 1] if pair[1].std() > 1e-3 else 0.0 for pair in bands]
    return error, float(np.mean(correlations))


if __name__ == "__main__":
    with console.in_one_line():
        main(tyro.cli(Options, description=__doc__))
