"""Write the files of a Hugging Face Space: `python -m demo.space FOLDER`, in a checkout."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import tyro
from tyro.conf import Positional

from vcae.files import new_folder

DEMO = Path(__file__).parent
ROOT = DEMO.parent
CPU_ONLY = "--extra-index-url https://download.pytorch.org/whl/cpu"
APP = """from vcae.cli.main import main

if __name__ == "__main__":
    main(["demo", "--host", "0.0.0.0", "--port", "7860"])
"""


def requirements(wheel: str) -> str:
    """A requirements file: a wheel of vcae, and what pyproject.toml lists for it and for the page."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["demo"]]
    return "\n".join([CPU_ONLY, *needed, f"./{wheel}", ""])


def main(folder: Positional[Path]) -> None:
    """Write README.md, app.py, requirements.txt and a wheel of vcae.

    Args:
        folder: a new or empty folder
    """
    with new_folder(folder) as unfinished:
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"]
        subprocess.run([*command, str(unfinished), str(ROOT)], check=True)  # noqa: S603
        (wheel,) = unfinished.glob("*.whl")
        (unfinished / "requirements.txt").write_text(requirements(wheel.name), "utf-8")
        (unfinished / "app.py").write_text(APP, "utf-8")
        shutil.copy(DEMO / "README.md", unfinished)


if __name__ == "__main__":
    tyro.cli(main)
