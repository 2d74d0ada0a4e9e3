"""The command that compares two voices: similarity."""

from json import dumps
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from vcae.cli import console, paths
from vcae.cli.options import Device, Model, load_converter
from vcae.inference.likeness import CALIBRATION, DIFFERENT_BELOW, SAME_FROM, answer


def similarity(
    first: Positional[Path],
    second: Positional[Path],
    json: bool = False,
    model: Model = "studio",
    device: Device = "cpu",
) -> None:
    """Compare the voices of two recordings: the same speaker, different speakers, or unsure.

    Prints the answer and the cosine of the speaker codes, then the limits and how often they are wrong. It is
    no proof of identity: a converted voice is meant to be alike.

    Args:
        first: a recording, a folder of recordings of one speaker, or a .voice file
        second: as first
        json: print everything as JSON instead
    """
    converter = load_converter(model, device)
    with console.Bar() as bar:
        one, other = (converter.voice(paths.references([each]), bar.update) for each in (first, second))
    cosine = float(one.embedding @ other.embedding)
    calibrated = converter.made_by == CALIBRATION["made_by"]
    found = answer(cosine) if calibrated else None
    if json:
        about = CALIBRATION["answer"] if calibrated else None
        print(dumps({"answer": found, "cosine": round(cosine, 4), "calibration": about}))  # noqa: T201 -- the result
        return
    console.stdout.print(f"{found or 'not calibrated for these weights'}, cosine {cosine:.2f}")
    if calibrated:
        for line in _limits(CALIBRATION["answer"]["shares"]["test-other"]):
            console.err.print(line)


def _limits(shares: dict[str, dict[str, Any]]) -> list[str]:
    """The limits, and how often they are wrong for unseen speakers."""
    alike, unlike = 100 * shares["two_speakers"]["same"], 100 * shares["one_speaker"]["different"]
    return [
        f"same: {SAME_FROM:.2f} or more, as {alike:.1f} % of the pairs of two unseen speakers",
        f"different: below {DIFFERENT_BELOW:.2f}, as {unlike:.1f} % of the pairs of one unseen speaker",
    ]
