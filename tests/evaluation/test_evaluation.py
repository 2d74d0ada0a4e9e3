"""Evaluation with metrics that are quickly asked: what is evaluated, what counts, what is kept."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import VOICES, save_weights

import vcae
from vcae.audio import Audio, read, write
from vcae.corpora.layouts import folder_per_speaker
from vcae.errors import VcaeError
from vcae.evaluation.metrics.base import Measure, MetricError, Score
from vcae.evaluation.panel import FeatureCache, Panel
from vcae.evaluation.results import Evaluation, Result
from vcae.evaluation.runner import evaluate, evaluate_list
from vcae.evaluation.systems import EvaluationError, Systems, converted_by_others
from vcae.evaluation.trials import Trial, make_trials, write_trials

RATE = 16_000


class Voices:
    """A voice is its long-term spectrum."""

    name, version = "voices", "1"
    measures = (Measure("SECS", True, 0.0, "likeness"),)

    def extract(self, audio):
        if not audio.samples.any():
            raise MetricError("silence has no voice")
        frames = audio.samples[: len(audio.samples) // 512 * 512].reshape(-1, 512)
        spectrum = np.log1p(100 * np.abs(np.fft.rfft(frames))).mean(0)
        return (spectrum / np.linalg.norm(spectrum)).astype(np.float32)

    def compare(self, features, reference):
        return {"SECS": Score(0.0 if features is None else float(features @ reference))}

    @staticmethod
    def pool(embeddings):
        total = np.sum(embeddings, axis=0)
        return total / np.linalg.norm(total)


class Words:
    """Hears a word a second."""

    name, version = "words", "1"
    measures = (Measure("WER", False, 1.0, "wrong words"),)

    def extract(self, audio):
        return " ".join(f"{x:.0f}" for x in np.abs(audio.samples).max(keepdims=True) * 100)

    def compare(self, features, reference):
        return {"WER": Score(float(features != reference), len(reference))} if reference else {}


class Level:
    """How loud it is."""

    name, version = "level", "1"
    measures = (Measure("level", True, -1.0, "loudness"),)

    def __init__(self):
        self.asked = 0

    def extract(self, audio):
        self.asked += 1
        return np.array([np.abs(audio.samples).mean()], np.float32)

    def compare(self, features, reference):
        return {"level": Score(-1.0 if features is None else float(features[0]))}


class Tune(Level):
    name, measures = "tune", (Measure("tune", True, 0.0, "melody"),)

    def compare(self, features, reference):
        return {"tune": Score(0.0 if features is None else float(np.isclose(features, reference)[0]))}


class Cepstrum(Tune):
    name, measures = "cepstrum", (Measure("MCD", False, 9.0, "distance"),)

    def compare(self, features, reference):
        return {"MCD": Score(9.0 if features is None else float(np.abs(features - reference)[0]))}


def panel(folder: Path | None = None) -> Panel:
    return Panel(FeatureCache(folder), Voices(), Words(), Tune(), Cepstrum(), [Level()])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Three of the sample voices, in pieces that overlap."""
    root = tmp_path_factory.mktemp("speech")
    for path in sorted(VOICES.glob("*.flac"))[:3]:
        samples = read(path, RATE).samples
        (root / path.stem).mkdir()
        for k, start in enumerate(range(0, 8000, 2000)):
            write(
                root / path.stem / f"{path.stem}{k}.wav", Audio(samples[start : start + 2 * RATE + 500], RATE)
            )
    return root


@pytest.fixture(scope="module")
def trials(corpus) -> list[Trial]:
    return make_trials(folder_per_speaker(corpus), references=2)


def identity(trial: Trial) -> Audio:
    return read(trial.source)


def test_the_source_unchanged_says_all_words_in_the_wrong_voice(trials, tmp_path):
    results = evaluate(trials, {"identity": identity}, tmp_path, panel()).results["identity"]
    assert [r.trial for r in results] == list(trials)
    for result in results:
        assert result.failure is None
        assert result.scores["WER"].value == 0
        assert result.scores["tune"].value == 1
        assert result.scores["cosine to source"].value == pytest.approx(1, abs=1e-3)
        assert result.scores["closer-to-target rate"].value == 0
        assert result.audio.is_file()


def test_the_targets_own_recording_is_nearer_to_the_target_and_not_asked_for_words(trials, tmp_path):
    speak = {"natural": lambda trial: read(trial.target)}
    summary = evaluate(trials, speak, tmp_path, panel()).summary("natural")
    assert summary["closer-to-target rate"][0] == 1
    assert not {"WER", "tune"} & set(summary)


def fails(trial: Trial) -> Audio:
    raise VcaeError("cannot do it")


def silent(trial: Trial) -> Audio:
    return Audio(np.zeros(len(read(trial.source).samples), np.float32), RATE)


def longer(trial: Trial) -> Audio:
    samples = read(trial.source).samples
    return Audio(np.concatenate([samples, samples]), RATE)


