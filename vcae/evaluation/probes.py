"""Probes of disentanglement: what each code still tells of what it should not know, and of what it should.

A probe is a small classifier or regression, trained on some codes to tell something and asked about others
("Understanding intermediate layers using linear classifier probes", Alain and Bengio, 2016,
arXiv:1610.01644). The same probe on mels says what there was to be told. Ask about speakers whom the weights
have not seen in training. Needs the extra `eval`.
"""

import json
import random
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, balanced_accuracy_score, r2_score, roc_curve
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vcae.audio import LEVEL, Audio, is_silent, loudness, read
from vcae.corpora.phones import SILENCE, align_phones
from vcae.corpora.utterance import Utterance
from vcae.errors import AudioError, VcaeError
from vcae.evaluation.metrics.intelligibility import Intelligibility
from vcae.evaluation.metrics.similarity import SpeakerSimilarity
from vcae.files import check_output, replacing
from vcae.inference.converter import Converter
from vcae.model.prosody import F0_CEIL, F0_FLOOR

Array: TypeAlias = npt.NDArray[Any]

SPEAKERS, UTTERANCES = 20, 10
"""So many speakers are probed at most, with so many utterances each."""
ALIGNED = 30
"""So many utterances, evenly of all speakers, are asked for phones: to hear their words takes longest."""
SHORTEST = 1.0
"""Seconds; what is shorter is left out."""
PIECE = 2.5
"""Seconds, roughly, of speech that a speaker is told from."""
GLIMPSE = 0.5
"""Seconds of speech in each speaker code that is to tell phones."""
CONTEXT = range(-2, 4)
"""Mel frames that stand beside content frame t, counted from 2 t: as far ahead as the encoder hears."""
FOLDS = 5
"""Speech is dealt into so many parts at most; each is told by what was trained on the others."""
SPLITS = 3
"""To tell speakers, it is dealt so many times, and accuracies are averaged."""


class ProbeError(VcaeError):
    """Speech that cannot be probed. One line that says what is missing."""


@dataclass(frozen=True)
class Probe:
    """How well something is told from a code and from the mel: an accuracy in [0, 1], or R2, at most 1."""

    code: float
    mel: float
    chance: float
    """What is reached without looking."""
    share: float | None = field(init=False)
    """What the code tells of what the mel tells: 0 nothing, 1 as much; None where the mel tells nothing."""

    def __post_init__(self) -> None:
        told = (self.code - self.chance) / (self.mel - self.chance) if self.mel > self.chance else None
        object.__setattr__(self, "share", told)


@dataclass(frozen=True)
class Verification:
    """Whether two utterances are of one speaker, told by the cosine of their embeddings, over all pairs."""

    eer: float
    """Equal error rate: 0 tells all apart, 0.5 guesses."""
    edges: list[float]
    """Of the bins in which cosines are counted, from -1 to 1."""
    same: list[int]
    """Pairs of one speaker, by cosine."""
    different: list[int]
    """Pairs of two speakers, by cosine."""


