"""The recipe that measures throughput, on a toy."""

import sys

import pytest
from test_recipes import ROOT, run

pytestmark = pytest.mark.slow


def test_throughput_is_one_row_for_each_stage(tmp_path):
    command = (sys.executable, "recipes/throughput.py", "--tiny", "--steps", "1", "--warm-up", "1")
    done = run(*command, "--stages", "recogniser", "vocoder", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    _, head, *rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert head == ["stage", "batch", "steps/s", "hours of audio/s", "waiting for data"]
    assert [row[0] for row in rows] == ["recogniser", "vocoder"]
    assert all(float(row[2]) > 0 and row[4].endswith("%") for row in rows)
