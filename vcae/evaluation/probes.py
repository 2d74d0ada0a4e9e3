"""Probes of disentanglement: what information each code contains.

A probe is a small classifier or regression that is trained on codes to predict a property, and tested on
other codes ("Understanding intermediate layers using linear classifier probes", Alain and Bengio, 2016,
arXiv:1610.01644). The same probe on the mel shows how much information the input contains. Leakage is the
share of that information that remains in the code. Use speakers who were not in the training data. Needs the
extra `eval`.
"""

import json
import random
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, balanced_accuracy_score, r2_score, roc_curve
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vcae.audio import Audio, gain_to, is_silent, loudness, read
from vcae.corpora.phones import align_phones
from vcae.corpora.utterance import Utterance
from vcae.errors import AudioError, VcaeError
from vcae.evaluation.metrics.intelligibility import Intelligibility
from vcae.evaluation.metrics.similarity import SpeakerSimilarity
from vcae.files import check_output, replacing
from vcae.inference.converter import Converter
from vcae.model.phones import SILENCE
from vcae.model.prosody import F0_CEIL, F0_FLOOR
from vcae.progress import Track, untracked

Array: TypeAlias = npt.NDArray[Any]

SPEAKERS, UTTERANCES = 20, 10
"""Maximum number of speakers, and of utterances of each."""
ALIGNED = 30
"""Maximum number of utterances, evenly from all speakers, with phones: alignment is the slowest step."""
MIN_SECONDS = 1.0
"""Shorter utterances are skipped."""
SEGMENT_SECONDS = 2.5
"""Approximate length of a segment of which the speaker is classified."""
EXCERPT_SECONDS = 0.5
"""Length of the excerpts whose speaker codes are probed for phones."""
PAST_CONTEXT = 2
"""Mel frames before those of a content frame that the probe of the mel sees."""
FOLDS = 5
"""Maximum number of cross-validation folds."""
SPLITS = 3
"""Number of random assignments to folds over which speaker accuracies are averaged."""


class ProbeError(VcaeError):
    """Speech that cannot be probed. One line that says what is missing."""


@dataclass(frozen=True)
class Probe:
    """Scores of a probe on the code and on the mel: accuracy in [0, 1], or R2, at most 1."""

    code: float
    mel: float
    chance: float
    """The score of a prediction that ignores the input."""
    leakage: float | None = field(init=False)
    """(code - chance) / (mel - chance): 0 no information, 1 as much as the mel; None if the mel has none."""

    def __post_init__(self) -> None:
        leakage = (self.code - self.chance) / (self.mel - self.chance) if self.mel > self.chance else None
        object.__setattr__(self, "leakage", leakage)


@dataclass(frozen=True)
class Verification:
    """Speaker verification by the cosine of two embeddings, over all pairs of utterances."""

    eer: float
    """Equal error rate: 0 is perfect, 0.5 chance."""
    edges: list[float]
    """Edges of the cosine histograms, from -1 to 1."""
    same: list[int]
    """Histogram of the pairs of one speaker."""
    different: list[int]
    """Histogram of the pairs of two speakers."""