@dataclass(frozen=True)
class Probes:
    """What the codes tell. Leakage is the `share` of a probe that should tell nothing."""

    speaker_linear: Probe
    """The speaker from content codes, by logistic regression; should tell nothing."""
    speaker_nonlinear: Probe
    """The same by a network with one hidden layer."""
    melody: Probe
    """How log-F0 moves about its mean in an utterance, from content codes; should tell nothing."""
    f0: Probe
    """Log-F0 as it is, from content codes; should tell nothing."""
    phones_from_content: Probe | None
    """Should tell as much as the mel, or more; None where `without_phones` says why."""
    phones_from_speaker: Probe | None
    """From speaker codes of half a second; should tell nothing."""
    speaker_code: Verification
    resemblyzer: Verification
    speakers: int
    utterances: int
    seconds: float
    aligned: int
    """Utterances whose phones are known."""
    without_phones: str | None
    left_out: list[str]
    """A line for each utterance that could not be used."""

    def write(self, path: Path) -> None:
        """Write all numbers as JSON. Raises OutputError."""
        check_output(path, [".json"])
        with replacing(path) as unfinished:
            unfinished.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    def rows(self) -> list[list[str]]:
        """A head, and a row for each probe."""
        rows = [["told", "from", "by code", "by mel", "by chance", "share", "ideal"]]
        for told, code, probe, ideal in (
            ("speaker", "content, linear", self.speaker_linear, "0"),
            ("speaker", "content, non-linear", self.speaker_nonlinear, "0"),
            ("melody", "content", self.melody, "0"),
            ("F0", "content", self.f0, "0"),
            ("phone", "speaker code", self.phones_from_speaker, "0"),
            ("phone", "content", self.phones_from_content, "1"),
        ):
            if probe:
                numbers = (f"{n:.3f}" for n in (probe.code, probe.mel, probe.chance))
                rows.append(
                    [told, code, *numbers, "-" if probe.share is None else f"{probe.share:.2f}", ideal]
                )
        return rows

    def table(self) -> Table:
        """The numbers in plain words, for `rich` to print."""
        head, *rows = self.rows()
        table = Table(
            *head,
            title=f"{self.speakers} speakers, {self.utterances} utterances, {self.seconds:.0f} s",
            caption="\n".join(self.notes()),
            caption_justify="left",
        )
        for row in rows:
            table.add_row(*row)
        return table

    def notes(self) -> list[str]:
        """What the numbers mean, and the equal error rates."""
        phones = f"{self.aligned} utterances, pauses left out"
        ours, theirs = self.speaker_code.eer, self.resemblyzer.eer
        return [
            "share: 0 is perfect hiding, 1 as much as the mel tells.",
            f"speaker: accuracy on {PIECE:g} s or so; by chance is without looking.",
            "melody, F0: R2 of log-F0, less its mean in the utterance or as it is.",
            f"phone: accuracy on frames; {self.without_phones or phones}.",
            f"Two utterances, one speaker or two? By speaker code {ours:.1%} wrong,",
            f"by Resemblyzer {theirs:.1%} (equal error rate: 0 % is perfect, 50 % a guess).",
        ]