def shorter(trial: Trial) -> Audio:
    samples = read(trial.source).samples
    return Audio(samples[: len(samples) // 2], RATE)


def empty(trial: Trial) -> Audio:
    return Audio(np.zeros(0, np.float32), RATE)


@pytest.mark.parametrize(
    ("system", "reason"),
    [(fails, "cannot do it"), (silent, "silent"), (longer, "s long"), (shorter, "s long"), (empty, "silent")],
)
def test_a_failure_has_the_worst_scores_and_is_never_dropped(system, reason, trials, tmp_path):
    bad = trials[0].id

    def speak(trial: Trial) -> Audio:
        return system(trial) if trial.id == bad else identity(trial)

    made = evaluate(trials, {"some": speak, "identity": identity}, tmp_path, panel())
    result = made.results["some"][0]
    assert reason in result.failure
    assert (result.scores["WER"].value, result.scores["level"].value) == (1, -1)
    assert [result.scores[f"cosine to {x}"].value for x in ("target", "source")] == [0, 1]
    assert made.failures("some") == 1
    assert len(made.results["some"]) == len(trials)
    assert made.summary("some")["level"][0] < made.summary("identity")["level"][0]
    assert made.summary("some")["WER"][0] > 0


def test_a_little_longer_is_no_failure(trials, tmp_path):
    def speak(trial: Trial) -> Audio:
        return Audio(np.pad(read(trial.source).samples, (0, RATE // 10)), RATE)

    assert evaluate(trials[:2], {"x": speak}, tmp_path, panel()).failures("x") == 0


def test_words_of_another_language_are_not_counted(trials, tmp_path):
    foreign = [replace(trial, language="ru") for trial in trials]
    assert "WER" not in evaluate(foreign, {"x": identity}, tmp_path, panel()).summary("x")


def test_written_words_and_parallel_recordings_are_used_where_they_are(trials, tmp_path):
    known = [replace(t, text="what was said", parallel=t.source) for t in trials]
    summary = evaluate(known, {"x": identity}, tmp_path, panel()).summary("x")
    assert summary["WER to text"][0] == 1
    assert summary["MCD"][0] == pytest.approx(0, abs=1e-3)
    assert "MCD" not in evaluate(trials, {"y": identity}, tmp_path, panel()).summary("y")


def test_what_was_heard_before_is_not_heard_again(trials, tmp_path):
    first, second, third = panel(tmp_path / "kept"), panel(tmp_path / "kept"), panel()
    runs = [
        evaluate(trials, {"identity": identity}, tmp_path / str(k), asked).to_json()["results"]
        for k, asked in enumerate((first, second, third))
    ]
    asked = [vars(p.alone[0])["asked"] for p in (first, second, third)]
    assert asked == [len({t.source for t in trials}), 0, len(trials)]
    scores = [[r["scores"] for r in run["identity"]] for run in runs]
    assert scores[0] == scores[1] == scores[2]


def test_another_version_of_a_judge_listens_anew(trials, tmp_path):
    memory, metric, audio = FeatureCache(tmp_path), Level(), identity(trials[0])
    memory.extract(metric, audio)
    metric.version = "2"
    memory.extract(metric, audio)
    assert metric.asked == 2


def test_a_text_is_kept_as_it_is(tmp_path):
    class Says(Words):
        def extract(self, audio):
            return "naïve, 語\n"

    audio = Audio(np.ones(9, np.float32), RATE)
    memory = FeatureCache(tmp_path)
    assert memory.extract(Says(), audio) == memory.extract(Words(), audio) == "naïve, 語\n"


def results(values: dict[tuple[str, str], float], weight: float = 1.0) -> list[Result]:
    return [
        Result(Trial(f"{s}{t}", Path(), s, t, ()), "x", None, None, {"level": Score(v, weight)})
        for (s, t), v in values.items()
    ]


def test_the_interval_is_that_of_the_speakers():
    """Two trials a pair say no more of the speakers than one; scores that are all alike are certain."""
    pairs = [(s, t) for s in "abcdef" for t in "abcdef" if s != t]
    by_target = results({(s, t): float(ord(t) - 97) for s, t in pairs})
    once = Evaluation({"x": by_target}, Level.measures).summary("x")["level"]
    twice = Evaluation({"x": by_target * 2}, Level.measures).summary("x")["level"]
    assert once == pytest.approx(twice)
    assert once[0] == pytest.approx(2.5)
    assert 1.0 < once[1] < 2.3 and 2.7 < once[2] < 4.0
    alike = Evaluation({"x": results(dict.fromkeys(pairs, 0.3))}, Level.measures).summary("x")["level"]
    assert alike == pytest.approx((0.3, 0.3, 0.3))


def test_a_mean_counts_by_weight():
    made = results({("a", "b"): 1.0}, weight=3) + results({("b", "a"): 0.0})
    assert Evaluation({"x": made}, Level.measures).summary("x")["level"][0] == pytest.approx(0.75)


def test_files_of_another_system_are_found_by_name(trials, tmp_path):
    write(tmp_path / f"{trials[0].id}.flac", identity(trials[0]))
    get = converted_by_others(tmp_path, trials)
    assert len(get(trials[0]).samples) == len(identity(trials[0]).samples)
    with pytest.raises(EvaluationError, match="no file of that name"):
        get(trials[1])
    with pytest.raises(EvaluationError, match=r"named as a trial is, such as \S+\.wav"):
        converted_by_others(VOICES, trials)


@pytest.fixture(scope="module")
def systems(tmp_path_factory) -> Systems:
    return Systems(vcae.load(save_weights(tmp_path_factory.mktemp("w") / "w")))


@pytest.mark.parametrize(
    "name", ["vcae", "natural", "identity", "reconstruct", "vocoder", "griffinlim", "world"]
)
def test_every_system_speaks_as_long_as_the_source(name, systems, trials):
    audio = systems.by_name[name](trials[0])
    source = read(trials[0].target if name == "natural" else trials[0].source)
    assert audio.sample_rate == RATE
    assert len(audio.samples) == len(source.samples)
    assert np.isfinite(audio.samples).all() and audio.samples.std() > 1e-3


@pytest.mark.parametrize("name", ["vocoder", "griffinlim", "world"])
def test_copies_are_in_step_with_the_source(name, trials):
    """The loudness of what comes out follows that of what went in."""
    trial = trials[0]
    audio = Systems(vcae.load()).by_name[name](replace(trial, references=(trial.source,)))

    def envelope(samples):
        return np.sqrt(np.square(samples[: len(samples) // 320 * 320]).reshape(-1, 320).mean(1))

    original, copy = (envelope(x.samples) for x in (identity(trial), audio))
    by_lag = [np.corrcoef(original, np.roll(copy, lag))[0, 1] for lag in range(-5, 6)]
    assert np.argmax(by_lag) == 5 and by_lag[5] > 0.9


def test_world_moves_the_pitch_to_the_targets_mean(systems, trials):
    from vcae.training.labels import f0_labels

    def mean_f0(samples):
        f0 = f0_labels(samples, RATE, 160)
        return np.exp(np.log(f0[f0 > 0]).mean())

    for trial in trials:
        out = systems.world(trial)
        wanted = mean_f0(np.concatenate([read(path).samples for path in trial.references]))
        assert mean_f0(out.samples) == pytest.approx(wanted, rel=0.15)


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """`evaluate_list` with the quick metrics."""
    monkeypatch.setattr(Panel, "complete", lambda memory, whisper=None: panel(memory.folder))
    monkeypatch.setattr(Words, "version", "tiny")
    return tmp_path


def test_a_list_is_evaluated_and_everything_is_written(quick, trials, systems):
    write_trials(quick / "t.tsv", trials)
    made = evaluate_list(
        quick / "t.tsv", quick / "out", systems.converter, ["identity", "vcae"], cache=quick / "kept"
    )
    kept = json.loads((quick / "out" / "results.json").read_text())
    assert [t["id"] for t in kept["trials"]] == [t.id for t in trials]
    assert set(kept["results"]) == {"identity", "vcae"}
    for system in kept["results"]:
        mean, low, high = made.summary(system)["cosine to target"]
        assert kept["summary"][system]["cosine to target"] == {"mean": mean, "low": low, "high": high}
        for result in kept["results"][system]:
            assert Path(result["audio"]).is_file()
    assert "<html" in (quick / "out" / "report.html").read_text()


def test_what_others_converted_is_judged_alone_or_beside(quick, trials, systems):
    write_trials(quick / "t.tsv", trials)
    theirs = quick / "theirs"
    theirs.mkdir()
    for trial in trials[1:]:
        write(theirs / f"{trial.id}.wav", identity(trial))
    made = evaluate_list(quick / "t.tsv", quick / "1", systems.converter, converted=theirs, cache=quick / "k")
    assert list(made.results) == ["theirs"]
    assert made.failures("theirs") == 1
    made = evaluate_list(
        quick / "t.tsv", quick / "2", systems.converter, ["natural"], theirs, cache=quick / "k"
    )
    assert list(made.results) == ["theirs", "natural"]


def test_nothing_is_mixed_or_overwritten(quick, trials, systems):
    write_trials(quick / "t.tsv", trials)
    (quick / "full").mkdir()
    (quick / "full" / "x").touch()
    for out in (quick / "full", quick / "t.tsv"):
        with pytest.raises(EvaluationError, match="exists already"):
            evaluate_list(quick / "t.tsv", out, systems.converter)
    assert [p.name for p in (quick / "full").iterdir()] == ["x"]


def test_an_unknown_system_is_refused_before_the_work(quick, trials, systems):
    write_trials(quick / "t.tsv", trials)
    with pytest.raises(EvaluationError, match="melgan: no such system; there are vcae, natural"):
        evaluate_list(quick / "t.tsv", quick / "out", systems.converter, ["melgan"])
    assert not (quick / "out").exists()
