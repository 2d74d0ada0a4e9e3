"""Findings, the verdict, the files that the doctor writes, and the command."""

import dataclasses
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import VOICES

from vcae.audio import Audio, read, write
from vcae.cli.main import main
from vcae.corpora.exclude import Excluded, leave_out, read_excluded, write_excluded
from vcae.corpora.layouts import folder, read_speech
from vcae.corpora.utterance import CorpusError, Utterance
from vcae.doctor import PROBLEMS, Examination, Limits, Measurement, examine
from vcae.doctor.findings import find_all
from vcae.doctor.report import write_all
from vcae.inference.reference import split_in_two

RATE = 16_000


def utterances(count: int, speakers: int = 1, labelled: bool = True, corpus: str = "x") -> list[Utterance]:
    return [
        Utterance(Path(f"/{corpus}/{k}.wav"), f"x/{k % speakers}", str(k), corpus, "text", labelled=labelled)
        for k in range(count)
    ]


def healthy(number: int = 0, **changes: object) -> Measurement:
    """A recording without any problem, whose sound is its own."""
    code = np.eye(192)[0]  # all of one person, and each another sentence
    fingerprint = np.random.default_rng(number).standard_normal(384)
    facts: dict[str, object] = {
        "rate": RATE,
        "seconds": 3.0 + 0.1 * number,
        "speech": 2.0,
        "level": -25.0,
        "peak": -3.0,
        "clipped": 0.0,
        "noise": -60.0,
        "bandwidth": 7900.0,
        "dc": 0.0,
        "hum": 5.0,
        "text": -18.0,
        "digest": bytes([number]),
        "code": code,
        "fingerprint": fingerprint / np.linalg.norm(fingerprint),
    }
    return Measurement(**facts | changes)


def found(*measurements: Measurement, speakers: int = 1, **options: object) -> list[tuple[str, int | None]]:
    limits = Limits(**options)
    findings = find_all(utterances(len(measurements), speakers), measurements, limits)
    return [(f.problem, f.number) for f in findings]


def test_a_healthy_corpus_has_no_findings():
    assert found(*(healthy(k) for k in range(9))) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"error": "not an audio file"}, "unreadable"),
        ({"error": "not an audio file", "truncated": True}, "truncated"),
        ({"error": "is empty (0 bytes); record or download it again"}, "empty"),
        ({"error": "is longer than 60 minutes; cut it into shorter files"}, "long"),
        ({"truncated": True}, "truncated"),
        ({"silent": True}, "silent"),
        ({"speech": 0.1}, "short"),
        ({"seconds": 90.0}, "long"),
        ({"clipped": 0.01}, "clipped"),
        ({"noise": -30.0}, "noisy"),
        ({"level": -50.0, "noise": -90.0}, "level"),
        ({"bandwidth": 3400.0}, "narrow"),
        ({"dc": -0.05}, "dc"),
        ({"hum": 25.0}, "hum"),
        ({"text": -40.0}, "text"),
        ({"text": -np.inf}, "text"),
        ({"digest": bytes([2])}, "duplicate"),
    ],
)
def test_each_problem_is_found_and_no_other(changes, problem):
    recordings = [healthy(k) for k in range(8)]
    recordings[5] = dataclasses.replace(recordings[5], **changes)
    assert found(*recordings) == [(problem, 5)]


def test_low_and_mixed_rates():
    low = dataclasses.replace(healthy(5), rate=8000, bandwidth=3900.0)
    assert found(healthy(0), low) == [("low rate", 1), ("mixed rates", None)]
    assert found(healthy(0), low, rate=8000) == [("mixed rates", None)]


def test_a_limit_can_be_changed():
    loud = dataclasses.replace(healthy(3), clipped=0.01)
    assert found(healthy(0), loud, clipped=0.02) == []


def test_copies_that_differ_in_format_and_level_are_duplicates():
    first = healthy(0)
    rng = np.random.default_rng(1)
    near = first.fingerprint + 0.01 * rng.standard_normal(384)
    copy = dataclasses.replace(healthy(7), seconds=3.01, fingerprint=near / np.linalg.norm(near))
    assert found(first, healthy(1), copy) == [("duplicate", 2)]
    longer = dataclasses.replace(copy, seconds=4.0)
    assert found(first, healthy(1), longer) == []


def test_one_of_each_group_of_copies_is_kept():
    same = [dataclasses.replace(healthy(0), digest=b"a") for _ in range(4)]
    assert found(*same) == [("duplicate", k) for k in (1, 2, 3)]