def probe(utterances: Sequence[Utterance], converter: Converter, seed: int = 0) -> Probes:
    """Probe a converter's codes with utterances of two or more speakers, two or more of each.

    Of more than `SPEAKERS` and `UTTERANCES` some are drawn, by `seed`. What cannot be used is left out and
    told. Phones need English; for a missing text stands what Whisper hears. On one machine the same
    utterances, weights and seed give the same numbers. Raises ProbeError where there is too little speech,
    VcaeError where a package is missing.
    """
    drawn = draw(utterances, seed)
    english = [[each for each in mine if each.language == "en"] for mine in drawn]
    asked = {each for mine in english for each in mine[: ALIGNED // len(drawn)]}
    listener = _Listener(converter)
    console = Console(stderr=True)
    recordings: list[_Recording] = []
    left_out: list[str] = []
    every = [each for mine in drawn for each in mine]
    for each in track(every, "Listening", console=console, disable=not console.is_terminal, transient=True):
        try:
            recordings.append(listener.listen(each, wants_phones=each in asked))
        except AudioError as error:
            left_out.append(str(error))
    counts = Counter(each.speaker for each in recordings)
    kept = [each for each in recordings if counts[each.speaker] > 1]
    if len({each.speaker for each in kept}) < 2:
        raise ProbeError(f"{len(left_out)} of {len(every)} recordings are of no use, such as {left_out[0]}")
    with console.status("Probing") if console.is_terminal else nullcontext():
        speakers = [each.speaker for each in kept]
        content, mels = [each.content for each in kept], [each.mel for each in kept]
        stacked, f0 = [stack(mel) for mel in mels], [each.f0 for each in kept]
        linear, nonlinear = probe_speakers(content, mels, speakers, [each.pieces for each in kept], seed)
        from_content = from_speaker = without_phones = None
        try:
            phones = [each.phones for each in kept]
            glimpses, pooled = [each.glimpses for each in kept], [each.pooled for each in kept]
            from_content = probe_phones(content, stacked, phones, speakers, seed)
            from_speaker = probe_phones(glimpses, pooled, phones, speakers, seed)
        except ProbeError as error:
            without_phones = str(error)
        return Probes(
            speaker_linear=linear,
            speaker_nonlinear=nonlinear,
            melody=probe_f0(content, stacked, f0, speakers, level=False, seed=seed),
            f0=probe_f0(content, stacked, f0, speakers, level=True, seed=seed),
            phones_from_content=from_content,
            phones_from_speaker=from_speaker,
            speaker_code=verify(np.stack([each.embedding for each in kept]), speakers),
            resemblyzer=verify(np.stack([each.resemblyzer for each in kept]), speakers),
            speakers=len(set(speakers)),
            utterances=len(kept),
            seconds=sum(each.seconds for each in kept),
            aligned=sum(bool((each.phones != "").any()) for each in kept),
            without_phones=without_phones,
            left_out=sorted(left_out),
        )


def draw(utterances: Sequence[Utterance], seed: int = 0) -> list[list[Utterance]]:
    """At most `UTTERANCES` of each of at most `SPEAKERS` speakers; the order given has no influence.

    Raises ProbeError where no two speakers have two utterances each.
    """
    by_speaker: dict[str, list[Utterance]] = {}
    for each in sorted(utterances, key=lambda each: (each.speaker, each.id, each.path)):
        if each.labelled:
            by_speaker.setdefault(each.speaker, []).append(each)
    several = [mine for mine in by_speaker.values() if len(mine) > 1]
    if len(several) < 2:
        raise ProbeError(
            f"{len(several)} of {len(by_speaker)} known speakers have two recordings or more;"
            " probes need at least two who have"
        )
    chance = random.Random(seed)  # noqa: S311 -- reproducible, not secret
    speakers = chance.sample(several, min(SPEAKERS, len(several)))
    return [chance.sample(mine, min(UTTERANCES, len(mine))) for mine in speakers]


# What is probed of each utterance.


@dataclass(frozen=True)
class _Recording:
    """An utterance as the codes and the metrics have it: T frames of content, two of the mel for each."""

    speaker: str
    seconds: float
    content: Array
    """(T, D)."""
    mel: Array
    """(2 T, n_mels)."""
    f0: Array
    """(T,) in Hz, 0 where unvoiced."""
    phones: Array
    """(T,), "" in pauses and where unknown."""
    glimpses: Array
    """(T, E): the speaker code of the piece of `GLIMPSE` around each frame, NaN where it has no phone."""
    pooled: Array
    """(T, 2 n_mels): the mel of the same piece, pooled."""
    embedding: Array
    """(E,), the speaker code."""
    resemblyzer: Array
    """(256,)."""

    @property
    def pieces(self) -> int:
        """How many pieces of about `PIECE` it makes."""
        return max(1, round(self.seconds / PIECE))


class _Listener:
    """Takes an utterance apart with a converter, and with the metrics."""

    def __init__(self, converter: Converter) -> None:
        try:
            from swift_f0 import SwiftF0
        except ModuleNotFoundError:
            raise VcaeError("swift-f0 is not installed; pip install 'vcae[eval]'") from None
        self._converter = converter
        self._frame = converter.step / converter.sample_rate  # seconds of a content frame
        self._similarity = SpeakerSimilarity()
        self._pitch = SwiftF0(threads=1)

    def listen(self, utterance: Utterance, wants_phones: bool) -> _Recording:
        """Hear one utterance. Raises AudioError."""
        audio = read(utterance.path, self._converter.sample_rate)
        if audio.duration < SHORTEST or is_silent(audio.samples):
            raise AudioError(f"{utterance.path}: is silent or shorter than {SHORTEST:g} s; leave it out")
        content = self._converter.content(audio).z.numpy().T
        # Content frame t speaks of the samples step * t to step * (t + 1).
        times = (np.arange(len(content)) + 0.5) * self._frame
        mel = self._mel(audio)
        phones = np.full(len(content), "", dtype="<U2")
        if wants_phones:
            for phone in align_phones(audio.samples, audio.sample_rate, utterance.text or self._hear(audio)):
                if phone.name != SILENCE:
                    phones[(times >= phone.start) & (times < phone.end)] = phone.name
        glimpses, pooled = self._glimpses(audio, mel, phones)
        return _Recording(
            speaker=utterance.speaker,
            seconds=audio.duration,
            content=content,
            mel=mel,
            f0=self._f0(audio, times),
            phones=phones,
            glimpses=glimpses,
            pooled=pooled,
            embedding=self._converter.embed(audio),
            resemblyzer=np.asarray(self._similarity.extract(audio)),
        )

    @cached_property
    def _intelligibility(self) -> Intelligibility:
        return Intelligibility()

    def _hear(self, audio: Audio) -> str:
        return self._intelligibility.extract(audio)

    @torch.inference_mode()
    def _mel(self, audio: Audio) -> Array:
        """(2 T, n_mels), at the level that the encoders hear."""
        gain = 10 ** ((LEVEL - loudness(audio.samples, audio.sample_rate)) / 20)
        whole = np.pad(audio.samples, (0, -len(audio.samples) % self._converter.step)) * np.float32(gain)
        wav = torch.from_numpy(whole)[None, None].to(self._converter.device)
        mel: Array = self._converter.log_mel(wav)[0].T.cpu().numpy()
        return mel[: len(whole) * 2 // self._converter.step]

    def _f0(self, audio: Audio, times: Array) -> Array:
        """F0 in Hz at some times in seconds, 0 where unvoiced; by SwiftF0."""
        found = self._pitch.detect(audio.samples, audio.sample_rate, F0_FLOOR, F0_CEIL)
        nearest = np.searchsorted((found.timestamps[1:] + found.timestamps[:-1]) / 2, times)
        return np.where(found.confidence >= 0.5, found.pitch_hz, 0)[nearest]

    def _glimpses(self, audio: Audio, mel: Array, phones: Array) -> tuple[Array, Array]:
        """Speaker code and pooled mel of every piece with a phone in it, for each of its frames."""
        size = round(GLIMPSE / self._frame)
        codes = np.full((len(mel) // 2, self._converter.autoencoder.config.speaker_dim), np.nan, np.float32)
        pooled = np.full((len(codes), 2 * mel.shape[1]), np.nan, np.float32)
        for start in range(0, len(codes) - size + 1, size):
            frames = slice(start, start + size)
            samples = audio.samples[start * self._converter.step : frames.stop * self._converter.step]
            if (phones[frames] != "").any() and not is_silent(samples):
                codes[frames] = self._converter.embed(Audio(samples, audio.sample_rate))
                pooled[frames] = pool(mel[2 * start : 2 * frames.stop])
        return codes, pooled


# The probes. Sequences hold an array for each utterance.


def probe_speakers(
    codes: Sequence[Array],
    mels: Sequence[Array],
    speakers: Sequence[str],
    pieces: Sequence[int],
    seed: int = 0,
) -> tuple[Probe, Probe]:
    """Tell the speaker from codes (T, D) and mels (T, F): by logistic regression, and with a hidden layer.

    Each utterance is cut into so many pieces, whose frames are pooled to mean and standard deviation over
    time. Utterances are dealt into parts, so that the pieces of one are never on both sides. Accuracies
    count each speaker alike; chance is one by the number of speakers.

    Content codes are probed like this for leakage by "AutoVC" (Qian et al., 2019, arXiv:1905.05879), and by
    "Unsupervised speech representation learning using WaveNet autoencoders" (Chorowski et al., 2019,
    arXiv:1901.08810).
    """
    who = np.repeat(speakers, pieces)
    deals = [np.repeat(deal(speakers, seed + k), pieces) for k in range(SPLITS)]

    def accuracy(model: Any, side: Sequence[Array]) -> float:
        pooled = [pool(p) for frames, n in zip(side, pieces, strict=True) for p in np.array_split(frames, n)]
        told = (_told(model, np.stack(pooled), who, deal) for deal in deals)
        return float(np.mean([balanced_accuracy_score(who, each) for each in told]))

    models = (
        LogisticRegression(max_iter=500),
        MLPClassifier((64,), solver="lbfgs", alpha=1.0, max_iter=200, random_state=seed),
    )
    linear, nonlinear = (
        Probe(accuracy(model, codes), accuracy(model, mels), 1 / len(set(speakers))) for model in models
    )
    return linear, nonlinear


def probe_phones(
    codes: Sequence[Array],
    mels: Sequence[Array],
    phones: Sequence[Array],
    speakers: Sequence[str],
    seed: int = 0,
) -> Probe:
    """Tell the phone (T,) of each frame from codes (T, D) and mels (T, F), by logistic regression.

    Speakers are dealt into parts: it is told of speakers on whom nothing was trained. Frames without a phone,
    "", and without a code, NaN, are left out. Of three strengths of regularisation the best counts on either
    side, as the mel has more dimensions. Chance is to name the most frequent phone. Raises ProbeError where
    the phones of fewer than two speakers are known.

    The frame classifier of "Representation Learning with Contrastive Predictive Coding" (van den Oord et al.,
    2018, arXiv:1807.03748), there within speakers.
    """
    known = [(p != "") & ~np.isnan(code).any(1) for p, code in zip(phones, codes, strict=True)]
    names = sorted({each for each, k in zip(speakers, known, strict=True) if k.any()})
    if len(names) < 2:
        raise ProbeError("the phones of fewer than two speakers are known")
    said = np.concatenate([p[k] for p, k in zip(phones, known, strict=True)])
    part_of = dict(zip(names, deal(["anyone"] * len(names), seed), strict=True))
    parts = np.repeat([part_of.get(each, 0) for each in speakers], [k.sum() for k in known])

    def accuracy(model: Any, side: Sequence[Array]) -> float:
        frames = np.concatenate([f[k] for f, k in zip(side, known, strict=True)])
        return float(accuracy_score(said, _told(model, frames, said, parts)))

    def best(side: Sequence[Array]) -> float:
        return max(
            accuracy(LogisticRegression(C=strength, max_iter=50), side) for strength in (0.001, 0.01, 0.1)
        )

    return Probe(best(codes), best(mels), accuracy(DummyClassifier(), codes))


def probe_f0(
    codes: Sequence[Array],
    mels: Sequence[Array],
    f0: Sequence[Array],
    speakers: Sequence[str],
    level: bool,
    seed: int = 0,
) -> Probe:
    """Tell log-F0 of voiced frames from codes (T, D) and mels (T, F), by ridge regression.

    f0 (T,) in Hz is 0 where unvoiced. Utterances are dealt into parts: it is told of utterances on which
    nothing was trained. Without `level`, the means of each utterance are taken from both sides, so that only
    the melody can be told, not who speaks. R2 is over all frames; chance is to name the mean of the others,
    0 or a little less. Raises ProbeError where nothing is voiced.
    """
    voiced = [each > 0 for each in f0]
    parts = np.repeat(deal(speakers, seed), [v.sum() for v in voiced])
    if len(set(parts)) < 2:
        raise ProbeError("hardly anything in these recordings is voiced; give recordings of speech")

    def voice_of(side: Sequence[Array]) -> Array:
        frames = [x[v] for x, v in zip(side, voiced, strict=True) if v.any()]
        return np.concatenate(frames if level else [x - x.mean(0) for x in frames])

    def r2(model: Any, side: Sequence[Array]) -> float:
        return float(r2_score(sung, _told(model, voice_of(side), sung, parts)))

    sung = voice_of([np.log(each.clip(1)) for each in f0])
    return Probe(r2(Ridge(100.0), codes), r2(Ridge(100.0), mels), r2(DummyRegressor(), codes))


def verify(embeddings: Array, speakers: Sequence[str]) -> Verification:
    """Tell same from different speakers by the cosines of all pairs of embeddings (n, E) of unit norm."""
    first, second = np.triu_indices(len(embeddings), 1)
    cosines = np.einsum("ij,ij->i", embeddings[first], embeddings[second])
    who = np.array(speakers)
    same, different = cosines[who[first] == who[second]], cosines[who[first] != who[second]]
    edges = np.linspace(-1, 1, 41).round(2)
    counts = [np.histogram(each.clip(-1, 1), edges)[0].tolist() for each in (same, different)]
    return Verification(equal_error_rate(same, different), edges.tolist(), *counts)


def equal_error_rate(same: Array, different: Array) -> float:
    """Where as many of the different pairs are accepted as of the same ones refused, in [0, 1].

    Scores (n,) and (m,), higher for what is more alike. Between thresholds the two rates are interpolated.
    """
    wrong, right, _ = roc_curve([1] * len(same) + [0] * len(different), np.concatenate([same, different]))
    return float(np.interp(0, wrong - (1 - right), wrong))


def deal(owners: Sequence[str], seed: int = 0) -> Array:
    """Deal items into parts, those of each owner evenly, in an order drawn by `seed`: the part of each, (n,).

    There are `FOLDS` parts, or as many as the poorest owner has items.
    """
    count = min(FOLDS, *Counter(owners).values())
    order = np.random.default_rng(seed)
    parts = np.empty(len(owners), dtype=int)
    for owner in sorted(set(owners)):
        mine = order.permutation(np.flatnonzero(np.array(owners) == owner))
        parts[mine] = np.arange(len(mine)) % count
    return parts


def pool(frames: Array) -> Array:
    """Mean and standard deviation over time: (T, F) -> (2 F,)."""
    return np.concatenate([frames.mean(0), frames.std(0)])


def stack(mel: Array) -> Array:
    """The frames of `CONTEXT` side by side at content's rate: (2 T, n_mels) -> (T, F); the ends repeat."""
    at = np.arange(0, len(mel), 2)[:, None] + np.array(CONTEXT)  # (T, context)
    return mel[at.clip(0, len(mel) - 1)].reshape(len(at), -1)  # (T, context * n_mels)


def _told(model: Any, features: Array, answers: Array, parts: Array) -> Array:
    """What a model says of each item (n, F), trained on all parts but the item's own: (n,)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # stopping early only regularises
        told: Array = cross_val_predict(
            make_pipeline(StandardScaler(), model), features, answers, cv=PredefinedSplit(parts)
        )
    return told