@dataclass(frozen=True)
class Probes:
    """The results of all probes."""

    speaker_linear: Probe
    """The speaker from content codes, by logistic regression; the target is a leakage of 0."""
    speaker_nonlinear: Probe
    """The same by a network with one hidden layer."""
    f0_contour: Probe
    """Log-F0 minus its mean in the utterance, from content codes; the target is a leakage of 0."""
    f0: Probe
    """Log-F0 from content codes; the target is a leakage of 0."""
    phones_from_content: Probe | None
    """Phones from content codes; the target is 1 or more. None for the reason in `phones_missing`."""
    phones_from_speaker: Probe | None
    """Phones from speaker codes of half a second; the target is a leakage of 0."""
    speaker_code: Verification
    resemblyzer: Verification
    speakers: int
    utterances: int
    seconds: float
    aligned: int
    """Number of utterances with phones."""
    phones_missing: str | None
    """Why there are no phone probes, or None."""
    skipped: list[str]
    """One line for each utterance that could not be used."""

    def write(self, path: Path) -> None:
        """Write all results as JSON. Raises OutputError."""
        check_output(path, [".json"])
        with replacing(path) as unfinished:
            unfinished.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    def title(self) -> str:
        """The amount of speech, for the title of a table."""
        return f"{self.speakers} speakers, {self.utterances} utterances, {self.seconds:.0f} s"

    def table(self) -> list[list[str]]:
        """A head and one row for each probe."""
        rows = [["probe", "input", "code", "mel", "chance", "leakage", "target"]]
        for name, code, probe, target in (
            ("speaker", "content, linear", self.speaker_linear, "0"),
            ("speaker", "content, non-linear", self.speaker_nonlinear, "0"),
            ("F0 contour", "content", self.f0_contour, "0"),
            ("F0", "content", self.f0, "0"),
            ("phone", "speaker code", self.phones_from_speaker, "0"),
            ("phone", "content", self.phones_from_content, "1"),
        ):
            if probe:
                scores = (f"{score:.3f}" for score in (probe.code, probe.mel, probe.chance))
                leakage = "-" if probe.leakage is None else f"{probe.leakage:.2f}"
                rows.append([name, code, *scores, leakage, target])
        return rows

    def notes(self) -> list[str]:
        """Lines that explain the table, with the equal error rates."""
        phones = self.phones_missing or f"{self.aligned} utterances, without pauses"
        return [
            "leakage: (code - chance) / (mel - chance).",
            "0: no information, 1: as much as the mel.",
            f"speaker: accuracy on segments of about {SEGMENT_SECONDS:g} s.",
            "F0 contour, F0: R2 of log-F0, without and with its mean in the utterance.",
            f"phone: accuracy on frames; {phones}.",
            f"Speaker verification, equal error rate: {self.speaker_code.eer:.1%} by speaker code,",
            f"{self.resemblyzer.eer:.1%} by Resemblyzer (0 %: perfect, 50 %: chance).",
        ]


@dataclass(frozen=True)
class UtteranceCodes:
    """Codes, mels and labels of an utterance: T content frames and 2 T mel frames."""

    speaker: str
    seconds: float
    content: Array
    """(T, D)."""
    units: Array | None
    """(T,), ids of the content codes, or None for a continuous code."""
    mel: Array
    """(2 T, n_mels)."""
    f0: Array
    """(T,) in Hz, 0 where unvoiced."""
    phones: Array
    """(T,), "" in pauses and where unknown."""
    excerpt_codes: Array
    """(T, E): the speaker code of the excerpt around each frame, NaN in excerpts without a phone."""
    excerpt_mels: Array
    """(T, 2 n_mels): the pooled mel of the same excerpt."""
    speaker_code: Array
    """(E,)."""
    resemblyzer: Array
    """(256,)."""

    @property
    def segments(self) -> int:
        """The number of segments of about `SEGMENT_SECONDS`."""
        return max(1, round(self.seconds / SEGMENT_SECONDS))


@dataclass(frozen=True)
class ProbeData:
    """What the probes are trained on."""

    utterances: list[UtteranceCodes]
    skipped: list[str]
    """One line for each utterance that could not be used."""
    look_ahead: int
    """Mel frames after its own that a content frame depends on."""


def probe(
    utterances: Sequence[Utterance], converter: Converter, seed: int = 0, track: Track = untracked
) -> Probes:
    """Probe a converter's codes with utterances of two or more speakers, two or more of each.

    The same utterances, weights and seed give the same results on one machine. See `extract_codes` and
    `train_probes`.
    """
    return train_probes(extract_codes(utterances, converter, seed, track), seed)


