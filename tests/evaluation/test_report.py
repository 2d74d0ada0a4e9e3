"""The report: one self-contained file that shows all results and copes with missing ones."""

import base64
import io
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import VOICES
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vcae.audio import Audio, read, write
from vcae.evaluation.metrics.base import Measure, Score
from vcae.evaluation.report import Scale, write_report
from vcae.evaluation.results import Evaluation, Result
from vcae.evaluation.trials import Trial
from vcae.files import OutputError

CLIPS = sorted(VOICES.glob("*.flac"))
if len(CLIPS) < 4:
    pytest.skip(f"no speech to test with: {VOICES} holds fewer than four .flac", allow_module_level=True)

SECS = Measure("SECS to target", True, 0.0, "Similarity to the target.")
WER = Measure("WER", False, 1.0, "Word error rate.")
MCD = Measure("odd measure", False, 12.0, "A measure unknown to the report.")
MEASURES = (SECS, WER, MCD)
HOSTILE = "<script>alert('1')</script>&amp;\"><img src=x onerror=alert(2)>"


def evaluation(
    systems: Sequence[str] = ("ours", "natural", "identity"), speakers: int = 3, seed: int = 0
) -> Evaluation:
    """Every pair of so many speakers, with real recordings, and random scores and embeddings."""
    rng = np.random.default_rng(seed)
    names = [f"corpus/{k:02d}" for k in range(speakers)]
    clip = {name: CLIPS[k % len(CLIPS)] for k, name in enumerate(names)}
    trials = [
        Trial(f"{a}-to-{b}".replace("/", "."), clip[a], a, b, (clip[b],), text="we were early birds")
        for a, b in permutations(names, 2)
    ]
    results = {
        system: [
            Result(
                trial,
                system,
                trial.source,
                None,
                {m.name: Score(float(rng.random()), float(rng.integers(1, 9))) for m in MEASURES},
                "we were surly birds indeed",
                rng.random(16, dtype=np.float32),
            )
            for trial in trials
        ]
        for system in systems
    }
    embeddings = {path: rng.random(16, dtype=np.float32) for path in clip.values()}
    return Evaluation(results, MEASURES, {"list": "test.tsv"}, embeddings)


def changed(whole: Evaluation, change: Callable[[Result], Result], system: str | None = None) -> Evaluation:
    """The same with every result of a system, or of all, changed."""
    results = {s: [change(r) if system in (None, s) else r for r in rs] for s, rs in whole.results.items()}
    return replace(whole, results=results)


def fail(result: Result) -> Result:
    worst = {m.name: Score(m.worst) for m in MEASURES}
    return replace(
        result, audio=None, failure=f"broke {result.trial.id}", scores=worst, transcript="", embedding=None
    )


@dataclass
class Element:
    tag: str
    attrs: dict[str, str]
    inside: list["str | Element"] = field(default_factory=list)

    def all(self, *tags: str) -> list["Element"]:
        """The elements in it, in the order of the page; of any kind if no tag is named."""
        below = [e for child in self.inside if isinstance(child, Element) for e in (child, *child.all())]
        return [e for e in below if not tags or e.tag in tags]

    def of_class(self, name: str) -> list["Element"]:
        return [e for e in self.all() if name in e.attrs.get("class", "").split()]

    @property
    def text(self) -> str:
        """All text in it, with single spaces."""
        return " ".join(" ".join(c if isinstance(c, str) else c.text for c in self.inside).split())


