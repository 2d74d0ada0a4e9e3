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

from vcae.cli.console import in_one_line, show, track
from vcae.corpora import Utterance, read_corpora
from vcae.corpora.phones import words_of
from vcae.errors import VcaeError
from vcae.files import load_tensors, replacing, save_tensors
from vcae.inference.checkpoint import fingerprint, load, save
from vcae.inference.converter import load as load_converter
from vcae.inference.transcriber import Transcriber
from vcae.model.autoencoder import Autoencoder
from vcae.model.mel import LogMel
from vcae.model.phones import PHONES, SILENCE, Phone, PhoneCodec, PhoneConfig
from vcae.training.data import Bank
from vcae.training.losses import known_cross_entropy

SIL = PHONES.index(SILENCE)
Sequences = list[list[int]]
"""Phones of utterances, without pauses and times."""


@dataclass(frozen=True)
class TrainingConfig:
    """Training of one of the networks."""

    steps: int = 1000
    batch_size: int = 16
    frames: int = 200
    """Frames of a crop."""
    learning_rate: float = 2e-3
    seed: int = 0


@dataclass(frozen=True)
class UnpairedConfig:
    """Learning phones from text that nobody reads in the audio."""

    steps: int = 2000
    """Half of them of the discriminator."""
    batch_size: int = 32
    segments: int = 60
    """Segments of a crop, and phones of a crop of text."""
    width: int = 96
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
    """All settings; the defaults are for ten minutes of one CPU core."""

    train: Path
    """Bank of speech with phones."""
    validation: Path
    """Bank of other speakers."""
    corpora: Path | None = None
    """Folder of corpora with LibriSpeech's test-other."""
    transcripts: Path | None = None
    """Folder of NAME.tsv with transcripts."""
    model: str = "studio"
    """The model whose code is read."""
    out: Path = Path("runs/phones")
    """Folder of codes and product."""
    write_page: bool = False
    """Write recipes/PHONES.md."""
    transition_weights: tuple[float, ...] = (0.5, 1.0, 1.5)
    """Weights of the transitions, of which the best for the validation bank is taken."""
    edits: int = 30
    """Test recordings of which a phone is changed."""

    codec: PhoneConfig = field(default_factory=PhoneConfig)
    reader: TrainingConfig = field(default_factory=TrainingConfig)
    writer: TrainingConfig = field(default_factory=lambda: TrainingConfig(steps=500))
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


def segments_of(z: Tensor) -> Tensor:
    """Means of the code between its fastest changes: (T, D) -> (S, D).

    A segment begins where the code changes faster than two frames before and after.
    """
    x = F.pad(z.float().T[None], (1, 1), mode="replicate")
    change = (x[..., 2:] - x[..., :-2]).square().sum(1)  # (1, T)
    run = (change == F.max_pool1d(change, 5, 1, 2))[0].long().cumsum(0)
    run = run - run[0]
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


@torch.no_grad()
def read_segments(generator: Generator, z: Tensor) -> list[int]:
    """Phones of a code in order, without pauses: (T, D)."""
    return spoken(generator(segments_of(z).T[None])[0].argmax(0).tolist())


def train_unpaired(
    codes: Sequence[Tensor], texts: Sequence[list[list[int]]], config: UnpairedConfig
) -> Generator:
    """Phones whose sequences a discriminator takes for those of text (wav2vec-U, Baevski et al., 2021).

    codes: (T, D) each, of speech. texts: phones of each word, of sentences that nobody reads in it. The
    generator's output is one-hot, and gradients pass by the straight-through estimator.
    """
    c = config
    torch.manual_seed(c.seed)
    rng = random.Random(c.seed)  # noqa: S311 -- reproducible, not secret
    speech = torch.cat([segments_of(z) for z in codes])
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
    return generator.eval()


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

    wrong: int
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
    return sum(e.wrong for e in counts) / max(1, sum(e.length for e in counts))


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


def tests(corpora: Path, transcripts: Path | None) -> list[Utterance]:
    """Utterances of LibriSpeech's test-other whose words are all in the dictionary."""
    found = read_corpora(corpora, ["librispeech"], transcripts)
    return [u for u in found if u.held_out == "test" and u.text and pronunciations(u.text)]


