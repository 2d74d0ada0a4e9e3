"""What the codes are good for beyond conversion: five short examples, and how well they work.

    python recipes/features.py --corpora ~/corpora --write-page

`--corpora` holds librispeech (its readers of test-other), dspspeech20 and vcc2016. The page is
`recipes/FEATURES.md`; its code is that of the examples below. `pip install '.[eval]'` brings scikit-learn.
"""

import inspect
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import tyro
from librosa.sequence import dtw
from sklearn.cluster import AgglomerativeClustering
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import normalized_mutual_info_score

import vcae
from vcae.audio import Samples, is_silent, read
from vcae.cli import console
from vcae.corpora.layouts import read_corpora
from vcae.corpora.utterance import Utterance
from vcae.errors import VcaeError

PAGE = Path(__file__).parent / "FEATURES.md"
RATE = 16_000


@dataclass(frozen=True)
class Options:
    """Where the recordings are, and what to write."""

    corpora: Path
    """Folder with the unpacked corpora librispeech, dspspeech20 and vcc2016."""
    write_page: bool = False
    """Write code and figures into FEATURES.md."""


# The examples


def cluster(vc: vcae.Converter, paths: Sequence[Path], people: int) -> list[int]:
    """The number of the speaker of each recording, for so many people."""
    codes = np.stack([vc.embed(path) for path in paths])
    grouping = AgglomerativeClustering(people, metric="cosine", linkage="average")
    return grouping.fit_predict(codes).tolist()


def find_voice(vc: vcae.Converter, voice: Path, paths: Sequence[Path]) -> list[Path]:
    """The recordings, those that are most like the voice first."""
    wanted = vc.embed(voice)
    return sorted(paths, key=lambda path: -float(vc.embed(path) @ wanted))


def diarise(vc: vcae.Converter, path: Path, people: int = 2) -> list[tuple[float, int]]:
    """Who speaks: middle of each piece of 1.5 s in seconds, and the number of the speaker."""
    x, size, step = read(path, RATE).samples, 3 * RATE // 2, RATE // 2
    starts = [a for a in range(0, len(x) - size + 1, step) if not is_silent(x[a : a + size])]
    codes = np.stack([vc.embed(vcae.Audio(x[a : a + size], RATE)) for a in starts])
    grouping = AgglomerativeClustering(people, metric="cosine", linkage="average")
    speakers = grouping.fit_predict(codes).tolist()
    return [((a + size / 2) / RATE, who) for a, who in zip(starts, speakers, strict=True)]


def word_features(vc: vcae.Converter, path: Path) -> Samples:
    """A word as a vector: its content code as eight means over time."""
    code = vc.content(path).z.numpy()  # (64, T)
    return np.concatenate([part.mean(axis=1) for part in np.array_split(code, 8, axis=1)])


def word_classifier(vc: vcae.Converter, paths: Sequence[Path], words: Sequence[str]) -> LogisticRegression:
    """A classifier of words; `predict` takes the features of others."""
    return LogisticRegression(C=0.1, max_iter=1000).fit([word_features(vc, path) for path in paths], words)


def find_phrase(vc: vcae.Converter, phrase: vcae.Audio, paths: Sequence[Path]) -> list[Path]:
    """The recordings, those that hold the phrase best first; by dynamic time warping of content codes."""
    query = vc.content(phrase).z.numpy()  # (64, T)

    def distance(path: Path) -> float:
        costs = dtw(query, vc.content(path).z.numpy(), metric="cosine", subseq=True, backtrack=False)
        return float(costs[-1].min())

    return sorted(paths, key=distance)


# How well they work


def by_speaker(utterances: Sequence[Utterance], each: int) -> dict[str, list[Utterance]]:
    """The first so many recordings of each speaker."""
    groups: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        if len(groups[utterance.speaker]) < each:
            groups[utterance.speaker].append(utterance)
    return groups


def measure_clusters(vc: vcae.Converter, readers: dict[str, list[Utterance]]) -> str:
    """Purity: share of the recordings that belong to the most frequent reader of their cluster."""
    every = [u for group in readers.values() for u in group]
    found = cluster(vc, [u.path for u in every], len(readers))
    groups = defaultdict(list)
    for number, u in zip(found, every, strict=True):
        groups[number].append(u.speaker)
    purity = sum(max(map(group.count, group)) for group in groups.values()) / len(every)
    shared = normalized_mutual_info_score([u.speaker for u in every], found)
    return (
        f"{len(every)} recordings of {len(readers)} readers of test-other: purity {purity:.2f},"
        f" normalised mutual information {shared:.2f}."
    )


def measure_search(vc: vcae.Converter, readers: dict[str, list[Utterance]]) -> str:
    """Precision: share of the reader's recordings among as many first ones as there are of this reader."""
    hits, total = 0, 0
    for group in readers.values():
        others = [u.path for each in readers.values() for u in each if u is not group[0]]
        own = {u.path for u in group[1:]}
        hits += len(own & set(find_voice(vc, group[0].path, others)[: len(own)]))
        total += len(own)
    return (
        f"One recording of each of {len(readers)} readers of test-other, all others to search: of the"
        f" {total // len(readers)} first, {hits / total:.0%} are of the same reader."
    )


