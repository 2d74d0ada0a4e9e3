"""Labels of a bank by teachers, computed once and kept in files.

Content: for each frame, the cluster of a Whisper feature, and the feature's principal components. Speakers:
the mean CAM++ embedding of each speaker at each playback speed.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from vcae.errors import VcaeError
from vcae.files import load_tensors, save_tensors
from vcae.progress import Track, untracked
from vcae.training.config import CodebookConfig, SpeakerLabelsConfig
from vcae.training.data import Bank
from vcae.training.teachers.campplus import CamPlusPlus
from vcae.training.teachers.clusters import assign, k_means
from vcae.training.teachers.whisper import HOP, LONGEST, SAMPLE_RATE, WhisperEncoder

UNKNOWN = 65_535
"""The unit of a frame without a label."""


@dataclass(frozen=True)
class Codebook:
    """Clusters and principal components of the features of one layer.

    centres: (K, width). mean: (width,). basis: (width, P), orthonormal columns divided by the standard
    deviation along them. layer: as in `WhisperEncoder.of_mel`.
    """

    centres: Tensor
    mean: Tensor
    basis: Tensor
    layer: int | None

    def project(self, features: Tensor) -> Tensor:
        """Features (..., width) -> principal components (..., P) of zero mean and unit variance."""
        return (features.float() - self.mean) @ self.basis

    @classmethod
    def fit(cls, features: Tensor, config: CodebookConfig) -> "Codebook":
        """Compute clusters and components of features (N, width). Raises ValueError for too few features."""
        x, count = features.float(), config.components
        mean = x.mean(0)
        variance, axes = torch.linalg.eigh(torch.cov(x.T))  # ascending
        axes, variance = axes[:, -count:].flip(1), variance[-count:].flip(0)
        centres = k_means(x, config.clusters, config.steps, config.seed)
        return cls(centres, mean, axes * variance.rsqrt(), config.layer)


@dataclass
class ContentLabels:
    """Labels of a bank at half its frame rate: label j describes samples [320 j, 320 (j + 1)).

    units: (F,) uint16, the cluster, UNKNOWN where there is no label yet. features: (F, P) float16, the
    principal components, zero where there is no label yet. data: the bank's fingerprint.
    """

    units: Tensor
    features: Tensor
    codebook: Codebook
    data: str

    @classmethod
    def empty(cls, bank: Bank, codebook: Codebook) -> "ContentLabels":
        """Labels of a bank, all unknown. Raises VcaeError for a bank of another frame rate."""
        _check(bank)
        frames = len(bank.samples) // HOP
        units = torch.full((frames,), UNKNOWN, dtype=torch.int32).to(torch.uint16)
        features = torch.zeros(frames, codebook.basis.shape[1], dtype=torch.float16)
        return cls(units, features, codebook, bank.fingerprint)

    def save(self, path: Path) -> None:
        """Write one safetensors file. Raises OutputError."""
        c = self.codebook
        tensors = {"units": self.units, "features": self.features}
        tensors |= {"centres": c.centres, "mean": c.mean, "basis": c.basis}
        save_tensors(path, tensors, {"layer": c.layer, "data": self.data})

    @classmethod
    def load(cls, path: Path, bank: Bank | None = None) -> "ContentLabels":
        """Read what `save` wrote. Raises TensorFileError, and VcaeError for labels of another bank."""
        t, about = load_tensors(path)
        if bank is not None and about.get("data") != bank.fingerprint:
            raise VcaeError(f"{path}: holds the labels of another bank; move it away to make new ones")
        codebook = Codebook(t["centres"], t["mean"], t["basis"], about["layer"])
        return cls(t["units"], t["features"], codebook, about["data"])

    @property
    def known(self) -> Tensor:
        """Whether a frame has a label, (F,)."""
        return self.units.int() != UNKNOWN


@torch.no_grad()
def whisper_features(teacher: WhisperEncoder, bank: Bank, utterance: int, layer: int | None) -> Tensor:
    """Features of one recording, one for each label: (frames, width), float32.

    A recording of more than 30 s is cut into pieces. The teacher computes in bfloat16, which is twice as fast
    as float32 and differs by 1 %.
    """
    wav = bank.samples[bank.starts[utterance] : bank.starts[utterance + 1]].float() / 32768
    with torch.autocast(wav.device.type, torch.bfloat16):
        pieces = [teacher.of_labels(piece[None], layer)[0] for piece in wav.split(LONGEST)]
    return torch.cat(pieces).float()


def learn_codebook(
    teacher: WhisperEncoder, bank: Bank, config: CodebookConfig, track: Track = untracked
) -> Codebook:
    """Clusters and components of features of recordings that are drawn at random.

    The teacher must be on the bank's device. Raises VcaeError for a bank of another frame rate.
    """
    _check(bank)
    features: list[Tensor] = []
    left = config.hours * 3600 * bank.sample_rate / HOP  # frames
    drawn = []
    for utterance in _shuffled(len(bank.ids), config.seed):
        drawn.append(utterance)
        left -= int(bank.starts[utterance + 1] - bank.starts[utterance]) // HOP
        if left < 0:
            break
    for utterance in track(drawn, "Features for the clusters"):
        features.append(whisper_features(teacher, bank, utterance, config.layer).half().cpu())
    x = torch.cat(features)
    rng = torch.Generator().manual_seed(config.seed)
    kept = torch.randperm(len(x), generator=rng)[: config.frames]
    return Codebook.fit(x[kept], config)


def label_content(
    teacher: WhisperEncoder,
    bank: Bank,
    labels: ContentLabels,
    path: Path | None = None,
    seconds: float = 120.0,
    track: Track = untracked,
) -> None:
    """Label what is unknown, recordings in random order; write to `path` every `seconds` and at the end.

    The teacher must be on the bank's device. Raises OutputError.
    """
    codebook, first = labels.codebook, bank.starts // HOP
    saved = time.monotonic()
    for utterance in track(_shuffled(len(bank.ids)), "Content labels"):
        here = slice(int(first[utterance]), int(first[utterance + 1]))
        if int(labels.units[here.start]) == UNKNOWN:
            found = whisper_features(teacher, bank, utterance, codebook.layer).cpu()
            labels.units[here] = assign(found, codebook.centres).to(torch.uint16)
            labels.features[here] = codebook.project(found).half()
        if path is not None and time.monotonic() - saved > seconds:
            labels.save(path)
            saved = time.monotonic()
    if path is not None:
        labels.save(path)


def find_or_label(
    path: Path,
    bank: Bank,
    config: CodebookConfig,
    teacher: Callable[[], WhisperEncoder],
    codebook: Codebook | None = None,
    track: Track = untracked,
) -> ContentLabels:
    """The labels of a bank, read from `path`, and made or completed where they are missing.

    teacher: loads the teacher onto the bank's device, if it is needed. codebook: that of other labels; None:
    learned from this bank. Raises TensorFileError, OutputError, and VcaeError for a file of another bank or
    other settings.
    """
    if path.exists():
        labels = ContentLabels.load(path, bank)
        c = labels.codebook
        if (c.layer, len(c.centres), c.basis.shape[1]) != (config.layer, config.clusters, config.components):
            raise VcaeError(f"{path}: was made with another codebook; move it away to make new labels")
        if codebook is not None and not torch.equal(c.centres, codebook.centres):
            raise VcaeError(f"{path}: was made with another codebook; move it away to make new labels")
        if labels.known.all():
            return labels
        label_content(teacher(), bank, labels, path, track=track)
        return labels
    network = teacher()
    labels = ContentLabels.empty(bank, codebook or learn_codebook(network, bank, config, track))
    label_content(network, bank, labels, path, track=track)
    return labels


def find_or_embed(
    path: Path,
    bank: Bank,
    teacher: Callable[[], CamPlusPlus],
    speeds: Sequence[float] = (1.0,),
    config: SpeakerLabelsConfig | None = None,
    track: Track = untracked,
) -> Tensor:
    """The embeddings of a bank's speakers, (S, speeds, 192), read from `path`, or made and written.

    teacher: loads the teacher onto the bank's device, if it is needed. Raises TensorFileError, OutputError,
    and VcaeError for a file of another bank or other speeds.
    """
    if path.exists():
        tensors, about = load_tensors(path)
        if about != {"data": bank.fingerprint, "speeds": list(speeds)}:
            raise VcaeError(f"{path}: is of another bank or other speeds; move it away to make a new one")
        return tensors["embeddings"]
    embeddings = speaker_embeddings(teacher(), bank, speeds, config, track)
    save_tensors(path, {"embeddings": embeddings}, {"data": bank.fingerprint, "speeds": list(speeds)})
    return embeddings


@torch.no_grad()
def speaker_embeddings(
    teacher: CamPlusPlus,
    bank: Bank,
    speeds: Sequence[float] = (1.0,),
    config: SpeakerLabelsConfig | None = None,
    track: Track = untracked,
) -> Tensor:
    """The mean embedding of each speaker at each playback speed: (S, speeds, 192), unit norm.

    At another speed, pitch and formants differ, and CAM++ finds another speaker. The teacher must be on the
    bank's device. Raises VcaeError for a bank of another sample rate.
    """
    _check(bank)
    c = config or SpeakerLabelsConfig()
    rng = torch.Generator().manual_seed(c.seed)
    device, length = bank.samples.device, round(c.seconds * bank.sample_rate)
    result = torch.zeros(len(bank.speaker_names), len(speeds), teacher.dim)
    for speaker in track(range(len(result)), "Speaker embeddings"):
        run = int(bank.speaker_starts[speaker + 1] - bank.speaker_starts[speaker])
        who = torch.full((c.crops,), speaker, device=device)
        for k, speed in enumerate(speeds):
            position = (torch.arange(c.crops) + torch.rand(c.crops, generator=rng)) / c.crops
            start = (position * run).floor().double().to(device)
            wav = bank.cut(who, start, torch.full((c.crops,), speed, device=device), length)  # (crops, 1, N)
            result[speaker, k] = teacher(wav.squeeze(1)).float().mean(0).cpu()
    return F.normalize(result, dim=-1)


def _check(bank: Bank) -> None:
    if bank.sample_rate != SAMPLE_RATE or 2 * bank.hop_length != HOP:
        raise VcaeError(
            f"teachers need a bank of {SAMPLE_RATE} Hz and a hop of {HOP // 2}, not of {bank.sample_rate} Hz"
            f" and {bank.hop_length}; make one of the preset 16k"
        )


def _shuffled(count: int, seed: int = 0) -> list[int]:
    order: list[int] = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    return order