def measure_edits(
    transcriber: Transcriber, utterances: Sequence[Utterance], voice: Path | None, seed: int = 0
) -> dict[str, float]:
    """Change a phone of each recording at random, speak it and transcribe that, beside an unchanged one."""
    rng = random.Random(seed)  # noqa: S311 -- reproducible, not secret
    hits, kept, count, others = 0, 0, 0, Errors(0, 0)
    for utterance in track(utterances, "Edits"):
        phones = transcriber.transcribe(utterance.path)
        options = [k for k, p in enumerate(phones) if p.name != SILENCE and p.end - p.start > 0.05]
        if not options:
            continue
        at = rng.choice(options)
        old, new = phones[at], rng.choice([p for p in PHONES[1:] if p != phones[at].name])
        edited = [*phones[:at], old._replace(name=new), *phones[at + 1 :]]
        once, again = (
            transcriber.transcribe(transcriber.speak(utterance.path, x, voice)) for x in (edited, phones)
        )
        hits += new in overlapping(once, old)
        kept += old.name in overlapping(again, old)
        rest = [
            [PHONES.index(p.name) for p in x if p.name != SILENCE and not overlap(p, old)]
            for x in (once, again)
        ]
        found = errors(rest[0], [[rest[1]]])
        others = Errors(others.wrong + found.wrong, others.length + found.length)
        count += 1
    return {
        "the new phone is read": hits / count,
        "the old one is, without the change": kept / count,
        "phones elsewhere that differ": others.wrong / others.length,
    }


def overlapping(phones: Sequence[Phone], other: Phone) -> set[str]:
    """Names of the phones that overlap another."""
    return {phone.name for phone in phones if overlap(phone, other)}


def overlap(phone: Phone, other: Phone) -> bool:
    """Whether two phones overlap."""
    return phone.start < other.end and other.start < phone.end


@dataclass(frozen=True)
class Speech:
    """Codes to test with, (T, D) each, and what is said: all pronunciations of each word."""

    codes: list[Tensor]
    words: list[list[list[list[int]]]]

    @property
    def lengths(self) -> list[int]:
        """Phones in the first pronunciation of each word, by utterance."""
        return [sum(len(word[0]) for word in words) for words in self.words]

    def rate(self, read: Callable[[Tensor], list[int]]) -> float:
        """The phone error rate of a reader."""
        return error_rate([read(z) for z in self.codes], self.words)


def labelled(codes: Codes) -> Speech:
    """The utterances of which nearly all frames have a label."""
    phones = [(frames, codes.phones[frames]) for frames in codes.utterances]
    phones = [(frames, x[x >= 0]) for frames, x in phones if (x >= 0).float().mean() > 0.99]
    words = [[[spoken(x.tolist())]] for _, x in phones]
    return Speech([codes.z[frames] for frames, _ in phones], words)


def apart(bank: Bank, codes: Codes) -> tuple[list[Tensor], list[list[list[int]]]]:
    """Speech and text that nobody reads in it: codes of every other utterance, sentences of the rest."""
    heard = {bank.texts[k] for k in range(0, len(bank.ids), 2)}
    texts = sorted({text for text in bank.texts[1::2] if text and text not in heard})
    sentences = [[word[0] for word in words] for text in texts if (words := pronunciations(text))]
    return [codes.z[frames] for frames in codes.utterances[::2]], sentences


