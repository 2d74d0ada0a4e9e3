"""The recipe that measures throughput, on a toy."""

import pytest
from test_recipes import script

pytestmark = pytest.mark.slow


def test_throughput_is_one_row_for_each_stage():
    words = ("--tiny", "--steps", "1", "--warm-up", "1", "--stages", "recogniser", "vocoder")
    done = script("throughput", *words)
    assert done.returncode == 0, done.stderr
    _, head, *rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert head == ["stage", "batch", "steps/s", "hours of audio/s", "waiting for data"]
    assert [row[0] for row in rows] == ["recogniser", "vocoder"]
    assert all(float(row[2]) > 0 and row[4].endswith("%") for row in rows)
