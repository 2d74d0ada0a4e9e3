"""Commands of the readable code."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, VOICES, save_weights, seeded

from vcae import Audio, audio
from vcae.cli import main as cli
from vcae.inference.checkpoint import fingerprint, save
from vcae.model.autoencoder import Autoencoder
from vcae.model.phones import PHONES, PhoneCodec, PhoneConfig

SOURCE, TARGET = VOICES / "vcc2016-SF1-200001.flac", VOICES / "librispeech-78-368-0031.flac"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = save_weights(tmp_path_factory.mktemp("weights") / "tiny")
    halved = seeded(Autoencoder, TINY).half().float()  # as it is loaded
    config = PhoneConfig(content=fingerprint(halved.content), dim=8, width=16, hidden=24)
    save(folder / "phones.safetensors", seeded(PhoneCodec, config))
    return folder


@pytest.fixture
def run(monkeypatch, capsys, tmp_path, weights):
    """Run a command line in a temporary folder with tiny weights: -> status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*words, model=weights):
        code = 0
        try:
            cli.main([*map(str, words), "--model", str(model)])
        except SystemExit as end:
            code = end.code
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return run


def refused(done, *parts):
    """Status 2, one line that names these, nothing printed and nothing half-written."""
    code, out, err = done
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1 and err.startswith("vcae: ")
    assert all(part in err for part in parts), err
    assert not [path for path in Path().iterdir() if path.name.endswith(".part")]
    return True


@pytest.fixture
def recordings(tmp_path):
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    shutil.copy(SOURCE, folder / "one.flac")
    shutil.copy(TARGET, folder / "deep" / "two.flac")
    return folder


def test_a_recording_is_a_line_of_phones(run):
    code, out, err = run("transcribe", SOURCE)
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 1
    assert set(out.split()) <= set(PHONES)


def test_formats_agree(run):
    (line,) = run("transcribe", SOURCE)[1].splitlines()
    times = [row.split("\t") for row in run("transcribe", SOURCE, "--times")[1].splitlines()]
    phones = json.loads(run("transcribe", SOURCE, "--json")[1])["phones"]
    assert [row[2] for row in times] == [phone["phone"] for phone in phones] == line.split()
    assert [float(row[0]) for row in times] == pytest.approx([phone["start"] for phone in phones])
    assert [float(row[1]) for row in times] == pytest.approx([phone["end"] for phone in phones])


def test_a_text_grid_holds_the_same_intervals(run, tmp_path):
    textgrid = pytest.importorskip("praatio.textgrid")
    path = tmp_path / "a.TextGrid"
    path.write_text(run("transcribe", SOURCE, "--textgrid")[1])
    (tier,) = textgrid.openTextgrid(str(path), includeEmptyIntervals=True).tiers
    phones = json.loads(run("transcribe", SOURCE, "--json")[1])["phones"]
    assert tier.name == "phones"
    assert [(e.start, e.end, e.label or "SIL") for e in tier.entries] == [
        (pytest.approx(p["start"]), pytest.approx(p["end"]), p["phone"]) for p in phones
    ]


def test_lines_of_several_recordings_begin_with_their_names(run, recordings):
    for flags in ([], ["--times"]):
        _, out, _ = run("transcribe", recordings, *flags)
        names = {line.split("\t")[0] for line in out.splitlines()}
        assert names == {str(recordings / "one.flac"), str(recordings / "deep" / "two.flac")}


@pytest.mark.parametrize(
    ("flags", "suffix"),
    [([], ".txt"), (["--times"], ".txt"), (["--json"], ".json"), (["--textgrid"], ".TextGrid")],
)
def test_a_folder_is_written_file_by_file(run, recordings, flags, suffix):
    assert run("transcribe", recordings, "--out", "out", *flags) == (0, "", "")
    written = {str(path.relative_to("out")) for path in Path("out").rglob("*") if path.is_file()}
    assert written == {f"one{suffix}", f"deep/two{suffix}"}
    alone = run("transcribe", recordings / "one.flac", *flags)[1]
    assert (Path("out") / f"one{suffix}").read_text() == alone


def test_a_bad_file_is_left_out(run, recordings):
    Audio(np.zeros(16_000, np.float32), 16_000).write(recordings / "silent.wav")
    (recordings / "text.wav").write_text("no audio")
    code, out, err = run("transcribe", recordings)
    assert code == 1
    assert len(out.splitlines()) == 2
    assert "silent.wav: is silent" in err and "text.wav: " in err


