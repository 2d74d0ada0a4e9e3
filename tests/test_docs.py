"""The API reference: the command in CONTRIBUTING.md writes a page for every package and every public name."""

import importlib
import re
import shlex
from pathlib import Path

import pdoc
import pytest

import vcae

PACKAGE = Path(vcae.__file__).parent
GUIDE = Path(__file__).parents[1] / ".github" / "CONTRIBUTING.md"
(COMMAND,) = (line for line in GUIDE.read_text("utf-8").splitlines() if line.startswith("python -m pdoc "))
DOCUMENTED = [word for word in shlex.split(COMMAND, comments=True) if word.split(".")[0] == "vcae"]
PUBLIC = sorted(
    path.stem
    for path in PACKAGE.iterdir()
    if not path.name.startswith("_") and (path.suffix == ".py" or (path / "__init__.py").is_file())
)


def test_the_command_names_all_packages():
    assert set(DOCUMENTED) == {"vcae", *(f"vcae.{name}" for name in PUBLIC if name != "demo")}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_package_has_a_docstring(name):
    assert (importlib.import_module(name).__doc__ or "").strip()


@pytest.mark.parametrize("name", [name for name in vcae.__all__ if callable(getattr(vcae, name))])
def test_every_public_class_and_function_has_a_docstring(name):
    assert pdoc.doc.Module(vcae).members[name].docstring.strip()


@pytest.mark.slow
def test_every_public_name_has_a_page(tmp_path):
    pdoc.render.configure(show_source=False)  # whose colours take as long as all else
    pdoc.pdoc(*DOCUMENTED, output_directory=tmp_path)
    pdoc.render.configure()
    for name in DOCUMENTED:
        assert (tmp_path / f"{name.replace('.', '/')}.html").is_file(), name
    front = (tmp_path / "vcae.html").read_text("utf-8")
    for name in vcae.__all__:
        assert f'<section id="{name}">' in front, name


def test_the_guide_names_files_that_are_there():
    paths = re.findall(
        r"`((?:vcae|recipes|tests|demo)/[\w./]+|\.\w[\w./-]*/[\w.]+)`", GUIDE.read_text("utf-8")
    )
    missing = [path for path in paths if not (PACKAGE.parent / path).exists() and "NAME" not in path]
    assert len(paths) > 20 and not missing
