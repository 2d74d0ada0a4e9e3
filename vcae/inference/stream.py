"""Conversion of sound as it comes: the one engine from samples to samples, live or from a file."""

import dataclasses
import math
import sys
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from vcae.audio import LEVEL, Resampler, Samples, is_sound
from vcae.inference.engine import Engine
from vcae.inference.voice import Voice
from vcae.model.decoder import SpeakerConditioning
from vcae.model.prosody import F0Statistics, shift
from vcae.model.speaker import SpeakerCode
from vcae.model.state import Cache

_MEMORY = 2000  # voiced frames, 20 s; what came before is forgotten little by little
_HEARING = 2.0  # seconds, after which the source's voice is heard anew
_LEAST_VOICED = 30  # frames; in less there is hardly a voice to be heard


class Stream:
    """Converts one source block by block; `Converter.stream` makes it, and any number share the networks.

    `feed` takes blocks of any size and gives what has become ready. With what `flush` gives in the end it is
    as long as the source and in step with it: output n comes with input n + `latency` or before. How the
    source is cut into blocks changes nothing but rounding errors.

    What is not given of the source is followed as it is heard: its voice after every two seconds, F0 from a
    prior of ten voiced frames on, its level from -25 dBFS on, by less than half a decibel in 20 ms. Where
    all are given, the output is that of `Converter.convert` within 1e-4.
    """

    latency: int
    """In output samples: changing the input from n + latency on leaves the outputs up to n as they are."""
    repaired: int
    """How many samples were no sound (`vcae.audio.is_sound`), and were taken for silence."""

    def __init__(
        self,
        engine: Engine,
        target: Voice,
        *,
        longest: int,
        sample_rate: int,
        output_rate: int,
        pitch_shift: float = 0.0,
        strength: float = 1.0,
        source: Voice | None = None,
        level: float | None = None,
    ) -> None:
        """Start in silence.

        longest is the most, in samples at the networks' rate and whole steps, that they are given at once.
        sample_rate and output_rate, in Hz, are of what is fed and given. source is its own voice, which a
        strength below 1 needs, and level its level, in dBFS.
        """
        if source is not None:
            target = target.guided(source, engine.guidance_scale, strength)
        rate, step, late = engine.sample_rate, engine.step, engine.delay
        self._engine = engine
        self._speaker = _Speaker(target, engine, follow=source is None)
        self._pitch = _Pitch(target.f0, pitch_shift, source.f0 if source else None, engine.stride)
        self._inward = Resampler(sample_rate, rate)
        self._outward = Resampler(rate, output_rate)
        self._step, self._late, self._longest = step, late, longest
        self._level = _Level(level, step, late)
        # An output waits for the filter behind the networks; these are late, and wait for a whole step; and
        # the last sample of that waits for the filter before them.
        waiting = (self._outward.lookahead + late + step - 1) / self._outward.ratio
        self.latency = math.ceil(waiting + (self._inward.lookahead + 1) / self._ratio)
        self.repaired = 0
        self._cache: Cache = {}
        self._pending = np.zeros(0, dtype=np.float32)  # for the networks; not yet a whole step
        self._made = -late  # by the networks, since the source began
        self._fed = self._given = 0
        self._flushed = False

    @property
    def _ratio(self) -> Fraction:
        """Input samples for each output sample."""
        return self._inward.ratio * self._outward.ratio

    def feed(self, samples: ArrayLike) -> Samples:
        """The next floats of the source, (N,), N from 0 on -> float32 (M,), M from 0 on, in [-1, 1].

        Raises ValueError for anything but floats of this shape, and after `flush`.
        """
        if self._flushed:
            raise ValueError("this stream has been flushed; make another")
        block = self._repair(np.asarray(samples))
        self._fed += len(block)
        out = self._outward.feed(self._convert(self._inward.feed(block))).clip(-1, 1)
        self._given += len(out)
        return out

    def flush(self) -> Samples:
        """What is left when the source has ended: (M,). The stream has ended, too."""
        if self._flushed:
            raise ValueError("this stream has been flushed; make another")
        self._flushed = True
        rest = math.ceil(self._fed / self._inward.ratio) - max(0, self._made)
        silence = np.zeros(self._late + self._step, dtype=np.float32)
        last = self._convert(np.concatenate([self._inward.flush(), silence]))[:rest]
        out = np.concatenate([self._outward.feed(last), self._outward.flush()]).clip(-1, 1)
        return out[: math.ceil(self._fed / self._ratio) - self._given]

    def _repair(self, block: np.ndarray) -> Samples:
        """What is no sound as silence; a copy."""
        if block.ndim != 1 or not np.issubdtype(block.dtype, np.floating):
            raise ValueError(
                f"a block must be floats in [-1, 1] of shape (N,), not {block.dtype} of shape {block.shape}"
            )
        sound = is_sound(block)
        self.repaired += int(np.count_nonzero(~sound))
        return np.where(sound, block, 0).astype(np.float32)

    def _convert(self, wav: Samples) -> Samples:
        """(N,) -> (M,) at the networks' rate: as many whole steps as there are, each in its time."""
        wav = np.concatenate([self._pending, wav])
        whole = len(wav) // self._step * self._step
        pieces, at = [], 0
        while at < whole:
            pieces.append(self._network(wav[at : min(at + self._longest, at + self._speaker.left, whole)]))
            at += len(pieces[-1])
        self._pending = wav[whole:]
        early = max(0, min(-self._made, whole))  # what is of the time before the source began
        self._made += whole
        return np.concatenate(pieces)[early:] if pieces else np.zeros(0, dtype=np.float32)

    @torch.inference_mode()
    def _network(self, wav: Samples) -> Samples:
        """Whole steps (N,) -> (N,), `_late` samples late, at the level of the source."""
        before, after = self._level.gains(wav)
        x = torch.from_numpy(wav * before)[None, None].to(self._engine.device)
        z, prosody = self._engine.analyse(x, self._cache)
        moved = self._pitch.move(prosody)
        out = self._engine.synthesise(z, moved, self._speaker.conditioning, self._cache)[0, 0].cpu().numpy()
        self._speaker.hear(x, prosody)
        converted: Samples = out * after
        return converted


