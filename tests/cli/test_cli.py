"""The command line: files, messages and exit status."""

import _thread
import dataclasses
import io
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import FSQ, TINY, TINY_VOCODER, VOICES, noise, save_weights
from rich.console import Console

import vcae
from vcae import Audio, Voice, audio
from vcae.cli import console
from vcae.cli import main as cli
from vcae.files import load_tensors, save_tensors

RATE = 16_000
SOURCE, TARGET = VOICES / "vcc2016-SF1-200001.flac", VOICES / "librispeech-78-368-0031.flac"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_weights(tmp_path_factory.mktemp("weights") / "continuous", TINY)


@pytest.fixture(scope="module")
def discrete(tmp_path_factory):
    return save_weights(tmp_path_factory.mktemp("weights") / "fsq", FSQ)


@dataclasses.dataclass
class Done:
    """Result of a command line."""

    code: int
    out: str
    err: str

    @property
    def lines(self):
        return self.err.splitlines()


@pytest.fixture
def vcae_(monkeypatch, capsys, tmp_path, weights):
    """Run a command line in this process, in a temporary folder, with tiny weights unless it names others."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vcae.inference.reference.SHORT", 0.0)  # tiny weights take little for speech

    def run(*words, bare=False):
        words = [str(w) for w in words]
        if not bare and words[0] != "mix" and "--model" not in words:
            words += ["--model", str(weights)]
        monkeypatch.setattr(sys, "argv", ["vcae", *words])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Done(code, captured.out, captured.err)

    return run


OUT = {"convert": "out.wav", "reconstruct": "out.wav", "embed": "out.npz", "voice": "out.voice"}


def names(folder="."):
    return sorted(p.name for p in Path(folder).iterdir())


def leftovers(folder):
    """Files that look half-written."""
    return [
        p for p in Path(folder).rglob("*") if p.name.endswith((".part", ".tmp")) or p.name.startswith(".")
    ]


def refused(done, *parts):
    """Exit status 2 and one line that names all these, nothing on stdout, nothing half-written."""
    assert done.code == 2
    assert len(done.lines) == 1, done.err
    assert done.lines[0].startswith("vcae: ")
    for part in parts:
        assert str(part) in done.lines[0]
    assert done.out == ""
    assert not leftovers(".")
    return True


@pytest.fixture
def folder(tmp_path):
    """A folder of recordings of several kinds, in folders, beside something else."""
    top = tmp_path / "in"
    (top / "deep" / "er").mkdir(parents=True)
    shutil.copy(SOURCE, top / "one.flac")
    audio.read(TARGET).write(top / "deep" / "er" / "two.WAV")
    (top / "deep" / "notes.txt").write_text("not audio")
    return top


def bad_file(kind, folder="."):
    path = Path(folder) / f"{kind}.wav"
    if kind == "text":
        path.write_text("hello")
    elif kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "silent":
        Audio(np.zeros(RATE, np.float32), RATE).write(path)
    elif kind == "short":
        Audio(0.1 * noise(1_600).numpy(), RATE).write(path)
    return path


# Success


def test_convert_writes_a_file_and_prints_nothing(vcae_):
    done = vcae_("convert", SOURCE, "--voice", TARGET, "--out", "out.wav")
    assert (done.code, done.out, done.err) == (0, "", "")
    out = audio.read("out.wav")
    assert out.sample_rate == RATE
    assert len(out.samples) == len(audio.read(SOURCE).samples)
    assert names() == ["out.wav"]


@pytest.mark.parametrize("name", ["a b.wav", "[a].wav", "ünï 日本.flac", "UPPER.WAV", "a.b.ogg", "-.wav"])
def test_names_may_be_odd(vcae_, name):
    shutil.copy(SOURCE, "source.flac")
    source = Path("in" + name).with_suffix(".flac")
    shutil.move("source.flac", source)
    assert vcae_("convert", source, "--voice", TARGET, "--out", name).code == 0
    assert audio.read(name).duration == pytest.approx(audio.read(SOURCE).duration, abs=0.1)


@pytest.mark.parametrize("name", ["[missing].wav", "a:smile:b.wav", "a  b.wav", "[red]x[/red].wav"])
def test_names_are_reported_unchanged(vcae_, name):
    assert refused(vcae_("convert", name, "--voice", TARGET, "--out", "out.wav"), f"{name}: no such file")


def test_convert_takes_options(vcae_):
    vcae_("convert", SOURCE, "--voice", TARGET, "--out", "plain.wav")
    for option in (["--pitch-shift", "-3"], ["--strength", "0.5"]):
        assert vcae_("convert", SOURCE, "--voice", TARGET, "--out", "other.wav", *option).code == 0
        assert not np.array_equal(audio.read("other.wav").samples, audio.read("plain.wav").samples)
    assert vcae_("convert", SOURCE, "--voice", TARGET, SOURCE, "--out", "two.wav").code == 0


def test_a_folder_keeps_its_structure(vcae_, folder):
    done = vcae_("convert", folder, "--voice", TARGET, "--out", "out")
    assert (done.code, done.out, done.err) == (0, "", "")
    written = sorted(str(p.relative_to("out")) for p in Path("out").rglob("*") if p.is_file())
    assert written == ["deep/er/two.wav", "one.wav"]


def test_several_sources_go_into_a_folder(vcae_):
    assert vcae_("convert", SOURCE, TARGET, "--voice", TARGET, "--out", "new/out").code == 0
    assert names("new/out") == [TARGET.stem + ".wav", SOURCE.stem + ".wav"]


def test_one_source_goes_into_an_existing_folder(vcae_):
    Path("out").mkdir()
    assert vcae_("convert", SOURCE, "--voice", TARGET, "--out", "out").code == 0
    assert names("out") == [SOURCE.stem + ".wav"]


def test_reconstruct(vcae_):
    done = vcae_("reconstruct", SOURCE, "--out", "out.wav")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert len(audio.read("out.wav").samples) == len(audio.read(SOURCE).samples)


def test_voices_are_saved_mixed_and_used(vcae_):
    assert vcae_("voice", SOURCE, TARGET, "--out", "a.voice").code == 0
    assert vcae_("voice", VOICES / "vcc2016-SM1-200001.flac", "--out", "b.voice").code == 0
    assert vcae_("mix", "a.voice", "b.voice", "--weights", ".7", ".3", "--out", "ab.voice").code == 0
    assert vcae_("mix", "a.voice", "b.voice", "--out", "half.voice").code == 0
    a, b, ab = (Voice.load(name) for name in ("a.voice", "b.voice", "ab.voice"))
    assert ab.embedding @ a.embedding > ab.embedding @ b.embedding
    assert vcae_("convert", SOURCE, "--voice", "ab.voice", "--out", "out.wav").code == 0
    assert names() == ["a.voice", "ab.voice", "b.voice", "half.voice", "out.wav"]


def test_many_sources_are_converted_into_many_voices(vcae_, folder, weights):
    assert vcae_("voice", TARGET, "--out", "man.voice").code == 0
    (folder / "woman").mkdir()
    shutil.move(folder / "one.flac", folder / "woman" / "one.flac")
    command = ["convert", SOURCE, TARGET, "--voices", "man.voice", folder / "woman", "--out", "out"]
    assert vcae_(*command, "--format", "flac").code == 0
    made = sorted(str(path.relative_to("out")) for path in Path("out").rglob("*.flac"))
    assert made == sorted(
        f"{voice}/{path.stem}.flac" for voice in ("man", "woman") for path in (SOURCE, TARGET)
    )
    expected = vcae.load(weights).convert(SOURCE, voice="man.voice")
    assert np.abs(audio.read(f"out/man/{SOURCE.stem}.flac").samples - expected.samples).max() < 1e-4
    assert "4 of 4 were converted before" in vcae_(*command, "--format", "flac").err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--out", "o"], "--voice"),
        (["--voice", TARGET, "--voices", TARGET, "--out", "o"], "--voices"),
        (["--voices", TARGET, SOURCE, "--out", "o.wav"], "several voices; give a folder"),
        (["--voices", TARGET, "x/" + TARGET.name, "--out", "o"], f"called {TARGET.stem}"),
    ],
    ids=["none", "both", "file", "names"],
)
def test_voices_that_do_not_fit_are_refused(vcae_, options, told):
    assert refused(vcae_("convert", SOURCE, *options), told)


def test_embed_writes_speaker_codes(vcae_, folder, weights):
    done = vcae_("embed", SOURCE, folder, "--out", "e.npz")
    assert (done.code, done.out, done.err) == (0, "", "")
    with np.load("e.npz", allow_pickle=False) as e:
        assert sorted(e) == ["embeddings", "files"]
        assert list(e["files"]) == [str(SOURCE), str(folder / "deep/er/two.WAV"), str(folder / "one.flac")]
        assert e["embeddings"].shape == (3, TINY.speaker_dim)
        assert np.linalg.norm(e["embeddings"], axis=1) == pytest.approx(1, abs=1e-5)
        np.testing.assert_array_equal(e["embeddings"][0], vcae.load(weights).embed(SOURCE))


@pytest.mark.parametrize("every", [None, 0.5])
def test_embed_writes_a_table(vcae_, folder, weights, every):
    parquet = pytest.importorskip("pyarrow.parquet")
    options = [] if every is None else ["--every", every]
    assert vcae_("embed", SOURCE, folder, *options, "--out", "e.parquet").code == 0
    table = parquet.read_table("e.parquet").to_pydict()
    assert table["files"][0] == str(SOURCE)
    assert np.linalg.norm(table["embeddings"], axis=1) == pytest.approx(1, abs=1e-5)
    if every is None:
        assert len(table["files"]) == 3
        np.testing.assert_array_equal(np.float32(table["embeddings"][0]), vcae.load(weights).embed(SOURCE))
    else:
        assert table["times"][:2] == pytest.approx([0.8, 1.3])


def test_a_table_needs_pyarrow_and_speakers(vcae_, monkeypatch):
    assert refused(vcae_("embed", SOURCE, "--content", "--out", "e.parquet"), "choose one of .npz")
    assert refused(vcae_("embed", SOURCE, "--every", "0", "--out", "e.npz"), "--every")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr("vcae.cli.codes.find_spec", lambda name: None)
    assert refused(vcae_("embed", SOURCE, "--out", "e.parquet"), "pip install 'vcae[parquet]'")


def test_embed_writes_content(vcae_, weights):
    assert vcae_("embed", SOURCE, TARGET, "--content", "--out", "c.npz").code == 0
    with np.load("c.npz", allow_pickle=False) as c:
        assert sorted(c) == sorted([str(SOURCE), str(TARGET)])
        for path in (SOURCE, TARGET):
            np.testing.assert_array_equal(c[str(path)], vcae.load(weights).content(path).z.numpy())


@pytest.mark.parametrize("merge", [False, True])
def test_embed_writes_units_with_times(vcae_, discrete, merge):
    options = ["--merge"] if merge else []
    assert vcae_("embed", SOURCE, "--units", *options, "--out", "c.npz", "--model", discrete).code == 0
    ids = vcae.load(discrete).content(SOURCE).ids.numpy()
    with np.load("c.npz", allow_pickle=False) as c:
        found = c[str(SOURCE)]
    assert found["start"][0] == 0 and found["end"][-1] == pytest.approx(len(ids) * 0.02)
    np.testing.assert_array_equal(found["start"][1:], found["end"][:-1])
    counts = np.round((found["end"] - found["start"]) / 0.02).astype(int)
    np.testing.assert_array_equal(np.repeat(found["unit"], counts), ids)
    assert (counts > 1).any() == merge
    assert not merge or (np.diff(found["unit"]) != 0).all()


def test_units_are_merged_and_codes_named_once(vcae_):
    assert refused(vcae_("embed", SOURCE, "--merge", "--out", "u.npz"), "--units")
    assert refused(vcae_("embed", SOURCE, "--units", "--content", "--out", "u.npz"), "exclude")


def test_voice_shows_what_each_reference_adds(vcae_):
    assert vcae_("voice", TARGET, "--out", "a.voice").out == ""
    done = vcae_("voice", TARGET, SOURCE, "--verbose", "--out", "a.voice", "--model", "studio")
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert rows[0] == ["recording", "speech", "share", "cosine", "doubts"]
    assert [row[0] for row in rows[1:]] == [str(TARGET), str(SOURCE)]
    assert {row[4] for row in rows[1:]} == {"another voice"}
    assert sum(int(row[2].removesuffix("%")) for row in rows[1:]) == 100
    assert done.code == 0 and "sounds like another speaker" in done.err


def test_similarity_answers_and_says_how_often_it_errs(vcae_, tmp_path):
    def compare(one, other, *options):
        return vcae_("similarity", one, other, *options, "--model", "studio")

    (tmp_path / "man").mkdir()
    shutil.copy(TARGET, tmp_path / "man")
    audio.Audio(audio.read(TARGET).samples[RATE:], RATE).write(tmp_path / "later.wav")
    same = compare(tmp_path / "man", tmp_path / "later.wav")
    assert same.code == 0 and same.out.startswith("same, cosine 0.")
    assert "same: " in same.lines[0] and "different: below" in same.lines[1]
    about = json.loads(compare(SOURCE, TARGET, "--json").out)
    assert about["answer"] == "different" and about["cosine"] < about["calibration"]["different_below"]


def test_similarity_by_other_weights_is_not_calibrated(vcae_):
    done = vcae_("similarity", SOURCE, TARGET)
    assert (
        done.code == 0 and done.out.startswith("not calibrated for these weights, cosine ") and not done.err
    )
    assert refused(vcae_("similarity", SOURCE, "missing.wav"), "missing.wav", "no such file")


def test_content_of_a_file_called_file(vcae_):
    shutil.copy(SOURCE, "file")  # also the name of an argument of np.savez
    assert vcae_("embed", "file", "--content", "--out", "c.npz").code == 0
    assert list(np.load("c.npz", allow_pickle=False)) == ["file"]


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("convert", ["--voice", "--out", "--pitch-shift", "--strength", "--model", "--device"]),
        ("reconstruct", ["--out", "--model", "--device"]),
        (
            "stream",
            ["--voice", "--microphone", "--loudspeaker", "--devices", "--input", "--output", "--realtime"],
        ),
        (
            "stream",
            ["--source-voice", "--pitch-shift", "--strength", "--block", "--jitter-buffer", "--profile"],
        ),
        ("embed", ["--out", "--content", "--units", "--model", "--device"]),
        ("voice", ["--out", "--model", "--device"]),
        ("mix", ["--out", "--weights"]),
        ("info", ["--json"]),
        ("download", ["--out", "--parts", "--dry-run"]),
        ("doctor", ["--out", "--speakers", "--exclude", "--no-texts", "--limits.shortest"]),
    ],
)
def test_every_command_has_help(vcae_, command, options):
    done = vcae_(command, "--help", bare=True)
    assert done.code == 0
    for option in options:
        assert option in done.out + done.err


def test_the_program_has_help(vcae_):
    done = vcae_("--help", bare=True)
    assert done.code == 0
    for command in ("convert", "stream", "reconstruct", "embed", "voice", "mix", "info"):
        assert command in done.out
    assert "Convert recordings into another voice" in done.out


def test_info_describes_weights(vcae_, weights):
    done = vcae_("info", weights, bare=True)
    assert done.code == 0
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert rows[0] == ["file", "entry", "value"]
    assert ["autoencoder.safetensors", "config: delay", str(TINY.delay)] in rows
    assert ["vocoder.safetensors", "kind", "Vocoder"] in rows
    described = json.loads(vcae_("info", weights / "vocoder.safetensors", "--json", bare=True).out)
    assert described["vocoder.safetensors"]["config"]["width"] == TINY_VOCODER.width


@pytest.mark.parametrize(
    ("model", "files"),
    [
        (
            [],
            [
                f"{name}.safetensors"
                for name in (
                    *("bandwidth", "live", "normal", "phones", "population", "restorer", "speaker", "studio"),
                    *("units-prosody", "units", "vocoder"),
                )
            ],
        ),
        (["live"], ["live.safetensors", "vocoder.safetensors", "speaker.safetensors"]),
    ],
)
def test_info_of_the_bundled_weights(vcae_, model, files):
    rows = [line.split("\t") for line in vcae_("info", *model, bare=True).out.splitlines()]
    assert [name for name, entry, _ in rows if entry == "kind"] == files


@pytest.mark.parametrize("content", ["", "not weights"])
def test_info_refuses_files_that_are_no_weights(vcae_, tmp_path, content):
    (tmp_path / "x.safetensors").write_text(content)
    done = vcae_("info", "x.safetensors", bare=True)
    assert done.code == 2 and "x.safetensors" in done.err
    (tmp_path / "empty").mkdir()
    assert "empty: holds no .safetensors file" in vcae_("info", "empty", bare=True).err


def test_a_reader_may_stop_early(tmp_path):
    script = f"{sys.executable} -m vcae info | head -n 1"
    environment = {**os.environ, "PYTHONPATH": str(Path(vcae.__file__).parents[1])}
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert done.stdout.startswith("file") and done.stderr == ""


def test_flags_of_version_0_1_are_understood_but_not_shown(vcae_, weights):
    assert vcae_("voice", SOURCE, "--out", "a.voice", "--weights", weights, bare=True).code == 0
    assert vcae_("voice", SOURCE, "--out", "b.voice", f"--weights={weights}", bare=True).code == 0
    assert Path("a.voice").read_bytes() == Path("b.voice").read_bytes()
    assert "--weights" not in vcae_("convert", "--help", bare=True).out


# Bad input


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "silent"])
@pytest.mark.parametrize(
    "command", [["convert", "--voice", TARGET], ["reconstruct"], ["embed"], ["voice"]], ids=lambda c: c[0]
)
def test_a_bad_source_is_refused(vcae_, command, kind):
    path = bad_file(kind)
    before = names()
    out = OUT[command[0]]
    assert refused(vcae_(command[0], path, *command[1:], "--out", out), path)
    assert names() == before


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "silent", "short", "folder"])
def test_a_bad_reference_is_refused(vcae_, kind):
    path = bad_file(kind)
    assert refused(vcae_("convert", SOURCE, "--voice", path, "--out", "out.wav"), path)
    assert not Path("out.wav").exists()


@pytest.mark.parametrize("content", [None, "text"])
def test_a_bad_voice_file_is_refused(vcae_, content):
    if content:
        Path("bad.voice").write_text(content)
    assert refused(vcae_("convert", SOURCE, "--voice", "bad.voice", "--out", "out.wav"), "bad.voice")
    assert refused(vcae_("mix", "bad.voice", "bad.voice", "--out", "out.voice"), "bad.voice")


def test_a_voice_of_other_weights_is_refused(vcae_, discrete):
    vcae_("voice", SOURCE, "--out", "a.voice", "--model", discrete)
    assert refused(vcae_("convert", SOURCE, "--voice", "a.voice", "--out", "out.wav"), "a.voice", "weights")


def test_a_voice_file_must_be_the_only_reference(vcae_):
    vcae_("voice", SOURCE, "--out", "a.voice")
    done = vcae_("convert", SOURCE, "--voice", "a.voice", TARGET, "--out", "out.wav")
    assert refused(done, "a.voice", "vcae mix")


NEEDS_OUT = {
    "convert": ["convert", SOURCE, "--voice", TARGET],
    "reconstruct": ["reconstruct", SOURCE],
    "embed": ["embed", SOURCE],
    "voice": ["voice", SOURCE],
    "mix": ["mix", "a.voice"],
}
NAMES = {"embed": "x.npz", "voice": "x.voice", "mix": "x.voice"}


@pytest.fixture
def bad_out(vcae_):
    vcae_("voice", SOURCE, "--out", "a.voice")
    Path("plain").write_text("a file")
    return vcae_


@pytest.mark.parametrize("command", NEEDS_OUT)
@pytest.mark.parametrize("out", ["nowhere/deep", "plain"], ids=["no such folder", "a file"])
def test_an_output_folder_that_is_none_is_refused(bad_out, command, out):
    path = f"{out}/{NAMES.get(command, 'x.wav')}"
    assert refused(bad_out(*NEEDS_OUT[command], "--out", path), path)
    assert "rror" not in bad_out(*NEEDS_OUT[command], "--out", path).err, "a library's words"
    assert not Path("nowhere").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("command", NEEDS_OUT)
def test_an_output_folder_that_is_locked_is_refused(bad_out, command):
    Path("locked").mkdir(0o500)
    assert refused(bad_out(*NEEDS_OUT[command], "--out", f"locked/{NAMES.get(command, 'x.wav')}"), "locked")


@pytest.mark.parametrize("command", ["embed", "voice", "mix"])
@pytest.mark.parametrize("out", ["exists", "."])
def test_an_output_that_is_a_folder_is_refused(bad_out, command, out):
    Path("exists").mkdir()
    assert refused(bad_out(*NEEDS_OUT[command], "--out", out), f"{out}: ")
    assert not names("exists")


def test_several_sources_into_a_file_are_refused(bad_out):
    assert refused(bad_out("convert", SOURCE, TARGET, "--voice", TARGET, "--out", "plain"), "plain")
    assert Path("plain").read_text() == "a file"


@pytest.mark.parametrize("out", ["nosuffix", "x.m4a", "x.txt"])
def test_an_output_of_another_kind_is_refused(vcae_, out):
    assert refused(vcae_("convert", SOURCE, "--voice", TARGET, "--out", out), out, ".wav")


@pytest.mark.parametrize("out", ["nosuffix", "nowhere/x.wav"])
def test_a_bad_output_is_reported_before_the_work(vcae_, monkeypatch, out):
    def work(*_):
        raise AssertionError("converted for nothing")

    monkeypatch.setattr(vcae.Converter, "convert_file", work)
    assert refused(vcae_("convert", SOURCE, "--voice", TARGET, "--out", out), out)


def test_the_source_is_not_overwritten(vcae_, folder):
    shutil.copy(SOURCE, "a.flac")
    before = Path("a.flac").read_bytes()
    assert refused(
        vcae_("convert", "a.flac", "--voice", TARGET, "--out", "./a.flac"), "a.flac", "is an input, too"
    )
    assert Path("a.flac").read_bytes() == before
    audio.read(SOURCE).write(folder / "one.wav")
    (folder / "one.flac").unlink()
    assert refused(
        vcae_("convert", folder, "--voice", TARGET, "--out", folder), "one.wav", "is an input, too"
    )


def test_the_reference_is_not_overwritten(vcae_):
    audio.read(TARGET).write("target.wav")
    before = Path("target.wav").read_bytes()
    done = vcae_("convert", SOURCE, "--voice", "target.wav", "--out", "target.wav")
    assert Path("target.wav").read_bytes() == before
    assert refused(done, "target.wav")


def test_one_bad_file_in_a_folder_is_reported_and_skipped(vcae_, folder):
    bad = bad_file("text", folder / "deep")
    done = vcae_("convert", folder, "--voice", TARGET, "--out", "out")
    assert done.code == 1
    assert done.err.count(str(bad)) == 1
    assert "1 could not be used" in done.lines[-1]
    assert len(done.lines) == 2
    assert sorted(p.name for p in Path("out").rglob("*.*")) == ["one.wav", "two.wav"]
    assert not leftovers("out")


def test_one_bad_file_is_not_in_the_archive(vcae_):
    done = vcae_("embed", SOURCE, bad_file("silent"), TARGET, "--out", "e.npz")
    assert done.code == 1
    assert done.err.count("silent.wav") == 1
    with np.load("e.npz", allow_pickle=False) as e:
        assert list(e["files"]) == [str(SOURCE), str(TARGET)]
        assert len(e["embeddings"]) == 2


@pytest.mark.parametrize("command", [["convert", "--voice", TARGET], ["embed"]], ids=lambda c: c[0])
def test_only_bad_files_are_a_failure(vcae_, command):
    Path("in").mkdir()
    bad = [bad_file("text", "in"), bad_file("silent", "in")]
    out = Path("out" if command[0] == "convert" else "out.npz")
    done = vcae_(command[0], "in", *command[1:], "--out", out)
    assert done.code == 2
    for path in bad:
        assert done.err.count(str(path)) == 1
    assert not out.is_file() and not [p for p in out.rglob("*") if p.is_file()]


@pytest.mark.parametrize(
    "command", [["convert", "--voice", TARGET], ["embed"], ["voice"]], ids=lambda c: c[0]
)
def test_a_folder_without_audio_is_refused(vcae_, command):
    Path("nothing").mkdir()
    Path("nothing/notes.txt").write_text("not audio")
    assert refused(
        vcae_(command[0], "nothing", *command[1:], "--out", OUT[command[0]]), "nothing", "no audio"
    )
    assert names() == ["nothing"]


@pytest.mark.parametrize("command", NEEDS_OUT)
def test_no_source_at_all_is_refused(vcae_, command):
    words = [w for w in NEEDS_OUT[command] if w not in (SOURCE, "a.voice")]
    done = vcae_(*words, "--out", NAMES.get(command, "x.wav"))
    assert done.code == 2
    assert done.err
    assert "none of the files" not in done.err
    assert not names()


@pytest.mark.parametrize("option", ["--strength=2", "--strength=-1", "--pitch-shift=nan", "--strength=nan"])
def test_options_out_of_range_are_refused(vcae_, option):
    done = vcae_("convert", SOURCE, "--voice", TARGET, "--out", "out.wav", option)
    assert refused(done, option.split("=")[0].strip("-").split("-")[0])
    assert not names()


@pytest.mark.parametrize("device", ["gpu", "cuda:99", ""])
def test_an_unknown_device_is_refused(vcae_, device):
    done = vcae_("convert", SOURCE, "--voice", TARGET, "--out", "out.wav", "--device", device)
    assert refused(done, f"'{device}'", "--device cpu")


def test_missing_weights_are_refused(vcae_):
    done = vcae_("convert", SOURCE, "--voice", TARGET, "--out", "out.wav", "--model", "nowhere")
    assert refused(done, "nowhere")


def test_weights_of_another_version_are_refused(vcae_, tmp_path):
    """The message names the tensor that does not fit."""
    wide = save_weights(tmp_path / "w", TINY)
    tensors, about = load_tensors(wide / "autoencoder.safetensors")
    removed = next(iter(tensors))
    save_tensors(wide / "autoencoder.safetensors", {n: t for n, t in tensors.items() if n != removed}, about)
    done = vcae_("embed", SOURCE, "--out", "e.npz", "--model", wide)
    assert refused(done, "autoencoder.safetensors", removed)


def test_a_continuous_code_has_no_units(vcae_):
    assert refused(vcae_("embed", SOURCE, "--units", "--out", "u.npz"), "units", "is continuous")
    assert not names()


@pytest.mark.parametrize("shares", [[1], [1, 2, 3], [-1, 2], [0, 0], ["nan", 1], ["inf", 1]], ids=str)
def test_weights_that_make_no_mix_are_refused(vcae_, shares):
    vcae_("voice", SOURCE, "--out", "a.voice")
    done = vcae_("mix", "a.voice", "a.voice", "--weights", *shares, "--out", "x.voice")
    assert refused(done, "weights")
    assert names() == ["a.voice"]


@pytest.mark.parametrize("command", [["convert", "--voice", TARGET], ["reconstruct"]], ids=lambda c: c[0])
def test_a_late_error_in_a_file_leaves_nothing_half_written(vcae_, command):
    samples = np.tile(audio.read(SOURCE, RATE).samples, 8)
    samples[-5] = np.nan
    soundfile.write("bad.wav", samples, RATE, subtype="FLOAT")
    assert refused(vcae_(command[0], "bad.wav", *command[1:], "--out", "out.wav"), "bad.wav", "1 of")
    assert names() == ["bad.wav"]


def test_a_failure_while_converting_keeps_the_older_file(vcae_, monkeypatch):
    def broken(*_):
        raise vcae.AudioError("source.wav: has disappeared; mount it again")

    Path("out.wav").write_text("older")
    monkeypatch.setattr(vcae.Stream, "flush", broken)
    assert refused(vcae_("convert", SOURCE, "--voice", TARGET, "--out", "out.wav"), "has disappeared")
    assert Path("out.wav").read_text() == "older"


@pytest.mark.parametrize("seconds", [0, 3])
def test_a_file_that_takes_longer_than_two_seconds_has_a_bar(monkeypatch, seconds):
    written = io.StringIO()
    terminal = Console(file=written, force_terminal=True, width=100)
    clock = itertools.count(step=seconds)
    monkeypatch.setattr(console, "err", terminal)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with console.Bar() as bar:
        bar.update("reading", 75, None)
        bar.update("converting", 75, 3700)
        bar.bars.refresh()
    shown = written.getvalue()
    assert ("converting 0:01:15 of 1:01:40" in shown) == bool(seconds)


def test_an_archive_that_fails_leaves_nothing_half_written(vcae_, monkeypatch):
    def full_disk(file, *_, **__):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full_disk)
    assert refused(vcae_("embed", SOURCE, "--out", "e.npz"), "e.npz", "No space left")
    assert not names()


@pytest.mark.parametrize(
    "words", [[], ["convrt"], ["convert", "a.wav"], ["convert", "a.wav", "--colour", "red"]]
)
def test_wrong_arguments_are_refused(vcae_, words):
    done = vcae_(*words, bare=True)
    assert done.code == 2
    assert done.out == ""
    assert "vcae" in done.err


# Folders, names, formats


def converted(folder):
    return sorted(str(p.relative_to(folder)) for p in Path(folder).rglob("*") if p.is_file())


def copies(*paths):
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        audio.write(path, Audio(audio.read(SOURCE).samples[20_000:28_000], RATE))
    return paths


CONVERT = ["reconstruct"]  # the same code as convert, in half the time


def test_a_slash_makes_a_folder(vcae_):
    copies("a.flac")
    assert vcae_(*CONVERT, "a.flac", "--out", "new/deep/").code == 0
    assert converted("new") == ["deep/a.wav"]


@pytest.mark.parametrize("out", ["x.txt", "nowhere/x.wav", "new/"])
def test_a_missing_source_is_named_before_the_output_is_judged(vcae_, out):
    assert refused(vcae_(*CONVERT, "missing.wav", "--out", out), "missing.wav: no such file")
    assert not names()


@pytest.mark.parametrize(
    "command", [[*CONVERT, "--out", "new"], ["embed", "--out", "e.npz"]], ids=lambda c: c[0]
)
def test_a_missing_source_does_not_stop_the_others(vcae_, command):
    done = vcae_(*command, *copies("a.flac", "b.flac"), "missing.wav")
    assert done.code == 1
    assert done.lines[0] == "vcae: missing.wav: no such file; check the path"
    if command[0] == "embed":
        assert list(np.load("e.npz")["files"]) == ["a.flac", "b.flac"]
    else:
        assert converted("new") == ["a.wav", "b.wav"]


def test_a_dangling_link_is_called_so(vcae_):
    Path("link.wav").symlink_to("gone.wav")
    assert refused(
        vcae_(*CONVERT, "link.wav", "--out", "out.wav"), "is a link to gone.wav, which does not exist"
    )


@pytest.mark.parametrize(
    ("sources", "written"),
    [
        (["spk1/a.flac", "spk2/a.flac"], ["spk1/a.wav", "spk2/a.wav"]),
        (["spk1", "spk2"], ["spk1/a.wav", "spk1/b.wav", "spk2/a.wav"]),
        (["spk1", "./spk1/a.flac"], ["a.wav", "b.wav"]),
        (["x/a.flac", "x/a.wav", "x/b.flac"], ["a.flac.wav", "a.wav.wav", "b.wav"]),
        (["spk1/[ab].flac"], ["a.wav", "b.wav"]),
        (["s*/b.*"], ["b.wav"]),
        (["**/a.flac"], ["spk1/a.wav", "spk2/a.wav", "x/a.wav"]),
    ],
    ids=str,
)
def test_outputs_have_different_names(vcae_, sources, written):
    copies("spk1/a.flac", "spk1/b.flac", "spk2/a.flac", "x/a.flac", "x/a.wav", "x/b.flac")
    done = vcae_(*CONVERT, *sources, "--out", "new/")
    assert (done.code, done.err) == (0, "")
    assert converted("new") == written


def test_an_output_folder_in_the_source_is_left_out_of_it(vcae_):
    copies("in/a.flac")
    for _ in range(2):
        assert vcae_(*CONVERT, "in", "--out", "in/new").code == 0
    assert converted("in") == ["a.flac", "new/a.wav"]


def test_linked_folders_are_followed_once(vcae_):
    copies("elsewhere/b.flac", "in/a.flac")
    Path("in/link").symlink_to(Path("elsewhere").resolve())
    Path("in/circle").symlink_to(Path("in").resolve())
    assert vcae_(*CONVERT, "in", "--out", "new").code == 0
    assert converted("new") == ["a.wav", "link/b.wav"]


def test_a_folder_that_cannot_be_read_is_told(vcae_, monkeypatch):
    copies("in/a.flac", "in/locked/b.flac")
    scan = os.scandir

    def refusing(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    done = vcae_(*CONVERT, "in", "--out", "new")
    assert done.code == 1
    assert done.lines == [
        "vcae: in/locked: cannot be read (Permission denied), and is left out; check its permissions"
    ]
    assert converted("new") == ["a.wav"]


def test_finished_files_are_kept(vcae_):
    copies("in/a.flac", "in/b.flac")
    words = [*CONVERT, "in", "--out", "new", "--format", "flac"]
    assert vcae_(*words).err == ""
    before = {p: p.stat().st_mtime_ns for p in Path("new").iterdir()}
    Path("new/b.flac").unlink()
    done = vcae_(*words)
    assert (done.code, done.lines) == (0, ["vcae: 1 of 2 were converted before, and are kept"])
    assert Path("new/a.flac").stat().st_mtime_ns == before[Path("new/a.flac")]
    assert converted("new") == ["a.flac", "b.flac"]
    # Other options, or another source, are other work.
    assert vcae_(*words, "--sample-rate", "8000").err == ""
    audio.write("in/a.flac", Audio(0.5 * audio.read("in/a.flac").samples, RATE))
    assert "1 of 2" in vcae_(*words, "--sample-rate", "8000").err


def test_what_was_made_from_a_part_is_not_finished(vcae_):
    copies("b.flac")
    whole = SOURCE.read_bytes()
    Path("a.flac").write_bytes(whole[: len(whole) // 2])
    for _ in range(2):
        done = vcae_(*CONVERT, "a.flac", "b.flac", "--out", "new")
        assert done.code == 1
        assert done.lines[0].startswith("vcae: a.flac: breaks off at 1.")
    assert "1 of 2 were converted before" in done.lines[1]


def test_a_hundred_files_with_three_bad_ones(vcae_):
    good = copies("in/00.flac")[0]
    for k in range(1, 100):
        os.link(good, f"in/{k:02}.flac")
    for k in (3, 50, 99):
        Path(f"in/{k:02}.flac").unlink()
        Path(f"in/{k:02}.flac").write_text("hello")
    done = vcae_(*CONVERT, "in", "--out", "new", "--jobs", "4")
    assert done.code == 1
    assert len(done.lines) == 4 and "3 could not be used" in done.lines[-1]
    assert len(converted("new")) == 97
    assert len({p.read_bytes()[-1000:] for p in Path("new").iterdir()}) == 1


@pytest.mark.parametrize("suffix", audio.WRITABLE)
def test_formats(vcae_, suffix):
    copies("a.flac", "b.flac")
    assert vcae_(*CONVERT, "a.flac", "--out", f"by-suffix{suffix}").code == 0
    assert vcae_(*CONVERT, "a.flac", "b.flac", "--out", "new", "--format", suffix[1:]).code == 0
    assert converted("new") == [f"a{suffix}", f"b{suffix}"]
    for path in (f"by-suffix{suffix}", f"new/a{suffix}"):
        with soundfile.SoundFile(path) as file:
            assert (file.format, file.subtype) == audio.WRITABLE[suffix]
        assert audio.comment(Path(path)).startswith("reconstructed speech, made by vcae with the weights ")


def test_rate_and_subtype(vcae_):
    copies("a.flac")
    options = ["--sample-rate", "48000", "--subtype", "pcm_24"]
    assert vcae_("convert", "a.flac", "--voice", TARGET, "--out", "b.wav", *options).code == 0
    about = soundfile.info("b.wav")
    assert (about.samplerate, about.subtype, about.frames) == (48_000, "PCM_24", 24_000)
    assert audio.comment(Path("b.wav")).startswith("converted speech, made by vcae with the weights ")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--out", "b.wav", "--subtype", "pcm_12"], ["b.wav", "pcm_12", "PCM_24"]),
        (["--out", "b.ogg", "--subtype", "opus"], ["b.ogg", "VORBIS"]),
        (["--out", "b.wav", "--sample-rate", "10"], ["--sample-rate", "10"]),
        (["--out", "b.wav", "--jobs", "0"], ["--jobs"]),
        (["--out", "b.wav", "--format", "flac"], ["b.wav", "--format"]),
        (["--out", "b.opus", "--sample-rate", "44100"], ["b.opus", "44100"]),
    ],
    ids=str,
)
def test_formats_that_do_not_exist_are_refused(vcae_, words, parts):
    copies("a.flac")
    assert refused(vcae_(*CONVERT, "a.flac", *words), *parts)
    assert names() == ["a.flac"]


@pytest.mark.parametrize("command", ["reconstruct", "embed", "voice", "mix"])
def test_read_only_outputs_are_not_replaced(bad_out, command):
    out = Path(NAMES.get(command, "x.wav"))
    out.write_text("precious")
    out.chmod(0o444)
    assert refused(bad_out(*NEEDS_OUT[command], "--out", out), out, "read-only")
    assert out.read_text() == "precious"


def test_the_version(vcae_):
    assert vcae_("--version", bare=True).out == f"vcae {vcae.__version__}\n"


# Hostile inputs, for every command that reads recordings


def hostile(kind):
    """Make a file, and return its path and words that the message must hold; none for what is usable."""
    path = Path(f"{kind.replace(' ', '-')}.wav")
    speech = audio.read(SOURCE).samples[20_000:36_000]
    if kind == "a pipe":
        os.mkfifo(path)
        return path, ["is a pipe or a device"]
    if kind == "a device":
        return Path("/dev/null"), ["is a pipe or a device"]
    if kind == "a name with a line break":
        return Path("a\nb.wav"), ["a\\nb.wav: no such file"]
    if kind == "a name that is not UTF-8":
        return Path(os.fsdecode(b"\xff.wav")), ["no such file"]
    if kind == "a name that is too long":
        return Path(300 * "x" + ".wav"), ["x.wav"]
    if kind == "cancelling channels":
        soundfile.write(path, np.stack([speech, -speech], 1), RATE)
        return path, None
    if kind == "16-bit numbers as floats":
        soundfile.write(path, np.rint(32768 * speech), RATE, subtype="FLOAT")
        return path, None
    if kind == "only an offset":
        soundfile.write(path, np.full(RATE, 0.3), RATE)
        return path, ["is silent"]
    if kind == "one sample":
        soundfile.write(path, speech[:1], RATE)
        return path, ["is silent"]
    if kind == "a rate of 1 Hz":
        soundfile.write(path, speech[:100], 1)
        return path, ["1 Hz"]
    content = {
        "zeros": bytes(5_000),
        "a web page": b"<!DOCTYPE html><html>" * 99,
        "a zip": b"PK\3\4" + bytes(500),
        "a picture": b"\x89PNG\r\n\x1a\n" + bytes(500),
        "half a header": b"RIFF\x10\0\0\0WAVEfmt ",
        "no channels": b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\0\0\x80>\0\0\0}\0\0\2\0\x10\0data\4" + bytes(7),
    }[kind]
    path.write_bytes(content)
    return path, [str(path)]


HOSTILE = [
    "a pipe",
    "a device",
    "a name with a line break",
    "a name that is not UTF-8",
    "a name that is too long",
    "cancelling channels",
    "16-bit numbers as floats",
    "only an offset",
    "one sample",
    "zeros",
    "a web page",
    "a zip",
    "a picture",
    "half a header",
    "no channels",
]
READERS = {
    "convert": ["convert", "{}", "--voice", TARGET, "--out", "out.wav"],
    "convert to": ["convert", SOURCE, "--voice", "{}", "--out", "out.wav"],
    "reconstruct": ["reconstruct", "{}", "--out", "out.wav"],
    "embed": ["embed", "{}", "--out", "out.npz"],
    "content": ["embed", "{}", "--content", "--out", "out.npz"],
    "voice": ["voice", "{}", "--out", "out.voice"],
    "stream": ["stream", "--voice", TARGET, "--input", "{}", "--output", "out.wav"],
    "stream to": ["stream", "--voice", "{}", "--input", SOURCE, "--output", "out.wav"],
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a POSIX file system")
@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("command", READERS)
def test_hostile_inputs(vcae_, command, kind):
    path, parts = hostile(kind)
    done = vcae_(*(path if word == "{}" else word for word in READERS[command]))
    if parts is None or (command == "stream" and parts == ["is silent"]):  # which cannot know the end
        assert done.code == 0, done.err
        return
    assert refused(done, *parts)
    assert not [name for name in names() if name.startswith("out")]


# Live


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A second of speech."""
    path = tmp_path_factory.mktemp("live") / "clip.flac"
    Audio(audio.read(SOURCE).samples[RATE : 2 * RATE], RATE).write(path)
    return path


