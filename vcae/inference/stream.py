"""Streaming conversion: blocks of samples in, blocks of samples out, live or from a file."""

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

_MEMORY = 2000  # voiced frames, 20 s, of the running averages over the source
_UPDATE_SECONDS = 2.0  # from one estimate of the source speaker to the next
_LEAST_VOICED = 30  # frames that an estimate needs


class Stream:
    """Converts one source block by block; `Converter.stream` makes it. Any number can share the networks.

    `feed` takes blocks of any size and returns the output that has become ready. With the output of `flush`,
    the result is as long as the source, and output n comes with input n + `latency` or before. The sizes of
    the blocks change the output by rounding errors only.

    Speaker, F0 range and level of the source are estimated while it streams where they are not given: the
    speaker every two seconds, F0 from a prior of ten voiced frames, the level from -25 dBFS by less than half
    a decibel in 20 ms. Where all are given, the output is that of `Converter.convert` within 1e-4.
    """

    latency: int
    """In output samples: changing the input from n + latency on leaves the outputs up to n as they are."""
    repaired: int
    """How many samples were NaN, infinite or huge (`vcae.audio.is_sound`) and were replaced by zeros."""

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

        longest: the most samples, at the networks' rate and whole steps, that they process at once.
        sample_rate, output_rate: in Hz, of the input and of the output. source: the voice of the source
        speaker, needed for a strength below 1. level: of the source, in dBFS.
        """
        if source is not None:
            target = target.guided(source, engine.guidance_scale, strength)
        rate, step, late = engine.sample_rate, engine.alignment.step, engine.alignment.delay
        self._engine = engine
        self.speaker = SpeakerTracker(target, engine, follow=source is None)
        self.pitch = PitchTracker(
            target.f0, pitch_shift, source.f0 if source else None, engine.alignment.stride
        )
        self._inward = Resampler(sample_rate, rate)
        self._outward = Resampler(rate, output_rate)
        self._step, self._late, self._longest = step, late, longest
        self.level = LevelTracker(level, step, late)
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
        """A copy with zeros in place of samples that are not sound."""
        if block.ndim != 1 or not np.issubdtype(block.dtype, np.floating):
            raise ValueError(
                f"a block must be floats in [-1, 1] of shape (N,), not {block.dtype} of shape {block.shape}"
            )
        sound = is_sound(block)
        self.repaired += int(np.count_nonzero(~sound))
        return np.where(sound, block, 0).astype(np.float32)

    def _convert(self, wav: Samples) -> Samples:
        """(N,) -> (M,) at the networks' rate: all whole steps that have come in."""
        wav = np.concatenate([self._pending, wav])
        whole = len(wav) // self._step * self._step
        pieces, at = [], 0
        while at < whole:
            pieces.append(self._network(wav[at : min(at + self._longest, at + self.speaker.left, whole)]))
            at += len(pieces[-1])
        self._pending = wav[whole:]
        early = max(0, min(-self._made, whole))  # output that belongs to the time before the source began
        self._made += whole
        return np.concatenate(pieces)[early:] if pieces else np.zeros(0, dtype=np.float32)

    @torch.inference_mode()
    def _network(self, wav: Samples) -> Samples:
        """Whole steps (N,) -> (N,), late by the delay of the networks, at the level of the source."""
        before, after = self.level.gains(wav)
        x = torch.from_numpy(wav * before)[None, None].to(self._engine.device)
        z, prosody = self._engine.analyse(x, self._cache)
        moved = self.pitch.move(prosody)
        out = self._engine.synthesise(z, moved, self.speaker.conditioning, self._cache)[0, 0].cpu().numpy()
        self.speaker.update(x, prosody)
        converted: Samples = out * after
        return converted


