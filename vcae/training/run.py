"""The description of a training run: what its files say of how they were made."""

import dataclasses
import json
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import vcae
from vcae.files import load_tensors, replacing


@dataclass(frozen=True)
class Run:
    """What a trainer cannot know of a run by itself.

    recipe: settings outside of the stage, JSON. started_from: phases of the weights that the run starts from,
    as `phases_of` gives them. teachers: phases of the networks that teach it.
    """

    recipe: dict[str, Any] = field(default_factory=dict)
    started_from: list[dict[str, Any]] = field(default_factory=list)
    teachers: list[dict[str, Any]] = field(default_factory=list)


def phases_of(path: Path) -> list[dict[str, Any]]:
    """The phases that made the weights in a file, oldest first. Raises TensorFileError.

    Weights of older versions name no phases; their steps and minutes are one phase.
    """
    about = load_tensors(path)[1]
    notes = about.get("notes") or {}
    return notes.get("phases") or [{"stage": path.stem, **notes}]


def as_json(config: Any) -> Any:
    """A dataclass, or a dict with dataclasses in it, as it comes back from JSON."""

    def plain(value: object) -> Any:
        return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else str(value)  # type: ignore[arg-type]

    return json.loads(json.dumps(config, default=plain))


def differences(before: Any, now: Any, name: str = "") -> list[str]:
    """What differs between two JSON values, as lines "stage.sampler.seconds was 2.5, is 1.0"."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            line
            for key in sorted(before.keys() | now.keys())
            for line in differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)
        ]
    return [] if before == now else [f"{name} was {before}, is {now}"]


def git_revision() -> str | None:
    """The revision of the checkout that this package runs from, with "-dirty" for changes.

    None where the package is installed, or where there is no git.
    """
    git, folder = shutil.which("git"), Path(vcae.__file__).parent

    def ask(*command: str) -> str | None:
        done = subprocess.run(  # noqa: S603 -- fixed arguments
            [str(git), "-C", str(folder), *command], capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else None

    if git is None or ask("ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    return ask("describe", "--always", "--abbrev=40", "--exclude=*", "--dirty") or None


def write_config(folder: Path, stage: str, notes: dict[str, Any]) -> None:
    """Put the description of a stage into the folder's config.json, beside those of other stages.

    Raises OutputError.
    """
    path = folder / "config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = {}
    content = (content if isinstance(content, dict) else {}) | {stage: notes}
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
