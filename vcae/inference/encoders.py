"""The encoders by themselves, for embeddings."""

from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from vcae.audio import Audio, Recording, Samples, Source, cut
from vcae.audio.waveform import MAX_CHANNELS
from vcae.errors import AudioError
from vcae.inference.checkpoint import load_autoencoder, model_files
from vcae.inference.pieces import PIECE_SECONDS, pieces, refuse_silence, weight
from vcae.model import content, speaker
from vcae.model.alignment import Alignment
from vcae.model.bottleneck import Bottleneck, bottleneck
from vcae.model.config import AutoencoderConfig, MelConfig, SpeakerConfig
from vcae.model.mel import LogMel
from vcae.model.state import Cache

Waveform: TypeAlias = Source | npt.NDArray[Any] | Tensor
"""A recording, or its samples (N,) as an array or a tensor, whose rate is given beside it."""
Waveforms: TypeAlias = Waveform | Sequence[Waveform]
"""One recording, or a batch: a sequence of recordings, or samples (B, N)."""

BATCH = 16
"""Recordings that are read and encoded at a time."""


class SpeakerTrack(NamedTuple):
    """Speaker codes along a recording.

    times: (T,), the middle of each window in seconds. codes: (T, E), unit norm.
    """

    times: Samples
    codes: Samples


class SpeakerEncoder(speaker.SpeakerEncoder):
    """`vcae.model.speaker.SpeakerEncoder`, with trained weights on request, for mels and for recordings."""

    def __init__(self, config: SpeakerConfig) -> None:
        super().__init__(config)
        self.log_mel = LogMel(config.mel)

    @classmethod
    def from_pretrained(cls, model: str | Path | None = None) -> Self:
        """The speaker encoder of a bundled model or of a folder that training wrote, in eval mode.

        Raises CheckpointError.
        """
        autoencoder = load_autoencoder(model_files(model).autoencoder)
        encoder = cls(autoencoder.config.speaker)
        encoder.load_state_dict(autoencoder.speaker.state_dict())
        return encoder.eval()

    @torch.inference_mode()
    def embed_tensors(self, sources: Waveforms, sample_rate: int | None = None) -> Tensor:
        """As `embed`, but the result is a tensor on the device of the encoder."""
        listed, single = _listed(sources, sample_rate)
        codes = torch.empty(len(listed), self.config.dim, device=self.log_mel.window.device)
        for numbers, recordings in _equally_long(listed, self.mel.sample_rate):
            total = torch.zeros_like(codes[numbers])
            for blocks in zip(*map(pieces, recordings), strict=True):
                shares = torch.tensor([weight(block, self.mel.sample_rate) for block in blocks])
                mel = self.log_mel(_batch(blocks, self.mel, codes.device))  # (B, n_mels, T)
                total += shares[:, None].to(codes) * self(mel)
            codes[numbers] = F.normalize(total, dim=1)
        return codes[0] if single else codes

    def embed(self, sources: Waveforms, sample_rate: int | None = None) -> Samples:
        """Speaker codes of unit norm, as `Converter.embed` computes them: (E,), or (B, E) for a batch.

        sample_rate: of samples that are given without it, in Hz. Recordings of equal length are computed
        together. Raises AudioError.
        """
        return _numpy(self.embed_tensors(sources, sample_rate))

    @torch.inference_mode()
    def slide(
        self, source: Waveform, sample_rate: int | None = None, window: float = 1.6, step: float = 0.4
    ) -> SpeakerTrack:
        """Speaker codes of windows of a recording, to see who speaks when.

        window: length in seconds. step: from one window to the next, in seconds. A recording shorter than a
        window has one code. In a window without speech the code says nothing. Raises AudioError, and
        ValueError for a window or a step shorter than two mel frames or one.
        """
        size, stride = (round(seconds * self.mel.frame_rate) for seconds in (window, step))
        if size < 2 or stride < 1:
            raise ValueError(f"a window of {window} s in steps of {step} s is too short for the speaker code")
        (listed,), _ = _listed([source], sample_rate)
        recording = refuse_silence(Recording(listed, self.mel.sample_rate))
        cache: Cache = {}
        device = self.log_mel.window.device
        mels = [self.log_mel(_batch([piece], self.mel, device), cache) for piece in pieces(recording)]
        mel = torch.cat(mels, dim=-1)[0]  # (n_mels, T)
        windows = mel.unfold(-1, min(size, mel.shape[-1]), stride).transpose(0, 1)  # (T', n_mels, W)
        codes = torch.cat([self(some) for some in windows.split(4 * BATCH)])
        starts = np.arange(len(codes), dtype=np.float32) * stride
        times = (starts + windows.shape[-1] / 2) / self.mel.frame_rate
        return SpeakerTrack(times.astype(np.float32), _numpy(codes))