class SpeakerTracker:
    """The speaker conditioning of a stream, under guidance by a running estimate of the source speaker.

    The estimate is a mean over pieces of the source, weighted by their voiced frames.
    """

    conditioning: SpeakerConditioning
    left: int
    """Samples, whole steps, until the conditioning may change."""

    def __init__(self, target: Voice, engine: Engine, follow: bool) -> None:
        self._target, self._engine, self._follow = target, engine, follow
        self._size = (
            math.ceil(_UPDATE_SECONDS * engine.sample_rate / engine.alignment.step) * engine.alignment.step
        )
        self.left = self._size if follow else sys.maxsize
        self._pieces: list[Tensor] = []
        self._voiced = 0.0  # frames in these pieces
        self.source = target
        """The estimated voice of the source speaker; the target's until there is one."""
        self._source_frames = 0.0  # voiced frames behind the estimate
        self._set_voice(target)

    @torch.inference_mode()
    def _set_voice(self, voice: Voice) -> None:
        code = (x[None].to(self._engine.device) for x in (voice.embedding, voice.tokens))
        self.conditioning = self._engine.autoencoder.decoder.conditioning(SpeakerCode(*code))

    def update(self, wav: Tensor, prosody: Tensor) -> None:
        """Add a piece of the source: (1, 1, N), N up to `left`, and its prosody (1, 3, T)."""
        if not self._follow:
            return
        self._pieces.append(wav)
        self._voiced += F0Statistics.of(prosody).frames
        self.left -= wav.shape[-1]
        if self.left:
            return
        if self._voiced >= _LEAST_VOICED:
            embedding, tokens = self._engine.speaker(torch.cat(self._pieces, dim=-1))
            new = dataclasses.replace(self._target, embedding=embedding[0].cpu(), tokens=tokens[0].cpu())
            self.source = Voice.mix([self.source, new], [self._source_frames, self._voiced])
            self._source_frames = min(self._source_frames + self._voiced, _MEMORY)
            self._set_voice(self._target.guided(self.source, self._engine.guidance_scale))
        self._pieces, self._voiced, self.left = [], 0.0, self._size


class PitchTracker:
    """Moves F0 from the range of the source, given or estimated while it streams, to the target's range."""

    def __init__(
        self, target: F0Statistics, semitones: float, source: F0Statistics | None, step: int
    ) -> None:
        self._target, self._semitones = target, semitones
        self._given = source is not None
        self.source = source or F0Statistics(0, 0, 0)
        self._step = step  # in frames

    def move(self, prosody: Tensor) -> Tensor:
        """(1, 3, T) -> (1, 3, T). An estimated range is that of the source up to and including each step."""
        if self._given:
            return shift(prosody, self.source, self._target, self._semitones)
        moved = []
        for step in prosody.split(self._step, dim=-1):
            total = self.source + F0Statistics.of(step)
            keep = min(1, _MEMORY / max(total.frames, 1))
            self.source = F0Statistics(*(keep * x for x in dataclasses.astuple(total)))
            moved.append(shift(step, self.source, self._target, self._semitones))
        return torch.cat(moved, dim=-1)


class LevelTracker:
    """Gains that bring a source to the level of the networks' training data, and back.

    A level that is not given is estimated as a quantile, by small steps up and down (Robbins and Monro,
    1951): about a third of the active frames of speech lie above its `loudness`.
    """

    def __init__(self, level: float | None, step: int, late: int) -> None:
        self._given = level is not None
        self.level = LEVEL if level is None else level
        self._step = step
        # For the samples that are inside the networks.
        self._gains_after = np.full(late, 1 / self._gain, dtype=np.float32)

    @property
    def _gain(self) -> float:
        return 10 ** ((LEVEL - self.level) / 20)

    def gains(self, wav: Samples) -> tuple[Samples, Samples]:
        """Gains for whole steps (N,), before the networks and after them: (N,) each."""
        ends = [self._gain]
        for step in wav.reshape(-1, self._step):
            if not self._given:
                self._follow(step)
            ends.append(self._gain)
        # Linear from step to step, so that nothing clicks.
        at = np.arange(len(wav)) / self._step
        before = np.interp(at, np.arange(len(ends)), ends).astype(np.float32)
        self._gains_after = np.concatenate([self._gains_after, 1 / before])
        after = self._gains_after[: len(wav)]
        self._gains_after = self._gains_after[len(wav) :]
        return before, after

    def _follow(self, frame: Samples) -> None:
        """Update the level by a frame of some 20 ms."""
        level = 10 * math.log10(float(frame.var()) + 1e-12)  # the variance, since an offset is not sound
        pause = level < max(self.level - 25, -60)
        if not pause and level < -3:  # no speech is as loud as that
            self.level += 0.325 if level > self.level else -0.175