class Page(HTMLParser):
    """A page as a tree; fails where an element is not closed in its place."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open = [Element("", {})]
        self.feed(text)
        self.close()
        (self.root,) = self.open

    def handle_starttag(self, tag, attrs):
        element = Element(tag, {name: value or "" for name, value in attrs})
        assert len(element.attrs) == len(attrs), f"an attribute twice in {tag}"
        self.open[-1].inside.append(element)
        if tag not in ("meta", "img", "input", "br"):
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop().tag == tag

    def handle_data(self, data):
        self.open[-1].inside.append(data)


@pytest.fixture
def page_of(tmp_path: Path) -> Callable[[Evaluation], Element]:
    """Writes the report, checks what holds for every page, and parses it."""

    def get(whole: Evaluation) -> Element:
        path = tmp_path / "report.html"
        write_report(path, whole)
        root = Page(path.read_text(encoding="utf-8")).root
        check(root)
        return root

    return get


def check(root: Element) -> None:
    """What holds for every page: it is complete, self-contained and accessible."""
    ids = [e.attrs["id"] for e in root.all() if "id" in e.attrs]
    assert len(set(ids)) == len(ids)
    for element in root.all():
        for name in {"src", "href", "srcset", "data", "action", "poster"} & set(element.attrs):
            value = element.attrs[name]
            assert value.startswith("data:") or value[1:] in ids, f"{element.tag} needs {value[:60]}"
        assert not [name for name in element.attrs if name.startswith("on")]
        assert not re.search("url|nan|inf", element.attrs.get("style", ""))
        for name in {"x", "x1", "x2", "y", "y1", "y2", "cx", "cy", "d", "width", "height"} & set(
            element.attrs
        ):
            assert not re.search("nan|inf", element.attrs[name]), f"{element.tag} is drawn nowhere"
    assert not root.all("link", "iframe", "object", "embed", "base")
    (style,), (script,) = root.all("style"), root.all("script")
    assert not re.search(r"url\(|@import", style.text)
    assert not re.search(r"fetch|import|XMLHttp|https?:", script.text)
    assert any("default-src 'none'" in meta.attrs.get("content", "") for meta in root.all("meta"))
    assert all(image.attrs["alt"] for image in root.all("img"))
    assert all(player.attrs["aria-label"] and "controls" in player.attrs for player in root.all("audio"))
    assert all(head.attrs["scope"] in ("row", "col") for head in root.all("th"))
    assert all("aria-hidden" in e.attrs or e.attrs["aria-label"] for e in root.all("svg"))
    assert len(root.all("h1")) == 1


def table(root: Element, kind: str, which: int = 0) -> list[list[str]]:
    """The texts of a table's cells, by the class of the table or of what is around it."""
    found = [e for around in root.of_class(kind) for e in (around, *around.all()) if e.tag == "table"]
    return [[cell.text for cell in row.all("th", "td")] for row in found[which].all("tr")]


def badges(root: Element) -> dict[str, set[str]]:
    """By the id of a trial that has a player, what it was chosen for."""
    return {
        card.of_class("id")[0].text: {badge.text for badge in card.of_class("badges")[0].all("li")}
        for card in root.all("article")
    }


def content(uri: str, kind: str) -> io.BytesIO:
    head, _, data = uri.partition(",")
    assert head == f"data:{kind};base64"
    return io.BytesIO(base64.b64decode(data, validate=True))


def test_it_begins_with_systems_trials_and_failures(page_of):
    whole = evaluation()
    root = page_of(whole)
    head = root.all("header")[0].text
    assert "ours" in root.all("h1")[0].text
    assert "6 trials between 3 speakers" in head
    assert "test.tsv" in head
    assert "No conversion failed" in head
    measured = root.all("dl")[1].text
    assert all(m.name in measured and m.about in measured for m in MEASURES)


def test_summary_has_a_row_a_system_with_mean_interval_and_direction(page_of):
    whole = evaluation()
    head, *rows = table(page_of(whole), "summary")
    assert [cell.split(" ")[0] for cell in head] == ["system", "SECS", "WER", "odd", "failures"]
    assert ["higher" in cell for cell in head] == [False, True, False, False, False]
    assert ["lower" in cell for cell in head] == [False, False, True, True, True]
    assert [row[0] for row in rows] == list(whole.results)
    for row in rows:
        summary = whole.summary(row[0])
        for cell, measure in zip(row[1:], MEASURES, strict=False):
            mean, low, high = summary[measure.name]
            assert cell == f"{mean:.2f} {low:.2f} to {high:.2f}"
        assert row[-1] == "0 of 6"


