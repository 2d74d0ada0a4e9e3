"""What a user holds: weights that convert, and that tell content from speaker."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

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
        self._engine = Engine(self.log_mel, self.autoencoder, self.vocoder)
        self.step = self._engine.step
        self.block = max(1, round(block_seconds * self.sample_rate / self.step)) * self.step
        self.delay = self._engine.delay
        """How many samples late the networks' output is."""
        self.made_by = _fingerprint(autoencoder)
        self._make_stream = partial(Stream, self._engine, longest=self.block)
        if self.device.type != "mps":  # which has no float64
            # So that rounding errors do not add up in the phase, and blocks of any size give the same.
            self.log_mel.double()
            self.autoencoder.prosody.double()

    def convert(
        self, source: Source, voice: Reference, pitch_shift: float = 0.0, strength: float = 1.0
    ) -> Audio:
        """The source in another voice, as long and as loud as it was.

        pitch_shift: semitones on top of the move to the voice's range. strength: 1 is the voice, 0 the
        source's own; between them, a mix. Raises AudioError, VoiceError.
        """
        return self._whole(self._conversion(source, voice, pitch_shift, strength))

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
        blocks = self._conversion(source, voice, pitch_shift, strength, progress)
        write_blocks(out, blocks, self.sample_rate)

    def reconstruct(self, source: Source) -> Audio:
        """Encode and decode in the same voice: the plain autoencoder."""
        return self._whole(self._reconstruction(source))

    def reconstruct_file(self, source: Source, out: str | Path, progress: Progress | None = None) -> None:
        """Write what `reconstruct` gives to a file, as `convert_file` does."""
        write_blocks(out, self._reconstruction(source, progress), self.sample_rate)

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
        self._engine.trace()

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
            recording = self._listen(reference, progress)
            voice = self._own_voice(recording)
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
        recording = self._listen(source, progress)
        embedding: Samples = self._voice_of(recording, F0Statistics(0, 0, 0)).embedding.numpy()
        return embedding

    @torch.inference_mode()
    def content(self, source: Source, progress: Progress | None = None) -> Code:
        """What is said: z (D, T) at the code's rate, ids (T,) or None, of samples step * t on."""
        recording = self._listen(source, progress)
        cache: Cache = {}
        codes = [
            self.autoencoder.bottleneck(self.autoencoder.content(self.log_mel(b, cache), cache))
            for b in self._steps(recording)
        ]
        of_prosody, stride = self._frames(recording), self.autoencoder.content.stride
        frames = slice(of_prosody.start // stride, of_prosody.stop // stride)
        z = torch.cat([c.z for c in codes], dim=-1)[0, :, frames].cpu()
        ids = [c.ids for c in codes if c.ids is not None]
        return Code(z, torch.cat(ids, dim=-1)[0, frames].cpu() if ids else None, z.new_zeros(()))

    @torch.inference_mode()
    def encode(self, source: Source) -> Parts:
        """Take a recording apart into what `decode` takes. Raises AudioError."""
        recording = self._listen(source)
        cache: Cache = {}
        encoded = [self.autoencoder.encode(self.log_mel(b, cache), cache) for b in self._steps(recording)]
        frames, stride = self._frames(recording), self.autoencoder.content.stride
        z = torch.cat([code.z for code, _ in encoded], dim=-1)[0]
        z = z[:, frames.start // stride : frames.stop // stride].cpu()  # (D, T)
        prosody = torch.cat([prosody for _, prosody in encoded], dim=-1)[0]
        prosody = prosody[:, frames.start : frames.stop].cpu()  # (3, stride T)
        return Parts(z, prosody, self._voice_of(recording, F0Statistics.of(prosody[None])))

    @torch.inference_mode()
    def decode(self, content: Tensor, prosody: Tensor, voice: Reference, pitch_shift: float = 0.0) -> Audio:
        """Put parts together, of one recording or of several: what is said, how, and by whom.

        content (D, T) and prosody (3, P) as `encode` gives them; a prosody of another length is stretched to
        the content's. F0 is moved from its own range to the voice's, then by semitones. The voice is taken as
        it is: `guided(voice, source)` for what `convert` gives. Of T code steps, at the level that `encode`
        brings all recordings to. Raises ValueError for other shapes, VoiceError.
        """
        stride, dim = self.autoencoder.content.stride, self.autoencoder.config.content_dim
        for name, part, rows in (("content", content, dim), ("prosody", prosody, 3)):
            if part.ndim != 2 or part.shape[0] != rows or not part.shape[1]:
                raise ValueError(f"{name} must be of shape ({rows}, T), not {tuple(part.shape)}")
        target = self.voice(voice)
        speaker = SpeakerCode(target.embedding[None].to(self.device), target.tokens[None].to(self.device))
        length = content.shape[-1]
        if prosody.shape[-1] != stride * length:
            prosody = torch.nn.functional.interpolate(prosody[None], stride * length, mode="linear")[0]
        prosody = shift(prosody[None], F0Statistics.of(prosody[None]), target.f0, pitch_shift)
        # The chain starts before the signal and ends behind it; there, the first and last frames are held.
        before = self.autoencoder.config.delay // stride
        behind = -(-self.vocoder.delay // self.step)
        z = _held(content[None], before, behind).to(self.device)
        prosody = _held(prosody, stride * before, stride * behind).to(self.device)
        cache: Cache = {}
        size = self.block // self.step
        pieces = [
            self.vocoder(self.autoencoder.decode(some, how, speaker, cache), how, cache)[0, 0].cpu().numpy()
            for some, how in zip(z.split(size, dim=-1), prosody.split(stride * size, dim=-1), strict=True)
        ]
        samples = np.concatenate(pieces)[self.delay :][: length * self.step].clip(-1, 1)
        return Audio(samples, self.sample_rate)

    def _listen(self, source: Source, progress: Progress | None = None) -> Recording:
        recording = Recording(source, self.sample_rate, progress)
        if recording.silent:
            raise AudioError(f"{recording.name}: is silent; there is no voice in it")
        return recording

    def _conversion(
        self,
        source: Source,
        voice: Reference,
        pitch_shift: float,
        strength: float,
        progress: Progress | None = None,
    ) -> Iterator[Samples]:
        """What `convert` gives, block by block."""
        _check(pitch_shift, strength)
        target = self.voice(voice)
        recording = self._listen(source, progress)
        yield from self._spoken(recording, self._own_voice(recording), target, pitch_shift, strength)

    def _reconstruction(self, source: Source, progress: Progress | None = None) -> Iterator[Samples]:
        """What `reconstruct` gives, block by block."""
        recording = self._listen(source, progress)
        own = self._own_voice(recording)
        yield from self._spoken(recording, own, own, strength=0)

    def _spoken(
        self,
        recording: Recording,
        own: Voice,
        target: Voice,
        pitch_shift: float = 0.0,
        strength: float = 1.0,
    ) -> Iterator[Samples]:
        """A recording in another voice than its own."""
        stream = self._make_stream(
            target,
            sample_rate=self.sample_rate,
            output_rate=self.sample_rate,
            pitch_shift=pitch_shift,
            strength=strength,
            source=own,
            level=recording.level,
        )
        yield from map(stream.feed, cut(recording.blocks("converting"), self.block))
        yield stream.flush()

    def _whole(self, blocks: Iterable[Samples]) -> Audio:
        return Audio(concatenate(blocks), self.sample_rate)

    def _blocks(self, recording: Recording, size: int, silence: int = 0) -> Iterator[Tensor]:
        """Pieces (1, 1, size) of a recording, and of so much silence behind it, at LEVEL on the device."""
        gain = np.float32(10 ** ((LEVEL - recording.level) / 20))
        behind = np.zeros(silence, dtype=np.float32)
        for block in cut(chain(recording.blocks("listening"), [behind]), size):
            yield torch.from_numpy(block * gain)[None, None].to(self.device)

    def _steps(self, recording: Recording) -> Iterator[Tensor]:
        """Pieces (1, 1, block) in whole steps, with silence behind until all of it has been heard."""
        more = self.delay + -(recording.length + self.delay) % self.step
        return self._blocks(recording, self.block, more)

    def _own_voice(self, recording: Recording) -> Voice:
        return self._voice_of(recording, self._pitch(recording))

    @torch.inference_mode()
    def _pitch(self, recording: Recording) -> F0Statistics:
        """F0 statistics of a whole recording."""
        cache: Cache = {}
        found, wanted, before = F0Statistics(0, 0, 0), self._frames(recording), 0
        for block in self._steps(recording):
            prosody = self.autoencoder.prosody(self.log_mel(block, cache), cache)
            found += F0Statistics.of(
                prosody[..., max(0, wanted.start - before) : max(0, wanted.stop - before)]
            )
            before += prosody.shape[-1]
        return found

    def _frames(self, recording: Recording) -> range:
        """Which frames of prosody speak of a recording, of all that `_steps` gives."""
        late, steps = self.autoencoder.config.delay, -(-recording.length // self.step)
        return range(late, late + steps * self.autoencoder.content.stride)

    @torch.inference_mode()
    def _voice_of(self, recording: Recording, f0: F0Statistics) -> Voice:
        """The voice of a recording, with the given F0; a long one in pieces that count by their sound."""
        voices, sizes = [], []
        for piece in self._blocks(recording, PIECE_SECONDS * self.sample_rate):
            padded = torch.nn.functional.pad(piece, (0, max(0, self.step - piece.shape[-1])))
            code = self._engine.speaker(padded)
            voices.append(Voice(code.embedding[0].cpu(), code.tokens[0].cpu(), f0, self.made_by))
            sizes.append(0.01 + speech_seconds(piece[0, 0].cpu().numpy(), self.sample_rate))
        return Voice.mix(voices, sizes)

    def _checked(self, voice: Voice, path: str | Path | None = None) -> Voice:
        if voice.made_by != self.made_by:
            raise VoiceError(
                f"{path or 'this voice'}: was made with other weights; make it again with `vcae voice`"
            )
        return voice


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
    return torch.nn.functional.pad(x, (before, behind), mode="replicate")
