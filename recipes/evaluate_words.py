"""Compare how well words are understood in the conversions of several systems or weights.

    python recipes/evaluate_words.py trials.tsv runs/a/vcae runs/b/vcae

The list of trials is that of `vcae evaluate`, and a folder holds the conversions that it wrote, OUT/SYSTEM.
The measure is the mean log-probability that Whisper tiny.en gives each token of its own transcript of the
source, when it hears the conversion. A short sentence is right or wrong by WER; by its log-probability small
changes count, so that a hundred trials tell two systems apart. Differences are to the first folder, with an
interval of 95 % by the bootstrap over speakers that `vcae evaluate` uses.
"""

from collections.abc import Sequence
from pathlib import Path

import tyro
from tyro.conf import Positional

from vcae.audio import read
from vcae.cli.console import in_one_line, show, track
from vcae.errors import AudioError, VcaeError
from vcae.evaluation.metrics.base import Measure, MetricError, Score
from vcae.evaluation.metrics.cache import FeatureCache, default_cache_folder
from vcae.evaluation.metrics.intelligibility import LOWEST_LOG_PROBABILITY, Intelligibility
from vcae.evaluation.results import Evaluation, Result, format_interval
from vcae.evaluation.trials import Trial, read_trials

MEASURE = Measure(
    "log-probability",
    higher_is_better=True,
    worst=LOWEST_LOG_PROBABILITY,
    about="mean log-probability of a token of the transcript, at most 0",
)


def main(trials: Positional[Path], folders: Positional[tuple[Path, ...]]) -> None:
    """Score each folder, and print a table.

    Args:
        trials: list of trials, a TSV file
        folders: folders of conversions, ID.flac for each trial; differences are to the first
    """
    evaluation = compare(trials, folders)
    first = str(folders[0])
    rows = [["", MEASURE.name, "less that of the first", "trials", "failures"]]
    for name, results in evaluation.results.items():
        mean = format_interval(evaluation.summary(name).get(MEASURE.name), ".3f")
        difference = format_interval(evaluation.difference(name, first).get(MEASURE.name), ".3f")
        counts = [str(len(results)), str(evaluation.failures(name))]
        rows.append([name, mean, "" if name == first else difference, *counts])
    show(rows)


def compare(trials: Path, folders: Sequence[Path]) -> Evaluation:
    """The log-probabilities of all folders; missing and silent ones get the worst. Raises VcaeError."""
    words, cache = Intelligibility(), FeatureCache(default_cache_folder())
    english = [trial for trial in read_trials(trials) if trial.language == "en"]
    if not english:
        raise VcaeError(f"{trials}: lists no trial in English, the language of Whisper tiny.en")
    for folder in folders:
        if not folder.is_dir():
            raise VcaeError(f"{folder}: no folder; give OUT/SYSTEM of `vcae evaluate --out OUT`")
    sources = sorted({trial.source for trial in english})
    texts = {path: str(cache.extract(words, read(path))) for path in sources}
    for path, text in texts.items():
        if not text:
            raise VcaeError(f"{path}: Whisper finds no words in this source; leave its trials out")
    return Evaluation(
        {
            str(folder): [
                score(words, trial, folder, texts[trial.source]) for trial in track(english, str(folder))
            ]
            for folder in folders
        },
        [MEASURE],
    )


def score(words: Intelligibility, trial: Trial, folder: Path, text: str) -> Result:
    """The result of one trial."""
    path = folder / f"{trial.id}.flac"
    value, failure = MEASURE.worst, None
    try:
        value = words.log_probability(read(path), text)
    except (AudioError, MetricError) as error:
        failure = str(error)
    return Result(trial, str(folder), path, failure, {MEASURE.name: Score(value)})


if __name__ == "__main__":
    with in_one_line():
        tyro.cli(main, description=__doc__)
