"""Draw the training and validation losses of a run folder, for the model card.

python recipes/curves.py runs/bundled --out vcae/weights/curves.png
"""

from pathlib import Path

import matplotlib.pyplot as plt
import tyro
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tyro.conf import Positional


def main(
    folder: Positional[Path], out: Path, losses: tuple[str, ...] = ("sketch", "mel", "pitch", "stft")
) -> None:
    """Draw one panel for each stage and loss.

    Args:
        folder: the run folder
        out: the picture to write
        losses: names of the losses, drawn for each stage that has them
    """
    panels = []
    for log in sorted((folder / "tensorboard").iterdir()):
        events = EventAccumulator(str(log)).Reload()
        tags = set(events.Tags()["scalars"])
        panels += [(log.name, loss, events) for loss in losses if f"validation/{loss}" in tags]
    figure, axes = plt.subplots(
        1, len(panels), figsize=(4 * len(panels), 3), layout="constrained", squeeze=False
    )
    for axis, (stage, loss, events) in zip(axes[0], panels, strict=True):
        for kind, style in (("train", {"alpha": 0.3}), ("validation", {"marker": "."})):
            points = events.Scalars(f"{kind}/{loss}") if f"{kind}/{loss}" in events.scalars.Keys() else []
            axis.plot([p.step for p in points], [p.value for p in points], label=kind, **style)
        axis.set(title=f"{stage}: {loss}", xlabel="step")
        axis.legend()
    figure.savefig(out, dpi=80)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