STREAM_TO_FILE = ["stream", "--voice", TARGET, "--output", "out.wav"]


@pytest.mark.parametrize("option", [[], ["--block", "55"], ["--source-voice", SOURCE, "--strength", "0.7"]])
def test_streaming_to_a_file(vcae_, clip, option):
    done = vcae_(*STREAM_TO_FILE, "--input", clip, "--profile", *option)
    assert (done.code, done.err) == (0, "")
    assert names() == ["out.wav"]
    source, out = audio.read(clip), audio.read("out.wav")
    assert out.sample_rate == source.sample_rate
    assert source.duration < out.duration < source.duration + 0.5
    assert np.abs(out.samples).max() > 0.01
    printed = done.out.splitlines()
    assert len(printed) == 4
    assert re.fullmatch(r"latency \d+ ms \(70 algorithm \+ \d+ compute \+ \d+ buffer\)", printed[0])
    assert "0 underruns, 0.00 s dropped" in printed[2]
    assert re.search(r"p50 \d+\.\d, p95 \d+\.\d, p99 \d+\.\d ms", printed[3])


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["stream", "--input", SOURCE, "--output", "out.wav"], "--voice"),
        (["stream", "--voice", TARGET, "--input", SOURCE], "--output FILE"),
        (["stream", "--voice", TARGET, "--output", "out.wav"], "--input FILE"),
        ([*STREAM_TO_FILE, "--input", SOURCE, "--block", "1"], "block"),
        ([*STREAM_TO_FILE, "--input", SOURCE, "--block", "nan"], "block"),
        ([*STREAM_TO_FILE, "--input", SOURCE, "--jitter-buffer", "-1"], "jitter buffer"),
        ([*STREAM_TO_FILE, "--input", SOURCE, "--strength", "0.5"], "voice of the source speaker"),
        ([*STREAM_TO_FILE, "--input", SOURCE, "--strength", "2"], "strength"),
        ([*STREAM_TO_FILE, "--input", SOURCE, "--pitch-shift", "inf"], "pitch shift"),
        ([*STREAM_TO_FILE, "--input", SOURCE, "--device", "gpu"], "'gpu'"),
        ([*STREAM_TO_FILE, "--input", SOURCE, "--output", "out.xyz"], "out.xyz"),
        ([*STREAM_TO_FILE, "--input", SOURCE, "--output", "nowhere/out.wav"], "nowhere"),
        ([*STREAM_TO_FILE, "--input", SOURCE, "--output", SOURCE], "is an input, too"),
        ([*STREAM_TO_FILE, "--input", SOURCE, "--output", TARGET], "is an input, too"),
        ([*STREAM_TO_FILE, "--input", "missing.wav"], "missing.wav: no such file"),
        ([*STREAM_TO_FILE, "--input", "."], "folder"),
        ([*STREAM_TO_FILE, "--input", SOURCE, "--voice", "missing.voice"], "missing.voice"),
    ],
)
def test_bad_options_of_stream_are_refused(vcae_, words, part):
    assert refused(vcae_(*words), part)
    assert not names()