def test_heat_map_has_the_weighted_mean_of_each_pair_and_of_each_speaker(page_of):
    whole = evaluation(["ours"])
    twice = {"ours": [*whole.results["ours"], *evaluation(["ours"], seed=1).results["ours"]]}
    head, *rows = table(page_of(replace(whole, results=twice)), "heat")
    assert head == ["target \u2192 source \u2193", "00", "01", "02", "mean"]

    def mean(**of: str) -> str:
        scores = [
            r.scores[SECS.name] for r in twice["ours"] if all(getattr(r.trial, k) == v for k, v in of.items())
        ]
        values, weights = zip(*scores, strict=True)
        return f"{np.average(values, weights=weights):.2f}"

    for s, row in zip(("00", "01", "02"), rows, strict=False):
        source = f"corpus/{s}"
        pairs = [
            mean(source_speaker=source, target_speaker=f"corpus/{t}") if s != t else ""
            for t in ("00", "01", "02")
        ]
        assert row == [s, *pairs, mean(source_speaker=source)]
    assert rows[-1][1:] == [*(mean(target_speaker=f"corpus/{t}") for t in ("00", "01", "02")), mean()]


def test_heat_map_leaves_out_speakers_who_are_never_source_or_target(page_of):
    whole = evaluation(["ours"])
    some = [r for r in whole.results["ours"] if r.trial.source_speaker == "corpus/01"]
    head, *rows = table(page_of(replace(whole, results={"ours": some})), "heat")
    assert head[1:] == ["00", "02", "mean"]
    assert [row[0] for row in rows] == ["01", "mean"]


def test_the_better_end_of_a_heat_map_is_strong_in_either_direction(page_of):
    def score(result: Result) -> Result:
        value = 0.1 * int(result.trial.target_speaker[-1])
        return replace(result, scores={m.name: Score(value) for m in (SECS, WER)})

    root = page_of(changed(evaluation(["ours"]), score))
    for figure, signs in zip(root.of_class("heat"), (1, -1), strict=True):
        cells = figure.all("tr")[-1].of_class("cell")[:-1]  # means of the targets
        strength = [float(cell.attrs["style"].removeprefix("--v:")) for cell in cells]
        assert (np.diff(strength) * signs > 0).all()


def test_histograms_count_every_trial_of_the_main_system(page_of):
    root = page_of(evaluation())
    figures = root.of_class("histograms")[0].all("figure")
    assert [f.all("b")[0].text for f in figures] == [m.name for m in MEASURES]
    for figure in figures:
        counts = [int(bar.text.split(" ")[-2]) for bar in figure.of_class("bar")]
        assert sum(counts) == 6
        assert len(figure.of_class("outline")) == 2


def test_on_the_map_an_embedding_of_the_target_lies_on_the_target(page_of):
    whole = evaluation()
    reached = changed(
        whole, lambda r: replace(r, embedding=whole.natural_embeddings[r.trial.references[0]]), "ours"
    )
    before, after = page_of(reached).of_class("map")
    lines = after.all("line")
    assert len(lines) == 6
    assert all(
        line.attrs["x1"] == line.attrs["x2"] and line.attrs["y1"] == line.attrs["y2"] for line in lines
    )
    assert len(before.all("circle")) == len(after.all("circle")) == 3
    assert [label.text for label in before.all("text")] == ["00", "01", "02"]

    coded = replace(
        whole, speaker_codes=whole.natural_embeddings | {r.audio: r.embedding for r in whole.results["ours"]}
    )
    assert len(page_of(coded).of_class("map")) == 4

    missed = page_of(whole).of_class("map")[1].all("line")
    assert all(line.attrs["x1"] != line.attrs["x2"] for line in missed)


def test_the_map_keeps_the_distances_of_embeddings_in_a_plane(page_of):
    whole = evaluation(["ours"])
    corners = np.zeros((3, 16), dtype=np.float32)
    corners[1, 5], corners[2, 9] = 4.0, 3.0
    root = page_of(
        replace(whole, natural_embeddings=dict(zip(whole.natural_embeddings, corners, strict=True)))
    )
    assert "explain 100 % of the variance" in root.text
    shown = np.array(
        [[float(c.attrs["cx"]), float(c.attrs["cy"])] for c in root.of_class("map")[0].all("circle")]
    )
    sides = sorted(float(np.linalg.norm(shown[i] - shown[j])) for i, j in ((0, 1), (1, 2), (0, 2)))
    assert np.allclose(np.array(sides) / sides[0], [1, 4 / 3, 5 / 3], atol=0.02)


