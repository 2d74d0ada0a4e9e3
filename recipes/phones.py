"""Make the content code readable: train the phone codec of a model, and compare it with learning from text.

    python recipes/phones.py --train runs/bundled/train-KEY.bank \
        --validation runs/bundled/validation-KEY.bank --corpora ~/corpora --write-page

The banks are those that `recipes/bundled.py` writes; their phones are the labels. `phones.safetensors` in
`--out` is for the folder of the model. With `--corpora`, which holds LibriSpeech's test-other, everything is
measured on readers whom nothing was trained on, and `--write-page` writes `recipes/PHONES.md`.
"""

import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import tyro
from torch import Tensor, nn
from torch.nn import functional as F

from vcae.audio import Audio
from vcae.cli.console import in_one_line, show, track
from vcae.corpora import Utterance, read_corpora
from vcae.corpora.phones import words_of
from vcae.errors import VcaeError
from vcae.files import load_tensors, replacing, save_tensors
from vcae.inference.checkpoint import fingerprint, load, model_files, save
from vcae.inference.converter import Converter
from vcae.inference.converter import load as load_converter
from vcae.inference.transcriber import Transcriber, phones_of, spoken_frames
from vcae.model.autoencoder import Autoencoder
from vcae.model.mel import LogMel
from vcae.model.phones import PHONES, SILENCE, Phone, PhoneCodec, PhoneConfig
from vcae.training.data import Bank
from vcae.training.losses import known_cross_entropy
from vcae.training.teachers.clusters import assign, k_means

SIL = PHONES.index(SILENCE)
Sequences = list[list[int]]
"""Phones of utterances, without pauses and times."""


@dataclass(frozen=True)
class TrainingConfig:
    """Training of one of the networks."""

    steps: int = 2000
    batch_size: int = 32
    frames: int = 200
    """Frames of a crop."""
    learning_rate: float = 2e-3
    seed: int = 0


@dataclass(frozen=True)
class UnpairedConfig:
    """Learning phones from text that nobody reads in the audio."""

    steps: int = 1500
    batch_size: int = 64
    clusters: int = 64
    """A segment ends where the cluster of the code changes."""
    segments: int = 60
    """Segments of a crop, and phones of a crop of text."""
    width: int = 256
    """Channels of the discriminator."""
    learning_rate: float = 4e-4
    gradient_penalty: float = 1.5
    smoothness: float = 0.5
    diversity: float = 3.0
    silence: float = 0.25
    """Probability of a pause between two words of the text."""
    seed: int = 0


@dataclass(frozen=True)
class Recipe:
    """All settings; the defaults are for an hour of one CPU core."""

    train: Path
    """Bank of speech with phones."""
    validation: Path
    """Bank of other speakers."""
    corpora: Path | None = None
    """Folder of corpora with LibriSpeech's test-other."""
    model: str = "studio"
    """The model whose code is read."""
    out: Path = Path("runs/phones")
    """Folder of codes and product."""
    write_page: bool = False
    """Write recipes/PHONES.md."""
    edits: int = 40
    """Test recordings of which a phone is changed."""

    codec: PhoneConfig = field(default_factory=PhoneConfig)
    reader: TrainingConfig = field(default_factory=TrainingConfig)
    writer: TrainingConfig = field(default_factory=TrainingConfig)
    unpaired: UnpairedConfig = field(default_factory=UnpairedConfig)
    edited: float = 0.1
    """Weight of the loss that an edited code must be read as it was edited."""


@dataclass
class Codes:
    """The code of a bank, F frames at its half frame rate.

    z: (F, D), content. prosody: (F, 2), voicing and log-energy. phones: (F,), -1 where unknown. starts:
    (U + 1,), first frame of each utterance.
    """

    z: Tensor
    prosody: Tensor
    phones: Tensor
    starts: Tensor

    @property
    def utterances(self) -> list[slice]:
        """The frames of each utterance."""
        return [slice(a, b) for a, b in pairwise(self.starts.tolist())]

    def crops(self, config: TrainingConfig) -> tuple[Tensor, Tensor, Tensor]:
        """Random crops: z (B, D, T), prosody (B, 2, T), phones (B, T)."""
        start = torch.randint(len(self.z) - config.frames, (config.batch_size, 1))
        at = start + torch.arange(config.frames)
        return self.z[at].float().mT, self.prosody[at].float().mT, self.phones[at].long()


