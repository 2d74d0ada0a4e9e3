"""The parts of the demo that need no browser and no server."""

import ast
import os
import re
import signal
import tomllib
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from conftest import VOICES
from hypothesis import given
from hypothesis import strategies as st

import vcae
from vcae import Audio, audio
from vcae.errors import VcaeError

if find_spec("gradio") is None:
    pytest.skip("needs the extra `demo`", allow_module_level=True)

import gradio as gr
import httpx

from demo import app, formats, space
from demo.shelf import Shelf, file_name
from demo.studio import RefusedError
from demo.tabs.read import INSERTED, edited, respoken
from demo.widgets.picker import choices
from demo.widgets.pictures import CHART, chart, labels

RATE = 16_000
NAMES = ["Woman 1", "Woman 2", "Woman 3", "Man 1", "Man 2", "Man 3", "A", "B", "Result"]
places = st.lists(
    st.tuples(st.floats(20, CHART[0] - 20), st.floats(20, CHART[1] - 20)), min_size=9, max_size=9
)


def test_a_page_that_cannot_be_reached_is_told_in_one_line(monkeypatch):
    def launch(*_, **__):
        raise httpx.ConnectError("Name or service not known")

    for name in ("no_proxy", "NO_PROXY", "GRADIO_TEMP_DIR"):
        monkeypatch.setenv(name, "example.org")
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(app, "Studio", lambda *_: SimpleNamespace(routes=[]))
    monkeypatch.setattr(app, "page", lambda _: gr.Blocks())
    monkeypatch.setattr(gr.Blocks, "launch", launch)
    with pytest.raises(
        VcaeError, match=r"^the page at 0\.0\.0\.0, port 7860 cannot be reached .* must be known$"
    ):
        app.serve(None, None, "0.0.0.0", 7860, None, share=False)  # noqa: S104
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == "example.org,localhost,0.0.0.0"


@given(places)
def test_labels_of_the_map_never_overlap(dots):
    boxes = labels(NAMES, dots)
    for a, b in combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    assert all(left >= 0 and top >= 0 and right <= CHART[0] for left, top, right, _ in boxes)


def test_a_map_of_equal_voices_can_be_drawn():
    assert chart([(name, "sample", np.zeros(2)) for name in NAMES], "alt").count("<text") == len(NAMES)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("suffix", formats.RATES)
def test_a_result_has_the_rate_of_its_source(tmp_path, suffix, rate):
    sound = Audio(0.5 * np.sin(np.arange(RATE) / 10).astype(np.float32), RATE)
    formats.write(tmp_path / f"made{suffix}", sound, rate)
    made = audio.read(tmp_path / f"made{suffix}")
    nearest = {".mp3": {96_000: 48_000}, ".opus": {22_050: 24_000, 44_100: 48_000, 96_000: 48_000}}
    assert made.sample_rate == nearest.get(suffix, {}).get(rate, rate)
    assert made.duration == pytest.approx(1, abs=0.2)  # encoders add some silence
    assert audio.loudness(made.samples, made.sample_rate) == pytest.approx(
        audio.loudness(sound.samples, RATE), abs=1
    )


@pytest.mark.parametrize("suffix", formats.RATES)
def test_downloads_say_in_their_metadata_that_they_are_converted(tmp_path, suffix):
    shelf = Shelf(tmp_path / "shelf")
    kept = shelf.keep(Audio(np.full(RATE, 0.1, np.float32), RATE, "converted by vcae"), "a - b", 48_000)
    with av.open(str(shelf._encoded(kept.path.with_suffix(suffix)))) as made:
        about = made.metadata | made.streams[0].metadata
        assert "converted by vcae" in {name.lower(): text for name, text in about.items()}.get("comment", "")


@pytest.mark.parametrize(
    ("text", "name"),
    [("a/b\\c", "a_b_c"), ("..", "sound"), ("Zoë 张", "Zoë 张"), ("x" * 200, "x" * 80), ("", "sound")],
)
def test_names_of_files_are_safe(text, name):
    assert file_name(text) == name


