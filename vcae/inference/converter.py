"""The main API: conversion, voices, embeddings and content codes of recordings."""

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple, TypeAlias, Unpack

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vcae.audio import (
    Audio,
    AudioWarning,
    Recording,
    Samples,
    Source,
    beginning,
    concatenate,
    cut,
    find_audio,
    watermarked,
)
from vcae.errors import VcaeError
from vcae.inference.checkpoint import fingerprint, load_autoencoder, load_vocoder, model_files
from vcae.inference.checkpoint import load as load_checkpoint
from vcae.inference.engine import Engine
from vcae.inference.likeness import CALIBRATION, DIFFERENT_BELOW
from vcae.inference.output import Encoding, write_speech
from vcae.inference.pieces import pieces, refuse_silence, weight
from vcae.inference.reference import DOUBTS, EXAMINED, LAG, Quality, change_of, speech_mask
from vcae.inference.stream import Stream
from vcae.inference.voice import Voice, VoiceError
from vcae.model.autoencoder import Autoencoder
from vcae.model.bottleneck import Code
from vcae.model.mel import LogMel
from vcae.model.prosody import F0Statistics, ProsodyPredictor, ProsodyPredictorConfig, shift
from vcae.model.state import Cache
from vcae.model.vocoder import Vocoder
from vcae.progress import Progress

Reference: TypeAlias = Voice | Source | Sequence[Source]
"""A target speaker: a `Voice`, a `.voice` file, or one or more recordings."""

MAX_SHIFT = 24.0
"""Largest pitch shift, up or down, in semitones."""
MIN_SPEECH = 0.15
"""Least duration of voiced frames in a reference, in seconds."""


def load(model: str | Path | None = None, device: str = "cpu") -> "Converter":
    """Load a model: "studio", the default, "live" or "units", which are bundled, or a folder from training.

    `live` has less look-ahead, for streams with a short delay; the content code of `units` is discrete. All
    share voices. Raises CheckpointError.
    """
    files = model_files(model)
    predictor = None
    if files.prosody.exists():
        predictor = load_checkpoint(files.prosody, ProsodyPredictor, ProsodyPredictorConfig)
    return Converter(
        load_autoencoder(files.autoencoder), load_vocoder(files.vocoder), device, predictor=predictor
    )


class Parts(NamedTuple):
    """The code of a recording: content, prosody and voice.

    content: (D, T), the content code, or its ids (T,); frame t describes the samples from
    `Converter.step` * t on. prosody: (3, P), log-F0, voicing and log-energy, with P / T mel frames per
    content frame. voice: of the speaker.
    """

    content: Tensor
    prosody: Tensor
    voice: Voice