@torch.no_grad()
def encode(bank: Bank, autoencoder: Autoencoder, path: Path) -> Codes:
    """The codes of a bank, read from `path`, or computed and written."""
    key = {"data": bank.fingerprint, "content": fingerprint(autoencoder.content, autoencoder.prosody)}
    if path.exists():
        tensors, about = load_tensors(path)
        if about != key:
            raise VcaeError(f"{path}: is of another bank or model; move it away to make a new one")
        return Codes(**tensors, phones=bank.phones)
    log_mel, alignment = LogMel(autoencoder.config.mel), autoencoder.alignment
    z, prosody = [], []
    for begin, end in track(list(pairwise(bank.starts.tolist())), f"Codes of {path.stem}"):
        wav = bank.samples[begin:end].float()[None, None] / 32768
        frames, late = alignment.describing(end - begin)
        with torch.autocast("cpu", torch.bfloat16):
            code, track_ = autoencoder.encode(log_mel(F.pad(wav, (0, alignment.padding(end - begin)))))
        z.append(code.z[0, :, frames].half().T)
        prosody.append(track_[0, 1:, late].float().unflatten(-1, (-1, alignment.stride)).mean(-1).half().T)
    tensors = {"z": torch.cat(z), "prosody": torch.cat(prosody), "starts": bank.starts // alignment.step}
    save_tensors(path, tensors, key)
    return Codes(**tensors, phones=bank.phones)


# (a) With labels


def train(network: nn.Module, loss_of: Callable[[], Tensor], config: TrainingConfig, name: str) -> None:
    """Minimise a loss over the parameters of a network."""
    torch.manual_seed(config.seed)
    network.train()
    optimiser = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.learning_rate, config.steps, pct_start=0.1
    )
    for _ in track(range(config.steps), name):
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    network.eval()


def train_reader(codec: PhoneCodec, codes: Codes, config: TrainingConfig) -> None:
    """Phones from the code, to which noise is added."""
    late = codec.config.delay

    def loss() -> Tensor:
        z, _, phones = codes.crops(config)
        logits = codec.reader(z + 0.2 * torch.randn_like(z))[..., late:]
        return known_cross_entropy(logits.float(), phones[:, : logits.shape[-1]])

    train(codec.reader, loss, config, "Reader")


def train_writer(codec: PhoneCodec, codes: Codes, config: TrainingConfig, edited: float) -> None:
    """The code from phones, such that an edited code is read as it was edited."""
    late = codec.config.delay
    codec.reader.requires_grad_(False)

    def loss() -> Tensor:
        z, prosody, phones = codes.crops(config)
        written = codec.writer(phones)
        mse = F.mse_loss(written, torch.cat([z, prosody], dim=1))
        other = edit(phones)
        moved = z + codec.writer(other)[:, :-2] - written[:, :-2]
        moved = moved * torch.rsqrt(moved.square().mean(1, keepdim=True) + 1e-5)
        logits = codec.reader(moved)[..., late:]
        return mse + edited * known_cross_entropy(logits.float(), other[:, : logits.shape[-1]])

    train(codec.writer, loss, config, "Writer")
    codec.reader.requires_grad_(True)


def edit(phones: Tensor, share: float = 0.15) -> Tensor:
    """Replace a share of the phones, not pauses, by others: (B, T) -> (B, T)."""
    borders = F.pad(phones[:, 1:] != phones[:, :-1], (1, 0))
    run = borders.cumsum(1)
    others = torch.randint(1, len(PHONES), phones.shape).gather(1, run)
    chosen = (torch.rand(phones.shape) < share).gather(1, run)
    return others.where(chosen & (phones > SIL), phones)


def learn_transitions(codec: PhoneCodec, codes: Codes) -> None:
    """Log-probabilities of transitions from the labels, one added to each count."""
    counts, starts = torch.ones(len(PHONES), len(PHONES)), torch.ones(len(PHONES))
    for frames in codes.utterances:
        phones = codes.phones[frames].long()
        pairs = torch.stack([phones[:-1], phones[1:]])
        counts.index_put_(tuple(pairs[:, (pairs >= 0).all(0)]), torch.ones(()), accumulate=True)
        if len(phones) and phones[0] >= 0:
            starts[phones[0]] += 1
    codec.transitions.copy_((counts / counts.sum(1, keepdim=True)).log())
    codec.start.copy_((starts / starts.sum()).log())