def test_the_shelf_keeps_what_is_given(tmp_path):
    from starlette.applications import Starlette
    from starlette.testclient import TestClient

    shelf = Shelf(tmp_path / "shelf")
    sound = audio.read(next(VOICES.glob("*.flac")))
    kept = shelf.keep(sound, "a name", 48_000)
    client = TestClient(Starlette(routes=shelf.routes))
    played = client.get(f"/{kept.address}.wav", headers={"Range": "bytes=0-99"})
    assert played.status_code == 206
    (tmp_path / "made.flac").write_bytes(client.get(f"/{kept.address}.flac?download").content)
    assert audio.read(tmp_path / "made.flac").sample_rate == 48_000
    assert client.get(f"/{kept.address}.exe?download").status_code == 404
    assert client.get("/kept/guessed/a.wav").status_code == 404


def test_the_space_needs_what_the_project_needs():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    lines = space.requirements("vcae.whl").splitlines()
    assert set(project["dependencies"]) < set(lines)
    assert lines[-1] == "./vcae.whl"
    (gradio,) = (line for line in lines if line.startswith("gradio"))
    head = (Path(space.__file__).parent / "README.md").read_text().split("---")[1]
    assert f"sdk_version: {gradio.removeprefix('gradio>=')}.0" in head


SPOKEN = [vcae.Phone(0.0, 0.2, "SIL"), vcae.Phone(0.2, 0.3, "AH"), vcae.Phone(0.3, 0.5, "S")]


@pytest.mark.parametrize(
    ("names", "times"),
    [
        ("SIL AH S", [(0.0, 0.2, None), (0.2, 0.3, None), (0.3, 0.5, None)]),
        ("SIL OY S", [(0.0, 0.2, None), (0.2, 0.3, None), (0.3, 0.5, None)]),
        ("SIL S", [(0.0, 0.2, None), (0.3, 0.5, None)]),
        ("SIL AH T S", [(0.0, 0.2, None), (0.2, 0.3, None), (0.3, 0.3, INSERTED), (0.3, 0.5, None)]),
        ("T SIL AH S", [(0.0, 0.0, INSERTED), (0.0, 0.2, None), (0.2, 0.3, None), (0.3, 0.5, None)]),
    ],
)
def test_edited_phones_keep_the_times_of_the_others(names, times):
    made = edited(SPOKEN, names.split())
    assert " ".join(phone.name for phone in made) == names
    assert [(phone.start, phone.end, phone.duration) for phone in made] == times
    spoken = respoken(made)
    assert [a.end for a in spoken[:-1]] == [b.start for b in spoken[1:]]


def test_what_is_no_phone_is_told():
    with pytest.raises(RefusedError, match="XX: no such phone; there are SIL, AA"):
        edited(SPOKEN, ["SIL", "XX"])


LANGUAGES = app.translations()
FROM_GRADIO = {
    "Click to upload or drop files",
    "Upload file",
    "Record audio",
    "Adjust playback speed to {speed}x",
    "Adjust volume",
}
FROM_GRADIO |= {"Skip forward by {seconds} seconds", "Skip backwards by {seconds} seconds"}
FROM_GRADIO |= {"number input for {name}", "range slider for {name}", "Reset to default value"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_has_all_texts_of_the_page(language):
    everywhere = {key for texts in LANGUAGES.values() for key in texts}
    assert set(LANGUAGES[language]) == everywhere
    for english, text in LANGUAGES[language].items():
        assert text.strip()
        assert sorted(re.findall(r"{\w+}", text)) == sorted(re.findall(r"{\w+}", english))


def test_texts_that_are_translated_are_on_the_page():
    """A text that was changed in the program, and not in the translations, would stay English."""
    root = Path(app.__file__).parent
    package = root.parent / "vcae"  # whose errors and doubts are shown
    files = [*root.rglob("*.py"), package / "uses/restore.py"]
    files += [path for name in ("audio", "inference") for path in (package / name).glob("*.py")]
    written = [piece for path in files for piece in pieces(path)]
    written += [path.read_text("utf-8") for path in root.glob("static/*.js")]
    written += [str(label) for label, _ in choices([])]
    page = re.sub(r"\s+", " ", " ".join(written))
    for key in set().union(*LANGUAGES.values()) - FROM_GRADIO:
        for part in re.split(r"{\w+}", key):
            assert part.strip() in page, key


def pieces(path):
    """The string literals of a Python file, f-strings without what is put in."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(v.value for v in node.values if isinstance(v, ast.Constant))
