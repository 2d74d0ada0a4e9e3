"""Train a content encoder under each kind of bottleneck at about 400 bit/s, and compare what the codes hold.

    python recipes/bottlenecks.py --train runs/bundled/train-KEY.bank \
        --validation runs/bundled/validation-KEY.bank --whisper model.bin --campplus campplus.safetensors \
        --corpora ~/corpora --write-page

Banks, teachers and labels are those of `recipes/content.py`, which trains each encoder. All start from the
content encoder of `--start` and learn its code, so that its decoder speaks every code. `--corpora` is as for
`recipes/evaluate_bundled.py`: conversions of development speakers give WER, SECS and DistillMOS, the readers
of LibriSpeech test-other the leakage and how units go with phones.

`recipes/decoder.py --content runs/bottlenecks/vq/content.safetensors` then adapts the decoder to a code, and
`--bundle units` makes it the bundled model `units`.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import content
import decoder
import matplotlib.pyplot as plt
import numpy as np
import tyro
from evaluate_bundled import Options, markdown, trials_of, utterances_of, write_part
from taught import TaughtRecipe

import vcae
from vcae.cli.console import in_one_line, track
from vcae.corpora.utterance import Utterance
from vcae.evaluation.metric_set import MetricSet
from vcae.evaluation.metrics.cache import FeatureCache, default_cache_folder
from vcae.evaluation.metrics.intelligibility import WER
from vcae.evaluation.probes import extract_codes, train_probes
from vcae.evaluation.runner import evaluate
from vcae.evaluation.systems import Systems
from vcae.evaluation.trials import Trial
from vcae.evaluation.units import UnitStatistics, unit_statistics
from vcae.inference.checkpoint import BUNDLED, save
from vcae.model.phones import PHONES
from vcae.training.config import SamplerConfig, TrainConfig
from vcae.training.student import ContentStudentConfig

PAGE = Path(__file__).with_name("BOTTLENECKS.md")
PICTURE = Path(__file__).with_name("bottlenecks.png")
KINDS: dict[str, dict[str, Any]] = {
    "continuous": {"noise": 0.15},
    "vq": {"size": 256},
    "fsq": {"levels": [8, 6, 5]},
    "binary": {"bits": 8},
    "onehot": {"size": 256},
}
"""Options of each kind; the discrete ones have 240 or 256 values a frame of 20 ms."""
MEASURES = ("DistillMOS", WER, "SECS to target")


@dataclass(frozen=True, kw_only=True)
class Recipe(TaughtRecipe):
    """All settings; the defaults are for one CPU core with bfloat16."""

    start: Path = BUNDLED / "studio.safetensors"
    """Autoencoder whose content encoder is trained on, and whose decoder speaks the codes."""
    out: Path = Path("runs/bottlenecks")
    """Folder of all that is written; what is finished there is not trained again."""
    kinds: tuple[str, ...] = tuple(KINDS)
    """Kinds of bottlenecks to train, without which the page is not written."""
    corpora: Path | None = None
    """Folder with the unpacked corpora librispeech, asterisk and speechocean762; None: only train."""
    transcripts: Path | None = None
    """Folder of NAME.tsv with transcripts."""
    trials: int = 24
    """Number of conversions, drawn from those of the development set."""
    cache: Path | None = None
    """Folder for cached features; default: in the user's cache folder."""
    write_page: bool = False
    """Write BOTTLENECKS.md and its picture."""

    sampler: SamplerConfig = field(default_factory=lambda: content_default("sampler"))
    training: TrainConfig = field(
        default_factory=lambda: replace(
            content_default("training"), minutes=None, steps=300, warm_up=50, learning_rate=7e-4
        )
    )


def content_default(name: str) -> Any:
    """A default of `recipes/content.py`."""
    return content.Recipe.__dataclass_fields__[name].default_factory()