@torch.no_grad()
def read_codes(codec: PhoneCodec, z: Tensor) -> list[int]:
    """Index of the phone of each frame: (T, D) -> T."""
    late = codec.config.delay
    x = F.pad(z.float().T[None], (0, late), mode="replicate")
    viterbi = codec.viterbi()
    return viterbi.feed(codec.reader(x)[0, :, late:].log_softmax(0)) + viterbi.flush()


def spoken(frames: Iterable[int]) -> list[int]:
    """Phones in order, without pauses."""
    return [phone for phone, _ in groupby(frames) if phone != SIL]


# (b) Without labels


class Generator(nn.Module):
    """Mean codes of segments (B, D, S) -> logits of phones (B, phones, S)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.BatchNorm1d(dim), nn.Conv1d(dim, len(PHONES), 5, padding=2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, S) -> (B, phones, S)."""
        logits: Tensor = self.layers(x)
        return logits


def discriminator(width: int) -> nn.Module:
    """One-hot phones (B, phones, S) -> logits (B, 1, S) that they are of text."""
    return nn.Sequential(
        nn.Conv1d(len(PHONES), width, 7, padding=3),
        nn.GELU(),
        nn.Conv1d(width, width, 7, padding=3),
        nn.GELU(),
        nn.Conv1d(width, 1, 3, padding=1),
    )


def segments_of(z: Tensor, centres: Tensor) -> Tensor:
    """Means of the code between changes of its cluster: (T, D) -> (S, D)."""
    cluster = assign(z.float(), centres)
    run = F.pad((cluster[1:] != cluster[:-1]).long(), (1, 0)).cumsum(0)
    sums = torch.zeros(int(run[-1]) + 1, z.shape[1]).index_add_(0, run, z.float())
    return sums / run.bincount()[:, None]


def merged(one_hot: Tensor) -> Tensor:
    """Drop repetitions of a phone and fill up with pauses: (B, phones, S) -> (B, phones, S)."""
    ids = one_hot.argmax(1)
    keep = F.pad(ids[:, 1:] != ids[:, :-1], (1, 0), value=True)
    order = (~keep).long().argsort(dim=1, stable=True)  # kept ones first
    sorted_ = one_hot.gather(2, order[:, None].expand_as(one_hot))
    pause = F.one_hot(torch.tensor(SIL), len(PHONES)).to(one_hot.dtype)[:, None]
    return sorted_.where(keep.gather(1, order)[:, None], pause)


class Unpaired(NamedTuple):
    """What was learned without labels."""

    generator: Generator
    centres: Tensor

    @torch.no_grad()
    def read(self, z: Tensor) -> list[int]:
        """Phones of a code in order, without pauses: (T, D)."""
        return spoken(self.generator(segments_of(z, self.centres).T[None])[0].argmax(0).tolist())


