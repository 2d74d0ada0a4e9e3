"""A player that switches between recordings at one position, with a loop over a part and downloads.

`static/player.js` brings it to life.
"""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vcae import Audio

from ..formats import RATES
from ..shelf import Kept
from . import pictures

FORMATS = {".wav": "WAV", ".flac": "FLAC", ".mp3": "MP3", ".opus": "Opus", ".m4a": "M4A"}
assert set(FORMATS) == set(RATES)  # noqa: S101


@dataclass(frozen=True)
class Track:
    """A recording that the player switches to."""

    label: Any
    sound: Audio
    address: str


def player(tracks: Sequence[Track], about: str, kept: Kept) -> str:
    """The player as HTML, at the last track. about: what was made, as plain text. kept: for download."""
    last = len(tracks) - 1
    switches = "".join(
        f'<button type="button" class="track" data-track="{i}" aria-pressed="{str(i == last).lower()}">'
        f"<kbd>{i + 1}</kbd> {track.label}</button>"
        for i, track in enumerate(tracks)
    )
    waves = "".join(
        f'<svg viewBox="0 0 {track.sound.duration:.4f} 100" preserveAspectRatio="none" aria-hidden="true"'
        f' data-wave="{i}"{"" if i == last else " hidden"}>'
        f"{pictures.waveform(track.sound.samples, track.sound.duration)}</svg>"
        for i, track in enumerate(tracks)
    )
    sounds = "".join(
        f'<audio preload="auto" data-sound="{i}" data-seconds="{track.sound.duration:.4f}"'
        f' src="{track.address}.wav"></audio>'
        for i, track in enumerate(tracks)
    )
    formats = "".join(f'<option value="{suffix}">{name}</option>' for suffix, name in FORMATS.items())
    return f"""<div class="player" role="group" aria-label="Player">
<p class="made">{_spans(about)}</p>
<p class="stale" role="status" hidden>This was made with other settings than those now chosen.</p>
<div class="tracks" role="group" aria-label="What is heard">{switches}</div>
<div class="strip">{waves}<span class="part" hidden></span><span class="head"></span></div>
<input type="range" class="position" min="0" max="{tracks[last].sound.duration:.4f}" step="0.01" value="0"
 aria-label="Position in seconds">
<div class="controls">
<button type="button" class="play-all" aria-label="Play or pause"></button>
<span class="clock">0.0 / {tracks[last].sound.duration:.1f} s</span>
<button type="button" class="from" title="Start of the part here">From here</button>
<button type="button" class="to" title="End of the part here">To here</button>
<button type="button" class="loop" aria-pressed="false">Repeat</button>
</div>
<div class="save">
<a class="download" href="{kept.address}.wav?download" data-address="{kept.address}"
 data-name="{html.escape(kept.name)}" download="{html.escape(kept.name)}.wav">Download</a>
<select class="format" aria-label="Format of the file">{formats}</select>
</div>
{sounds}</div>"""


def _spans(about: str) -> str:
    """What was made, each name in an element of its own, so that those of samples are translated."""
    parts = re.split(r"( → | · | \+ | \d+ %|[AB]: )", about)
    return "".join(f"<span>{html.escape(part)}</span>" for part in parts)
