"""Evaluation with fast fake metrics: scores, failures, the cache, and the files that are written."""

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
from vcae.evaluation.metric_set import MetricSet
from vcae.evaluation.metrics.base import Measure, MetricError, Score
from vcae.evaluation.metrics.cache import FeatureCache
from vcae.evaluation.results import Evaluation, Result
from vcae.evaluation.runner import evaluate, evaluate_list
from vcae.evaluation.systems import SYSTEMS, EvaluationError, Systems, converted_files
from vcae.evaluation.trials import Trial, make_trials, write_trials

RATE = 16_000


class Spectrum:
    """Speaker similarity by the long-term spectrum."""

    name, version = "spectrum", "1"
    measures = (Measure("SECS", True, 0.0, "similarity"),)

    def extract(self, audio):
        if not audio.samples.any():
            raise MetricError("silence has no spectrum")
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
    """The transcript is the peak level."""

    name, version = "words", "1"
    measures = (Measure("WER", False, 1.0, "word error rate"),)

    def extract(self, audio):
        return " ".join(f"{x:.0f}" for x in np.abs(audio.samples).max(keepdims=True) * 100)

    def compare(self, features, reference):
        return {"WER": Score(float(features != reference), len(reference))} if reference else {}


class Level:
    """The mean level."""

    name, version = "level", "1"
    measures = (Measure("level", True, -1.0, "loudness"),)

    def __init__(self):
        self.computed = 0

    def extract(self, audio):
        self.computed += 1
        return np.array([np.abs(audio.samples).mean()], np.float32)

    def compare(self, features, reference):
        return {"level": Score(-1.0 if features is None else float(features[0]))}


class Tune(Level):
    name, measures = "tune", (Measure("tune", True, 0.0, "same level"),)

    def compare(self, features, reference):
        return {"tune": Score(0.0 if features is None else float(np.isclose(features, reference)[0]))}


class Cepstrum(Tune):
    name, measures = "cepstrum", (Measure("MCD", False, 9.0, "distance"),)

    def compare(self, features, reference):
        return {"MCD": Score(9.0 if features is None else float(np.abs(features - reference)[0]))}


def metrics(folder: Path | None = None) -> MetricSet:
    return MetricSet(FeatureCache(folder), Spectrum(), Words(), Tune(), Cepstrum(), [Level()])


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


def test_the_unchanged_source_keeps_words_and_speaker(trials, tmp_path):
    results = evaluate(trials, {"identity": identity}, tmp_path, metrics()).results["identity"]
    assert [r.trial for r in results] == list(trials)
    for result in results:
        assert result.failure is None
        assert result.scores["WER"].value == 0
        assert result.scores["tune"].value == 1
        assert result.scores["SECS to source"].value == pytest.approx(1, abs=1e-3)
        assert result.scores["closer-to-target rate"].value == 0
        assert result.audio.is_file()


def test_a_natural_target_is_closer_to_the_target_and_has_no_error_rate(trials, tmp_path):
    systems = {"natural": lambda trial: read(trial.target)}
    summary = evaluate(trials, systems, tmp_path, metrics()).summary("natural")
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

    def sometimes(trial: Trial) -> Audio:
        return system(trial) if trial.id == bad else identity(trial)

    made = evaluate(trials, {"some": sometimes, "identity": identity}, tmp_path, metrics())
    result = made.results["some"][0]
    assert reason in result.failure
    assert (result.scores["WER"].value, result.scores["level"].value) == (1, -1)
    assert [result.scores[f"SECS to {x}"].value for x in ("target", "source")] == [0, 1]
    assert made.failures("some") == 1
    assert len(made.results["some"]) == len(trials)
    assert made.summary("some")["level"][0] < made.summary("identity")["level"][0]
    assert made.summary("some")["WER"][0] > 0


