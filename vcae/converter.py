"""What a user holds: weights that convert, and that tell content from speaker."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from vcae.audio import LEVEL, Audio, AudioError, Samples, is_silent, loudness, read, resample, speech_seconds
from vcae.autoencoder import Autoencoder
from vcae.bottleneck import Code
from vcae.cache import Cache
from vcae.checkpoint import BUNDLED, load_autoencoder, load_vocoder
from vcae.errors import VcaeError
from vcae.mel import LogMel
from vcae.prosody import F0Statistics, shift
from vcae.speaker import SpeakerCode, Voice, VoiceError
from vcae.vocoder import Vocoder

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
        self.step = config.hop_length * autoencoder.content.stride
        self.block = max(1, round(block_seconds * self.sample_rate / self.step)) * self.step
        self.delay = vocoder.delay + autoencoder.config.delay * config.hop_length
        """How many samples late the chain's output is."""
        self.made_by = _fingerprint(autoencoder)
        if self.device.type != "mps":  # which has no float64
            # So that rounding errors do not add up in the phase, and blocks of any size give the same.
            self.log_mel.double()
            self.autoencoder.prosody.double()

    @torch.inference_mode()
    def convert(
        self, source: Source, voice: Reference, pitch_shift: float = 0.0, strength: float = 1.0
    ) -> Audio:
        """The source in another voice, as long and as loud as it was.

        pitch_shift: semitones on top of the move to the voice's range. strength: 1 is the voice, 0 the
        source's own; between them, a mix. Raises AudioError, VoiceError.
        """
        if not 0 <= strength <= 1:
            raise VcaeError(f"strength must be between 0 and 1, not {strength}")
        if not abs(pitch_shift) <= MAX_SHIFT:
            raise VcaeError(f"pitch shift must be within {MAX_SHIFT} semitones, not {pitch_shift}")
        target = self.voice(voice)
        wav, gain = self._listen(source)
        own = self._pitch(wav)
        if strength < 1:
            target = Voice.mix([self._voice_of(wav, own), target], [1 - strength, strength])
        return Audio(self._decode(wav, own, target, pitch_shift, 1 / gain), self.sample_rate)

    @torch.inference_mode()
    def reconstruct(self, source: Source) -> Audio:
        """Encode and decode in the same voice: the plain autoencoder."""
        wav, gain = self._listen(source)
        own = self._pitch(wav)
        return Audio(self._decode(wav, own, self._voice_of(wav, own), 0.0, 1 / gain), self.sample_rate)

    def _decode(
        self, wav: Tensor, own: F0Statistics, target: Voice, pitch_shift: float, gain: float
    ) -> Samples:
        """(1, 1, N) with F0 statistics of its own -> (N,) in another voice, times gain, in [-1, 1]."""
        speaker = SpeakerCode(target.embedding[None].to(self.device), target.tokens[None].to(self.device))
        cache: Cache = {}
        samples = np.empty(wav.shape[-1], dtype=np.float32)
        at = -self.delay
        for block in self._blocks(wav, self.delay):
            code, prosody = self.autoencoder.encode(self.log_mel(block, cache), cache)
            prosody = shift(prosody, own, target.f0, pitch_shift)
            mel = self.autoencoder.decode(code.z, prosody, speaker, cache)
            out = (self.vocoder(mel, prosody, cache)[0, 0] * gain).clamp(-1, 1).cpu().numpy()
            early = max(0, -at)  # of the first block, what describes the time before the signal
            part = samples[at + early : at + len(out)]
            part[:] = out[early : early + len(part)]
            at += len(out)
        return samples

    def voice(self, references: Reference) -> Voice:
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
            wav, _ = self._listen(reference)
            voice = self._voice_of(wav, self._pitch(wav))
            voiced = voice.f0.frames / self.autoencoder.config.mel.frame_rate
            if voiced < MIN_SPEECH:
                raise VoiceError(
                    f"{_name(reference)}: holds no speech to take a voice from; "
                    "give a recording of some seconds of one person talking"
                )
            voices.append(voice)
            seconds.append(wav.shape[-1] / self.sample_rate)
        return Voice.mix(voices, seconds, pool_pitch=True)

    @torch.inference_mode()
    def embed(self, source: Source) -> Samples:
        """The speaker code of a recording: (E,) of unit norm; a product of two is their cosine."""
        wav, _ = self._listen(source)
        embedding: Samples = self._voice_of(wav, F0Statistics(0, 0, 0)).embedding.numpy()
        return embedding

    @torch.inference_mode()
    def content(self, source: Source) -> Code:
        """What is said: z (D, T) at the code's rate, ids (T,) or None, of samples step * t on."""
        wav, _ = self._listen(source)
        cache: Cache = {}
        late = self.autoencoder.config.delay // self.autoencoder.content.stride
        blocks = self._blocks(wav, late * self.step)
        codes = [
            self.autoencoder.bottleneck(self.autoencoder.content(self.log_mel(b, cache), cache))
            for b in blocks
        ]
        frames = slice(late, late - (-wav.shape[-1] // self.step))
        z = torch.cat([c.z for c in codes], dim=-1)[0, :, frames].cpu()
        ids = [c.ids for c in codes if c.ids is not None]
        return Code(z, torch.cat(ids, dim=-1)[0, frames].cpu() if ids else None, z.new_zeros(()))

    def _listen(self, source: Source) -> tuple[Tensor, float]:
        """A recording as (1, 1, N) at the level that the networks know, and the gain that took."""
        if isinstance(source, Audio):
            samples = resample(source.samples, source.sample_rate, self.sample_rate)
        else:
            samples = read(source, self.sample_rate).samples
        if is_silent(samples):
            raise AudioError(f"{_name(source)}: is silent; there is no voice in it")
        gain = 10 ** ((LEVEL - loudness(samples, self.sample_rate)) / 20)
        return torch.from_numpy(samples * np.float32(gain))[None, None], gain

    def _blocks(self, wav: Tensor, more: int) -> Iterator[Tensor]:
        """Pieces (1, 1, block) of a signal and of `more` silence behind it, in whole steps, on the device."""
        length = wav.shape[-1] + more
        length += -length % self.step
        for start in range(0, length, self.block):
            size = min(self.block, length - start)
            piece = wav[..., start : start + size]
            yield torch.nn.functional.pad(piece, (0, size - piece.shape[-1])).to(self.device)

    @torch.inference_mode()
    def _pitch(self, wav: Tensor) -> F0Statistics:
        """F0 statistics of a whole signal."""
        cache: Cache = {}
        blocks = self._blocks(wav, self.delay)
        each = (F0Statistics.of(self.autoencoder.prosody(self.log_mel(b, cache), cache)) for b in blocks)
        return sum(each, F0Statistics(0, 0, 0))

    @torch.inference_mode()
    def _voice_of(self, wav: Tensor, f0: F0Statistics) -> Voice:
        """The voice of a signal, with the given F0; long ones in pieces, which count by the sound in them."""
        voices, sizes = [], []
        for piece in wav.split(PIECE_SECONDS * self.sample_rate, dim=-1):
            padded = torch.nn.functional.pad(piece, (0, max(0, self.step - piece.shape[-1])))
            code = self.autoencoder.speaker.encode(self.log_mel(padded.to(self.device)))
            voices.append(Voice(code.embedding[0].cpu(), code.tokens[0].cpu(), f0, self.made_by))
            sizes.append(0.01 + speech_seconds(piece[0, 0].numpy(), self.sample_rate))
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


def _name(source: Source) -> str:
    return "the recording" if isinstance(source, Audio) else str(source)