def test_a_missing_file_does_not_stop_the_others(run):
    code, out, err = run("transcribe", "gone.wav", SOURCE)
    assert code == 1 and len(out.splitlines()) == 1
    assert "gone.wav: no such file" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gone.wav"], "gone.wav"),
        ([SOURCE, "--times", "--json"], "exclude each other"),
        (["in", "--json"], "--out"),
        (["in", "--textgrid"], "--out"),
        (["in/one.flac", "in/same", "--out", "out"], "is the output for both"),
        ([SOURCE, "--out", "file"], "cannot be created"),
    ],
)
def test_what_cannot_be_transcribed_is_refused(run, recordings, words, said):
    Path("file").touch()
    (recordings / "same").mkdir()
    shutil.copy(SOURCE, recordings / "same" / "one.flac")
    assert refused(run("transcribe", *words), said)


def test_a_model_without_phones_is_refused(run, tmp_path):
    model = save_weights(tmp_path / "plain")
    assert refused(run("transcribe", SOURCE, model=model), "phones.safetensors: no such file")
    assert refused(run("transcribe", SOURCE, model="live"), "another model")


def test_edited_phones_are_spoken(run):
    Path("a.json").write_text(run("transcribe", SOURCE, "--json")[1])
    assert run("speak", SOURCE, "--phones", "a.json", "--out", "same.wav") == (0, "", "")
    edited = json.loads(Path("a.json").read_text())
    edited["phones"][3] |= {"phone": "S", "duration": 0.5}
    Path("b.json").write_text(json.dumps(edited))
    code, out, err = run("speak", SOURCE, "--phones", "b.json", "--voice", TARGET, "--out", "b.wav")
    assert (code, out) == (0, "") and "holds little speech" in err  # of the reference
    before = edited["phones"][3]["end"] - edited["phones"][3]["start"]
    longer = audio.read("b.wav").duration - audio.read("same.wav").duration
    assert longer == pytest.approx(0.5 - before, abs=1e-3)


BAD = {
    "no JSON": ("{", "is no list of phones"),
    "a list": ("[]", "is no list of phones"),
    "no phones": ("{}", "is no list of phones"),
    "other entries": ('{"phones": [{"phone": "S", "start": 0, "end": 0.1, "length": 3}]}', "length"),
    "no end": ('{"phones": [{"phone": "S", "start": 0}]}', "is no list of phones"),
    "words for numbers": ('{"phones": [{"phone": "S", "start": "now", "end": 0.1}]}', "is no list of phones"),
    "numbers": ('{"phones": [1, 2]}', "is no list of phones"),
    "deep": ("[" * 100_000, "is no list of phones"),
    "unknown phone": ('{"phones": [{"phone": "QX", "start": 0, "end": 0.1}]}', "no such phone"),
    "not a number": ('{"phones": [{"phone": "S", "start": NaN, "end": 0.1}]}', "nan"),
    "endless": ('{"phones": [{"phone": "S", "start": 0, "end": 0.1, "duration": 1e308}]}', "duration"),
    "empty": ('{"phones": []}', "no phone is left"),
}


@pytest.mark.parametrize(("text", "said"), BAD.values(), ids=BAD.keys())
def test_a_bad_list_of_phones_is_refused(run, text, said):
    Path("bad.json").write_text(text)
    assert refused(run("speak", SOURCE, "--phones", "bad.json", "--out", "b.wav"), "bad.json: ", said)
    assert not Path("b.wav").exists()


def test_what_cannot_be_spoken_is_refused(run):
    shutil.copy(SOURCE, "a.flac")
    assert refused(
        run("speak", "a.flac", "--phones", "gone.json", "--out", "b.wav"), "gone.json: cannot be read"
    )
    assert refused(
        run("speak", "a.flac", "--phones", "a.flac", "--out", "b.wav"), "a.flac: is no list of phones"
    )
    assert refused(run("speak", "a.flac", "--phones", "a.json", "--out", "a.flac"), "a.flac: is an input")
    assert refused(run("speak", "a.flac", "--phones", "a.json", "--out", "b.txt"), "b.txt: has a suffix")