def test_a_little_longer_is_no_failure(trials, tmp_path):
    def slightly_longer(trial: Trial) -> Audio:
        return Audio(np.pad(read(trial.source).samples, (0, RATE // 10)), RATE)

    assert evaluate(trials[:2], {"x": slightly_longer}, tmp_path, metrics()).failures("x") == 0


def test_other_languages_have_no_error_rate(trials, tmp_path):
    foreign = [replace(trial, language="ru") for trial in trials]
    assert "WER" not in evaluate(foreign, {"x": identity}, tmp_path, metrics()).summary("x")


def test_texts_and_parallel_recordings_are_used_where_given(trials, tmp_path):
    given = [replace(t, text="what was said", parallel=t.source) for t in trials]
    summary = evaluate(given, {"x": identity}, tmp_path, metrics()).summary("x")
    assert summary["WER to text"][0] == 1
    assert summary["MCD"][0] == pytest.approx(0, abs=1e-3)
    assert "MCD" not in evaluate(trials, {"y": identity}, tmp_path, metrics()).summary("y")


def test_cached_features_are_not_computed_again(trials, tmp_path):
    first, second, third = metrics(tmp_path / "cache"), metrics(tmp_path / "cache"), metrics()
    runs = [
        evaluate(trials, {"identity": identity}, tmp_path / str(k), metric_set).to_json()["results"]
        for k, metric_set in enumerate((first, second, third))
    ]
    computed = [vars(each.reference_free[0])["computed"] for each in (first, second, third)]
    assert computed == [len({t.source for t in trials}), 0, len(trials)]
    scores = [[r["scores"] for r in run["identity"]] for run in runs]
    assert scores[0] == scores[1] == scores[2]


def test_another_version_of_a_metric_computes_features_again(trials, tmp_path):
    cache, metric, audio = FeatureCache(tmp_path), Level(), identity(trials[0])
    cache.extract(metric, audio)
    metric.version = "2"
    cache.extract(metric, audio)
    assert metric.computed == 2


def test_a_transcript_is_cached_unchanged(tmp_path):
    class Fixed(Words):
        def extract(self, audio):
            return "naïve, 語\n"

    audio = Audio(np.ones(9, np.float32), RATE)
    cache = FeatureCache(tmp_path)
    assert cache.extract(Fixed(), audio) == cache.extract(Words(), audio) == "naïve, 語\n"


def results(values: dict[tuple[str, str], float], weight: float = 1.0) -> list[Result]:
    return [
        Result(Trial(f"{s}{t}", Path(), s, t, ()), "x", None, None, {"level": Score(v, weight)})
        for (s, t), v in values.items()
    ]


def test_the_interval_is_over_speakers():
    """A second trial of each pair does not narrow the interval; equal scores give zero width."""
    pairs = [(s, t) for s in "abcdef" for t in "abcdef" if s != t]
    by_target = results({(s, t): float(ord(t) - 97) for s, t in pairs})
    once = Evaluation({"x": by_target}, Level.measures).summary("x")["level"]
    twice = Evaluation({"x": by_target * 2}, Level.measures).summary("x")["level"]
    assert once == pytest.approx(twice)
    assert once[0] == pytest.approx(2.5)
    assert 1.0 < once[1] < 2.3 and 2.7 < once[2] < 4.0
    alike = Evaluation({"x": results(dict.fromkeys(pairs, 0.3))}, Level.measures).summary("x")["level"]
    assert alike == pytest.approx((0.3, 0.3, 0.3))


def test_a_difference_is_between_the_same_trials():
    """What is hard for both systems does not widen its interval."""
    pairs = [(s, t) for s in "abcdef" for t in "abcdef" if s != t]
    plain = {(s, t): float(ord(t) - 97) for s, t in pairs}
    better = {pair: value + 0.1 for pair, value in plain.items()}
    made = Evaluation({"x": results(better), "y": results(plain)}, Level.measures)
    assert made.difference("x", "y")["level"] == pytest.approx((0.1, 0.1, 0.1))
    low, high = made.summary("x")["level"][1:]
    assert high - low > 1
    for_one = {(s, t): value + (0.6 if t == "a" else 0.0) for (s, t), value in plain.items()}
    mean, low, high = Evaluation(made.results | {"z": results(for_one)}, Level.measures).difference("z", "y")[
        "level"
    ]
    assert mean == pytest.approx(0.1) and low == pytest.approx(0) and high > 0.2


def test_a_mean_counts_by_weight():
    made = results({("a", "b"): 1.0}, weight=3) + results({("b", "a"): 0.0})
    assert Evaluation({"x": made}, Level.measures).summary("x")["level"][0] == pytest.approx(0.75)


def test_files_of_another_system_are_found_by_name(trials, tmp_path):
    write(tmp_path / f"{trials[0].id}.flac", identity(trials[0]))
    get = converted_files(tmp_path, trials)
    assert len(get(trials[0]).samples) == len(identity(trials[0]).samples)
    with pytest.raises(EvaluationError, match="no file of that name"):
        get(trials[1])
    with pytest.raises(EvaluationError, match=r"named as a trial is, such as \S+\.wav"):
        converted_files(VOICES, trials)


@pytest.fixture(scope="module")
def systems(tmp_path_factory) -> Systems:
    return Systems(vcae.load(save_weights(tmp_path_factory.mktemp("w") / "w")))


def test_the_names_of_the_systems():
    """They are options on the command line."""
    names = ["vcae", "natural", "identity", "reconstruct", "vocoder", "griffinlim", "world"]
    assert list(SYSTEMS) == names


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_keeps_the_length_of_the_source(name, systems, trials):
    audio = systems.by_name[name](trials[0])
    source = read(trials[0].target if name == "natural" else trials[0].source)
    assert audio.sample_rate == RATE
    assert len(audio.samples) == len(source.samples)
    assert np.isfinite(audio.samples).all() and audio.samples.std() > 1e-3


@pytest.mark.parametrize("name", ["vocoder", "griffinlim", "world"])
def test_copies_are_aligned_with_the_source(name, trials):
    """The envelopes of input and output correlate best without a lag."""
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


def test_a_list_is_evaluated_and_everything_is_written(tmp_path, trials, systems):
    write_trials(tmp_path / "t.tsv", trials)
    made = evaluate_list(
        tmp_path / "t.tsv", tmp_path / "out", systems.converter, metrics, ["identity", "vcae"]
    )
    written = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [t["id"] for t in written["trials"]] == [t.id for t in trials]
    assert set(written["results"]) == {"identity", "vcae"}
    for system in written["results"]:
        mean, low, high = made.summary(system)["SECS to target"]
        assert written["summary"][system]["SECS to target"] == {"mean": mean, "low": low, "high": high}
        for result in written["results"][system]:
            assert Path(result["audio"]).is_file()
    assert "<html" in (tmp_path / "out" / "report.html").read_text()


def test_files_of_another_system_are_evaluated_alone_or_with_others(tmp_path, trials, systems):
    write_trials(tmp_path / "t.tsv", trials)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for trial in trials[1:]:
        write(theirs / f"{trial.id}.wav", identity(trial))
    made = evaluate_list(tmp_path / "t.tsv", tmp_path / "1", systems.converter, metrics, converted=theirs)
    assert list(made.results) == ["theirs"]
    assert made.failures("theirs") == 1
    made = evaluate_list(tmp_path / "t.tsv", tmp_path / "2", systems.converter, metrics, ["natural"], theirs)
    assert list(made.results) == ["theirs", "natural"]


def test_nothing_is_mixed_or_overwritten(tmp_path, trials, systems):
    write_trials(tmp_path / "t.tsv", trials)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    for out in (tmp_path / "full", tmp_path / "t.tsv"):
        with pytest.raises(EvaluationError, match="exists already"):
            evaluate_list(tmp_path / "t.tsv", out, systems.converter, metrics)
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["x"]


def test_an_unknown_system_is_refused_before_the_work(tmp_path, trials, systems):
    def never() -> MetricSet:
        raise AssertionError("the metrics need not be loaded")

    write_trials(tmp_path / "t.tsv", trials)
    with pytest.raises(EvaluationError, match="melgan: no such system; there are vcae, natural"):
        evaluate_list(tmp_path / "t.tsv", tmp_path / "out", systems.converter, never, ["melgan"])
    assert not (tmp_path / "out").exists()
