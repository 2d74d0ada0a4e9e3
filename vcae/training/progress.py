"""The progress line of a training run."""

import time

from rich.console import Console
from torch import Tensor


class ProgressLine:
    """Step, speed, hours of speech an hour and losses: a live line on a terminal, else a line a minute."""

    def __init__(self, console: Console, stage: str) -> None:
        self.console, self.stage = console, stage
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

    def update(self, step: int, progress: float, losses: dict[str, Tensor], seconds: float) -> None:
        """Call after each step, with the seconds of speech in it. Shows something every second or minute."""
        self.steps += 1
        self.seconds += seconds
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