class ContentEncoder(content.ContentEncoder):
    """`vcae.model.content.ContentEncoder`, with trained weights on request, for mels and for recordings."""

    alignment: Alignment
    bottleneck: Bottleneck
    log_mel: LogMel

    @classmethod
    def of(cls, config: AutoencoderConfig) -> Self:
        """The content encoder of an autoencoder of this configuration, with its look-ahead and bottleneck."""
        encoder = super().of(config)
        encoder.alignment = Alignment(config.mel, config.delay, cls.stride)
        encoder.bottleneck = bottleneck(dim=config.content_dim, **config.bottleneck)
        encoder.log_mel = LogMel(config.mel)
        return encoder

    @classmethod
    def from_pretrained(cls, model: str | Path | None = None) -> Self:
        """The content encoder of a bundled model or of a folder that training wrote, in eval mode.

        Raises CheckpointError.
        """
        autoencoder = load_autoencoder(model_files(model).autoencoder)
        encoder = cls.of(autoencoder.config)
        codes = {f"bottleneck.{name}": t for name, t in autoencoder.bottleneck.state_dict().items()}
        encoder.load_state_dict(autoencoder.content.state_dict() | codes)
        return encoder.eval()

    @torch.inference_mode()
    def embed_tensors(self, sources: Waveforms, sample_rate: int | None = None) -> Tensor | list[Tensor]:
        """As `embed`, but the results are tensors on the device of the encoder."""
        listed, single = _listed(sources, sample_rate)
        codes: dict[int, Tensor] = {}
        for numbers, recordings in _equally_long(listed, self.mel.sample_rate):
            length, cache = recordings[0].length, Cache()
            silence = np.zeros(self.alignment.padding(length), dtype=np.float32)
            size = PIECE_SECONDS * self.mel.sample_rate
            padded = (cut(chain(pieces(each), [silence]), size) for each in recordings)
            described, _ = self.alignment.describing(length)
            parts = []
            for blocks in zip(*padded, strict=True):
                mel = self.log_mel(_batch(blocks, self.mel, self.log_mel.window.device), cache)
                parts.append(self.bottleneck(self(mel, cache)).z)
            codes |= zip(numbers, torch.cat(parts, dim=-1)[..., described], strict=True)
        return codes[0] if single else [codes[number] for number in range(len(listed))]

    def embed(self, sources: Waveforms, sample_rate: int | None = None) -> Samples | list[Samples]:
        """Content codes, as `Converter.content` computes them: (D, T), or a list of them for a batch.

        sample_rate: of samples that are given without it, in Hz. Frame t describes the samples from
        `alignment.step` * t on, at the sample rate of the mel. Recordings of equal length are computed
        together. Raises AudioError.
        """
        codes = self.embed_tensors(sources, sample_rate)
        return _numpy(codes) if isinstance(codes, Tensor) else [_numpy(code) for code in codes]


def _listed(sources: Waveforms, sample_rate: int | None) -> tuple[list[Source], bool]:
    """Recordings as a list, and whether there was one that was not in a sequence. Raises AudioError."""
    single = isinstance(sources, str | Path | Audio) or not isinstance(sources, Sequence)
    if isinstance(sources, np.ndarray | Tensor):
        single = sources.ndim == 1
        if not single and sources.shape[-1] <= MAX_CHANNELS:
            raise AudioError(
                f"an array of shape {tuple(sources.shape)} is a batch of waveforms (B, N) that are too"
                " short; for a recording of several channels give vcae.Audio(samples, sample_rate)"
            )
    listed: list[Any] = [sources] if single else list(cast(Any, sources))
    if sample_rate is None and any(isinstance(each, np.ndarray | Tensor) for each in listed):
        raise AudioError("samples need their rate; give sample_rate, or vcae.Audio(samples, sample_rate)")
    return [
        Audio(cast(Samples, each), cast(int, sample_rate)) if isinstance(each, np.ndarray | Tensor) else each
        for each in listed
    ], single


def _equally_long(sources: list[Source], sample_rate: int) -> Iterator[tuple[list[int], list[Recording]]]:
    """Recordings of equal length, with their numbers among the sources; at most BATCH are in memory."""
    for start in range(0, len(sources), BATCH):
        numbered = enumerate(sources[start : start + BATCH], start)
        read = [(number, refuse_silence(Recording(source, sample_rate))) for number, source in numbered]
        read.sort(key=lambda each: each[1].length)
        for _, group in groupby(read, key=lambda each: each[1].length):
            numbers, recordings = zip(*group, strict=True)
            yield list(numbers), list(recordings)


def _batch(blocks: Sequence[Samples], mel: MelConfig, device: torch.device) -> Tensor:
    """Equally long blocks (N,) as a batch for `LogMel`: (B, 1, N), with zeros to whole hops, two at least."""
    wav = torch.from_numpy(np.stack(blocks))[:, None].to(device)
    hops = max(2, -(-wav.shape[-1] // mel.hop_length))
    return F.pad(wav, (0, hops * mel.hop_length - wav.shape[-1]))


def _numpy(x: Tensor) -> Samples:
    array: Samples = x.cpu().numpy()
    return array
