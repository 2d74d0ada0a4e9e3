"""The example notebook runs, and is kept without what it shows."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

RECIPES = Path(__file__).parents[2] / "recipes"
NOTEBOOK = nbformat.read(RECIPES / "encode_swap_decode.ipynb", as_version=4)
CODE = [cell for cell in NOTEBOOK.cells if cell.cell_type == "code"]


def test_no_outputs_are_kept():
    assert not any(cell.outputs or cell.execution_count for cell in CODE)


@pytest.mark.slow
def test_it_encodes_swaps_and_decodes():
    client = NotebookClient(NOTEBOOK, timeout=600, startup_timeout=600)
    client.resources = {"metadata": {"path": RECIPES}}
    outputs = [output for cell in client.execute().cells for output in cell.get("outputs", [])]
    kinds = [kind for output in outputs for kind in output.get("data", {})]
    assert kinds.count("image/png") == 2
    text = "".join(output.text for output in outputs if output.output_type == "stream")
    (swapped,) = (line for line in text.splitlines() if line.startswith("swapped: "))
    to_source, to_target = map(float, re.findall(r"-?\d\.\d+", swapped))
    assert to_target > to_source + 0.2
    html = [output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})]
    assert sum("<audio" in each for each in html) == 4
