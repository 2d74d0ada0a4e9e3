"""What a user holds: weights that convert, and that tell content from speaker."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from vcae.audio import (
    LEVEL,
    Audio,
    Progress,
    Recording,
    Samples,
    concatenate,
    cut,
    speech_seconds,
    write_blocks,
)
from vcae.errors import AudioError, VcaeError
from vcae.inference.checkpoint import BUNDLED, load_autoencoder, load_vocoder
from vcae.inference.engine import Engine
from vcae.inference.stream import Stream
from vcae.inference.voice import Voice, VoiceError
from vcae.model.autoencoder import Autoencoder
from vcae.model.bottleneck import Code
from vcae.model.mel import LogMel
from vcae.model.prosody import F0Statistics, shift
from vcae.model.speaker import SpeakerCode
from vcae.model.state import Cache
from vcae.model.vocoder import Vocoder

Source: TypeAlias = str | Path | Audio
"""A recording: a file of any rate and format, or samples with their rate."""
Reference: TypeAlias = Voice | Source | Sequence[Source]
"""Whose voice: a `Voice`, a `.voice` file, or one or more recordings."""

MAX_SHIFT = 24.0
"""Semitones up or down that a conversion may shift the pitch."""
MIN_SPEECH = 0.1
"""Seconds, surely voiced, that a reference must hold: a word or two."""
PIECE_SECONDS = 10
"""A longer reference is heard in pieces of so many seconds."""


def load(path: str | Path | None = None, device: str = "cpu") -> "Converter":
    """The bundled weights, or those in a folder that training wrote. Raises CheckpointError."""
    folder = BUNDLED if path is None else Path(path)
    autoencoder = load_autoencoder(folder / "autoencoder.safetensors")
    return Converter(autoencoder, load_vocoder(folder / "vocoder.safetensors"), device)


class Parts(NamedTuple):
    """A recording taken apart. Frame t of content describes the samples from step * t on.

    content: (D, T), what is said, at the code's rate. prosody: (3, P), how: log-F0, voicing and log-energy,
    P / T mel frames for each frame of content. voice: who says it.
    """

    content: Tensor
    prosody: Tensor
    voice: Voice


class Converter:
    """Converts voices with an autoencoder and a vocoder of the same mel.

    All sound comes out at `sample_rate`. Files of any length are worked on in blocks of `block_seconds`.
    """

    def __init__(
        self, autoencoder: Autoencoder, vocoder: Vocoder, device: str = "cpu", block_seconds: float = 5.0
    ) -> None:
        config = autoencoder.config.mel
        if vocoder.config.mel != config:
            raise ValueError("autoencoder and vocoder must have the same mel")
        self.autoencoder = autoencoder.to(device).eval()
        self.vocoder = vocoder.to(device).eval()
        self.log_mel = LogMel(config).to(device)
        self.device = torch.device(device)
        self.sample_rate = config.sample_rate
        self.engine = Engine(self.log_mel, self.autoencoder, self.vocoder)
        self.alignment = self.autoencoder.alignment
        """Delays of the networks, and which frame describes which samples."""
        self.step = self.alignment.step
        """Samples of a frame of the content code."""
        self.block = max(1, round(block_seconds * self.sample_rate / self.step)) * self.step
        self.made_by = _fingerprint(autoencoder)
        self._make_stream = partial(Stream, self.engine, longest=self.block)
        if self.device.type != "mps":  # which has no float64
            # So that rounding errors do not add up in the phase, and blocks of any size give the same.
            self.log_mel.double()
            self.autoencoder.prosody.double()

    def convert(
        self, source: Source, voice: Reference, pitch_shift: float = 0.0, strength: float = 1.0
    ) -> Audio:
        """Convert a recording into another voice; the result is as long and as loud as the source.

        pitch_shift: semitones on top of the move to the voice's range. strength: 1 is the voice, 0 the
        source speaker's own; between them, a mix. Raises AudioError, VoiceError.
        """
        return Audio(concatenate(self.convert_blocks(source, voice, pitch_shift, strength)), self.sample_rate)

    def convert_blocks(
        self,
        source: Source,
        voice: Reference,
        pitch_shift: float = 0.0,
        strength: float = 1.0,
        progress: Progress | None = None,
    ) -> Iterator[Samples]:
        """What `convert` returns, block by block: memory does not grow with the source.

        While the source is analysed, the blocks are empty, so that a caller may do other work in between.
        """
        _check(pitch_shift, strength)
        target = self.voice(voice)
        recording = self._recording(source, progress)
        analysis = _Analysis()
        yield from self._analyse(recording, analysis)
        yield from self._stream_recording(recording, target, analysis.voice, pitch_shift, strength)

    def convert_file(
        self,
        source: Source,
        out: str | Path,
        voice: Reference,
        pitch_shift: float = 0.0,
        strength: float = 1.0,
        progress: Progress | None = None,
    ) -> None:
        """Write what `convert` gives to a file, block by block: memory does not grow with the source.

        Raises OutputError as well.
        """
        write_blocks(
            out, self.convert_blocks(source, voice, pitch_shift, strength, progress), self.sample_rate
        )

    def reconstruct(self, source: Source) -> Audio:
        """Encode and decode in the same voice: the plain autoencoder."""
        return Audio(concatenate(self._reconstruct_blocks(source)), self.sample_rate)

    def reconstruct_file(self, source: Source, out: str | Path, progress: Progress | None = None) -> None:
        """Write what `reconstruct` gives to a file, as `convert_file` does."""
        write_blocks(out, self._reconstruct_blocks(source, progress), self.sample_rate)

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
        """Conversion of a source that comes block by block, such as a microphone's.

        sample_rate: of the source, in Hz; output_rate: of what is given (default: as the source; and both
        are the converter's where neither is said). source_voice: the speaker's own, and level: the source's
        `loudness` in dBFS, instead of following them. Raises AudioError, VoiceError.
        """
        _check(pitch_shift, strength)
        if level is not None and not abs(level) <= 100:
            raise VcaeError(f"level must be in dBFS, from -100 to 100, not {level}")
        sample_rate = sample_rate or self.sample_rate
        output_rate = output_rate or sample_rate
        if min(sample_rate, output_rate) < 1_000:
            raise VcaeError(f"a sample rate must be 1000 Hz or more, not {min(sample_rate, output_rate)}")
        if strength < 1 and source_voice is None:
            raise VcaeError("a strength below 1 mixes in the speaker's own voice; name it as source voice")
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
        """From now on, let streams convert a block of 20 ms in half of the time; takes a second.

        With longer blocks it changes nothing.
        """
        self.engine.trace()

    def voice(self, references: Reference, progress: Progress | None = None) -> Voice:
        """The voice in one or more recordings of a speaker, the longer ones counting more.

        Raises VoiceError where there is no speech or a `.voice` file is of other weights.
        """
        if isinstance(references, Voice):
            return self._checked(references)
        if isinstance(references, str | Path | Audio):
            references = [references]
        files = [r for r in references if not isinstance(r, Audio) and Path(r).suffix == ".voice"]
        if files and len(references) > 1:
            raise VoiceError(f"{files[0]}: a .voice file stands alone; mix voices with `vcae mix` first")
        if files:
            return self._checked(Voice.load(files[0]), files[0])
        if not references:
            raise VoiceError("no reference was given; name at least one recording of the target speaker")
        voices, seconds = [], []
        for reference in references:
            recording = self._recording(reference, progress)
            voice = self._voice_in(recording)
            voiced = voice.f0.frames / self.autoencoder.config.mel.frame_rate
            if voiced < MIN_SPEECH:
                raise VoiceError(
                    f"{recording.name}: holds no speech to take a voice from; "
                    "give a recording of some seconds of one person talking"
                )
            voices.append(voice)
            seconds.append(recording.length / self.sample_rate)
        return Voice.mix(voices, seconds, pool_pitch=True)

    def guided(self, voice: Reference, source_voice: Reference, strength: float = 1.0) -> Voice:
        """A voice under speaker guidance, as `convert` uses it: `Voice.guided` at these weights' scale."""
        scale = self.autoencoder.config.guidance_scale
        return self.voice(voice).guided(self.voice(source_voice), scale, strength)

    def embed(self, source: Source, progress: Progress | None = None) -> Samples:
        """The speaker code of a recording: (E,) of unit norm; a product of two is their cosine."""
        embedding: Samples = self._voice_in(self._recording(source, progress)).embedding.numpy()
        return embedding

    @torch.inference_mode()
    def content(self, source: Source, progress: Progress | None = None) -> Code:
        """The content code: z (D, T), ids (T,) or None. Frame t describes the samples from step * t on."""
        cache: Cache = {}
        z, ids = [], []
        for piece in self._pieces(self._recording(source, progress)):
            code = self.autoencoder.bottleneck(self.autoencoder.content(piece.mel, cache))
            z.append(code.z[0, :, piece.code_frames].cpu())
            if code.ids is not None:
                ids.append(code.ids[0, piece.code_frames].cpu())
        return Code(torch.cat(z, dim=-1), torch.cat(ids) if ids else None, torch.zeros(()))

    @torch.inference_mode()
    def encode(self, source: Source) -> Parts:
        """Take a recording apart into what `decode` takes. Raises AudioError."""
        recording = self._recording(source)
        analysis = _Analysis(keep=True)
        for _ in self._analyse(recording, analysis):
            pass
        return Parts(torch.cat(analysis.z, dim=-1), torch.cat(analysis.prosody, dim=-1), analysis.voice)

    @torch.inference_mode()
    def decode(self, content: Tensor, prosody: Tensor, voice: Reference, pitch_shift: float = 0.0) -> Audio:
        """Put parts together, of one recording or of several: what is said, how, and by whom.

        content (D, T) and prosody (3, P) as `encode` gives them; a prosody of another length is stretched to
        the content's. F0 is moved from its own range to the voice's, then by semitones. The voice is taken as
        it is: `guided(voice, source)` for what `convert` gives. Of T code steps, at the level that `encode`
        brings all recordings to. Raises ValueError for other shapes, VoiceError.
        """
        stride, dim = self.alignment.stride, self.autoencoder.config.content_dim
        for name, part, rows in (("content", content, dim), ("prosody", prosody, 3)):
            if part.ndim != 2 or part.shape[0] != rows or not part.shape[1]:
                raise ValueError(f"{name} must be of shape ({rows}, T), not {tuple(part.shape)}")
        target = self.voice(voice)
        speaker = SpeakerCode(target.embedding[None].to(self.device), target.tokens[None].to(self.device))
        length = content.shape[-1]
        if prosody.shape[-1] != stride * length:
            prosody = nn.functional.interpolate(prosody[None], stride * length, mode="linear")[0]
        prosody = shift(prosody[None], F0Statistics.of(prosody[None]), target.f0, pitch_shift)
        # The first and the last frame are repeated for as long as the networks are late.
        before, behind = self.alignment.code_delay, -(-self.alignment.vocoder_delay // self.step)
        z = _held(content[None], before, behind).to(self.device)
        prosody = _held(prosody, stride * before, stride * behind).to(self.device)
        conditioning = self.autoencoder.decoder.conditioning(speaker)
        cache: Cache = {}
        size = self.block // self.step
        pieces = [
            self.engine.synthesise(some, how, conditioning, cache)[0, 0].cpu().numpy()
            for some, how in zip(z.split(size, dim=-1), prosody.split(stride * size, dim=-1), strict=True)
        ]
        samples = np.concatenate(pieces)[self.alignment.delay :][: length * self.step].clip(-1, 1)
        return Audio(samples, self.sample_rate)

    def _recording(self, source: Source, progress: Progress | None = None) -> Recording:
        recording = Recording(source, self.sample_rate, progress)
        if recording.silent:
            raise AudioError(f"{recording.name}: is silent; there is no voice in it")
        return recording

    def _reconstruct_blocks(self, source: Source, progress: Progress | None = None) -> Iterator[Samples]:
        """What `reconstruct` returns, block by block."""
        recording = self._recording(source, progress)
        voice = self._voice_in(recording)
        yield from self._stream_recording(recording, voice, voice, strength=0)

    def _stream_recording(
        self,
        recording: Recording,
        target: Voice,
        source_voice: Voice,
        pitch_shift: float = 0.0,
        strength: float = 1.0,
    ) -> Iterator[Samples]:
        """A recording converted by a stream that knows level, F0 and speaker of the source."""
        stream = self._make_stream(
            target,
            sample_rate=self.sample_rate,
            output_rate=self.sample_rate,
            pitch_shift=pitch_shift,
            strength=strength,
            source=source_voice,
            level=recording.level,
        )
        yield from map(stream.feed, cut(recording.blocks("converting"), self.block))
        yield stream.flush()

    def _pieces(self, recording: Recording) -> Iterator["_Piece"]:
        """A recording at LEVEL in pieces of PIECE_SECONDS, and their mels, one going on from the other."""
        gain = np.float32(10 ** ((LEVEL - recording.level) / 20))
        code, prosody = self.alignment.describing(recording.length)
        stride, cache, start = self.alignment.stride, Cache(), 0  # start: in code frames
        size, left = PIECE_SECONDS * self.sample_rate, recording.length
        for block in cut(recording.blocks("analysing"), size):
            left -= len(block)
            wav = torch.from_numpy(block * gain)[None, None].to(self.device)
            padded = wav if left else nn.functional.pad(wav, (0, self.alignment.padding(recording.length)))
            mel = self.log_mel(padded, cache)
            yield _Piece(wav, mel, _within(code, start), _within(prosody, stride * start))
            start += mel.shape[-1] // stride

    @torch.inference_mode()
    def _analyse(self, recording: Recording, analysis: "_Analysis") -> Iterator[Samples]:
        """Find the voice of a recording, F0 statistics included; an empty block after each piece."""
        cache: Cache = {}
        for piece in self._pieces(recording):
            if analysis.keep:
                code = self.autoencoder.bottleneck(self.autoencoder.content(piece.mel, cache))
                analysis.z.append(code.z[0, :, piece.code_frames].cpu())
            prosody = self.autoencoder.prosody(piece.mel, cache)[..., piece.prosody_frames]
            if analysis.keep:
                analysis.prosody.append(prosody[0].cpu())
            analysis.f0 += F0Statistics.of(prosody)
            # A longer recording counts by the speech in its pieces.
            short = nn.functional.pad(piece.wav, (0, max(0, self.step - piece.wav.shape[-1])))
            speaker = self.engine.speaker(short)
            none = F0Statistics(0, 0, 0)
            voice = Voice(speaker.embedding[0].cpu(), speaker.tokens[0].cpu(), none, self.made_by)
            analysis.voices.append(voice)
            seconds = speech_seconds(piece.wav[0, 0].cpu().numpy(), self.sample_rate)
            analysis.seconds.append(0.01 + seconds)
            yield np.zeros(0, dtype=np.float32)

    def _voice_in(self, recording: Recording) -> Voice:
        analysis = _Analysis()
        for _ in self._analyse(recording, analysis):
            pass
        return analysis.voice

    def _checked(self, voice: Voice, path: str | Path | None = None) -> Voice:
        if voice.made_by != self.made_by:
            raise VoiceError(
                f"{path or 'this voice'}: was made with other weights; make it again with `vcae voice`"
            )
        return voice


class _Piece(NamedTuple):
    """A piece of a recording.

    wav: (1, 1, N). mel: (1, n_mels, T), with silence behind the last piece. code_frames, prosody_frames:
    which of the frames that the encoders give for this mel describe the recording.
    """

    wav: Tensor
    mel: Tensor
    code_frames: slice
    prosody_frames: slice


@dataclass
class _Analysis:
    """What is known of a recording after each of its pieces; z and prosody are kept on demand only."""

    keep: bool = False
    z: list[Tensor] = field(default_factory=list)  # (D, T) each
    prosody: list[Tensor] = field(default_factory=list)  # (3, P) each
    f0: F0Statistics = field(default_factory=lambda: F0Statistics(0, 0, 0))
    voices: list[Voice] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)  # of speech

    @property
    def voice(self) -> Voice:
        return replace(Voice.mix(self.voices, self.seconds), f0=self.f0)


def _within(frames: slice, start: int) -> slice:
    """A slice of a signal, in a piece of it that begins at `start`."""
    return slice(max(0, frames.start - start), max(0, frames.stop - start))


def _fingerprint(autoencoder: Autoencoder) -> str:
    """Tells apart weights whose voices are not exchangeable."""
    digest = hashlib.sha256()
    for t in autoencoder.state_dict().values():
        digest.update(t.cpu().float().numpy().tobytes())
    return digest.hexdigest()[:16]


def _check(pitch_shift: float, strength: float) -> None:
    if not 0 <= strength <= 1:
        raise VcaeError(f"strength must be between 0 and 1, not {strength}")
    if not abs(pitch_shift) <= MAX_SHIFT:
        raise VcaeError(f"pitch shift must be within {MAX_SHIFT} semitones, not {pitch_shift}")


def _held(x: Tensor, before: int, behind: int) -> Tensor:
    """(B, C, T) with the first and last frames repeated."""
    return nn.functional.pad(x, (before, behind), mode="replicate")