def test_best_median_and_worst_by_each_measure_have_players_each_trial_once(page_of):
    order = [3, 0, 5, 1, 4, 2]  # of the trials, by both metrics

    def score(result: Result) -> Result:
        rank = order[[r.trial.id for r in whole.results["ours"]].index(result.trial.id)]
        return replace(result, scores={SECS.name: Score(rank / 10), WER.name: Score(rank / 10)})

    whole = evaluation(["ours"])
    root = page_of(changed(whole, score))
    ids = [
        r.trial.id for r in sorted(whole.results["ours"], key=lambda r: order[whole.results["ours"].index(r)])
    ]
    assert badges(root) == {
        ids[5]: {"best SECS to target", "worst WER"},
        ids[3]: {"median SECS to target"},
        ids[2]: {"median WER"},
        ids[0]: {"worst SECS to target", "best WER"},
    }
    linked = {link.text for link in root.of_class("trials")[0].all("a")}
    assert linked == set(badges(root))
    index = root.of_class("index")[0].all("a")
    assert len(index) == 6


def test_players_and_pictures_hold_the_recordings(page_of):
    whole = evaluation(["ours"], speakers=2)
    for card, result in zip(page_of(whole).all("article"), whole.results["ours"], strict=True):
        files = [result.trial.source, result.audio, result.trial.references[0]]
        for file, player, picture in zip(files, card.all("audio"), card.all("img"), strict=True):
            natural = read(file, 16_000).samples
            played, rate = soundfile.read(content(player.attrs["src"], "audio/mpeg"))
            assert rate == 16_000
            assert len(played) == len(natural)
            assert np.corrcoef(played, natural)[0, 1] > 0.98
            mel = Image.open(content(picture.attrs["src"], "image/png"))
            assert mel.size == (-(-len(natural) // 320), 80)


def test_mel_pictures_have_low_tones_at_the_bottom_and_loud_ones_bright(page_of, tmp_path):
    tone = tmp_path / "tone.wav"
    write(tone, Audio(0.5 * np.sin(2 * np.pi * 200 / 16_000 * np.arange(16_000)).astype(np.float32), 16_000))
    root = page_of(changed(evaluation(["ours"]), lambda r: replace(r, audio=tone)))
    mel = np.array(Image.open(content(root.all("img")[1].attrs["src"], "image/png")).convert("L"))
    assert mel[:, 10:].mean(axis=1).argmax() > 70
    assert mel.max() > 180
    assert mel[:40, 10:].max() < 30


def test_long_recordings_are_cut_and_the_page_says_so(page_of, tmp_path):
    long = tmp_path / "long.wav"
    write(long, Audio(np.tile(read(CLIPS[0], 16_000).samples, 12), 16_000))
    card = page_of(changed(evaluation(["ours"], 2), lambda r: replace(r, audio=long))).all("article")[0]
    played, rate = soundfile.read(content(card.all("audio")[1].attrs["src"], "audio/mpeg"))
    assert len(played) == 30 * rate
    assert card.text.count("its first 30 s") == 1


def test_the_transcript_is_compared_with_the_text(page_of):
    root = page_of(evaluation(["ours"]))
    (played,) = root.all("article")[0].of_class("text")[0].all("dd")[1:]
    assert played.text == "we were early surly birds indeed"
    assert [(part.tag, part.text) for part in played.all()] == [
        ("del", "early"),
        ("ins", "surly"),
        ("ins", "indeed"),
    ]


def test_without_a_text_the_transcript_is_compared_with_that_of_the_source(page_of):
    def unwritten(result: Result) -> Result:
        return replace(result, trial=replace(result.trial, text=None))

    whole = changed(evaluation(["ours"]), unwritten)
    played = {r.trial.source: "surly birds" for r in whole.results["ours"]}
    card = page_of(replace(whole, source_transcripts=played)).all("article")[0].of_class("text")[0]
    assert "Transcript of the source" in card.text
    assert [e.text for e in card.all("ins")] == ["we were", "indeed"]
    alone = page_of(whole).all("article")[0].of_class("text")[0]
    assert not alone.all("ins", "del")
    assert "we were surly birds indeed" in alone.text


def test_every_failure_is_listed_and_long_lists_are_cut(page_of):
    whole = changed(evaluation(["ours", "other"], speakers=6), fail, "ours")
    root = page_of(whole)
    assert "30 of 30 conversions failed" in root.all("header")[0].text
    assert [row[-1] for row in table(root, "summary")[1:]] == ["30 of 30", "0 of 30"]
    reasons = [row[-1] for row in table(root, "trials")[1:]]
    assert reasons == [r.failure for r in whole.results["ours"]]
    listed = root.of_class("list")
    assert len(listed) == 1
    items = [item.text for item in listed[0].all("li")]
    assert len(items) == 21
    assert items[-1] == "and 10 more"
    assert all(set(found) == {"failure"} for found in badges(root).values())
    assert len(badges(root)) == 3


def test_a_failure_is_not_the_worst_conversion(page_of):
    whole = evaluation(["ours"])
    first = whole.results["ours"][0].trial.id
    root = page_of(changed(whole, lambda r: fail(r) if r.trial.id == first else r))
    assert badges(root)[first] == {"failure"}
    assert any("worst WER" in found for found in badges(root).values())
    assert "Failed: broke" in root.all("article")[-1].text


def test_foreign_text_is_escaped(page_of):
    whole = evaluation(["ours", "natural"], speakers=2)

    def hostile(result: Result) -> Result:
        trial = replace(
            result.trial,
            id=HOSTILE + result.trial.id,
            source_speaker=HOSTILE + result.trial.source_speaker,
            text=HOSTILE,
            source=Path("/", HOSTILE.replace("/", "") + ".wav"),
        )
        return replace(result, trial=trial, transcript=HOSTILE, failure=HOSTILE)

    measures = [replace(m, name=HOSTILE + m.name, about=HOSTILE) for m in MEASURES]
    whole = changed(whole, hostile)
    results = {
        HOSTILE + system: [
            replace(r, scores={HOSTILE + name: score for name, score in r.scores.items()}) for r in results
        ]
        for system, results in whole.results.items()
    }
    root = page_of(Evaluation(results, measures, {HOSTILE: HOSTILE}, whole.natural_embeddings))
    assert not [image for image in root.all("img") if "onerror" in image.attrs]
    flat = " ".join(HOSTILE.split())
    assert root.all("h1")[0].all("em")[0].text == f"{flat}ours"
    for measure in measures:
        assert f"{flat}{measure.name.removeprefix(HOSTILE)}" in root.text
    row = root.of_class("trials")[0].all("tr")[1]
    assert row.attrs["data-source"] == HOSTILE + "corpus/00"
    assert row.all("th")[0].text == flat + "corpus.00-to-corpus.01"
    options = {option.attrs["value"] for option in root.all("option")}
    assert HOSTILE + "corpus/00" in options


def drop(*names: str) -> Callable[[Result], Result]:
    return lambda r: replace(r, scores={n: s for n, s in r.scores.items() if n not in names})


ODD = {
    "one system": evaluation(["ours"]),
    "eight systems": evaluation([f"system {k}" for k in range(8)]),
    "one trial": replace(evaluation(), results={s: rs[:1] for s, rs in evaluation().results.items()}),
    "two speakers": evaluation(speakers=2),
    "thirty speakers": evaluation(["ours"], speakers=30),
    "all failed": changed(evaluation(), fail),
    "no recordings": changed(evaluation(), lambda r: replace(r, audio=None)),
    "files that are gone": changed(evaluation(), lambda r: replace(r, audio=Path("gone.flac"))),
    "no natural embeddings": replace(evaluation(), natural_embeddings={}),
    "equal embeddings": replace(
        evaluation(),
        natural_embeddings=dict.fromkeys(evaluation().natural_embeddings, np.ones(16, np.float32)),
    ),
    "a measure that only others have": changed(evaluation(), drop("WER"), "ours"),
    "a measure that others lack": changed(evaluation(), drop("WER"), "natural"),
    "no scores": changed(evaluation(), drop(*(m.name for m in MEASURES))),
    "scores that weigh nothing": changed(evaluation(), lambda r: replace(r, scores={"WER": Score(1.0, 0.0)})),
    "always the same score": changed(evaluation(), lambda r: replace(r, scores={"WER": Score(0.0)})),
    "nothing said": changed(evaluation(), lambda r: replace(r, transcript="", embedding=None)),
    "nothing about it": replace(evaluation(), about={}),
}


@pytest.mark.parametrize("whole", ODD.values(), ids=ODD.keys())
def test_odd_evaluations_are_shown_as_far_as_they_go(page_of, whole):
    root = page_of(whole)
    main, *_ = whole.results
    assert [row[0] for row in table(root, "summary")[1:]] == list(whole.results)
    trials = table(root, "trials")[1:]
    assert [row[0] for row in trials] == [r.trial.id for r in whole.results[main]]
    taken = [m.name for m in whole.measures if any(m.name in whole.summary(s) for s in whole.results)]
    head = table(root, "summary")[0]
    assert [name for name in taken if any(cell.startswith(name) for cell in head)] == taken
    named = {path for r in whole.results[main] for path in r.trial.files}
    embeddings = {each.tobytes() for path, each in whole.natural_embeddings.items() if path in named}
    assert bool(root.of_class("map")) == (len(embeddings) >= 3)
    played = {r.trial.id for r in whole.results[main] if r.audio and r.audio.exists()}
    for card in root.all("article"):
        assert len(card.all("audio")) == (3 if card.of_class("id")[0].text in played else 2)


def test_the_same_evaluation_gives_the_same_bytes(tmp_path):
    for name in ("a.html", "b.html"):
        write_report(tmp_path / name, evaluation())
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


@pytest.mark.parametrize("name", ["report.txt", "missing/report.html", "."])
def test_a_path_that_cannot_be_written_is_reported_in_one_line(tmp_path, name):
    with pytest.raises(OutputError, match=r"^[^\n]+$"):
        write_report(tmp_path / name, evaluation())
    assert not list(tmp_path.iterdir())


numbers = st.floats(-1e6, 1e6)


@given(st.lists(numbers, max_size=20), st.booleans(), numbers, numbers)
def test_a_scale_keeps_order_and_stays_within_its_ends(values, outliers, a, b):
    scale = Scale.of([*values, np.nan], outliers)
    assert scale.low < scale.high
    assert 0 <= scale(min(a, b)) <= scale(max(a, b)) <= 1
    assert scale.below == any(value < scale.low for value in values)
    assert scale.above == any(value > scale.high for value in values)
    assert not (outliers and (scale.below or scale.above))


def test_one_odd_trial_does_not_press_the_others_together(page_of):
    whole = evaluation(["ours"], speakers=6)
    odd = whole.results["ours"][7].trial.id

    def score(result: Result) -> Result:
        wer = 40.0 if result.trial.id == odd else result.scores[WER.name].value
        return replace(result, scores={SECS.name: result.scores[SECS.name], WER.name: Score(wer)})

    root = page_of(changed(whole, score))
    heat = root.of_class("heat")[1].of_class("cell")
    strength = {cell.text: float(cell.attrs["style"].removeprefix("--v:")) for cell in heat}
    assert strength.pop("40.00") == 0
    assert max(strength.values()) - min(strength.values()) > 0.3
    assert "worse: \u2265" in root.of_class("legend")[1].text
    bars = root.of_class("histograms")[0].all("figure")[1].of_class("bar")
    assert len(bars) > 5


@pytest.fixture
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"],
        )
        yield browser
        browser.close()


def test_in_a_browser_it_fits_a_phone_sorts_and_filters(tmp_path, browser):
    whole = evaluation(speakers=4)
    first = whole.results["ours"][0].trial.id
    path = tmp_path / "report.html"
    write_report(path, changed(whole, lambda r: fail(r) if r.trial.id == first else r, "ours"))
    page = browser.new_page(viewport={"width": 390, "height": 800})
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.wait_for_function("[...document.querySelectorAll('audio')].every((a) => a.duration > 1)")

    def column(at: int) -> list[str]:
        cells = page.locator(f".trials tbody tr:visible > :nth-child({at + 1})")
        return cells.all_inner_texts()

    page.get_by_role("button", name="WER").click()
    assert column(4) == sorted(column(4))
    page.get_by_role("button", name="WER").click()
    assert column(4) == sorted(column(4), reverse=True)
    page.locator("select").first.select_option("corpus/00")
    assert column(1) == ["00"] * 3
    page.get_by_label("failures only").check()
    assert column(0) == [first]
    assert page.get_by_role("status").inner_text() == "1 of 12"
    assert not problems