def train_unpaired(
    codes: Sequence[Tensor], texts: Sequence[list[list[int]]], config: UnpairedConfig
) -> Unpaired:
    """Phones whose sequences a discriminator takes for those of text (wav2vec-U, Baevski et al., 2021).

    codes: (T, D) each, of speech. texts: phones of each word, of sentences that nobody reads in it. The
    generator's output is one-hot, and gradients pass by the straight-through estimator.
    """
    c = config
    torch.manual_seed(c.seed)
    rng = random.Random(c.seed)  # noqa: S311 -- reproducible, not secret
    frames = torch.cat([z.float() for z in codes])
    centres = k_means(frames[torch.randperm(len(frames))[:20_000]], c.clusters, 20, c.seed)
    speech = torch.cat([segments_of(z, centres) for z in codes if len(z)])
    phones: list[int] = []
    for words in texts:
        phones.append(SIL)
        for word in words:
            phones += word + [SIL] * (rng.random() < c.silence)
    text = torch.tensor([phone for phone, _ in groupby(phones)])
    generator, critic = Generator(speech.shape[1]), discriminator(c.width)
    on_generator = torch.optim.Adam(generator.parameters(), c.learning_rate, betas=(0.5, 0.98))
    on_critic = torch.optim.Adam(critic.parameters(), c.learning_rate, betas=(0.5, 0.98), weight_decay=1e-4)

    def crops(x: Tensor) -> Tensor:
        return x[torch.randint(len(x) - c.segments, (c.batch_size, 1)) + torch.arange(c.segments)]

    def generated() -> tuple[Tensor, Tensor]:
        soft = generator(crops(speech).mT).softmax(1)
        hard = F.one_hot(soft.argmax(1), len(PHONES)).mT.to(soft.dtype)
        return soft, merged(hard + soft - soft.detach())

    for step in track(range(c.steps), "Unpaired"):
        soft, fake = generated()
        if step % 2:
            mean = soft.mean((0, 2))
            diversity = (mean * (mean + 1e-9).log()).sum()
            smoothness = (soft[..., 1:] - soft[..., :-1]).square().sum(1).mean()
            loss = F.softplus(-critic(fake)).mean() + c.diversity * diversity + c.smoothness * smoothness
            on_generator.zero_grad()
            loss.backward()
            on_generator.step()
        else:
            real, fake = F.one_hot(crops(text), len(PHONES)).mT.float(), fake.detach()
            mix = real.lerp(fake, torch.rand(len(real), 1, 1)).requires_grad_()
            (slope,) = torch.autograd.grad(critic(mix).mean(2).sum(), mix, create_graph=True)
            penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
            loss = F.softplus(-critic(real)).mean() + F.softplus(critic(fake)).mean()
            on_critic.zero_grad()
            (loss + c.gradient_penalty * penalty).backward()
            on_critic.step()
    return Unpaired(generator.eval(), centres)


# Measurement


@cache
def dictionary() -> dict[str, list[list[int]]]:
    """The pronunciations of words in CMUdict, which PocketSphinx carries."""
    from pocketsphinx import get_model_path

    found = defaultdict(list)
    for line in Path(get_model_path("en-us/cmudict-en-us.dict")).read_text(encoding="utf-8").splitlines():
        word, *sounds = line.split()
        found[re.sub(r"\(\d+\)$", "", word)].append([PHONES.index(sound) for sound in sounds])
    return dict(found)


def pronunciations(text: str) -> list[list[list[int]]] | None:
    """All pronunciations of each word; None where a word is not in the dictionary."""
    words = [dictionary().get(word) or dictionary().get(word.strip("'")) for word in words_of(text)]
    return None if not words or None in words else [word for word in words if word]


class Errors(NamedTuple):
    """Phone errors, and phones in the reference."""

    count: int
    length: int


def errors(found: Sequence[int], words: Sequence[Sequence[Sequence[int]]]) -> Errors:
    """Fewest insertions, deletions and substitutions, over all pronunciations of each word."""
    row = [(i, 0) for i in range(len(found) + 1)]  # errors, length of the reference
    for word in words:
        ends = []
        for pronunciation in word:
            at = row
            for phone in pronunciation:
                new = [(at[0][0] + 1, at[0][1] + 1)]
                for i, each in enumerate(found):
                    through = at[i][0] + (each != phone), at[i][1] + 1
                    deleted = at[i + 1][0] + 1, at[i + 1][1] + 1
                    inserted = new[i][0] + 1, new[i][1]
                    new.append(min(through, deleted, inserted))
                at = new
            ends.append(at)
        row = [min(options) for options in zip(*ends, strict=True)]
    return Errors(*row[-1])


def error_rate(found: Sequences, words: Sequence[Sequence[Sequence[Sequence[int]]]]) -> float:
    """Phone error rate over utterances."""
    counts = [errors(*pair) for pair in zip(found, words, strict=True)]
    return sum(e.count for e in counts) / max(1, sum(e.length for e in counts))


def baselines(lengths: Sequence[int], frequencies: Tensor, seed: int = 0) -> dict[str, Sequences]:
    """What needs no code: the most frequent phone, and random phones by frequency, as many as there are."""
    rng = np.random.default_rng(seed)
    p = frequencies.double().numpy().copy()
    p[SIL] = 0
    p /= p.sum()
    return {
        "most frequent phone": [[int(p.argmax())] * n for n in lengths],
        "random phones": [rng.choice(len(p), n, p=p).tolist() for n in lengths],
    }