def measure_diarisation(vc: vcae.Converter, readers: dict[str, list[Utterance]], folder: Path) -> str:
    """Error: share of the pieces given to the wrong one of two readers, in turns of three seconds."""
    wrong, total = 0, 0
    pairs = list(combinations(readers.values(), 2))[::5]
    for a, b in pairs:
        turns = [read(group[k].path, RATE).samples[RATE : 4 * RATE] for k in range(3) for group in (a, b)]
        vcae.Audio(np.concatenate(turns), RATE).write(folder / "talk.wav")
        borders = np.cumsum([len(turn) for turn in turns]) / RATE
        found = diarise(vc, folder / "talk.wav")
        truth = [int(np.searchsorted(borders, at)) % 2 for at, _ in found]
        agree = sum(who == right for (_, who), right in zip(found, truth, strict=True))
        wrong += min(agree, len(found) - agree)
        total += len(found)
    return (
        f"{len(pairs)} pairs of readers of test-other in turns of three seconds: {wrong / total:.0%} of the"
        " pieces of 1.5 s are given to the wrong reader. A piece may hold a change of turns."
    )


def measure_words(vc: vcae.Converter, spoken: dict[str, list[Utterance]]) -> str:
    """Accuracy on other speakers than those the classifier learned from."""
    names = sorted(spoken)
    known, others = ([u for n in part for u in spoken[n]] for part in (names[::2], names[1::2]))
    classifier = word_classifier(vc, [u.path for u in known], [str(u.text) for u in known])
    right = classifier.score([word_features(vc, u.path) for u in others], [str(u.text) for u in others])
    words = len({u.text for u in known})
    return (
        f"{words} words of dspspeech20, {len(names[::2])} speakers to learn from, {len(names[1::2])} others"
        f" to recognise: {right:.0%} right; by chance {1 / words:.0%}. The encoder was trained on this"
        " corpus, without its words."
    )


def measure_phrases(vc: vcae.Converter, speakers: dict[str, list[Utterance]]) -> str:
    """Share of phrases of a second that are found in another speaker's sentences, at the first place."""
    hits, total = 0, 0
    names = sorted(speakers)
    for a, b in zip(names, names[1:] + names[:1], strict=True):
        for u in speakers[a]:
            x = read(u.path, RATE).samples
            middle = len(x) // 2
            phrase = vcae.Audio(x[max(0, middle - RATE // 2) : middle + RATE // 2], RATE)
            best = find_phrase(vc, phrase, [each.path for each in speakers[b]])[0]
            hits += best.stem == u.path.stem
            total += 1
    return (
        f"{total} phrases of a second, each searched in {len(speakers[names[0]])} sentences of another"
        f" speaker of vcc2016: {hits / total:.0%} are found first in the right sentence; by chance"
        f" {1 / len(speakers[names[0]]):.0%}. The encoder was trained on these speakers."
    )


EXAMPLES: dict[str, tuple[Callable[..., object], ...]] = {
    "Cluster a folder by speaker": (cluster,),
    "Find one voice in many files": (find_voice,),
    "Say who speaks when": (diarise,),
    "Recognise words": (word_features, word_classifier),
    "Search a phrase": (find_phrase,),
}
"""Heading of the page -> the functions below it."""


def page(figures: Sequence[str]) -> str:
    """The page, with a line of figures below each example. Empty figures: code only."""
    parts = [
        "# What the codes are good for",
        "Five examples on the codes of the bundled model `studio`, for recordings in a list of paths.\n"
        "`python recipes/features.py --corpora FOLDER --write-page` measured them and wrote this page; the\n"
        "tests run the same functions. `pip install '.[eval]'` brings scikit-learn.",
        "```python\nimport numpy as np\nfrom librosa.sequence import dtw\n"
        "from sklearn.cluster import AgglomerativeClustering\n"
        "from sklearn.linear_model import LogisticRegression\n\nimport vcae\n"
        "from vcae.audio import Samples, is_silent, read\n\nRATE = 16_000\nvc = vcae.load()\n```",
    ]
    for (title, functions), figure in zip(EXAMPLES.items(), figures, strict=True):
        code = "\n\n".join(inspect.getsource(each).strip() for each in functions)
        parts += [f"## {title}", f"```python\n{code}\n```", figure]
    return "\n\n".join(parts) + "\n"


def main(options: Options) -> None:
    """Measure, print, and write the page. Raises VcaeError."""
    vc = vcae.load()
    found = read_corpora(options.corpora, ["librispeech", "dspspeech20", "vcc2016"])
    readers = by_speaker([u for u in found if u.held_out == "test"], 6)
    words = by_speaker([u for u in found if u.corpus == "dspspeech20" and u.text], 20)
    shared = [u for u in found if u.corpus == "vcc2016" and u.id.startswith("200")]
    phrases = dict(list(by_speaker(shared, 20).items())[:4])
    if not (readers and words and phrases):
        raise VcaeError(f"{options.corpora}: lacks one of the corpora; unpack all three there")
    with tempfile.TemporaryDirectory() as folder:
        steps: list[Callable[[], str]] = [
            lambda: measure_clusters(vc, readers),
            lambda: measure_search(vc, readers),
            lambda: measure_diarisation(vc, readers, Path(folder)),
            lambda: measure_words(vc, words),
            lambda: measure_phrases(vc, phrases),
        ]
        figures = []
        for step in console.track(steps, "Examples"):
            figures.append(step())
            print(figures[-1], flush=True)
    if options.write_page:
        PAGE.write_text(page(figures), encoding="utf-8")


if __name__ == "__main__":
    with console.in_one_line():
        main(tyro.cli(Options, description=__doc__))