def extract_codes(
    utterances: Sequence[Utterance], converter: Converter, seed: int = 0, track: Track = untracked
) -> ProbeData:
    """Extract codes, mels and labels: the slow part of `probe`.

    `seed` draws at most `SPEAKERS` speakers and `UTTERANCES` utterances of each. Utterances that cannot be
    used are skipped and listed. Phones need English; Whisper transcribes utterances without text. `track`
    shows progress. Raises ProbeError where there is too little speech, VcaeError where a package is missing.
    """
    drawn = draw(utterances, seed)
    english = [[each for each in of_one if each.language == "en"] for of_one in drawn]
    to_align = {each for of_one in english for each in of_one[: ALIGNED // len(drawn)]}
    extractor = _Extractor(converter)
    extracted: list[UtteranceCodes] = []
    skipped: list[str] = []
    every = [each for of_one in drawn for each in of_one]
    for each in track(every, "Extracting codes"):
        try:
            extracted.append(extractor.extract(each, with_phones=each in to_align))
        except AudioError as error:
            skipped.append(str(error))
    counts = Counter(each.speaker for each in extracted)
    usable = [each for each in extracted if counts[each.speaker] > 1]
    if len({each.speaker for each in usable}) < 2:
        raise ProbeError(f"{len(skipped)} of {len(every)} recordings cannot be used, such as {skipped[0]}")
    return ProbeData(usable, sorted(skipped), converter.autoencoder.config.delay)


def train_probes(data: ProbeData, seed: int = 0) -> Probes:
    """Train and test all probes."""
    every = data.utterances
    speakers = [each.speaker for each in every]
    content, mels, f0 = [x.content for x in every], [x.mel for x in every], [x.f0 for x in every]
    stacked = [stack(mel, data.look_ahead) for mel in mels]
    linear, nonlinear = probe_speakers(content, mels, speakers, [each.segments for each in every], seed)
    from_content = from_speaker = phones_missing = None
    try:
        phones = [each.phones for each in every]
        codes, pooled = [each.excerpt_codes for each in every], [each.excerpt_mels for each in every]
        from_content = probe_phones(content, stacked, phones, speakers, seed)
        from_speaker = probe_phones(codes, pooled, phones, speakers, seed)
    except ProbeError as error:
        phones_missing = str(error)
    return Probes(
        speaker_linear=linear,
        speaker_nonlinear=nonlinear,
        f0_contour=probe_f0(content, stacked, f0, speakers, level=False, seed=seed),
        f0=probe_f0(content, stacked, f0, speakers, level=True, seed=seed),
        phones_from_content=from_content,
        phones_from_speaker=from_speaker,
        speaker_code=verify(np.stack([each.speaker_code for each in every]), speakers),
        resemblyzer=verify(np.stack([each.resemblyzer for each in every]), speakers),
        speakers=len(set(speakers)),
        utterances=len(every),
        seconds=sum(each.seconds for each in every),
        aligned=sum(bool((each.phones != "").any()) for each in every),
        phones_missing=phones_missing,
        skipped=data.skipped,
    )


def draw(utterances: Sequence[Utterance], seed: int = 0) -> list[list[Utterance]]:
    """Draw at most `UTTERANCES` of each of at most `SPEAKERS` speakers, regardless of the order given.

    Raises ProbeError unless two speakers have two utterances each.
    """
    by_speaker: dict[str, list[Utterance]] = {}
    for each in sorted(utterances, key=lambda each: (each.speaker, each.id, each.path)):
        if each.labelled:
            by_speaker.setdefault(each.speaker, []).append(each)
    several = [of_one for of_one in by_speaker.values() if len(of_one) > 1]
    if len(several) < 2:
        raise ProbeError(
            f"{len(several)} of {len(by_speaker)} labelled speakers have two recordings or more;"
            " probes need at least two such speakers"
        )
    rng = random.Random(seed)  # noqa: S311 -- reproducible, not secret
    speakers = rng.sample(several, min(SPEAKERS, len(several)))
    return [rng.sample(of_one, min(UTTERANCES, len(of_one))) for of_one in speakers]


# Codes, mels and labels of an utterance.


class _Extractor:
    """Extracts what is probed from utterances, with a converter and other models."""

    def __init__(self, converter: Converter) -> None:
        try:
            from swift_f0 import SwiftF0
        except ModuleNotFoundError:
            raise VcaeError("swift-f0 is not installed; pip install 'vcae[eval]'") from None
        self._converter = converter
        self._frame = converter.step / converter.sample_rate  # seconds of a content frame
        self._similarity = SpeakerSimilarity()
        self._pitch = SwiftF0(threads=1)

    def extract(self, utterance: Utterance, with_phones: bool) -> UtteranceCodes:
        """Extract codes, mels and labels of one utterance. Raises AudioError."""
        audio = read(utterance.path, self._converter.sample_rate)
        if audio.duration < MIN_SECONDS or is_silent(audio.samples):
            raise AudioError(f"{utterance.path}: is silent or shorter than {MIN_SECONDS:g} s; leave it out")
        code = self._converter.content(audio)
        content = code.z.numpy().T
        # Content frame t describes the samples step * t to step * (t + 1).
        times = (np.arange(len(content)) + 0.5) * self._frame
        mel = self._mel(audio)
        phones = np.full(len(content), "", dtype="<U2")
        if with_phones:
            text = utterance.text or self._intelligibility.extract(audio)
            for phone in align_phones(audio.samples, audio.sample_rate, text):
                if phone.name != SILENCE:
                    phones[(times >= phone.start) & (times < phone.end)] = phone.name
        excerpt_codes, excerpt_mels = self._excerpts(audio, mel, phones)
        return UtteranceCodes(
            speaker=utterance.speaker,
            seconds=audio.duration,
            content=content,
            units=None if code.ids is None else code.ids.numpy(),
            mel=mel,
            f0=self._f0(audio, times),
            phones=phones,
            excerpt_codes=excerpt_codes,
            excerpt_mels=excerpt_mels,
            speaker_code=self._converter.embed(audio),
            resemblyzer=np.asarray(self._similarity.extract(audio)),
        )

    @cached_property
    def _intelligibility(self) -> Intelligibility:
        return Intelligibility()

    @torch.inference_mode()
    def _mel(self, audio: Audio) -> Array:
        """(2 T, n_mels), at the level of the encoders' input."""
        gain = gain_to(loudness(audio.samples, audio.sample_rate))
        whole = np.pad(audio.samples, (0, -len(audio.samples) % self._converter.step)) * np.float32(gain)
        wav = torch.from_numpy(whole)[None, None].to(self._converter.device)
        mel: Array = self._converter.log_mel(wav)[0].T.cpu().numpy()
        return mel[: len(whole) * 2 // self._converter.step]

    def _f0(self, audio: Audio, times: Array) -> Array:
        """F0 in Hz by SwiftF0 at times in seconds, 0 where unvoiced."""
        found = self._pitch.detect(audio.samples, audio.sample_rate, F0_FLOOR, F0_CEIL)
        nearest = np.searchsorted((found.timestamps[1:] + found.timestamps[:-1]) / 2, times)
        return np.where(found.confidence >= 0.5, found.pitch_hz, 0)[nearest]

    def _excerpts(self, audio: Audio, mel: Array, phones: Array) -> tuple[Array, Array]:
        """Speaker code and pooled mel of each excerpt that contains a phone, repeated for its frames."""
        size = round(EXCERPT_SECONDS / self._frame)
        codes = np.full((len(mel) // 2, self._converter.autoencoder.config.speaker_dim), np.nan, np.float32)
        pooled = np.full((len(codes), 2 * mel.shape[1]), np.nan, np.float32)
        for start in range(0, len(codes) - size + 1, size):
            frames = slice(start, start + size)
            samples = audio.samples[start * self._converter.step : frames.stop * self._converter.step]
            if (phones[frames] != "").any() and not is_silent(samples):
                codes[frames] = self._converter.embed(Audio(samples, audio.sample_rate))
                pooled[frames] = pool(mel[2 * start : 2 * frames.stop])
        return codes, pooled


# The probes. A sequence holds one array for each utterance.


def probe_speakers(
    codes: Sequence[Array],
    mels: Sequence[Array],
    speakers: Sequence[str],
    segments: Sequence[int],
    seed: int = 0,
) -> tuple[Probe, Probe]:
    """Speaker leakage: classify the speaker of codes (T, D) and mels (T, F), linearly and non-linearly.

    The linear probe is logistic regression, the other a network with one hidden layer. Utterance k is cut
    into `segments[k]` segments; mean and standard deviation over time represent each. Cross-validation
    splits by utterance, so that no utterance is in both training and test set. Accuracies are balanced over
    speakers; chance is 1 / number of speakers.

    "AutoVC" (Qian et al., 2019, arXiv:1905.05879) and "Unsupervised speech representation learning using
    WaveNet autoencoders" (Chorowski et al., 2019, arXiv:1901.08810) probe content codes in the same way.
    """
    labels = np.repeat(speakers, segments)
    splits = [np.repeat(assign_folds(speakers, seed + k), segments) for k in range(SPLITS)]

    def accuracy(model: Any, inputs: Sequence[Array]) -> float:
        cut = [s for frames, n in zip(inputs, segments, strict=True) for s in np.array_split(frames, n)]
        pooled = np.stack([pool(segment) for segment in cut])
        predictions = (_predict(model, pooled, labels, folds) for folds in splits)
        return float(np.mean([balanced_accuracy_score(labels, each) for each in predictions]))

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
    """Classify the phone (T,) of each frame from codes (T, D) and from mels (T, F), by logistic regression.

    Cross-validation splits by speaker, so that test speakers are not in the training set. Frames without a
    phone ("") or without a code (NaN) are left out. Codes and mels each use the best of three regularisation
    strengths, since the mel has more dimensions. Chance is the accuracy of always predicting the most
    frequent phone. Raises ProbeError unless the phones of at least two speakers are known.

    "Representation Learning with Contrastive Predictive Coding" (van den Oord et al., 2018,
    arXiv:1807.03748) uses the same frame classifier, but within speakers.
    """
    usable = [(p != "") & ~np.isnan(code).any(1) for p, code in zip(phones, codes, strict=True)]
    names = sorted({each for each, mask in zip(speakers, usable, strict=True) if mask.any()})
    if len(names) < 2:
        raise ProbeError("the phones of fewer than two speakers are known")
    labels = np.concatenate([p[mask] for p, mask in zip(phones, usable, strict=True)])
    fold_of = dict(zip(names, assign_folds(["any"] * len(names), seed), strict=True))
    folds = np.repeat([fold_of.get(each, 0) for each in speakers], [mask.sum() for mask in usable])

    def accuracy(model: Any, inputs: Sequence[Array]) -> float:
        frames = np.concatenate([x[mask] for x, mask in zip(inputs, usable, strict=True)])
        return float(accuracy_score(labels, _predict(model, frames, labels, folds)))

    def best(inputs: Sequence[Array]) -> float:
        return max(accuracy(LogisticRegression(C=c, max_iter=50), inputs) for c in (0.001, 0.01, 0.1))

    return Probe(best(codes), best(mels), accuracy(DummyClassifier(), codes))


def probe_f0(
    codes: Sequence[Array],
    mels: Sequence[Array],
    f0: Sequence[Array],
    speakers: Sequence[str],
    level: bool,
    seed: int = 0,
) -> Probe:
    """Predict log-F0 of voiced frames from codes (T, D) and from mels (T, F), by ridge regression.

    f0 (T,) is in Hz, 0 where unvoiced. Cross-validation splits by utterance. Without `level`, the means of
    each utterance are subtracted from inputs and log-F0: the probe then measures the contour alone, not the
    pitch of the speaker. The score is R2 over all frames. Chance is the R2 of predicting the mean of the
    training set, which is 0 or slightly less. Raises ProbeError where nothing is voiced.
    """
    voiced = [each > 0 for each in f0]
    folds = np.repeat(assign_folds(speakers, seed), [v.sum() for v in voiced])
    if len(set(folds)) < 2:
        raise ProbeError("hardly anything in these recordings is voiced; give recordings of speech")

    def voiced_frames(inputs: Sequence[Array]) -> Array:
        frames = [x[v] for x, v in zip(inputs, voiced, strict=True) if v.any()]
        return np.concatenate(frames if level else [x - x.mean(0) for x in frames])

    def r2(model: Any, inputs: Sequence[Array]) -> float:
        return float(r2_score(log_f0, _predict(model, voiced_frames(inputs), log_f0, folds)))

    log_f0 = voiced_frames([np.log(each.clip(1)) for each in f0])
    return Probe(r2(Ridge(100.0), codes), r2(Ridge(100.0), mels), r2(DummyRegressor(), codes))


def verify(embeddings: Array, speakers: Sequence[str]) -> Verification:
    """Speaker verification by the cosine of all pairs of embeddings (n, E), which have unit norm."""
    first, second = np.triu_indices(len(embeddings), 1)
    cosines = np.einsum("ij,ij->i", embeddings[first], embeddings[second])
    labels = np.array(speakers)
    is_same = labels[first] == labels[second]
    same, different = cosines[is_same], cosines[~is_same]
    edges = np.linspace(-1, 1, 41).round(2)
    counts = [np.histogram(each.clip(-1, 1), edges)[0].tolist() for each in (same, different)]
    return Verification(equal_error_rate(same, different), edges.tolist(), *counts)


def equal_error_rate(same: Array, different: Array) -> float:
    """Equal error rate (EER), in [0, 1]: where the rates of false acceptance and false rejection are equal.

    Scores of same-speaker pairs (n,) and different-speaker pairs (m,); higher is more similar. The two rates
    are interpolated between thresholds.
    """
    labels = [1] * len(same) + [0] * len(different)
    false_accept, true_accept, _ = roc_curve(labels, np.concatenate([same, different]))
    false_reject = 1 - true_accept
    return float(np.interp(0, false_accept - false_reject, false_accept))


def assign_folds(owners: Sequence[str], seed: int = 0) -> Array:
    """Assign items to cross-validation folds, those of each owner evenly, in random order: (n,).

    There are `FOLDS` folds, or fewer if an owner has fewer items.
    """
    count = min(FOLDS, *Counter(owners).values())
    order = np.random.default_rng(seed)
    folds = np.empty(len(owners), dtype=int)
    for owner in sorted(set(owners)):
        items = order.permutation(np.flatnonzero(np.array(owners) == owner))
        folds[items] = np.arange(len(items)) % count
    return folds


def pool(frames: Array) -> Array:
    """Mean and standard deviation over time: (T, F) -> (2 F,)."""
    return np.concatenate([frames.mean(0), frames.std(0)])


def stack(mel: Array, look_ahead: int) -> Array:
    """Mel frames within the view of content frame t, side by side: (2 T, n_mels) -> (T, K n_mels).

    Content frame t covers mel frames 2 t and 2 t + 1. The K = look_ahead + 4 frames reach from two frames
    before these to `look_ahead` frames after them, as far as the content encoder looks. Edge frames repeat.
    """
    context = np.arange(-PAST_CONTEXT, 2 + look_ahead)
    at = np.arange(0, len(mel), 2)[:, None] + context  # (T, K)
    return mel[at.clip(0, len(mel) - 1)].reshape(len(at), -1)


def _predict(model: Any, inputs: Array, labels: Array, folds: Array) -> Array:
    """Cross-validated predictions for inputs (n, F): (n,); each fold is predicted from the other folds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # early stopping only regularises
        predictions: Array = cross_val_predict(
            make_pipeline(StandardScaler(), model), inputs, labels, cv=PredefinedSplit(folds)
        )
    return predictions
