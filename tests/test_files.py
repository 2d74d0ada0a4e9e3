"""Output files: what a killed process has left."""

import subprocess
import sys

from vcae.files import replacing

KILLED = """
import os, signal
from pathlib import Path
from vcae.files import replacing
with replacing(Path("out.wav")) as unfinished:
    unfinished.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_run_deletes_what_a_killed_one_has_left(tmp_path):
    for _ in range(2):
        subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, check=False)
        (left,) = tmp_path.iterdir()  # that of the first is gone when the second starts
        assert left.name.startswith(".") and left.name.endswith(".part")
    with replacing(tmp_path / "other.wav") as unfinished:
        unfinished.write_text("whole")
    assert left.exists()  # it belongs to another output
    with replacing(tmp_path / "out.wav") as unfinished, replacing(tmp_path / "out.wav") as second:
        assert unfinished.exists() and second.exists() and not left.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.wav", "out.wav"]