def test_a_bad_source_leaves_no_output(vcae_):
    soundfile.write("bad.wav", np.full(RATE // 4, np.nan), RATE, subtype="FLOAT")
    assert refused(vcae_(*STREAM_TO_FILE, "--input", "bad.wav"), "bad.wav", "NaN")
    assert names() == ["bad.wav"]


class Devices:
    """A fake of the package sounddevice: a microphone and a loudspeaker that stop after some blocks."""

    PortAudioError = type("PortAudioError", (Exception,), {})

    def __init__(self, blocks, end):
        self.blocks, self.end = blocks, end
        self.default = types.SimpleNamespace(device=(0, 1))
        self.streams = []

    def query_devices(self):
        about = {"max_input_channels": 0, "max_output_channels": 0, "default_samplerate": 48_000.0}
        return [
            {**about, "name": "Microphone A", "max_input_channels": 1},
            {**about, "name": "Loudspeaker B", "max_output_channels": 2},
        ]

    def InputStream(self, **options):  # noqa: N802 -- as in sounddevice
        stream = types.SimpleNamespace(**{**options, "latency": 0.01})
        stream.start = stream.close = lambda: None
        self.streams.append(stream)
        if len(self.streams) == 2:
            stream.start = threading.Thread(target=self.call_back, daemon=True).start
        return stream

    OutputStream = InputStream

    def call_back(self):
        microphone, loudspeaker = self.streams
        for _ in range(self.blocks):
            microphone.callback(
                np.full((microphone.blocksize, 1), 0.1, np.float32), microphone.blocksize, None, None
            )
            loudspeaker.callback(
                np.zeros((loudspeaker.blocksize, 1), np.float32), loudspeaker.blocksize, None, None
            )
            time.sleep(0.005)
        self.end(microphone)


LIVE = ["stream", "--voice", TARGET]


def test_ctrl_c_ends_a_live_conversion(vcae_, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", Devices(20, lambda _: _thread.interrupt_main()))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        done = vcae_(*LIVE)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (done.code, done.err) == (0, "")
    assert "of sound, load" in done.out


def test_a_device_that_stops_is_reported(vcae_, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", Devices(20, lambda stream: stream.finished_callback()))
    done = vcae_(*LIVE)
    assert done.code == 2
    assert done.lines == ["vcae: a sound device has stopped; reconnect it and start again"]
    assert "0:00:00 of sound" in done.out


def test_devices_are_listed(vcae_, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", Devices(0, None))
    done = vcae_("stream", "--devices", bare=True)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "  0 Microphone A (default microphone, 48000 Hz)",
        "  1 Loudspeaker B (default loudspeaker, 48000 Hz)",
    ]
    assert refused(vcae_(*LIVE, "--microphone", "Nose"), "'Nose'", "0 'Microphone A'")


def test_a_computer_without_devices_is_reported(vcae_, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", Devices(0, None))
    monkeypatch.setattr(Devices, "query_devices", lambda _: [])
    done = vcae_("stream", "--devices", bare=True)
    assert (done.code, done.out, done.err) == (0, "no sound devices found\n", "")
    assert refused(vcae_(*LIVE), "no microphone", "--input")


def test_a_missing_portaudio_is_reported(vcae_, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert refused(vcae_(*LIVE), "vcae[live]")
    assert refused(vcae_("stream", "--devices", bare=True), "vcae[live]")


# In a separate process, with the bundled weights


def start(*words, cwd):
    environment = {**os.environ, "PYTHONPATH": str(Path(vcae.__file__).parents[1])}
    command = [sys.executable, "-m", "vcae", *words]
    return subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def program(*words, cwd):
    with start(*words, cwd=cwd) as process:
        out, errors = process.communicate()
    return subprocess.CompletedProcess(words, process.returncode, out, errors)


@pytest.mark.slow
def test_the_program_converts(tmp_path):
    done = program("convert", SOURCE, "--voice", TARGET, "--out", "out.wav", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    out = audio.read(tmp_path / "out.wav")
    assert len(out.samples) == len(audio.read(SOURCE).samples)
    assert 0.01 < np.abs(out.samples).max() <= 1


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="a process can be stopped on POSIX only")
def test_a_stream_that_was_paused_recovers_its_latency(tmp_path, weights):
    samples = np.tile(audio.read(SOURCE, RATE).samples, 3)[: 6 * RATE]
    Audio(samples, RATE).write(tmp_path / "source.wav")
    vcae.load(weights).voice(TARGET).save(tmp_path / "a.voice")
    words = ["--voice", "a.voice", "--input", "source.wav", "--output", "out.wav", "--realtime"]
    with start("stream", *words, "--model", weights, cwd=tmp_path) as process:
        while not list(tmp_path.glob(".*.part")):
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(1)
        process.send_signal(signal.SIGSTOP)
        time.sleep(2)
        process.send_signal(signal.SIGCONT)
        printed, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"")
    assert int(re.search(rb"(\d+) underruns", printed)[1]) >= 1
    assert float(re.search(rb"([\d.]+) s dropped", printed)[1]) > 0.5
    assert int(re.search(rb"latency (\d+) ms", printed)[1]) < 1_000
    assert audio.read(tmp_path / "out.wav").duration > 6


def test_the_program_reports_an_error(tmp_path):
    done = program("convert", "missing.wav", "--voice", TARGET, "--out", "out.wav", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode().splitlines() == ["vcae: missing.wav: no such file; check the path"]
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_sigterm_leaves_no_hidden_file(tmp_path, weights, jobs):
    samples = np.tile(audio.read(SOURCE, RATE).samples, 100)
    (tmp_path / "in").mkdir()
    for name in ("a.wav", "b.wav"):
        audio.write(tmp_path / "in" / name, Audio(samples, RATE))
    words = ["reconstruct", "in", "--out", "new", "--model", weights, "--jobs", jobs]
    with start(*words, cwd=tmp_path) as process:
        while not list(tmp_path.glob("new/.*.part")):
            assert process.poll() is None
            time.sleep(0.05)
        process.terminate()
        _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (143, b"")
    assert not names(tmp_path / "new")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("seconds", [0.1, 0.4, 0.8])
def test_ctrl_c_while_loading_prints_no_traceback(tmp_path, seconds):
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", ""], check=True)
    started = time.monotonic() - began  # before that it is Python that is interrupted, not vcae
    with start("convert", SOURCE, "--voice", TARGET, "--out", "out.wav", cwd=tmp_path) as process:
        time.sleep(2 * started + seconds)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=120)
    assert process.returncode in (130, -signal.SIGINT)
    assert (out, errors) == (b"", b"")
    assert not names(tmp_path)


# Commands that measure. Metrics are tested in tests/evaluation.


@pytest.fixture
def speakers(tmp_path):
    """A folder of two speakers with four recordings each."""
    for path in (SOURCE, TARGET):
        samples = audio.read(path, RATE).samples
        folder = tmp_path / "speech" / path.stem
        folder.mkdir(parents=True)
        for k in range(4):
            audio.write(folder / f"{path.stem}{k}.wav", Audio(samples[k * 2000 :][: 2 * RATE + 99], RATE))
    return tmp_path / "speech"


def test_trials_are_listed_the_same_every_time(vcae_, speakers):
    for out in ("a.tsv", "b.tsv"):
        done = vcae_("trials", speakers, "--out", out, bare=True)
        assert done.code == 0
        assert "2 trials of 2 speakers" in done.err
    assert Path("a.tsv").read_text() == Path("b.tsv").read_text()
    assert len(Path("a.tsv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["gone", "--out", "t.tsv"], "gone: no such folder"),
        (["speech", "--out", "t.txt"], "choose one of .tsv"),
        (["speech", "--out", "gone/t.tsv"], "gone does not exist"),
        (["speech", "--out", "t.tsv", "--count", "3"], "only 2 trials"),
        (["speech", "--out", "t.tsv", "--references", "9"], "has no 9 other recordings"),
        (["speech", "--out", "t.tsv", "--corpus", "timit"], "timit: no such corpus"),
    ],
)
def test_a_list_that_cannot_be_made_is_reported(vcae_, speakers, words, reason):
    done = vcae_("trials", *words, bare=True)
    assert done.code == 2
    assert reason in done.err and len(done.lines) == 1
    assert not Path("t.tsv").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--pairs", "gone.tsv", "--out", "new"], "gone.tsv: cannot be read"),
        (["--pairs", "t.tsv", "--out", "speech"], "speech: exists already; name a new folder"),
        (
            ["--pairs", "t.tsv", "--out", "new", "--system", "melgan"],
            "melgan: no such system; there are vcae",
        ),
        (["--pairs", "t.tsv", "--out", "new", "--converted", "speech"], "holds no file named as a trial is"),
        (["--pairs", "t.tsv", "--out", "new", "--converted", "gone"], "gone: no such file or folder"),
    ],
)
def test_an_evaluation_that_cannot_be_made_is_reported(vcae_, speakers, words, reason):
    vcae_("trials", speakers, "--out", "t.tsv", bare=True)
    done = vcae_("evaluate", *words)
    assert done.code == 2
    assert reason in done.err and len(done.lines) == 1
    assert not Path("new").exists()
