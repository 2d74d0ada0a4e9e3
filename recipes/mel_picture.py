"""Draw the picture of the README: mel spectrograms of a source, a target and the conversion.

python recipes/mel_picture.py SOURCE TARGET --out demo/mels.png
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch
import tyro
from tyro.conf import Positional

import vcae
from vcae.audio import read


def main(source: Positional[Path], target: Positional[Path], out: Path) -> None:
    """Draw three mel spectrograms, one below the other, with one time axis and one colour scale."""
    converter = vcae.load()
    rate = converter.sample_rate
    recordings = {
        f"source: {source.stem}": read(source, rate),
        f"target: {target.stem}": read(target, rate),
        "converted": converter.convert(source, target),
    }
    longest = max(audio.duration for audio in recordings.values())
    figure, axes = plt.subplots(len(recordings), 1, figsize=(9, 6), sharex=True, layout="constrained")
    for axis, (title, audio) in zip(axes, recordings.items(), strict=True):
        mel = converter.log_mel(torch.from_numpy(audio.samples)[None, None])[0].numpy()
        axis.imshow(
            mel,
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=-5,
            vmax=4,
            extent=(0, audio.duration, 0, 80),
        )
        axis.set(title=title, ylabel="mel band", xlim=(0, longest))
    axes[-1].set_xlabel("seconds")
    figure.savefig(out, dpi=80)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
