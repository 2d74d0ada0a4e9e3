"""Imports point one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vcae

PACKAGE = Path(vcae.__file__).parent

# Inference, from the ground up: a module imports, as it loads, only from those above it in this list.
INFERENCE = [
    "errors",
    "output",
    "audio",
    "tensors",
    "cache",
    "network",
    "mel",
    "layers",
    "prosody",
    "harmonics",
    "content",
    "speaker",
    "bottleneck",
    "decoder",
    "vocoder",
    "autoencoder",
    "checkpoint",
    "chain",
    "streaming",
    "converter",
    "session",
    "devices",
]
# Beside it, and never imported by it: training, then what judges the outcome, and what takes it elsewhere.
BESIDE = [
    "corpora",
    "augment",
    "phones",
    "recogniser",
    "losses",
    "discriminator",
    "data",
    "stages",
    "trainer",
    "judges",
    "probes",
    "trials",
    "results",
    "report",
    "evaluation",
    "bench",
    "export",
    "export_example",
]
# On top: the public names and the command line, with its helpers. These may import inference as they like,
# and the rest only in a function.
TOP = ["__init__", "paths", "terminal", "__main__"]

HEAVY = ["gradio", "librosa", "matplotlib", "lightning_fabric", "tensorboard", "vcae.trainer", "vcae.judges"]

MODULES = sorted(path.stem for path in PACKAGE.glob("*.py"))


def imported(statement: ast.AST) -> set[str]:
    """The modules of vcae that an import statement names; `__init__` for the package itself."""
    if isinstance(statement, ast.Import):
        names = [name.name.split(".") for name in statement.names]
    elif isinstance(statement, ast.ImportFrom):
        assert statement.level == 0, "imports are absolute"
        parts = (statement.module or "").split(".")
        names = [[*parts, name.name] for name in statement.names] if parts == ["vcae"] else [parts]
    else:
        return set()
    ours = [name for name in names if name[0] == "vcae"]
    return {name[1] if len(name) > 1 and name[1] in MODULES else "__init__" for name in ours}


def imports(module: str) -> tuple[set[str], set[str]]:
    """What a module imports from vcae as it loads, and what it imports anywhere."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    functions = [
        n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    ]
    lazy = {id(node) for function in functions for node in ast.walk(function)}
    nodes = list(ast.walk(tree))
    at_load = set().union(*(imported(n) for n in nodes if id(n) not in lazy))
    return at_load, set().union(*(imported(n) for n in nodes))


def test_every_module_has_its_place():
    assert set(MODULES) <= {*INFERENCE, *BESIDE, *TOP}, "give the new module a place in the table"


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module):
    order = INFERENCE + BESIDE
    below = [*INFERENCE, *TOP[: TOP.index(module)]] if module in TOP else order[: order.index(module)]
    assert imports(module)[0] <= set(below)


@pytest.mark.parametrize("module", [m for m in MODULES if m in [*INFERENCE, "__init__"]])
def test_inference_never_imports_training_not_even_in_a_function(module):
    assert not imports(module)[1] & set(BESIDE)


def test_importing_vcae_loads_nothing_heavy():
    """In a new interpreter, since the tests themselves have loaded all of it."""
    heavy = f"[m for m in {HEAVY} if m in sys.modules]"
    script = f"import sys, vcae; print({heavy}); sys.exit(bool({heavy}))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=PACKAGE.parent, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
