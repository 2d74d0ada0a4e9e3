"""Pictures as HTML, as rows on one time axis, for any page width and for both themes.

Drawings scale with the page; text does not, so that it stays readable on a phone.
"""

import base64
import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vcae.model.prosody import F0_CEIL, F0_FLOOR

Array = NDArray[np.float32]

PAUSE = 4.6  # nepers (40 dB) below the loudest frame: quieter frames are pauses
COLUMNS = 600  # maximum number of columns of a picture
CHART = (256, 240)  # pixels of the map
MARGIN = 20  # pixels around its points
NAMED_SECOND = 220  # pixels of a second with names
LETTER = 8.0  # pixels of a letter of its labels, rather too many
LONGEST_NAME = 8  # letters of a sample voice, in any language
RAMP = [(0, 0, 4), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191)]  # dark to light: "magma"


Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom of a label, in pixels."""


@dataclass(frozen=True)
class Row:
    """A row of a picture: a label and a drawing (SVG) in a box of width `seconds` and height 100."""

    label: str
    drawing: str
    seconds: float
    height: int = 96  # pixels
    names: Sequence[tuple[float, float, str]] = field(default_factory=list)
    """Of what is below the drawing: start and end in seconds, and name."""


def figure(rows: Sequence[Row], caption: str, alt: str) -> str:
    """Rows one below the other on a time axis in seconds, as HTML.

    With names below a row, the picture is so wide that they can be read, and scrolls.
    """
    longest = max(row.seconds for row in rows)
    parts = [
        f'<div class="row"><div class="label">{html.escape(row.label)}</div>'
        f'<svg viewBox="0 0 {longest:.4f} 100" preserveAspectRatio="none" style="height: {row.height}px"'
        f' aria-hidden="true">{row.drawing}</svg>{_names(row, longest)}</div>'
        for row in rows
    ]
    ticks = "".join(
        f'<span style="left: {100 * t / longest:.2f}%">{t:g}{" s" if t == 0 else ""}</span>'
        for t in _ticks(longest)
    )
    drawn = f'{"".join(parts)}<div class="axis" aria-hidden="true">{ticks}</div>'
    label, caption = f'aria-label="{html.escape(alt)}"', f"<figcaption>{caption}</figcaption>"
    if not any(row.names for row in rows):
        return f'<figure class="picture" role="img" {label}>{drawn}{caption}</figure>'
    wide = f'<div style="min-width: {round(longest * NAMED_SECOND)}px">{drawn}</div>'
    return (
        f'<figure class="picture"><div class="wide" tabindex="0" role="region" {label}>{wide}</div>'
        f"{caption}</figure>"
    )


def _names(row: Row, longest: float) -> str:
    """The names below a row, as HTML; every second one is lower, so that short ones fit."""
    if not row.names:
        return ""
    spans = "".join(
        f'<span style="left: {100 * (start + end) / 2 / longest:.2f}%">{html.escape(name)}</span>'
        for start, end, name in row.names
    )
    return f'<div class="names" translate="no">{spans}</div>'


def heat(values: Array, seconds: float, low: float, high: float) -> str:
    """An image of (bands, T), with the first band at the bottom."""
    shown = np.clip((_thin(values) - low) / (high - low), 0, 1)
    stops = np.linspace(0, 1, len(RAMP))
    rgb = np.stack([np.interp(shown, stops, channel) for channel in np.transpose(RAMP)], axis=-1)
    return image(rgb[::-1], seconds)


def image(rgb: NDArray[np.floating[Any]], seconds: float, smooth: bool = True) -> str:
    """An image of (height, T, 3), 0 to 255, stretched over `seconds` and the height of the row."""
    file = io.BytesIO()
    Image.fromarray(rgb.astype(np.uint8)).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    style = "" if smooth else ' style="image-rendering: pixelated"'
    return (
        f'<image width="{seconds:.4f}" height="100" preserveAspectRatio="none"{style}'
        f' href="data:image/png;base64,{data}"/>'
    )


def melody(prosody: Array, seconds: float) -> str:
    """F0 of a prosody (3, T) on a log scale from F0_FLOOR to F0_CEIL, in voiced frames outside pauses."""
    log_f0, voicing, energy = prosody
    height = 100 * (1 - (log_f0 - math.log(F0_FLOOR)) / math.log(F0_CEIL / F0_FLOOR))
    return _line(height, seconds, (voicing > 0.5) & (energy > energy.max() - PAUSE), "melody")


def loudness(prosody: Array, seconds: float) -> str:
    """A shaded area of the energy of a prosody (3, T), from the level of a pause upwards."""
    energy = prosody[2]
    height = 100 * np.clip((energy.max() - energy) / PAUSE, 0, 1)
    t = (np.arange(len(energy)) + 0.5) * seconds / len(energy)
    points = " ".join(f"{x:.3f},{y:.1f}" for x, y in zip(t, height, strict=True))
    return f'<path class="shade" d="M0,100 {points} {seconds:.3f},100Z"/>'


def chart(points: Sequence[tuple[str, str, Array]], alt: str) -> str:
    """Named points in a plane, as HTML. A point is (name, kind, coordinates); the kind is its CSS class.

    The picture has a fixed size, so that no label covers another at any width of the page.
    """
    places = np.stack([place for *_, place in points])
    low, high = places.min(0), places.max(0)
    share = (places - low) / np.maximum(high - low, 1e-6)
    x, y = (MARGIN + (np.array(CHART) - 2 * MARGIN) * np.stack([share[:, 0], 1 - share[:, 1]], axis=1)).T
    dots = list(zip(x.tolist(), y.tolist(), strict=True))
    drawn = []
    for (name, kind, _), dot, box in zip(
        points, dots, labels([name for name, *_ in points], dots), strict=True
    ):
        middle = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        drawn.append(
            f'<g class="{kind}"><line x1="{dot[0]:.1f}" y1="{dot[1]:.1f}" '
            f'x2="{middle[0]:.1f}" y2="{middle[1]:.1f}"/>'
            f'<circle cx="{dot[0]:.1f}" cy="{dot[1]:.1f}" r="5"/><rect x="{box[0]:.1f}" y="{box[1]:.1f}" '
            f'width="{box[2] - box[0]:.1f}" height="{box[3] - box[1]:.1f}"/>'
            f'<text x="{middle[0]:.1f}" y="{middle[1] + 4:.1f}">{html.escape(name)}</text></g>'
        )
    return (
        f'<svg class="chart" role="img" aria-label="{html.escape(alt)}" width="{CHART[0]}" '
        f'height="{CHART[1]}">'
        f"{''.join(drawn)}</svg>"
    )


def labels(names: Sequence[str], dots: Sequence[tuple[float, float]]) -> list[Box]:
    """Boxes in CHART for the names of dots, as near as they fit without touching each other or a dot."""
    taken: list[Box] = [(x - 7, y - 7, x + 7, y + 7) for x, y in dots]
    boxes = []
    for name, (x, y) in zip(names, dots, strict=True):
        width, height = LETTER * max(len(name), LONGEST_NAME) + 4, 16.0
        angles = np.arange(0, 2 * math.pi, math.pi / 8)
        around = (
            (x + (r + width / 2) * math.cos(a), y + (r + height / 2) * math.sin(a))
            for r in range(8, max(CHART), 6)
            for a in angles
        )
        tried = ((u - width / 2, v - height / 2, u + width / 2, v + height / 2) for u, v in around)
        free = (box for box in tried if _inside(box) and not any(_touch(box, other) for other in taken))
        box = next(free, (0.0, 0.0, width, height))
        taken.append(box)
        boxes.append(box)
    return boxes


def _inside(box: Box) -> bool:
    return box[0] >= 0 and box[1] >= 0 and box[2] <= CHART[0] and box[3] <= CHART[1]


def _touch(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def waveform(samples: Array, seconds: float) -> str:
    """The envelope of samples (N,), scaled to its peak."""
    size = max(1, len(samples) // COLUMNS)
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    peak = max(1e-6, float(np.abs(samples).max()))
    upper, lower = 50 - 48 * frames.max(1) / peak, 50 - 48 * frames.min(1) / peak
    t = (np.arange(len(frames)) + 0.5) * size * seconds / len(samples)
    points = [*zip(t, upper, strict=True), *zip(t[::-1], lower[::-1], strict=True)]
    return f'<path class="wave" d="M{" ".join(f"{x:.3f},{y:.1f}" for x, y in points)}Z"/>'


def _line(height: Array, seconds: float, drawn: NDArray[np.bool_], kind: str) -> str:
    t = (np.arange(len(height)) + 0.5) * seconds / len(height)
    steps = [f"{'L' if i and drawn[i - 1] else 'M'}{t[i]:.3f},{height[i]:.1f}" for i in np.flatnonzero(drawn)]
    path = "".join(steps)
    return f'<path class="halo" d="{path}"/><path class="{kind}" d="{path}"/>'


def _thin(values: Array) -> Array:
    """Reduce (bands, T) to at most COLUMNS columns, by averaging."""
    edges = np.linspace(0, values.shape[1], min(COLUMNS, values.shape[1]) + 1).astype(int)[:-1]
    counts = np.diff([*edges, values.shape[1]])
    thin: NDArray[np.floating[Any]] = np.add.reduceat(values, edges, axis=1) / counts
    return thin


def _ticks(longest: float) -> list[float]:
    """Round times for the axis, at most seven."""
    step = next(s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120) if longest / s <= 6)
    return [round(i * step, 3) for i in range(int(longest / step) + 1)]
