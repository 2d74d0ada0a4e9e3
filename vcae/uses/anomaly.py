"""Find recordings and seconds unlike normal speech, by reconstruction error and likelihood of the code.

A recording is encoded and decoded in its own voice, without a vocoder. Statistics are compared with those of
normal speech, in parts: the error of the decoded mel, the content code, and the code at the end of the
recording. Each has a Gaussian density with two covariances, within and between collections of recordings
(as in Ioffe, "Probabilistic linear discriminant analysis", 2006), so that recordings known to be normal move
its mean to their microphone and their speakers. Clipping, gaps and hum, which the mel hardly shows, are
measured in the samples, a number each. Speaker codes are compared by cosine. The score is that of the most
unusual part: each fault shows in one of them, and the others would hide it in a sum.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import pad

from vcae.audio import Recording, Samples, Source, cut, gain_to
from vcae.audio.measures import hum
from vcae.errors import AudioError, VcaeError
from vcae.files import TensorFileError, load_tensors, save_tensors
from vcae.inference.checkpoint import BUNDLED, FORMAT, CheckpointError, fingerprint
from vcae.inference.converter import Converter, load
from vcae.model.state import Cache, delay
from vcae.progress import Progress

Array = npt.NDArray[np.float64]

DENSE = ("reconstruction", "code", "end")
"""What has a density of normal speech."""
SAMPLED = {"clipping": 0.1, "gaps": 3.0, "hum": 3.0}
"""What is measured in the samples as one number, in nepers or dB, and the least spread of it."""
PARTS = (*DENSE, *SAMPLED)
"""What is compared with normal speech; of all but `end`, by second, too."""
SPEAKER = "speaker"
"""What is compared where all recordings should be of one person."""
WEIGHTS = BUNDLED / "normal.safetensors"
LEAST_KNOWN = 5
"""Recordings known to be normal, at least."""
_PIECE = 12  # seconds that are encoded at a time
_SPEAKER_FRAMES = 300  # mel frames of the speaker code of a second: those around it, too
_TAIL = 30  # mel frames after the end that are decoded
_END = 6  # frames of the content code before and after the end that count
_LEVELS = 401  # quantiles of the scores of normal recordings that are kept
_SHRINKAGE = 0.02  # share of the variances that is added to the covariance within collections


class Profile(NamedTuple):
    """What is measured of a recording."""

    parts: Mapping[str, Array]
    """By the names of PARTS: (S, K), a row for each second; of `end`, (1, K)."""
    speakers: Array
    """(S, E): the speaker code of each second, and of what is around it."""

    @property
    def speaker(self) -> Array:
        """The speaker code of the recording: (E,), unit norm."""
        mean = self.speakers.mean(0)
        unit: Array = mean / np.linalg.norm(mean)
        return unit


class Scores(NamedTuple):
    """How unlike normal speech a recording is, by part: 0 as the median of normal ones, 1 as their
    high quantile in `Detector.scales`."""

    parts: Mapping[str, float]
    seconds: Mapping[str, Array]
    """By part: (S,), the same for each second."""

    @property
    def total(self) -> float:
        """The largest of the parts."""
        return max(self.parts.values())

    @property
    def reason(self) -> str:
        """The part that is the largest."""
        return max(self.parts, key=lambda part: self.parts[part])

    @property
    def by_second(self) -> Array:
        """(S,): the same for each second."""
        total: Array = np.max(list(self.seconds.values()), axis=0)
        return total


class Density:
    """A Gaussian density of vectors of K numbers, with a covariance within collections and one between them.

    mean: (K,). basis: (K', K), in which both covariances are diagonal and that within collections is 1.
    between: (K',), the variances between collections.
    """

    TENSORS = ("mean", "basis", "between")

    def __init__(self, mean: Array, basis: Array, between: Array) -> None:
        self.mean, self.basis, self.between = mean, basis, between

    @classmethod
    def fit(cls, vectors: Array, collections: Sequence[str]) -> "Density":
        """Fit the density to vectors (N, K), each of a collection. Raises ValueError for fewer than two."""
        names = np.array(collections)
        groups = [vectors[names == name] for name in sorted(set(collections))]
        if len(groups) < 2:
            raise ValueError("a density needs vectors of two collections or more")
        centres = np.stack([group.mean(0) for group in groups])
        inside = np.concatenate([group - centre for group, centre in zip(groups, centres, strict=True)])
        within = inside.T @ inside / len(inside)
        within += np.diag(_SHRINKAGE * np.diag(within) + 1e-6)
        mean = vectors.mean(0)
        whiten = np.linalg.inv(np.linalg.cholesky(within))
        spread = (centres - mean) @ whiten.T
        between, vectors_of = np.linalg.eigh(spread.T @ spread / len(groups))
        return cls(mean, vectors_of.T @ whiten, between.clip(min=0))

    def distances(self, vectors: Array, known: Array | None = None) -> Array:
        """How far vectors (N, K) are from what is expected: (N,), 1 in the mean over what was fitted.

        known: (M, K), normal vectors of the collection that the others belong to.
        """
        centre, variance = np.zeros(len(self.between)), 1 + self.between
        if known is not None:
            count = len(known)
            weight = self.between / (self.between + 1 / count)
            centre = weight * ((known.mean(0) - self.mean) @ self.basis.T)
            variance = 1 + self.between / (1 + count * self.between)
        placed = (vectors - self.mean) @ self.basis.T
        distances: Array = ((placed - centre) ** 2 / variance).mean(-1)
        return distances


class Detector:
    """Says how unlike normal speech recordings are.

    densities: by part and unit, such as "code/file" and "code/second". scales: median and a high quantile of
    the deviations of normal recordings and seconds, by the names of all parts and units. totals: (N,), scores
    of normal recordings, from which thresholds are taken.
    """

    def __init__(
        self,
        converter: Converter,
        densities: Mapping[str, Density],
        scales: Mapping[str, tuple[float, float]],
        totals: Array,
    ) -> None:
        self.converter, self.densities = converter, densities
        self.scales, self.totals = dict(scales), totals
        self._known: dict[str, Array] = {}
        self._voices: Array | None = None

    @classmethod
    def load(cls, device: str = "cpu") -> "Detector":
        """Load the bundled model `studio` and what is normal for it. Raises CheckpointError."""
        return cls.of(load("studio", device))

    @classmethod
    def of(cls, converter: Converter, path: Path = WEIGHTS) -> "Detector":
        """What is normal for a converter, from a file. Raises CheckpointError for another model."""
        try:
            tensors, about = load_tensors(path)
        except TensorFileError as error:
            raise CheckpointError(f"{error}; fit it by recipes/evaluate_anomaly.py") from None
        config = about.get("config", {})
        if config.get("model") != fingerprint(converter.autoencoder):
            raise CheckpointError(f"{path}: belongs to another model; use the model studio")
        arrays = {name: tensor.double().numpy() for name, tensor in tensors.items()}
        densities = {
            name: Density(*(arrays[f"{name}/{each}"] for each in Density.TENSORS))
            for name in config["scales"]
            if f"{name}/mean" in arrays
        }
        return cls(converter, densities, config["scales"], arrays["totals"])

    def save(self, path: Path, notes: Mapping[str, Any] | None = None) -> None:
        """Write what is normal to a file; notes: on the data that it was fitted to. Raises OutputError."""
        tensors = {"totals": torch.from_numpy(self.totals).float()}
        for name, density in self.densities.items():
            for each in Density.TENSORS:
                tensors[f"{name}/{each}"] = torch.from_numpy(getattr(density, each)).half()
        networks = self.converter.autoencoder
        config = {
            "mel": asdict(networks.config.mel),
            "model": fingerprint(networks),
            "scales": self.scales,
        }
        about = {"format": FORMAT, "kind": "Detector", "config": config, "notes": dict(notes or {})}
        save_tensors(path, tensors, about)

    def threshold(self, rate: float) -> float:
        """The score above which a recording is unusual, at a rate of false alarms. Raises VcaeError."""
        if not 0 < rate < 1:
            raise VcaeError(f"a rate of false alarms must be between 0 and 1, not {rate}")
        return float(np.quantile(self.totals, 1 - rate))

    def profile(self, source: Source, progress: Progress | None = None) -> Profile:
        """Measure a recording; memory grows by some kilobytes a second. Raises AudioError."""
        recording = Recording(source, self.converter.sample_rate, progress)
        if recording.silent:
            raise AudioError(f"{recording.name}: is silent; give a recording of speech")
        return _measure(self.converter, recording)

    def know(self, normal: Sequence[Profile], one_speaker: bool = False) -> None:
        """Take recordings as normal: their microphone, their speakers, and the scores that they have.

        one_speaker: compare speaker codes with theirs, too. The scores of each are taken without itself.
        Raises VcaeError for fewer than LEAST_KNOWN.
        """
        if len(normal) < LEAST_KNOWN:
            raise VcaeError(f"{len(normal)} normal recordings are too few; give {LEAST_KNOWN} or more")
        rows = {
            f"{part}/file": np.stack([_of_file(part, profile) for profile in normal]) for part in PARTS
        } | {f"{part}/second": np.concatenate([profile.parts[part] for profile in normal]) for part in PARTS}
        voices = np.stack([p.speaker for p in normal])
        totals = []
        for k, profile in enumerate(normal):
            self._known = {name: np.delete(each, k, axis=0) for name, each in rows.items()}
            self._voices = np.delete(voices, k, axis=0) if one_speaker else None
            totals.append(self.score(profile).total)
        self._known, self._voices = rows, voices if one_speaker else None
        self.totals = np.array(totals)

    def score(self, profile: Profile) -> Scores:
        """How unlike normal speech a recording is."""
        return self._scores(self._deviations(profile))

    def _scores(self, deviations: Mapping[str, Array]) -> Scores:
        scaled = {name: self._scaled(name, each) for name, each in deviations.items()}
        return Scores(
            {name.removesuffix("/file"): float(s[0]) for name, s in scaled.items() if name.endswith("/file")},
            {name.removesuffix("/second"): s for name, s in scaled.items() if name.endswith("/second")},
        )

    def _scaled(self, name: str, deviations: Array) -> Array:
        median, high = self.scales[name]
        scaled: Array = (deviations - median) / (high - median)
        return scaled

    def _deviations(self, profile: Profile) -> dict[str, Array]:
        """By part and unit, (1,) for a recording, (S,) for its seconds: numbers of SAMPLED, log-distances."""
        found = {}
        for name, density in self.densities.items():
            part, unit = name.split("/")
            rows = _of_file(part, profile)[None] if unit == "file" else profile.parts[part]
            found[name] = np.log(density.distances(rows, self._known.get(name)))
        for part in SAMPLED:
            for unit, rows in (("file", _of_file(part, profile)[None]), ("second", profile.parts[part])):
                name = f"{part}/{unit}"
                known = self._known.get(name)
                # Where all known recordings have it, such as a hum, it is normal.
                usual = 0.0 if known is None else max(0.0, np.median(known) - self.scales[name][0])
                found[name] = rows[:, 0] - usual
        if self._voices is not None:
            for unit, codes in (("file", profile.speaker[None]), ("second", profile.speakers)):
                found[f"{SPEAKER}/{unit}"] = _speaker_deviations(codes, self._voices)
        return found


def _of_file(part: str, profile: Profile) -> Array:
    """One row for a recording: the mean over its seconds; of gaps the maximum, of SAMPLED else the median."""
    rows = profile.parts[part]
    if part == "gaps":
        row: Array = rows.max(0)
    else:
        row = np.median(rows, axis=0) if part in SAMPLED else rows.mean(0)
    return row


def _speaker_deviations(codes: Array, voices: Array) -> Array:
    """Logarithm of one minus the median cosine to voices (N, E): (S, E) -> (S,)."""
    deviations: Array = np.log(1.001 - np.median(codes @ voices.T, axis=1))
    return deviations


def scale_of(deviations: Array, least: float = 0.05, high: float = 0.98) -> tuple[float, float]:
    """Median and a high quantile of deviations, which differ by `least` at least."""
    median, top = np.quantile(deviations, [0.5, high]).tolist()
    return median, max(top, median + least)


def fit(
    converter: Converter, profiles: Sequence[Profile], collections: Sequence[str], speakers: Sequence[str]
) -> Detector:
    """What is normal, by recordings of many speakers in several collections.

    Scales and totals are those of each collection by densities of the others, as a user's recordings are by
    densities of ours; the densities are then fitted to all. Totals are quantiles of the scores of a
    collection, of each the upper quartile over the collections: three in four have no more false alarms than
    asked for. Raises ValueError for fewer than three collections.
    """
    every = range(len(profiles))
    deviations: list[dict[str, Array]] = [{} for _ in every]
    for left_out in sorted(set(collections)):
        others = [k for k in every if collections[k] != left_out]
        detector = Detector(converter, _fit(profiles, collections, others), {}, np.zeros(1))
        for k in every:
            if collections[k] == left_out:
                deviations[k] = detector._deviations(profiles[k])
    scales = _scales(deviations, collections)
    detector = Detector(converter, _fit(profiles, collections, every), scales, np.zeros(1))
    totals = np.array([detector._scores(found).total for found in deviations])
    names, levels = np.array(collections), np.linspace(0, 1, _LEVELS)
    each = [np.quantile(totals[names == name], levels) for name in sorted(set(collections))]
    detector.totals = np.quantile(each, 0.75, axis=0)
    detector.scales |= _speaker_scales(profiles, speakers)
    return detector


def _scales(
    deviations: Sequence[Mapping[str, Array]], collections: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """By part and unit, the scales of deviations.

    Of densities, 1 is the 90th percentile: a tenth of the recordings lies beyond, by microphones and rooms
    that the other collections lack. Of what is SAMPLED, 1 is usual in the collection that has the most of it:
    there are collections of home recordings, in which a hum is normal.
    """
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for each, collection in zip(deviations, collections, strict=True):
        for name, values in each.items():
            found[name][collection] += values.tolist()
    scales = {}
    for name, groups in found.items():
        values = np.concatenate(list(groups.values()))
        least = SAMPLED.get(name.split("/")[0])
        if least is None:
            scales[name] = scale_of(values, high=0.9)
        else:
            median, high = scale_of(values, least)
            scales[name] = median, max(high, *(float(np.quantile(g, 0.9)) for g in groups.values()))
    return scales


def _speaker_scales(profiles: Sequence[Profile], speakers: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Scales of the deviations of recordings, and of their seconds, from up to ten others of the speaker."""
    groups: dict[str, list[Profile]] = defaultdict(list)
    for speaker, profile in zip(speakers, profiles, strict=True):
        groups[speaker].append(profile)
    files: list[float] = []
    seconds: list[float] = []
    for group in (group[:11] for group in groups.values() if len(group) > 2):
        for profile in group:
            voices = np.stack([each.speaker for each in group if each is not profile])
            files += _speaker_deviations(profile.speaker[None], voices).tolist()
            seconds += _speaker_deviations(profile.speakers, voices).tolist()
    if not files:
        return {}
    return {f"{SPEAKER}/file": scale_of(np.array(files)), f"{SPEAKER}/second": scale_of(np.array(seconds))}


def _fit(
    profiles: Sequence[Profile], collections: Sequence[str], chosen: Sequence[int]
) -> dict[str, Density]:
    densities = {}
    for part in DENSE:
        some = [profiles[k] for k in chosen]
        names = [collections[k] for k in chosen]
        densities[f"{part}/file"] = Density.fit(np.stack([_of_file(part, each) for each in some]), names)
        if part != "end":
            rows = [each.parts[part] for each in some]
            of_seconds = [name for name, each in zip(names, rows, strict=True) for _ in each]
            densities[f"{part}/second"] = Density.fit(np.concatenate(rows), of_seconds)
    return densities


@torch.inference_mode()
def _measure(converter: Converter, recording: Recording) -> Profile:
    """Encode and decode a recording in its own voice, and take statistics of each second."""
    networks, alignment = converter.autoencoder, converter.alignment
    rate, hop, late = converter.sample_rate, alignment.mel.hop_length, alignment.look_ahead
    gain = np.float32(gain_to(recording.level))
    frames, stride = _Seconds(rate // hop, late), alignment.stride
    rows: dict[str, list[Array]] = {part: [] for part in PARTS}
    speakers: list[Array] = []
    cache: Cache = {}
    remaining = recording.length
    for block in cut(recording.blocks("analysing"), _PIECE * rate):
        remaining -= len(block)
        length = -(-len(block) // converter.step) * converter.step
        after = 0 if remaining else length - len(block) + (late + _TAIL) * hop
        scaled = block * gain
        wav = torch.from_numpy(np.pad(scaled, (0, after)))[None, None].to(converter.device)
        mel = converter.log_mel(wav, cache)  # (1, n_mels, T)
        code, prosody = networks.encode(mel, cache)
        spoken = mel[..., : length // hop]
        decoded = networks.decode(code.z, prosody, networks.speaker.encode(spoken), cache)
        seen = delay(mel, late, cache, frames)
        z = code.z.repeat_interleave(stride, -1)
        parts = (seen - decoded, z)
        sizes = [part.shape[1] for part in parts]
        for second in frames.feed(torch.cat(parts, 1)[0]):
            _add_row(rows, second.split(sizes), stride)
        starts = _starts(len(block), rate)
        for a, b in zip(starts, [*starts[1:], len(block)], strict=True):
            _add_samples(rows, scaled[a:b], rate)
        for k in range(len(starts)):
            first = max(0, min((k - 1) * frames.size, spoken.shape[-1] - _SPEAKER_FRAMES))
            around = spoken[..., first : first + _SPEAKER_FRAMES]
            speakers.append(networks.speaker(around)[0].double().cpu().numpy())
    last = frames.rest[:, :-_TAIL]
    if last.shape[1] >= frames.size / 2 or not rows["code"]:
        _add_row(rows, last.split(sizes), stride)
    ending = torch.cat([frames.before, frames.rest], 1)[sizes[0] :]
    ending = pad(ending, (2 * _END * stride, 0))[:, -_TAIL - _END * stride :][:, : 2 * _END * stride : stride]
    rows["end"].append(ending.unflatten(1, (4, -1)).mean(2).flatten().double().cpu().numpy())
    count = min(len(rows["code"]), len(speakers))
    kept = {part: np.stack(each if part == "end" else each[:count]) for part, each in rows.items()}
    return Profile(kept, np.stack(speakers[:count]))


def _starts(length: int, size: int) -> list[int]:
    """Where the seconds of a piece start; a rest of less than a half belongs to the one before."""
    return list(range(0, max(1, length - size // 2 + 1), size))


class _Seconds:
    """Frames (C, T) in blocks of a second, without the first ones. `_TAIL` frames at least are held back."""

    def __init__(self, size: int, skipped: int) -> None:
        self.size, self._skipped = size, skipped
        self.rest = self.before = torch.zeros(0, 0)

    def feed(self, frames: Tensor) -> Iterator[Tensor]:
        """Add frames, and yield the seconds that are complete."""
        skipped = min(self._skipped, frames.shape[1])
        self._skipped -= skipped
        if not self.rest.numel():
            self.rest = self.before = frames[:, :0]
        self.rest = torch.cat([self.rest, frames[:, skipped:]], 1)
        while self.rest.shape[1] >= self.size + _TAIL:
            self.before, self.rest = self.rest[:, : self.size], self.rest[:, self.size :]
            yield self.before


def _add_row(rows: dict[str, list[Array]], parts: Sequence[Tensor], stride: int) -> None:
    """Add the statistics of a second: of the error of the mel, and of the code (repeated by the stride).

    parts: (C, T) each.
    """
    error, z = parts
    z = z[:, ::stride]
    change = z.diff(dim=1).abs() if z.shape[1] > 1 else torch.zeros_like(z)
    found = {
        "reconstruction": [error.mean(1), (error.std(1, correction=0) + 0.02).log()],
        "code": [z.mean(1), (z.std(1, correction=0) + 0.02).log(), (change.mean(1) + 0.01).log()],
    }
    for part, each in found.items():
        rows[part].append(torch.cat(each).double().cpu().numpy())


def _add_samples(rows: dict[str, list[Array]], x: Samples, rate: int) -> None:
    """Add what the mel does not show of a second of samples (N,).

    Clipping: logarithm of the 99th percentile of the magnitudes over the peak, 0 where peaks are cut off.
    """
    x = np.pad(x, (0, max(0, rate - len(x))))
    sizes = np.sort(np.abs(x)) + 1e-6
    # The high-pass filter has bent flat peaks, which therefore are not looked for.
    rows["clipping"].append(np.array([np.log(sizes[int(0.99 * len(x))] / sizes[-1])]))
    rows["gaps"].append(np.array([max(_gap(x, rate // 200, 4), _gap(x, rate // 100, 3))]))
    rows["hum"].append(np.array([hum(x, rate)]))


def _gap(x: Samples, size: int, apart: int) -> float:
    """How far a frame of so many samples falls below those `apart` before and behind, in dB, at most."""
    frames = x[: len(x) // size * size].reshape(-1, size).astype(np.float64)
    level = 10 * np.log10((frames**2).mean(1) + 1e-9)
    return float((np.minimum(level[: -2 * apart], level[2 * apart :]) - level[apart:-apart]).max())