def tests(corpora: Path) -> list[Utterance]:
    """Utterances of LibriSpeech's test-other whose words are all in the dictionary."""
    return [
        u
        for u in read_corpora(corpora)
        if u.corpus == "librispeech" and u.held_out == "test" and u.text and pronunciations(u.text)
    ]


def measure_edits(
    transcriber: Transcriber, utterances: Sequence[Utterance], seed: int = 0
) -> tuple[float, float, float]:
    """Change a phone of each recording, speak it and transcribe that.

    Returns how often the new phone is read in its place, how often the old one is read there when nothing is
    changed, and the phone error rate of the other phones against the same.
    """
    rng = random.Random(seed)  # noqa: S311 -- reproducible, not secret
    hits, kept, count, counts = 0, 0, 0, []
    for utterance in track(utterances, "Edits"):
        phones = transcriber.transcribe(utterance.path)
        options = [k for k, p in enumerate(phones) if p.name != SILENCE and p.end - p.start > 0.05]
        if not options:
            continue
        at = rng.choice(options)
        old, new = phones[at], rng.choice([p for p in PHONES[1:] if p != phones[at].name])
        edited = [*phones[:at], old._replace(name=new), *phones[at + 1 :]]
        once, again = (transcriber.transcribe(transcriber.speak(utterance.path, x)) for x in (edited, phones))
        middle = (old.start + old.end) / 2
        hits += name_at(once, middle) == new
        kept += name_at(again, middle) == old.name
        rest = [
            [PHONES.index(p.name) for p in x if p.name != SILENCE and not near(p, old)] for x in (once, again)
        ]
        counts.append(errors(rest[0], [[rest[1]]]))
        count += 1
    return hits / count, kept / count, sum(e.count for e in counts) / sum(e.length for e in counts)


def name_at(phones: Sequence[Phone], time: float) -> str:
    """The phone at a time."""
    return next((p.name for p in phones if p.start <= time < p.end), SILENCE)


def near(phone: Phone, other: Phone) -> bool:
    """Whether two phones overlap."""
    return phone.start < other.end and other.start < phone.end


def main(recipe: Recipe) -> None:
    """Train, write the codec, and measure."""
    torch.manual_seed(0)
    recipe.out.mkdir(parents=True, exist_ok=True)
    converter = load_converter(recipe.model)
    autoencoder = converter.autoencoder
    autoencoder.prosody.float()
    banks = [Bank.load(path) for path in (recipe.train, recipe.validation)]
    paths = [recipe.out / f"codes-{path.stem}.safetensors" for path in (recipe.train, recipe.validation)]
    codes, others = (encode(bank, autoencoder, path) for bank, path in zip(banks, paths, strict=True))
    autoencoder.prosody.double()

    config = replace(
        recipe.codec,
        mel=autoencoder.config.mel,
        dim=autoencoder.config.content_dim,
        content=fingerprint(autoencoder.content),
    )
    codec = PhoneCodec(config)
    learn_transitions(codec, codes)
    train_reader(codec, codes, recipe.reader)
    train_writer(codec, codes, recipe.writer, recipe.edited)
    labelled = [s for s in others.utterances if (others.phones[s] >= 0).all()]
    truth: list[list[list[list[int]]]] = [[[spoken(others.phones[s].tolist())]] for s in labelled]
    by_weight = {}
    for weight in (0.25, 0.5, 1.0):
        codec.config = replace(config, transition_weight=weight)
        by_weight[weight] = error_rate([read_codes(codec, others.z[s]) for s in labelled], truth)
    print({weight: f"{rate:.3f}" for weight, rate in by_weight.items()})
    codec.config = replace(config, transition_weight=min(by_weight, key=lambda w: by_weight[w]))
    path = recipe.out / "phones.safetensors"
    save(path, codec, {"data": banks[0].fingerprint, "hours": banks[0].hours, "model": recipe.model})


if __name__ == "__main__":
    with in_one_line():
        main(tyro.cli(Recipe, description=__doc__))
