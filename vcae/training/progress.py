"""The progress line of a training run."""

import time
from typing import Any

from rich.console import Console
from torch import Tensor


class ProgressLine:
    """Step, speed, hours of audio an hour and losses: a live line on a terminal, else a line a minute."""

    def __init__(self, console: Console, stage: str, sample_rate: int) -> None:
        self.console, self.stage, self.sample_rate = console, stage, sample_rate
        self.status = console.status("") if console.is_terminal else None
        if self.status:
            self.status.start()
        self.shown = time.monotonic()
        self.steps, self.seconds = 0, 0.0

    def __enter__(self) -> "ProgressLine":
        return self

    def __exit__(self, *_: object) -> None:
        if self.status:
            self.status.stop()

    def update(self, step: int, progress: float, losses: dict[str, Tensor], batch: Any) -> None:
        """After each step; shows something every second (a terminal) or minute."""
        wav = batch[0]  # (B, 1, N)
        self.steps += 1
        self.seconds += wav.shape[0] * wav.shape[-1] / self.sample_rate
        since = time.monotonic() - self.shown
        if since < (1 if self.status else 60) and progress < 1:
            return
        values = "  ".join(f"{n} {value_of(x):.3f}" for n, x in losses.items())
        text = (
            f"{self.stage} {step} ({progress:.0%})  "
            f"{self.steps / since:.2f} steps/s  {self.seconds / since:.0f} h/h  {values}"
        )
        if self.status:
            self.status.update(text)
        else:
            self.console.print(text, highlight=False, soft_wrap=True)
        self.shown, self.steps, self.seconds = time.monotonic(), 0, 0.0


def value_of(x: Tensor | float) -> float:
    """The number in a scalar tensor, or the number itself."""
    return float(x.detach() if isinstance(x, Tensor) else x)
