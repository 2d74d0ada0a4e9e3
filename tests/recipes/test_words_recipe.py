"""The comparison of words in the conversions of several systems."""

import sys
from pathlib import Path

import numpy as np
import pytest

from vcae.audio import Audio, read, write
from vcae.errors import VcaeError
from vcae.evaluation.trials import Trial, write_trials

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))
import evaluate_words

VOICES = Path(__file__).parents[2] / "demo" / "voices"
pytest.importorskip("faster_whisper")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, Path, Path]:
    """A list of three trials, the sources themselves as conversions, and the same with noise."""
    folder = tmp_path_factory.mktemp("words")
    sources = sorted(VOICES.glob("librispeech-*.flac"))
    trials = [
        Trial(f"trial{k}", path, f"s{k}", f"s{(k + 1) % 3}", (sources[(k + 1) % 3],))
        for k, path in enumerate(sources)
    ]
    write_trials(folder / "trials.tsv", trials)
    rng = np.random.default_rng(0)
    for trial in trials:
        audio = read(trial.source)
        noise = 0.05 * rng.standard_normal(len(audio.samples)).astype(np.float32)
        for name, samples in (("clear", audio.samples), ("noisy", audio.samples + noise)):
            (folder / name).mkdir(exist_ok=True)
            write(folder / name / f"{trial.id}.flac", Audio(samples.clip(-1, 1), audio.sample_rate))
    return folder / "trials.tsv", folder / "clear", folder / "noisy"


def test_noise_lowers_the_log_probability(runs, capsys):
    evaluate_words.main(runs[0], runs[1:])
    rows = capsys.readouterr().out
    assert "log-probability" in rows and "noisy" in rows
    found = evaluate_words.compare(runs[0], runs[1:])
    clear, noisy = map(str, runs[1:])
    mean, low, high = found.difference(noisy, clear)["log-probability"]
    assert low <= mean <= high and mean < -0.05
    assert found.failures(noisy) == 0


def test_a_missing_conversion_counts_as_the_worst(runs, tmp_path):
    write(tmp_path / "trial0.flac", read(runs[1] / "trial0.flac"))
    found = evaluate_words.compare(runs[0], (tmp_path,))
    assert found.failures(str(tmp_path)) == 2
    worst = [r.scores["log-probability"].value for r in found.results[str(tmp_path)]][1:]
    assert worst == [evaluate_words.MEASURE.worst] * 2


def test_what_cannot_be_compared_is_told(runs, tmp_path):
    with pytest.raises(VcaeError, match="nowhere: no folder"):
        evaluate_words.compare(runs[0], (tmp_path / "nowhere",))
