"""Measure how well units and phones are predicted from a content code, by look-ahead.

    python recipes/look_ahead.py --train runs/bundled/train-KEY.bank \
        --tests runs/bundled/validation-KEY.bank

`recipes/content.py` writes the labels that this needs beside each bank, as `content-BANK.safetensors`.

One causal encoder is trained with a linear classifier for each look-ahead; its code is wide enough for all
of them. This gives the whole curve in one run, a little below the curve of separate runs. With
`--autoencoder FILE`, the classifiers read the code of these weights, which stay as they are: this compares
codes at equal classifiers. `look_ahead.json` and `look_ahead.png` in `--out` hold the result; `--write-page`
puts them on the page `recipes/LOOK_AHEAD.md`, too.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
import tyro
from evaluate_bundled import markdown, write_part
from torch import Tensor, nn
from torch.nn import functional as F

from vcae.cli.console import in_one_line, show, track
from vcae.inference.checkpoint import load, load_autoencoder
from vcae.model.alignment import Alignment, in_step
from vcae.model.config import MelConfig
from vcae.model.content import ContentEncoder
from vcae.model.mel import LogMel
from vcae.model.phones import PHONES
from vcae.training import augment
from vcae.training.config import CONTENT, PhoneClassifierConfig, Ranges, SamplerConfig, TrainConfig
from vcae.training.data import Bank
from vcae.training.devices import fabric_of
from vcae.training.losses import known_cross_entropy
from vcae.training.run import Run, phases_of
from vcae.training.stages.base import Losses, Phase, Stage
from vcae.training.student import ContentStudent, ContentStudentConfig
from vcae.training.teachers.labels import UNKNOWN, ContentLabels
from vcae.training.teachers.phones import fit_phones, pseudo_labels
from vcae.training.teachers.sampler import ContentBatch, ContentSampler
from vcae.training.trainer import Trainer

PAGE = Path(__file__).with_name("LOOK_AHEAD.md")


@dataclass(frozen=True)
class LookAheadConfig:
    """Sizes of a `LookAheadModel`."""

    mel: MelConfig = field(default_factory=MelConfig)
    width: int = 256
    """Channels of the encoder and of its code."""
    hidden: int = 1024
    """Hidden channels of the encoder's blocks."""
    fine: tuple[int, ...] = (1,)
    """Dilations of the blocks before the encoder's stride."""
    coarse: tuple[int, ...] = (1, 1, 2, 2, 4, 1, 1, 1)
    """Dilations of the blocks after it."""
    units: int = 512
    """Number of clusters to predict."""
    delays: tuple[int, ...] = (0, 2, 6, 12, 24, 48)
    """Look-aheads in mel frames, multiples of the encoder's stride."""
    classifier_width: int = 384
    """Hidden channels of the classifier on the code of other weights."""


class Predicted(NamedTuple):
    """Logits of units (B, units, T / 2) and of phones (B, phones, T / 2)."""

    units: Tensor
    phones: Tensor


class FrozenCode(nn.Module):
    """The content code of an autoencoder without noise: mel (B, n_mels, T) -> (B, D, T / 2)."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        autoencoder = load_autoencoder(path)
        self.content, self.bottleneck = autoencoder.content, autoencoder.bottleneck
        self.requires_grad_(False)
        self.dim, self.delay, self.mel = (
            autoencoder.config.content_dim,
            autoencoder.config.delay,
            autoencoder.config.mel,
        )

    @torch.no_grad()
    def forward(self, mel: Tensor) -> Tensor:
        """(B, n_mels, T) -> (B, D, T / 2)."""
        z: Tensor = self.bottleneck(self.content(mel)).z
        return z


class LookAheadModel(nn.Module):
    """mel (B, n_mels, T), T even -> `Predicted` for each delay. code: used in place of a trained encoder."""

    def __init__(self, config: LookAheadConfig, code: FrozenCode | None = None) -> None:
        super().__init__()
        c = self.config = config
        self.alignments = [Alignment(c.mel, delay, ContentEncoder.stride) for delay in c.delays]
        self.code = code or ContentEncoder(c.mel, c.width, c.hidden, c.width, c.fine, c.coarse)
        classes = c.units + len(PHONES)
        # An encoder that is trained with linear classifiers fits them; a code that is given may need more.
        self.classifiers = nn.ModuleList(
            nn.Linear(c.width, classes)
            if code is None
            else nn.Sequential(
                nn.Linear(code.dim, c.classifier_width), nn.GELU(), nn.Linear(c.classifier_width, classes)
            )
            for _ in c.delays
        )

    def forward(self, mel: Tensor) -> list[Predicted]:
        """(B, n_mels, T) -> `Predicted` for each delay."""
        code = self.code(mel)
        found = (classifier(code.mT).mT for classifier in self.classifiers)
        return [Predicted(*x.split([self.config.units, len(PHONES)], dim=1)) for x in found]

    def start_from(self, student: ContentStudent) -> None:
        """Take the weights of a student's encoder, but its output. Raises RuntimeError for other sizes."""
        kept = {
            n: t
            for n, t in student.encoder.state_dict().items()
            if not n.startswith(("output.", "over_time."))
        }
        self.code.load_state_dict(self.code.state_dict() | kept)