def main(recipe: Recipe) -> None:
    """Train, write the codec, and measure."""
    torch.manual_seed(recipe.reader.seed)
    recipe.out.mkdir(parents=True, exist_ok=True)
    converter = load_converter(recipe.model)
    autoencoder = converter.autoencoder
    paths = (recipe.train, recipe.validation)
    banks = [Bank.load(path) for path in paths]
    autoencoder.prosody.float()
    codes, others = (
        encode(bank, autoencoder, recipe.out / f"codes-{path.stem}.safetensors")
        for bank, path in zip(banks, paths, strict=True)
    )
    autoencoder.prosody.double()
    config = replace(
        recipe.codec,
        mel=autoencoder.config.mel,
        dim=autoencoder.config.content_dim,
        content=fingerprint(autoencoder.content),
    )
    sets = {"validation": labelled(others)}
    path = recipe.out / "phones.safetensors"
    if not path.exists():
        codec = PhoneCodec(config)
        learn_transitions(codec, codes)
        train_reader(codec, codes, recipe.reader)
        train_writer(codec, codes, recipe.writer, recipe.edited)
        rates = {}
        for weight in recipe.transition_weights:
            codec.config = replace(config, transition_weight=weight)
            rates[weight] = sets["validation"].rate(lambda z: spoken(read_codes(codec, z)))
        codec.config = replace(config, transition_weight=min(rates, key=lambda weight: rates[weight]))
        save(path, codec, {"data": banks[0].fingerprint, "hours": banks[0].hours, "model": recipe.model})
    codec = load(path, PhoneCodec, PhoneConfig)
    transcriber = Transcriber(converter, codec)
    generator = train_unpaired(*apart(banks[0], codes), recipe.unpaired)
    utterances = tests(recipe.corpora, recipe.transcripts) if recipe.corpora else []
    if utterances:
        found = [converter.content(u.path).z.T for u in track(utterances, "Codes of test-other")]
        sets["test-other"] = Speech(found, [pronunciations(u.text or "") or [] for u in utterances])

    frequencies = codes.phones[codes.phones >= 0].long().bincount(minlength=len(PHONES))
    readers: dict[str, Callable[[Tensor], list[int]]] = {
        "(a) labels": lambda z: spoken(read_codes(codec, z)),
        "(a) labels, each frame by itself": lambda z: spoken(frame_by_frame(codec, z)),
        "(b) unpaired text": lambda z: read_segments(generator, z),
    }
    rows = [["", *sets]]
    for name, read in readers.items():
        rows.append([name, *(f"{100 * speech.rate(read):.1f} %" for speech in sets.values())])
    simple = [baselines(speech.lengths, frequencies) for speech in sets.values()]
    for name in simple[0]:
        rates_ = (error_rate(x[name], y.words) for x, y in zip(simple, sets.values(), strict=True))
        rows.append([name, *(f"{100 * rate:.1f} %" for rate in rates_)])
    show(rows)
    short = sorted(utterances, key=lambda u: u.path.stat().st_size)[: recipe.edits]
    other = next((u.path for u in utterances[::-1] if u.speaker != utterances[0].speaker), None)
    edits = [measure_edits(transcriber, short, voice) for voice in (None, other) if short]
    edit_rows = [["", "in the own voice", "in another voice"]]
    edit_rows += (
        [[name, *(f"{100 * each[name]:.0f} %" for each in edits)] for name in edits[0]] if edits else []
    )
    show(edit_rows)
    if recipe.write_page:
        counts = {name: len(speech.codes) for name, speech in sets.items()}
        page = PAGE.format(
            hours=banks[0].hours,
            people=len(banks[0].speaker_names),
            counts=", ".join(f"{count} of {name}" for name, count in counts.items()),
            rates=markdown(rows),
            edits=markdown(edit_rows),
            edited=len(short),
            example=" ".join(p.name for p in transcriber.transcribe(utterances[0].path))
            if utterances
            else "",
            text=utterances[0].text if utterances else "",
        )
        with replacing(Path(__file__).with_name("PHONES.md")) as unfinished:
            unfinished.write_text(page, encoding="utf-8")


@torch.no_grad()
def frame_by_frame(codec: PhoneCodec, z: Tensor) -> list[int]:
    """The most likely phone of each frame: (T, D) -> T."""
    late = codec.config.delay
    x = F.pad(z.float().T[None], (0, late), mode="replicate")
    return codec.reader(x)[0, :, late:].argmax(0).tolist()


def markdown(rows: list[list[str]]) -> str:
    """A table, whose first row is the header."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


PAGE = """# A readable code

Phones read from the content code of the bundled model `studio`. `python recipes/phones.py --corpora FOLDER
--write-page` with the banks of the training wrote this page.

Phone error rate: insertions, deletions and substitutions, by phones of the reference; pauses do not count.
The reference of test-other is CMUdict's pronunciation of the text, the best fitting one of each word; its
ten readers are in no training data. That of validation is an alignment of the text; most of its speakers
are learners of English. Utterances: {counts}.

{rates}

(a) A network of two ConvNeXt blocks reads the code, trained on {hours:.1f} hours of {people} speakers with
frame labels from forced alignment, where there is text. A Viterbi search with the transitions of these
labels finds the sequence. `vcae transcribe` does this.

(b) The code is cut where it changes fastest; a convolution maps the mean of each segment to a one-hot
phone; a discriminator compares their sequence with that of sentences that nobody reads in this speech, as
in wav2vec-U (Baevski et al., NeurIPS 2021), with the straight-through estimator. No label is used.

The last two rows are given the number of phones in the reference. (b) found the rhythm of phones, but hardly
their names: on the readers of test-other it is a little better than chance, on learners of English not.

## Edited phones

A random phone of each of the {edited} smallest test-other files was changed to another random one, spoken
by `vcae speak`, and transcribed again by the same reader. Phones elsewhere are compared with
those of the recording spoken with nothing changed.

{edits}

## Example

> {text}

    {example}
"""


if __name__ == "__main__":
    with in_one_line():
        main(tyro.cli(Recipe, description=__doc__))