def person(k: int, number: int = 0) -> Measurement:
    """A recording of person k, whose codes are alike."""
    code = np.eye(192)[k] + 0.03 * np.random.default_rng(number).standard_normal(192)
    return dataclasses.replace(healthy(number), code=code / np.linalg.norm(code))


def test_labels_of_two_people_and_people_with_two_labels():
    """Speakers alternate: 0 is two people, 1 and 2 are one, 3 is well."""
    people = [(9 if k % 8 < 4 else 8, 1, 1, 3)[k % 4] for k in range(48)]
    findings = find_all(utterances(48, 4), [person(p, k) for k, p in enumerate(people)], Limits())
    assert [(f.problem, f.speakers) for f in findings] == [
        ("two people", ("x/0",)),
        ("one person", ("x/1", "x/2")),
    ]


def test_a_recording_under_another_label():
    people = [k % 4 for k in range(40)]
    people[6] = 3  # of those with the label 2
    findings = find_all(utterances(40, 4), [person(p, k) for k, p in enumerate(people)], Limits())
    assert [(f.problem, f.number, f.speakers) for f in findings] == [("other speaker", 6, ("x/2", "x/3"))]


def test_speakers_who_are_not_labelled_are_not_judged():
    people = [person(k % 2, k) for k in range(12)]
    assert find_all(utterances(12, 1, labelled=False), people, Limits()) == []
    assert find_all(utterances(12, 1), people, Limits())[0].problem == "two people"


def test_a_split_in_two_finds_the_smaller_group():
    codes = np.array([person(int(k in (3, 7)), k).code for k in range(12)])
    second, cosine = split_in_two(codes)
    assert np.flatnonzero(second).tolist() == [3, 7]
    assert cosine < 0.3
    second, cosine = split_in_two(np.tile(codes[:1], (5, 1)))
    assert cosine == 1.0 and not second.any()