@dataclass(frozen=True)
class LookAheadLossWeights:
    """Weights of the losses."""

    units: float = 1.0
    """Cross-entropy of units, the mean over delays."""
    phones: float = 0.3
    """Cross-entropy of phones, the mean over delays."""


@dataclass(frozen=True)
class LookAheadStageConfig:
    """Training of a `LookAheadModel`."""

    content: Ranges = CONTENT
    """Perturbation of the input."""
    loss_weights: LookAheadLossWeights = field(default_factory=LookAheadLossWeights)


@dataclass(frozen=True)
class LookAheadOutput:
    """What is predicted from a batch, for each delay."""

    batch: ContentBatch
    predicted: list[Predicted]


class LookAheadStage(Stage[ContentBatch, LookAheadOutput]):
    """Trains the prediction of units and phones of the clean source from a perturbed one."""

    name = "look_ahead"

    def __init__(
        self, model: LookAheadModel, sampler: ContentSampler, config: LookAheadStageConfig | None = None
    ) -> None:
        super().__init__()
        self.config = config or LookAheadStageConfig()
        self.model = model
        self.sampler = sampler
        self.configs = {"model": model.config, "stage": self.config, "sampler": sampler.config}
        self.log_mel = LogMel(model.config.mel)
        self.loss_weights = asdict(self.config.loss_weights)
        self.frozen = (model.code,) if isinstance(model.code, FrozenCode) else ()

    def generate(self, batch: ContentBatch, phase: Phase) -> LookAheadOutput:
        """Predict from perturbed sources."""
        ranges, mel_config, rng = self.config.content, self.model.config.mel, phase.rng
        with torch.no_grad():
            mel = self.log_mel(augment.perturb_wav(batch.source, ranges, mel_config, rng))
            mel = augment.perturb_mel(mel, ranges, mel_config, rng)
        return LookAheadOutput(batch, self.model(mel))

    def generator_losses(self, out: LookAheadOutput, phase: Phase) -> Losses:
        """Cross-entropy of units and phones; that of units for each delay is logged."""
        units: dict[str, Tensor] = {}
        phones = []
        for alignment, predicted in zip(self.model.alignments, out.predicted, strict=True):
            delay = alignment.code_delay
            name = f"units_{milliseconds(alignment):.0f}_ms"
            units[name] = known_cross_entropy(*in_step(predicted.units, out.batch.units, delay))
            phones.append(known_cross_entropy(*in_step(predicted.phones, out.batch.phones, delay)))
        means = {"units": torch.stack([*units.values()]).mean(), "phones": torch.stack(phones).mean()}
        return means | {name: x.detach() for name, x in units.items()}

    @property
    def product(self) -> dict[str, nn.Module]:
        """The code and the classifiers."""
        return {"look_ahead": self.model}


def milliseconds(alignment: Alignment) -> float:
    """The look-ahead in ms."""
    return 1000 * alignment.look_ahead / alignment.mel.frame_rate