def main(recipe: Recipe) -> None:
    """Train each kind, then measure all. Raises VcaeError."""
    folders = {kind: train(recipe, kind) for kind in recipe.kinds}
    if recipe.corpora is None:
        return
    options = Options(corpora=recipe.corpora, transcripts=recipe.transcripts)
    metrics = MetricSet.load(FeatureCache(recipe.cache or default_cache_folder()))
    development = utterances_of("development", options)
    trials = trials_of("development", development, recipe.trials, metrics.intelligibility, metrics.cache)
    rows = [
        ["bottleneck", "bit/s", "used", "perplexity", *MEASURES, "speaker leakage", "purity", "information"]
    ]
    readers = utterances_of("test-other", options)
    found: dict[str, UnitStatistics] = {}
    for kind, folder in folders.items():
        row, units = measure(vcae.load(folder), trials, readers, metrics, folder / "conversions")
        rows.append([kind, *row])
        if units:
            found[kind] = units
        print(markdown(rows))
    if recipe.write_page:
        write_part("bottlenecks", markdown(rows), PAGE)
        draw_units(found, PICTURE)


def train(recipe: Recipe, kind: str) -> Path:
    """A folder with the trained model of a kind. Raises VcaeError."""
    folder = recipe.out / kind
    shared = {name: getattr(recipe, name) for name in TaughtRecipe.__dataclass_fields__}
    student = replace(ContentStudentConfig(), bottleneck={"kind": kind, **KINDS[kind]})
    taught = content.Recipe(
        **shared,
        out=folder,
        start=recipe.start,
        guide=recipe.start,
        student=student,
        sampler=recipe.sampler,
        training=recipe.training,
    )
    content.main(taught)
    encoder = folder / "content.safetensors"
    model = decoder.autoencoder(decoder.Recipe(**shared, out=folder, start=recipe.start, content=encoder))
    save(folder / "autoencoder.safetensors", model)
    shutil.copyfile(BUNDLED / "vocoder.safetensors", folder / "vocoder.safetensors")
    return folder


def measure(
    converter: vcae.Converter,
    trials: Sequence[Trial],
    readers: Sequence[Utterance],
    metrics: MetricSet,
    out: Path,
) -> tuple[list[str], UnitStatistics | None]:
    """The cells of a model's row, and the statistics of its units if it has any."""
    bottleneck = converter.autoencoder.bottleneck
    data = extract_codes(readers, converter, track=track)
    units = unit_statistics(data.utterances, bottleneck.size) if bottleneck.discrete else None
    leakage = train_probes(data).speaker_linear.leakage
    system = Systems(converter).vcae
    evaluation = evaluate(trials, {"vcae": system}, out, metrics, track=track)
    # Where Whisper repeats itself, a trial would have many times as many errors as words.
    scores = [result.scores for result in evaluation.results["vcae"]]
    means = [np.mean([min(1.0 if name == WER else 5.0, s[name].value) for s in scores]) for name in MEASURES]
    row = [
        f"{converter.autoencoder.bits_per_second:.0f}",
        *([f"{units.used:.2f}", f"{units.perplexity:.0f}"] if units else ["", ""]),
        *(f"{mean:.2f}" for mean in means),
        "" if leakage is None else f"{leakage:.2f}",
        *([f"{units.purity:.2f}", f"{units.information:.2f}"] if units else ["", ""]),
    ]
    return row, units


def draw_units(found: Mapping[str, UnitStatistics], path: Path) -> None:
    """Draw the probability of each phone, given the unit, for each kind of bottleneck, side by side."""
    figure, axes = plt.subplots(
        1, len(found), figsize=(4 * len(found), 6), sharey=True, layout="constrained", squeeze=False
    )
    for axis, (kind, units) in zip(axes[0], found.items(), strict=True):
        joint = units.joint[units.joint.sum(1) > 0]
        joint = joint[np.lexsort((-joint.max(1), joint.argmax(1)))]  # by phone, then by count
        axis.imshow(
            (joint / joint.sum(1, keepdims=True)).T, aspect="auto", cmap="magma", interpolation="nearest"
        )
        axis.set(title=kind, xlabel="units, by their most frequent phone")
        axis.set_yticks(range(len(PHONES)), PHONES, fontsize=7)
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    with in_one_line():
        main(tyro.cli(Recipe, description=__doc__))