# A corpus on disk


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Six natural recordings of three people, and a few with faults."""
    root = tmp_path_factory.mktemp("corpora") / "mine"
    for k, path in enumerate(sorted(VOICES.glob("*.flac"))):
        speaker = root / f"speaker{k % 3}"
        speaker.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, speaker / f"{k}.flac")
    shutil.copy(root / "speaker0/0.flac", root / "speaker0/copy.flac")
    (root / "speaker1/empty.wav").touch()
    write(root / "speaker2/silent.wav", Audio(np.zeros(RATE, np.float32), RATE))
    (root / "readme.txt").touch()
    return root


@pytest.fixture(scope="module")
def examination(corpus) -> Examination:
    return examine(corpus, read_speech(corpus), texts=False)


def test_an_examination_lists_what_it_leaves_out(examination, corpus):
    assert [(line.file, line.problem) for line in examination.excluded] == [
        ("speaker0/copy.flac", "duplicate"),
        ("speaker1/empty.wav", "empty"),
        ("speaker2/silent.wav", "silent"),
    ]
    assert examination.status == 1
    assert len(examination.kept) == 6
    assert "training would start with 6 recordings" in examination.verdict
    assert "3 files are left out" in examination.verdict
    rows = {row.name: (row.files, row.left_out) for row in examination.speakers()}
    assert rows == {"mine/speaker0": (3, 1), "mine/speaker1": (3, 1), "mine/speaker2": (3, 1)}
    kept = leave_out(examination.utterances, corpus, examination.excluded)
    assert kept == [examination.utterances[k] for k in examination.kept]


def test_nothing_is_left_out_that_is_not_listed(examination, tmp_path):
    """Each recording is either kept, or in exclude.tsv; each finding is in findings.tsv."""
    write_all(tmp_path, examination)
    listed = {line.file for line in read_excluded(tmp_path / "exclude.tsv")}
    kept = {examination.utterances[k].path.relative_to(examination.root).as_posix() for k in examination.kept}
    assert len(kept | listed) == len(kept) + len(listed) == len(examination.utterances)
    rows = (tmp_path / "findings.tsv").read_text().splitlines()[1:]
    assert len(rows) == len(examination.findings) + len(examination.not_read)


def test_the_report_is_complete_and_opens_offline(examination, tmp_path):
    write_all(tmp_path, examination)
    page = (tmp_path / "report.html").read_text()
    assert examination.verdict.lower() in page.lower()
    for name in examination.counts():
        assert PROBLEMS[name].about in page
    heard = [f.number for f in examination.findings if f.number is not None and f.problem != "empty"]
    assert page.count("<audio ") == page.count("<img ") == len(heard) > 0
    assert "speaker2/silent.wav" in page
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)


def test_files_that_the_reader_does_not_list_are_told(corpus):
    some = [each for each in read_speech(corpus) if "speaker0" not in each.speaker]
    found = examine(corpus, some, texts=False)
    assert len(found.not_read) == 3
    assert "3 files, such as" in found.findings[-1].detail


def test_problems_that_count_can_be_chosen(corpus):
    found = examine(corpus, read_speech(corpus), exclude=["empty"], texts=False)
    assert [line.problem for line in found.excluded] == ["empty"]
    with pytest.raises(CorpusError, match="loud: no such problem; there are unreadable, "):
        examine(corpus, read_speech(corpus), exclude=["loud"])
    with pytest.raises(CorpusError, match="holds no recordings"):
        examine(corpus, [])


def test_two_processes_find_the_same(corpus, examination):
    again = examine(corpus, read_speech(corpus), texts=False, processes=2)
    assert again.findings == examination.findings


def test_names_in_the_report_are_text(tmp_path):
    odd = tmp_path / "<b>" / "a & b.wav"
    odd.parent.mkdir()
    odd.write_bytes(b"x")
    write_all(tmp_path, examine(tmp_path, folder(tmp_path)))
    assert "&lt;b&gt;/a &amp; b.wav" in (tmp_path / "report.html").read_text()


# The list of excluded files


def test_a_list_of_excluded_files_is_read_as_written(tmp_path):
    lines = [Excluded("a/b c.wav", "silent", "x\ty"), Excluded("ü.flac", "dc", "")]
    write_excluded(tmp_path / "exclude.tsv", lines)
    assert read_excluded(tmp_path / "exclude.tsv") == [lines[0]._replace(detail="x y"), lines[1]]
    (tmp_path / "own.tsv").write_text("file\tproblem\na.wav\tnot mine\n")
    assert read_excluded(tmp_path / "own.tsv") == [Excluded("a.wav", "not mine", "")]
    (tmp_path / "bad.tsv").write_text("a.wav\n")
    with pytest.raises(CorpusError, match="has no column file"):
        read_excluded(tmp_path / "bad.tsv")


def test_a_list_that_leaves_nothing_is_refused():
    some = utterances(3)
    lines = [Excluded(f"{k}.wav", "silent", "") for k in range(3)]
    assert leave_out(some, Path("/x"), lines[:2]) == some[2:]
    with pytest.raises(CorpusError, match="leaves nothing to train on"):
        leave_out(some, Path("/x"), lines)


# The command


def run(capsys, *words: object) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", *map(str, words)])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


def test_the_command_says_whether_training_would_start(capsys, corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, corpus, "--no-texts", "--processes", 1)
    assert code == 1
    assert "silent\t1\tleft out\t" in out
    assert "training would start with 6 recordings" in err
    assert sorted(path.name for path in (tmp_path / "mine-doctor").iterdir()) == [
        *("exclude.tsv", "findings.tsv", "report.html"),
    ]


def test_the_exit_status_of_a_good_and_of_a_hopeless_corpus(capsys, corpus, tmp_path):
    good, bad = tmp_path / "good", tmp_path / "bad"
    for k, path in enumerate(sorted(VOICES.glob("*.flac"))):
        (good / str(k)).mkdir(parents=True)
        shutil.copy(path, good / str(k))
    bad.mkdir()
    shutil.copy(corpus / "speaker2/silent.wav", bad)
    options = ("--no-texts", "--processes", 1, "--out", tmp_path / "out")
    code, out, err = run(capsys, good, *options)
    assert (code, out) == (0, "")
    code, _, err = run(capsys, bad, "--speakers", "none", *options)
    assert code == 2
    assert "training would not start: 0 s of usable speech" in err


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_a_folder_without_recordings_is_refused(capsys, tmp_path, name):
    (tmp_path / "empty").mkdir()
    code, _, err = run(capsys, tmp_path / name, "--out", tmp_path / "out")
    assert code == 2
    assert err.startswith("vcae: ") and err.count("\n") == 1


def test_natural_recordings_in_other_formats_are_healthy(tmp_path):
    """Whatever soundfile writes."""
    x = read(VOICES / "librispeech-78-368-0031.flac")
    for suffix in (".wav", ".flac", ".ogg", ".opus", ".mp3"):
        write(tmp_path / f"a{suffix}", x)
    found = examine(tmp_path, folder(tmp_path), texts=False)
    assert {f.problem for f in found.findings} == {"duplicate"}
    assert [f.number for f in found.findings] == [1, 2, 3, 4]