@torch.no_grad()
def accuracy(
    model: LookAheadModel, bank: Bank, labels: ContentLabels, seconds: float = 60.0
) -> list[dict[str, float]]:
    """Accuracy and cross-entropy (nats) by look-ahead on clean speech, at most `seconds` of each speaker."""
    log_mel, frame = LogMel(model.config.mel).to(bank.samples.device), 2 * bank.hop_length
    units, phones = labels.units.int().to(bank.samples.device), bank.phones
    units = units.where(units != UNKNOWN, -1)
    totals = torch.zeros(len(model.alignments), 2, 3, dtype=torch.float64)  # correct, loss, count
    borders = bank.speaker_starts.tolist()
    for begin, end in pairwise(borders):
        count = min(end - begin, round(seconds * bank.sample_rate)) // frame
        wav = bank.samples[begin : begin + count * frame].float() / 32768
        predicted = model(log_mel(wav[None, None]))
        known_labels = [x[begin // frame : begin // frame + count].long()[None] for x in (units, phones)]
        for k, alignment in enumerate(model.alignments):
            for j, (found, wanted) in enumerate(zip(predicted[k], known_labels, strict=True)):
                logits, label = in_step(found, wanted, alignment.code_delay)
                known = label >= 0
                correct = (logits.argmax(1) == label)[known].sum()
                loss = F.cross_entropy(logits.float(), label, ignore_index=-1, reduction="sum")
                totals[k, j] += torch.stack([correct, loss, known.sum()]).double().cpu()
    return [
        {
            "look-ahead ms": milliseconds(alignment),
            "units": float(unit[0] / unit[2].clamp(min=1)),
            "units cross-entropy": float(unit[1] / unit[2].clamp(min=1)),
            "phones": float(phone[0] / phone[2].clamp(min=1)),
            "frames": int(unit[2]),
        }
        for alignment, (unit, phone) in zip(model.alignments, totals, strict=True)
    ]


def draw(results: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Draw accuracy by look-ahead for each test bank."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, rows in results.items():
        for kind, style in (("units", "-o"), ("phones", "--s")):
            delays = [row["look-ahead ms"] for row in rows]
            axes.plot(delays, [100 * row[kind] for row in rows], style, label=f"{kind}, {name}")
    axes.set(xlabel="look-ahead in ms", ylabel="accuracy in %")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def write_page(rows: list[dict[str, float]], page: Path) -> None:
    """Replace the table of a page, and the picture beside it. Raises VcaeError."""
    head = ["look-ahead in ms", "units", "cross-entropy of units in nats", "phones", "frames"]
    forms = (".0f", ".3f", ".2f", ".3f", ".0f")
    cells = [[format(x, form) for x, form in zip(row.values(), forms, strict=True)] for row in rows]
    write_part("look-ahead", markdown([head, *cells]), page)
    draw({"unseen speakers": rows}, page.with_name("look_ahead.png"))


@dataclass(frozen=True)
class Recipe:
    """All settings; the defaults are for one CPU core with bfloat16."""

    train: Path
    """Bank of speech to train on."""
    tests: tuple[Path, ...] = ()
    """Banks to test with."""
    out: Path = Path("runs/look_ahead")
    """Folder of all that is written."""
    autoencoder: Path | None = None
    """Weights whose code is used; default: an encoder is trained."""
    start: Path | None = None
    """A content.safetensors of the same sizes whose encoder to begin with; default: random weights."""
    pseudo_labels: bool = True
    """Fill in phones where there is no text."""
    test_seconds: float = 60.0
    """Longest speech of a speaker to test with."""
    write_page: bool = False
    """Write table and picture of the first test bank to `PAGE`."""

    phones: PhoneClassifierConfig = field(default_factory=PhoneClassifierConfig)
    model: LookAheadConfig = field(default_factory=LookAheadConfig)
    stage: LookAheadStageConfig = field(default_factory=LookAheadStageConfig)
    sampler: SamplerConfig = field(
        default_factory=lambda: SamplerConfig(
            batch_size=12,
            seconds=4.0,
            reference_seconds=0.04,  # references are not used
            speeds=(1.0,),
            gain_db=(0.0, 0.0),
        )
    )
    training: TrainConfig = field(
        default_factory=lambda: TrainConfig(minutes=12, decay=0.4, warm_up=100, precision="bf16-mixed")
    )


def main(recipe: Recipe) -> None:
    """Train, then test."""
    torch.manual_seed(0)
    bank, labels = labelled(recipe.train)
    config, code = replace(recipe.model, units=len(labels.codebook.centres)), None
    if recipe.autoencoder:
        code = FrozenCode(recipe.autoencoder)
        config = replace(config, mel=code.mel, delays=(code.delay,))
    model = LookAheadModel(config, code)
    if recipe.start and code is None:
        model.start_from(load(recipe.start, ContentStudent, ContentStudentConfig))
    phones = bank.phones.cpu()
    if recipe.pseudo_labels and (phones >= 0).any():
        phones = pseudo_labels(fit_phones(labels, phones, recipe.phones), labels, phones)
    no_embeddings = torch.zeros(len(bank.speaker_names), 1, 1)
    sampler = ContentSampler(bank, recipe.sampler, labels, no_embeddings, phones)
    stage = LookAheadStage(model, sampler, recipe.stage)
    trainer = Trainer(stage, recipe.out, recipe.training, run=describe(recipe))
    trainer.run()
    stage.eval()
    results = {}
    with trainer.ema.applied():
        for path in track(recipe.tests, "Tests"):
            results[path.stem] = accuracy(model, *labelled(path), recipe.test_seconds)
    for name, rows in results.items():
        show([[name, *rows[0]], *(["", *(f"{x:.4g}" for x in row.values())] for row in rows)])
    (recipe.out / "look_ahead.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    draw(results, recipe.out / "look_ahead.png")
    if recipe.write_page:
        write_page(next(iter(results.values())), PAGE)


def labelled(path: Path) -> tuple[Bank, ContentLabels]:
    """A bank and its labels. Raises TensorFileError, and VcaeError for labels of another bank."""
    bank = Bank.load(path).to(fabric_of().device)
    return bank, ContentLabels.load(path.with_name(f"content-{path.stem}.safetensors"), bank)


def describe(recipe: Recipe) -> Run:
    """What the trainer cannot know of this run."""
    names = ("train", "autoencoder", "start", "pseudo_labels", "phones")
    settings: dict[str, Any] = {"name": "look_ahead", **{name: getattr(recipe, name) for name in names}}
    before = recipe.autoencoder or recipe.start
    return Run(settings, phases_of(before) if before else [])


if __name__ == "__main__":
    with in_one_line():
        main(tyro.cli(Recipe, description=__doc__))