class Converter:
    """Converts recordings with an autoencoder and a vocoder of the same mel.

    Outputs have the sample rate of the mel, `sample_rate`. Files of any length are converted in blocks of
    `block_seconds`. predictor: of prosody, to decode content that comes without. Raises ValueError where the
    mels differ, or where the predictor belongs to other weights.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        vocoder: Vocoder,
        device: str = "cpu",
        block_seconds: float = 5.0,
        predictor: ProsodyPredictor | None = None,
    ) -> None:
        config = autoencoder.config.mel
        if vocoder.config.mel != config:
            raise ValueError("autoencoder and vocoder must have the same mel")
        if predictor and predictor.config.content != fingerprint(autoencoder.content, autoencoder.bottleneck):
            raise ValueError("the prosody predictor was trained on the code of another model")
        self.predictor = predictor.to(device).eval() if predictor else None
        self.autoencoder = autoencoder.to(device).eval()
        self.vocoder = vocoder.to(device).eval()
        self.log_mel = LogMel(config).to(device)
        self.device = torch.device(device)
        self.sample_rate = config.sample_rate
        self.engine = Engine(self.log_mel, self.autoencoder, self.vocoder)
        self.alignment = self.autoencoder.alignment
        """Delays of the networks, and the samples that each frame describes."""
        self.step = self.alignment.step
        """Samples per frame of the content code."""
        self.block = max(1, round(block_seconds * self.sample_rate / self.step)) * self.step
        self.made_by = fingerprint(autoencoder.speaker)
        """Hash of the speaker encoder: voices can be used with models of the same hash."""
        self._make_stream = partial(Stream, self.engine, longest=self.block)
        if self.device.type != "mps":  # MPS has no float64
            # Float64 keeps rounding errors of F0 from accumulating in the phase, so that the output does not
            # depend on the size of the blocks.
            self.log_mel.double()
            self.autoencoder.prosody.double()

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all weights. Only outputs and evaluations need it."""
        return fingerprint(self.autoencoder, self.vocoder)

    @cached_property
    def decoder(self) -> str:
        """Hash of the decoder: fine-tuned voices can be used with models of the same hash."""
        return fingerprint(self.autoencoder.decoder)

    def convert(
        self,
        source: Source,
        voice: Reference,
        pitch_shift: float = 0.0,
        strength: float = 1.0,
        watermark: bool = False,
    ) -> Audio:
        """Convert a recording into another voice; the result has the length and the level of the source.

        pitch_shift: semitones in addition to the move to the target's F0 range, within MAX_SHIFT. strength:
        from 0, the voice of the source speaker, to 1, the target voice. watermark: mark the result, as
        `vcae.watermark` does. Raises AudioError for the source, VoiceError for the voice and VcaeError for
        options out of range.
        """
        samples = concatenate(self.convert_blocks(source, voice, pitch_shift, strength, watermark=watermark))
        return Audio(samples, self.sample_rate, self.comment("converted"))

    def convert_blocks(
        self,
        source: Source,
        voice: Reference,
        pitch_shift: float = 0.0,
        strength: float = 1.0,
        progress: Progress | None = None,
        watermark: bool = False,
    ) -> Iterator[Samples]:
        """Yield the samples that `convert` returns, block by block; memory does not grow with the source.

        While the source is analysed, empty blocks are yielded, so that the caller can do other work in
        between.
        """
        _check_options(pitch_shift, strength)
        target = self.voice(voice)
        recording = self._recording(source, progress)
        analysis = _Analysis()
        yield from self._analyse(recording, analysis)
        blocks = self._stream_recording(recording, target, analysis.voice, pitch_shift, strength)
        yield from watermarked(blocks, self.sample_rate) if watermark else blocks

    def convert_file(
        self,
        source: Source,
        out: str | Path,
        voice: Reference,
        pitch_shift: float = 0.0,
        strength: float = 1.0,
        progress: Progress | None = None,
        watermark: bool = False,
        **encoding: Unpack[Encoding],
    ) -> None:
        """Convert to a file, block by block; memory does not grow with the source.

        Raises OutputError and the errors of `convert`.
        """
        blocks = self.convert_blocks(source, voice, pitch_shift, strength, progress, watermark)
        write_speech(out, blocks, self.sample_rate, self.comment("converted"), **encoding)

    def reconstruct(self, source: Source) -> Audio:
        """Encode a recording and decode it in the voice of its speaker. Raises AudioError."""
        samples = concatenate(self._reconstruct_blocks(source))
        return Audio(samples, self.sample_rate, self.comment("reconstructed"))

    def reconstruct_file(
        self,
        source: Source,
        out: str | Path,
        progress: Progress | None = None,
        **encoding: Unpack[Encoding],
    ) -> None:
        """Reconstruct to a file, block by block. Raises AudioError, OutputError."""
        blocks = self._reconstruct_blocks(source, progress)
        write_speech(out, blocks, self.sample_rate, self.comment("reconstructed"), **encoding)

    def comment(self, kind: str) -> str:
        """What is said in the metadata of an output."""
        return f"{kind} speech, made by vcae with the weights {self.fingerprint}"

    def stream(
        self,
        voice: Reference,
        *,
        sample_rate: int | None = None,
        output_rate: int | None = None,
        pitch_shift: float = 0.0,
        strength: float = 1.0,
        source_voice: Reference | None = None,
        level: float | None = None,
    ) -> Stream:
        """Start the conversion of a source that arrives block by block, such as from a microphone.

        sample_rate: of the source, in Hz (default: the converter's). output_rate: of the output (default:
        that of the source). source_voice: voice of the source speaker. level: `loudness` of the source, in
        dBFS. Source voice and level are estimated while streaming where they are not given. Raises
        AudioError, VoiceError and, for options out of range, VcaeError.
        """
        _check_options(pitch_shift, strength)
        if level is not None and not abs(level) <= 100:
            raise VcaeError(f"level must be in dBFS, from -100 to 100, not {level}")
        sample_rate = sample_rate or self.sample_rate
        output_rate = output_rate or sample_rate
        if min(sample_rate, output_rate) < 1_000:
            raise VcaeError(f"a sample rate must be 1000 Hz or more, not {min(sample_rate, output_rate)}")
        if strength < 1 and source_voice is None:
            raise VcaeError(
                "a strength below 1 mixes in the voice of the source speaker; give a source voice"
            )
        return self._make_stream(
            self.voice(voice),
            sample_rate=sample_rate,
            output_rate=output_rate,
            pitch_shift=pitch_shift,
            strength=strength,
            source=None if source_voice is None else self.voice(source_voice),
            level=level,
        )

    def trace(self) -> None:
        """Halve the time that streams take for a block of 20 ms, by tracing the networks; takes a second.

        Longer blocks are not affected.
        """
        self.engine.trace()

    def voice(self, references: Reference, progress: Progress | None = None) -> Voice:
        """Compute the voice of a speaker from recordings, or folders of them, weighted as `weigh` says.

        What may be wrong with them is told by AudioWarnings, and kept in `Voice.doubts`. Raises AudioError,
        and VoiceError for recordings without speech and voices made with other weights.
        """
        if isinstance(references, Voice):
            return self._check_weights(references)
        if isinstance(references, str | Path | Audio):
            references = [references]
        files = [r for r in references if not isinstance(r, Audio) and Path(r).suffix == ".voice"]
        if files and len(references) > 1:
            raise VoiceError(
                f"{files[0]}: a .voice file must be the only reference; mix voices with `vcae mix` first"
            )
        if files:
            return self._check_weights(Voice.load(files[0]), files[0])
        if not references:
            raise VoiceError("no reference was given; give at least one recording of the target speaker")
        return pooled(self.weigh(references, progress))

    def weigh(self, references: Sequence[Source], progress: Progress | None = None) -> list["Weighed"]:
        """The voices of recordings of one speaker, or of folders of them, with quality and share in the mean.

        Recordings without speech are left out, and told by an AudioWarning, like doubts about the others.
        Raises AudioError, and VoiceError where no recording holds speech.
        """
        found: list[tuple[str, Voice, Quality]] = []
        refused: list[str] = []
        for reference in _files(references):
            recording = self._recording(reference, progress)
            analysis = self._analysed(recording)
            voiced = analysis.f0(in_speech=True).frames / self.autoencoder.config.mel.frame_rate
            if voiced < MIN_SPEECH:
                refused.append(
                    f"{recording.name}: holds no speech or too little ({voiced:.1f} s of voiced speech); "
                    "give three seconds or more of one person talking"
                )
            else:
                found.append((recording.name, analysis.voice, self.examine(reference)))
        if not found:
            raise VoiceError(refused[0])
        for message in refused:
            warnings.warn(f"{message}; it is left out", AudioWarning, stacklevel=2)
        weights = [quality.weight for _, _, quality in found]
        weighed = []
        for number, (name, voice, quality) in enumerate(found):
            doubts = quality.doubts
            others = [each for each, _ in enumerate(found) if each != number]
            if others and self.made_by == CALIBRATION["made_by"]:
                rest = Voice.mix([found[each][1] for each in others], [weights[each] for each in others])
                if float(rest.embedding @ voice.embedding) < DIFFERENT_BELOW:
                    doubts = (*doubts, "another voice")
            for doubt in doubts:
                warnings.warn(f"{name}: {DOUBTS[doubt]}", AudioWarning, stacklevel=2)
            weighed.append(Weighed(name, voice, quality, weights[number] / sum(weights), doubts))
        return weighed

    def examine(self, reference: Source) -> Quality:
        """Measure whether the first minute of a recording is good as a reference. Raises AudioError."""
        start = beginning(reference, EXAMINED)
        with torch.inference_mode():
            analysis = _Analysis(with_mel=True)
            for _ in self._encode(self._recording(start), analysis):
                pass
            prosody = torch.cat(analysis.prosody, dim=-1)
            mel = torch.cat(analysis.mel, dim=-1)[:, : prosody.shape[-1]]
            return Quality.of(start, mel, prosody, self.autoencoder.speaker)

    def guided(self, voice: Reference, source_voice: Reference, strength: float = 1.0) -> Voice:
        """Apply speaker guidance as `convert` does: `Voice.guided` at the guidance scale of these weights."""
        scale = self.autoencoder.config.guidance_scale
        return self.voice(voice).guided(self.voice(source_voice), scale, strength)

    def embed(self, source: Source, progress: Progress | None = None) -> Samples:
        """Speaker embedding of a recording: (E,), unit norm. Raises AudioError."""
        analysis = _Analysis()
        for _ in self._encode_speaker(self._recording(source, progress), analysis):
            pass
        embedding: Samples = analysis.voice.embedding.numpy()
        return embedding

    def content(self, source: Source, progress: Progress | None = None) -> Code:
        """Content code of a recording: z (D, T), ids (T,) or None. Raises AudioError.

        Frame t describes the samples from step * t on.
        """
        z, ids, _ = zip(*self.content_blocks(source, progress), strict=True)
        return Code(torch.cat(z, dim=-1), None if ids[0] is None else torch.cat(ids), torch.zeros(()))

    @torch.inference_mode()
    def content_blocks(self, source: Source, progress: Progress | None = None) -> Iterator[Code]:
        """Yield the code that `content` returns, piece by piece; memory does not grow with the source."""
        cache: Cache = {}
        for piece in self._pieces(self._recording(source, progress)):
            code = self.autoencoder.bottleneck(self.autoencoder.content(piece.mel, cache))
            ids = None if code.ids is None else code.ids[0, piece.code_frames].cpu()
            yield Code(code.z[0, :, piece.code_frames].cpu(), ids, torch.zeros(()))

    @torch.inference_mode()
    def encode(self, source: Source, units: bool = False) -> Parts:
        """Encode a recording into content, prosody and voice, the inputs of `decode`.

        units: content as ids. Raises AudioError, and ValueError for units of a continuous code.
        """
        if units:
            self._require_units()
        recording = self._recording(source)
        analysis = _Analysis(with_codes=True)
        for _ in self._analyse(recording, analysis):
            pass
        content = torch.cat(analysis.ids if units else analysis.z, dim=-1)
        return Parts(content, torch.cat(analysis.prosody, dim=-1), analysis.voice)

    def decode(
        self,
        content: Tensor,
        prosody: Tensor | None,
        voice: Reference,
        pitch_shift: float = 0.0,
        source_f0: F0Statistics | None = None,
    ) -> Audio:
        """Decode content, prosody and voice, of one recording or of several: T * `step` samples.

        content: (D, T) as `encode` returns it, or ids (T,) of a discrete code. prosody: (3, P) as `encode`
        returns it; prosody of another length is stretched to that of the content; None: `expected_prosody`.
        F0 is moved from the range of the prosody, or from `source_f0`, to that of the voice, then by
        `pitch_shift` semitones. The voice is used without speaker guidance: for the output of `convert`, give
        `guided(voice, source_voice)`. The output has the level `vcae.audio.LEVEL`. Raises ValueError for
        other shapes, ids out of range and ids of a continuous code, VoiceError.
        """
        samples = concatenate(self.decode_blocks(content, prosody, voice, pitch_shift, source_f0))
        return Audio(samples, self.sample_rate, self.comment("converted"))

    @torch.inference_mode()
    def decode_blocks(
        self,
        content: Tensor,
        prosody: Tensor | None,
        voice: Reference,
        pitch_shift: float = 0.0,
        source_f0: F0Statistics | None = None,
    ) -> Iterator[Samples]:
        """Yield the samples that `decode` returns, block by block."""
        stride, dim = self.alignment.stride, self.autoencoder.config.content_dim
        content = self._code_of(content)
        prosody = self.expected_prosody(content) if prosody is None else prosody
        for name, part, rows in (("content", content, dim), ("prosody", prosody, 3)):
            if part.ndim != 2 or part.shape[0] != rows or not part.shape[1]:
                raise ValueError(f"{name} must be of shape ({rows}, T), not {tuple(part.shape)}")
        target = self.voice(voice)
        length = content.shape[-1]
        if prosody.shape[-1] != stride * length:
            prosody = nn.functional.interpolate(prosody[None], stride * length, mode="linear")[0]
        prosody = shift(prosody[None], source_f0 or F0Statistics.of(prosody[None]), target.f0, pitch_shift)
        # The first and the last frame are repeated for the delay of the networks.
        before, behind = self.alignment.code_delay, -(-self.alignment.vocoder_delay // self.step)
        z = _pad_edges(content[None], before, behind).to(self.device)
        prosody = _pad_edges(prosody, stride * before, stride * behind).to(self.device)
        conditioning = self.engine.conditioning(target)
        cache: Cache = {}
        size = self.block // self.step
        late, left = self.alignment.delay, length * self.step  # samples to leave out, and to give
        for z_block, prosody_block in zip(
            z.split(size, dim=-1), prosody.split(stride * size, dim=-1), strict=True
        ):
            wav = self.engine.synthesise(z_block, prosody_block, conditioning, cache)[0, 0].cpu().numpy()
            block: Samples = wav[late:][:left].clip(-1, 1)
            late, left = max(0, late - len(wav)), left - len(block)
            yield block

    @torch.inference_mode()
    def expected_prosody(self, content: Tensor) -> Tensor:
        """The prosody to be expected with content (D, T), or ids (T,): (3, T), one frame for each.

        Raises ValueError for models without a prosody predictor, and as `decode`.
        """
        if self.predictor is None:
            raise ValueError("these weights have no prosody predictor; give prosody, or use the model units")
        return self.predictor(self._code_of(content)[None].to(self.device))[0].cpu()

    def _code_of(self, content: Tensor) -> Tensor:
        """Content (D, T), or ids (T,) looked up."""
        if content.ndim != 1:
            return content
        self._require_units()
        bottleneck = self.autoencoder.bottleneck
        last = bottleneck.size - 1
        if content.is_floating_point() or not len(content) or not 0 <= content.min() <= content.max() <= last:
            raise ValueError(f"ids must be integers from 0 to {last}, one or more")
        return bottleneck.decode(content[None].to(self.device))[0].cpu()

    def _require_units(self) -> None:
        if not self.autoencoder.bottleneck.discrete:
            raise ValueError("the code of these weights is continuous and has no ids; use the model units")

    def _recording(self, source: Source, progress: Progress | None = None) -> Recording:
        return refuse_silence(Recording(source, self.sample_rate, progress))

    def _reconstruct_blocks(self, source: Source, progress: Progress | None = None) -> Iterator[Samples]:
        """Yield the samples that `reconstruct` returns, block by block."""
        recording = self._recording(source, progress)
        voice = self._analysed(recording).voice
        yield from self._stream_recording(recording, voice, voice, strength=0)

    def _stream_recording(
        self,
        recording: Recording,
        target: Voice,
        source_voice: Voice,
        pitch_shift: float = 0.0,
        strength: float = 1.0,
    ) -> Iterator[Samples]:
        """Convert a recording by a stream that is given level, F0 statistics and speaker of the source."""
        stream = self._make_stream(
            target,
            sample_rate=self.sample_rate,
            output_rate=self.sample_rate,
            pitch_shift=pitch_shift,
            strength=strength,
            source=source_voice,
            level=recording.level,
            filtered=True,
        )
        yield from map(stream.feed, cut(recording.blocks("converting"), self.block))
        yield stream.flush()

    def _pieces(self, recording: Recording) -> Iterator["_Piece"]:
        """The pieces of a recording with the mel of each."""
        code, prosody = self.alignment.describing(recording.length)
        stride, cache, start = self.alignment.stride, Cache(), 0  # start: in code frames
        remaining = recording.length
        for block in pieces(recording):
            remaining -= len(block)
            wav = torch.from_numpy(block)[None, None].to(self.device)
            padding = 0 if remaining else self.alignment.padding(recording.length)
            padded = nn.functional.pad(wav, (0, padding)) if padding else wav
            mel = self.log_mel(padded, cache)
            yield _Piece(mel, _within(code, start), _within(prosody, stride * start))
            start += mel.shape[-1] // stride

    def _analyse(self, recording: Recording, analysis: "_Analysis") -> Iterator[Samples]:
        """Encode a recording, then its speaker; yields an empty block after each piece."""
        yield from self._encode(recording, analysis)
        yield from self._encode_speaker(recording, analysis)

    @torch.inference_mode()
    def _encode(self, recording: Recording, analysis: "_Analysis") -> Iterator[Samples]:
        """Add prosody, and content codes and mel if wanted, of a recording to an analysis."""
        cache: Cache = {}
        past = torch.zeros(self.log_mel.config.n_mels, 0)
        for piece in self._pieces(recording):
            if analysis.with_codes:
                code = self.autoencoder.bottleneck(self.autoencoder.content(piece.mel, cache))
                analysis.z.append(code.z[0, :, piece.code_frames].cpu())
                if code.ids is not None:
                    analysis.ids.append(code.ids[0, piece.code_frames].cpu())
            mel = torch.cat([past, piece.mel[0].float().cpu()], dim=-1)  # with what precedes the piece
            analysis.change.append(change_of(mel)[past.shape[-1] :])
            if analysis.with_mel:
                analysis.mel.append(mel[:, past.shape[-1] :])
            past = mel[:, -LAG:]
            prosody = self.autoencoder.prosody(piece.mel, cache)[0, :, piece.prosody_frames]
            analysis.prosody.append(prosody.cpu())
            yield np.zeros(0, dtype=np.float32)

    @torch.inference_mode()
    def _encode_speaker(self, recording: Recording, analysis: "_Analysis") -> Iterator[Samples]:
        """Add the voice of a recording to an analysis, of its speech if the prosody says where that is."""
        mask = analysis.speech if analysis.prosody and analysis.speech.any() else None
        for piece in pieces(recording, mask, self.step // self.alignment.stride):
            wav = torch.from_numpy(piece)[None, None].to(self.device)
            # The speaker encoder needs at least a step.
            speaker = self.engine.speaker(nn.functional.pad(wav, (0, max(0, self.step - len(piece)))))
            no_f0 = F0Statistics(0, 0, 0)
            voice = Voice(speaker.embedding[0].cpu(), speaker.tokens[0].cpu(), no_f0, self.made_by)
            analysis.voices.append(voice)
            analysis.weights.append(weight(piece, self.sample_rate))
            yield np.zeros(0, dtype=np.float32)

    def _analysed(self, recording: Recording) -> "_Analysis":
        analysis = _Analysis()
        for _ in self._analyse(recording, analysis):
            pass
        return analysis

    def _check_weights(self, voice: Voice, path: str | Path | None = None) -> Voice:
        if voice.made_by != self.made_by:
            raise VoiceError(
                f"{path or 'this voice'}: was made with other weights; make it again with `vcae voice`"
            )
        if voice.tuned_for not in (None, self.decoder):
            raise VoiceError(
                f"{path or 'this voice'}: was fine-tuned for another model; choose that one by --model, or"
                " tune the voice for this one"
            )
        return voice


class Weighed(NamedTuple):
    """A reference among those of a voice. share: of its voice in theirs. doubts: keys of `DOUBTS`."""

    name: str
    voice: Voice
    quality: Quality
    share: float
    doubts: tuple[str, ...]


def pooled(weighed: Sequence[Weighed]) -> Voice:
    """The voice of several references of one speaker, with all doubts about them."""
    voices, shares = [each.voice for each in weighed], [each.share for each in weighed]
    doubts = {doubt: None for each in weighed for doubt in each.doubts}
    return replace(Voice.mix(voices, shares, pool_pitch=True), doubts=tuple(doubts))


class _Piece(NamedTuple):
    """A piece of a recording.

    mel: (1, n_mels, T), with zeros after the last piece. code_frames, prosody_frames: the encoders' output
    frames for this mel that describe the recording.
    """

    mel: Tensor
    code_frames: slice
    prosody_frames: slice


@dataclass
class _Analysis:
    """Results for the pieces of a recording so far.

    with_codes: the content code, too. with_mel: the mel, too.
    """

    with_codes: bool = False
    with_mel: bool = False
    z: list[Tensor] = field(default_factory=list)  # (D, T) each
    ids: list[Tensor] = field(default_factory=list)  # (T,) each, of a discrete code
    mel: list[Tensor] = field(default_factory=list)  # (n_mels, P) each
    change: list[Tensor] = field(default_factory=list)  # (P,) each, `change_of` the mel
    prosody: list[Tensor] = field(default_factory=list)  # (3, P) each
    voices: list[Voice] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)  # of the voices

    @cached_property
    def speech(self) -> npt.NDArray[np.bool_]:
        """Which frames belong to speech, (P,)."""
        prosody = torch.cat(self.prosody, dim=-1)
        return speech_mask(torch.cat(self.change)[: prosody.shape[-1]], prosody)

    def f0(self, in_speech: bool) -> F0Statistics:
        """F0 statistics, of what belongs to speech or of everything."""
        prosody = torch.cat(self.prosody, dim=-1)
        if in_speech:
            prosody[1] *= torch.from_numpy(self.speech)
        return F0Statistics.of(prosody[None])

    @property
    def voice(self) -> Voice:
        """Of the speech, or of everything where there is none."""
        voice = Voice.mix(self.voices, self.weights)
        return replace(voice, f0=self.f0(bool(self.speech.any()))) if self.prosody else voice


def _files(references: Iterable[Source]) -> Iterator[Source]:
    """The references, with the audio files of folders in their place. Raises VoiceError for empty folders."""
    for reference in references:
        if isinstance(reference, Audio) or not os.path.isdir(reference):  # noqa: PTH112 -- of any name
            yield reference
            continue
        found = find_audio(reference)
        if not found:
            raise VoiceError(f"{reference}: holds no audio files; give a folder that holds some, or files")
        yield from found


def _within(frames: slice, start: int) -> slice:
    """The part of a slice of a signal that lies in a piece from frame `start` on."""
    return slice(max(0, frames.start - start), max(0, frames.stop - start))


def _check_options(pitch_shift: float, strength: float) -> None:
    if not 0 <= strength <= 1:
        raise VcaeError(f"strength must be between 0 and 1, not {strength}")
    if not abs(pitch_shift) <= MAX_SHIFT:
        raise VcaeError(f"pitch shift must be within {MAX_SHIFT:g} semitones, not {pitch_shift}")


def _pad_edges(x: Tensor, before: int, behind: int) -> Tensor:
    """Repeat the first frame `before` times, the last `behind` times: (B, C, T) -> (B, C, T + ...)."""
    return nn.functional.pad(x, (before, behind), mode="replicate")
