"""The recipes of corpora: options, the doctor before the training, and its list."""

import dataclasses
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import tyro
from conftest import VOICES

from vcae.corpora.exclude import read_excluded
from vcae.errors import VcaeError
from vcae.training.config import TrainConfig

RECIPES = Path(__file__).parents[2] / "recipes"
sys.path.insert(0, str(RECIPES))
NAMES = ("vctk", "libritts", "own_folder", "vocoder")
FILES = sorted(VOICES.glob("*.flac"))
# A sample voice k in the layout of the corpus of a recipe, and the options that read it.
LAYOUTS = {
    "vctk": ("VCTK-Corpus-0.92/wav48_silence_trimmed/p{k}/p{k}_001_mic1.flac", {}),
    "libritts": ("LibriTTS_R/dev-clean/{k}/1/{k}_1_000001_000000.flac", {}),
    "own_folder": ("day1_voice{k}_a.flac", {"speakers": "_(?P<speaker>voice[0-9])_"}),
    "vocoder": ("anywhere/{k}.flac", {"speakers": "none"}),
}
EVERY_RECIPE = pytest.mark.parametrize("name", NAMES)


def recipe_of(name: str, corpora: Path, **options: object) -> Any:
    module = __import__(name)
    doctor = dataclasses.replace(module.Recipe(corpora=corpora).doctor, texts=False, processes=1)
    return module.Recipe(corpora=corpora, doctor=doctor, runs=None, **LAYOUTS[name][1] | options)


@pytest.fixture
def corpora(tmp_path, request) -> Path:
    """The sample voices in the layout of a recipe's corpus; the last file is empty."""
    for k, voice in enumerate(FILES):
        path = tmp_path / "corpora" / LAYOUTS[request.param][0].format(k=k)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(voice, path)
    path.write_bytes(b"")
    return tmp_path / "corpora"


WITH_CORPORA = pytest.mark.parametrize(("name", "corpora"), [(n, n) for n in NAMES], indirect=["corpora"])


@EVERY_RECIPE
def test_a_recipe_is_short_and_its_options_are_documented(name, capsys):
    assert len((RECIPES / f"{name}.py").read_text().splitlines()) <= 80
    module = __import__(name)
    with pytest.raises(SystemExit) as ended:
        tyro.cli(module.Recipe, args=["--help"], description=module.__doc__)
    assert ended.value.code == 0
    helped = capsys.readouterr().out
    for flag in ("--corpora", "--doctor.exclude", "--doctor.limits.shortest", "--vocoder-training.steps"):
        assert flag in helped


@WITH_CORPORA
def test_the_doctor_comes_first_and_its_list_is_taken(name, corpora, tmp_path, capsys):
    recipe = recipe_of(name, corpora)
    kept = recipe.speech(tmp_path / "run")
    (line,) = read_excluded(tmp_path / "run/doctor/exclude.tsv")
    assert line.problem == "empty"
    assert len(kept) == len(FILES) - 1
    assert line.file not in {each.path.relative_to(corpora).as_posix() for each in kept}
    assert (tmp_path / "run/doctor/report.html").is_file()
    told = capsys.readouterr()
    assert "empty\t1\tleft out" in told.out and "training would start" in told.err

    list_ = tmp_path / "run/doctor/exclude.tsv"  # which a user may edit
    list_.write_text(list_.read_text() + kept[0].path.relative_to(corpora).as_posix() + "\tmine\t\n")
    assert recipe.speech(tmp_path / "run") == kept[1:]
    assert "taken as it is" in capsys.readouterr().err


@pytest.mark.parametrize("corpora", ["own_folder"], indirect=True)
def test_training_does_not_start_where_the_doctor_says_so(corpora, tmp_path):
    for path in corpora.rglob("*.flac"):
        path.write_bytes(b"")
    with pytest.raises(VcaeError, match=r"training would not start: 0 s of usable speech; see .*report.html"):
        recipe_of("own_folder", corpora).speech(tmp_path / "run")
    assert (tmp_path / "run/doctor/report.html").is_file()
    assert not (tmp_path / "run/doctor/exclude.tsv").exists()


@pytest.mark.slow
@pytest.mark.parametrize("corpora", ["vocoder"], indirect=True)
def test_a_recipe_trains_on_what_is_left(corpora, tmp_path):
    import bundled

    recipe = bundled.tiny(recipe_of("vocoder", corpora, out=tmp_path / "run"))
    bundled.main(dataclasses.replace(recipe, vocoder_training=TrainConfig(steps=0)))
    assert (tmp_path / "run/vocoder.safetensors").is_file()
    assert '"name": "vocoder"' in (tmp_path / "run/config.json").read_text()