class _Speaker:
    """Whose voice the decoder is told to speak in; where the source's own is followed, further from that.

    It is heard in pieces, which count by how much of them is voiced: what is no speech counts for little.
    """

    conditioning: SpeakerConditioning
    left: int
    """Samples, whole steps, until the conditioning may change."""

    def __init__(self, target: Voice, engine: Engine, follow: bool) -> None:
        self._target, self._engine, self._follow = target, engine, follow
        self._size = math.ceil(_HEARING * engine.sample_rate / engine.step) * engine.step
        self.left = self._size if follow else sys.maxsize
        self._heard: list[Tensor] = []
        self._voiced = 0.0  # frames of what has been heard
        self._own, self._known = target, 0.0  # and of what the source's voice was taken from
        self._speak_as(target)

    @torch.inference_mode()
    def _speak_as(self, voice: Voice) -> None:
        code = (x[None].to(self._engine.device) for x in (voice.embedding, voice.tokens))
        self.conditioning = self._engine.autoencoder.decoder.conditioning(SpeakerCode(*code))

    def hear(self, wav: Tensor, prosody: Tensor) -> None:
        """The next of the source: (1, 1, N), N up to `left`, and its prosody (1, 3, T)."""
        if not self._follow:
            return
        self._heard.append(wav)
        self._voiced += F0Statistics.of(prosody).frames
        self.left -= wav.shape[-1]
        if self.left:
            return
        if self._voiced >= _LEAST_VOICED:
            embedding, tokens = self._engine.speaker(torch.cat(self._heard, dim=-1))
            new = dataclasses.replace(self._target, embedding=embedding[0].cpu(), tokens=tokens[0].cpu())
            self._own = Voice.mix([self._own, new], [self._known, self._voiced])
            self._known = min(self._known + self._voiced, _MEMORY)
            self._speak_as(self._target.guided(self._own, self._engine.guidance_scale))
        self._heard, self._voiced, self.left = [], 0.0, self._size


class _Pitch:
    """Moves F0 to the target's range from the source's, which is given or else followed."""

    def __init__(
        self, target: F0Statistics, semitones: float, source: F0Statistics | None, step: int
    ) -> None:
        self._target, self._semitones = target, semitones
        self._given = source is not None
        self._source = source or F0Statistics(0, 0, 0)
        self._step = step  # in frames

    def move(self, prosody: Tensor) -> Tensor:
        """(1, 3, T) -> (1, 3, T); where F0 is followed, each step is moved by what was heard up to it."""
        if self._given:
            return shift(prosody, self._source, self._target, self._semitones)
        moved = []
        for step in prosody.split(self._step, dim=-1):
            heard = self._source + F0Statistics.of(step)
            keep = min(1, _MEMORY / max(heard.frames, 1))
            self._source = F0Statistics(*(keep * x for x in dataclasses.astuple(heard)))
            moved.append(shift(step, self._source, self._target, self._semitones))
        return torch.cat(moved, dim=-1)


class _Level:
    """Gains that bring a source to the level that the networks know, and back.

    Where its level is not given, it is followed as a quantile is, by small steps up and down (Robbins and
    Monro, 1951): about a third of the frames of speech that are no pauses lie above its `loudness`.
    """

    def __init__(self, level: float | None, step: int, late: int) -> None:
        self._given = level is not None
        self._level = LEVEL if level is None else level
        self._step = step
        self._kept = np.full(late, 1 / self._gain, dtype=np.float32)  # for what the networks still hold

    @property
    def _gain(self) -> float:
        return 10 ** ((LEVEL - self._level) / 20)

    def gains(self, wav: Samples) -> tuple[Samples, Samples]:
        """Of whole steps (N,): gains before the networks, and after them, where all is late; (N,) each."""
        ends = [self._gain]
        for step in wav.reshape(-1, self._step):
            if not self._given:
                self._follow(step)
            ends.append(self._gain)
        # Linear from step to step, so that nothing clicks.
        at = np.arange(len(wav)) / self._step
        before = np.interp(at, np.arange(len(ends)), ends).astype(np.float32)
        self._kept = np.concatenate([self._kept, 1 / before])
        after, self._kept = self._kept[: len(wav)], self._kept[len(wav) :]
        return before, after

    def _follow(self, frame: Samples) -> None:
        """Hear a frame of some 20 ms."""
        level = 10 * math.log10(float(frame.var()) + 1e-12)  # whatever the offset
        pause = level < max(self._level - 25, -60)
        if not pause and level < -3:  # no speech is as loud as that
            self._level += 0.325 if level > self._level else -0.175
