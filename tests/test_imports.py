"""Packages are layers: each imports only those below it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vcae

PACKAGE = Path(vcae.__file__).parent

# From the lowest up. Packages, and modules beside them, import only those before them in this list.
LAYERS = [
    "errors",
    "progress",
    "files",
    "audio",
    "model",
    "inference",
    "__init__",  # the public names
    "uses",
    "live",
    "corpora",
    "training",
    "evaluation",
    "doctor",
    "export",
    "cli",
    "__main__",
]
HEAVY = [
    "gradio",
    "librosa",
    "matplotlib",
    "lightning_fabric",
    "tensorboard",
    "vcae.training.trainer",
    "vcae.evaluation.metrics",
]

MODULES = sorted(
    path.relative_to(PACKAGE)
    for path in PACKAGE.rglob("*.py")
    if path.relative_to(PACKAGE).parts[0] != "demo"
)


def layer_of(module: Path) -> str:
    return module.parts[0].removesuffix(".py")


def name_of(module: Path) -> str:
    return ".".join(["vcae", *module.with_suffix("").parts]).removesuffix(".__init__")


def imported(module: Path) -> set[str]:
    """Full names of the imports from vcae in a module, those inside functions included."""
    names = set()
    for node in ast.walk(ast.parse((PACKAGE / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {f"{node.module}.{each.name}" for each in node.names}
    return {name for name in names if name.split(".")[0] == "vcae"}


def layer_of_import(name: str) -> str:
    part = [*name.split("."), "__init__"][1]
    return part if part in LAYERS else "__init__"


def test_every_module_is_in_a_layer():
    assert {layer_of(module) for module in MODULES} == set(LAYERS)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_package_imports_only_those_below_it(module):
    layer = layer_of(module)
    below = {layer, *LAYERS[: LAYERS.index(layer)]}
    assert {layer_of_import(name) for name in imported(module)} <= below


def test_modules_do_not_import_in_a_circle():
    names = {name_of(module): module for module in MODULES}
    edges = {}
    for name, module in names.items():
        found = {each if each in names else each.rpartition(".")[0] for each in imported(module)}
        edges[name] = {each for each in found if each in names} - {name}
    while leaves := {name for name, needs in edges.items() if not needs & set(edges)}:
        for name in leaves:
            del edges[name]
    assert not edges, f"these import each other, directly or not: {sorted(edges)}"


def test_importing_vcae_loads_nothing_heavy():
    """In a new interpreter, because other tests import these modules."""
    heavy = f"[m for m in {HEAVY} if m in sys.modules]"
    script = f"import sys, vcae; print({heavy}); sys.exit(bool({heavy}))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=PACKAGE.parent, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
