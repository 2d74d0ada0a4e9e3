"""Lists of trials: deterministic, read back as written, and refused with a reason."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcae.audio import Audio, write
from vcae.corpora.utterance import Utterance
from vcae.evaluation.trials import COLUMNS, Trial, TrialError, make_trials, read_trials, write_trials


def recording(path: Path, seconds: float = 3.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = np.sin(np.arange(int(seconds * 8000)) / 5).astype(np.float32)
    write(path, Audio(tone / 3, 8000))
    return path


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> list[Utterance]:
    """Three speakers; the first two say the same five sentences, the third five others, one too long."""
    root = tmp_path_factory.mktemp("corpus")

    def say(speaker: str, sentence: str, seconds: float = 3.0, language: str = "en") -> Utterance:
        path = recording(root / speaker / f"{sentence}.wav", seconds)
        return Utterance(path, f"c/{speaker}", sentence, "c", f"Sentence {sentence}.", language)

    said = [say(speaker, f"{k}") for speaker in ("a", "b") for k in range(5)]
    said += [say("d", f"d{k}", language="fr") for k in range(5)]
    return [*said, say("d", "long", 13.0), say("d", "short", 0.5)]


def pairs(trials: list[Trial]) -> set[tuple[str, str]]:
    return {(t.source_speaker, t.target_speaker) for t in trials}


def test_every_ordered_pair_is_there_as_often_as_asked(corpus):
    trials = make_trials(corpus, per_pair=2, references=2)
    assert len(trials) == 3 * 2 * 2
    assert pairs(trials) == {(s, t) for s in ("c/a", "c/b", "c/d") for t in ("c/a", "c/b", "c/d") if s != t}
    assert len({t.id for t in trials}) == len(trials)


def test_the_same_list_for_the_same_seed_whatever_the_order(corpus):
    assert make_trials(corpus) == make_trials(corpus)
    assert make_trials(corpus) != make_trials(corpus, seed=1)
    assert pairs(make_trials(list(reversed(corpus)))) == pairs(make_trials(corpus))


def test_references_are_of_other_sentences_and_not_the_target_recording(corpus):
    for trial in make_trials(corpus, per_pair=3, references=3):
        sentence = trial.source.stem
        assert sentence not in {path.stem for path in (*trial.references, *trial.source_references)}
        assert all(path.parent.name == trial.target_speaker[-1] for path in trial.references)
        assert all(path.parent.name == trial.source_speaker[-1] for path in trial.source_references)
        assert trial.target not in trial.references
        assert len(trial.references) == len(set(trial.references)) == 3


def test_a_parallel_recording_is_found_where_there_is_one(corpus):
    for trial in make_trials(corpus, references=2):
        if {trial.source_speaker, trial.target_speaker} == {"c/a", "c/b"}:
            assert trial.parallel == trial.target
            assert trial.parallel.stem == trial.source.stem
        else:
            assert trial.parallel is None


def test_recordings_that_are_too_long_or_too_short_are_left_out(corpus):
    for trial in make_trials(corpus, per_pair=4, references=4):
        assert not {path.stem for path in trial.files} & {"long", "short"}


def test_sources_can_be_of_one_language(corpus):
    trials = make_trials(corpus, language="fr")
    assert {t.source_speaker for t in trials} == {"c/d"}
    assert {t.language for t in trials} == {"fr"}
    with pytest.raises(TrialError, match="'ru'"):
        make_trials(corpus, language="ru")


def test_a_number_of_trials_can_be_drawn(corpus):
    assert len(make_trials(corpus, count=4)) == 4
    with pytest.raises(TrialError, match="only 6 trials"):
        make_trials(corpus, count=7)


def test_too_few_recordings_or_speakers(corpus):
    with pytest.raises(TrialError, match="c/a: has no 5 other recordings"):
        make_trials(corpus, references=5)
    with pytest.raises(TrialError, match="two or more"):
        make_trials([u for u in corpus if u.speaker == "c/a"])
    unnamed = [Utterance(u.path, u.speaker, u.id, u.corpus, labelled=False) for u in corpus]
    with pytest.raises(TrialError, match="0 labelled speakers"):
        make_trials(unnamed)


def test_a_list_is_read_as_it_was_written(corpus, tmp_path):
    trials = make_trials(corpus, per_pair=2, references=2)
    path = tmp_path / "trials.tsv"
    write_trials(path, trials)
    assert read_trials(path) == trials


@given(text=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_any_text_survives(text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("list")
    path = recording(folder / "a.wav")
    trial = Trial("x", path, text, "b", (path,), text=text)
    write_trials(folder / "trials.tsv", [trial])
    assert read_trials(folder / "trials.tsv") == [trial]


def test_a_list_moves_with_its_recordings(tmp_path):
    old = tmp_path / "old"
    path = recording(old / "speech" / "a.wav")
    write_trials(old / "trials.tsv", [Trial("x", path, "a", "b", (path, path))])
    old.rename(tmp_path / "new")
    assert read_trials(tmp_path / "new" / "trials.tsv")[0].source == tmp_path / "new" / "speech" / "a.wav"


HEAD = "id\tsource\tsource_speaker\ttarget_speaker\treferences"
BAD = {
    "no rows": (HEAD, "lists no trials"),
    "nothing at all": ("", "no column id"),
    "no references column": (
        "id\tsource\tsource_speaker\ttarget_speaker\nx\ta.wav\ta\tb",
        "no column references",
    ),
    "unknown column": (f"{HEAD}\tmood\nx\ta.wav\ta\tb\ta.wav\tsad", "unknown column 'mood'"),
    "column twice": (f"{HEAD}\tid\nx\ta.wav\ta\tb\ta.wav\tx", "column id twice"),
    "duplicate": (
        f"{HEAD}\nx\ta.wav\ta\tb\ta.wav\nx\ta.wav\ta\tb\ta.wav",
        "line 3: x is there twice.*line 2",
    ),
    "missing file": (f"{HEAD}\nx\tgone.wav\ta\tb\ta.wav", "line 2: no such file: .*gone.wav"),
    "missing reference": (f"{HEAD}\nx\ta.wav\ta\tb\ta.wav;gone.wav", "no such file: .*gone.wav"),
    "short line": (f"{HEAD}\nx\ta.wav\ta", "3 fields under 5 columns"),
    "empty field": (f"{HEAD}\nx\ta.wav\ta\tb\t", "references is empty"),
    "id that leaves the folder": (f"{HEAD}\n../x\ta.wav\ta\tb\ta.wav", "cannot name a file"),
    "commas": (f"{HEAD}\nx\ta.wav\ta\tb\ta.wav".replace("\t", ","), "no column id"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_list_is_refused_with_place_and_remedy(name, tmp_path):
    recording(tmp_path / "a.wav")
    text, reason = BAD[name]
    path = tmp_path / "trials.tsv"
    path.write_text(text)
    with pytest.raises(TrialError, match=reason) as caught:
        read_trials(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_not_a_list_at_all(tmp_path):
    (tmp_path / "x.tsv").write_bytes(b"\xff\xfe\x00" * 9)
    for path in (tmp_path / "gone.tsv", tmp_path, tmp_path / "x.tsv"):
        with pytest.raises(TrialError, match="cannot be read"):
            read_trials(path)


def test_the_module_documents_all_columns():
    from vcae.evaluation import trials

    assert all(f"`{column}`" in trials.__doc__ for column in COLUMNS)
