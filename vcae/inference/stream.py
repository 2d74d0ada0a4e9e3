"""Streaming: blocks of samples in, blocks of samples out, live or from a file."""

import dataclasses
import math
import sys
from abc import ABC, abstractmethod
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from vcae.audio import LEVEL, HighPass, Resampler, Samples, gain_to, is_sound
from vcae.inference.engine import Engine
from vcae.inference.voice import Voice
from vcae.model.decoder import SpeakerConditioning
from vcae.model.prosody import PRIOR, F0Statistics, shift
from vcae.model.state import Cache

_MEMORY = 2000  # voiced frames, 20 s, of the running averages over the source
_UPDATE_SECONDS = 2.0  # from one estimate of the source speaker to the next
_LEAST_VOICED = 30  # least number of voiced frames for an estimate
_LOUDNESS_SECONDS = 5.0  # time constant of the mean powers of source and output
_LOUDNESS_PRIOR = 0.25  # seconds of speech at LEVEL that count as converted without a change of loudness
_MAX_GAIN = 6.0  # in dB, of the output


class BlockStream(ABC):
    """Feeds networks that process whole steps of samples with blocks of any size, at any sample rate.

    `feed` accepts blocks of any size and returns the output that is ready. With the output of `flush`, the
    result is as long as the source, and output n is returned with input n + `latency` or before.
    """

    latency: int
    """In output samples: changing the input from n + latency on leaves the outputs up to n as they are."""
    repaired: int
    """Number of samples that were NaN, infinite or huge (`vcae.audio.is_sound`) and replaced by zeros."""

    def __init__(
        self,
        *,
        rate: int,
        step: int,
        delay: int,
        longest: int,
        sample_rate: int,
        output_rate: int,
        high_pass: bool = False,
    ) -> None:
        """rate: of the networks, in Hz. step: samples that they process at once, at least, and a divisor of
        what they process. delay: of their output, in samples. longest: largest number of samples, in whole
        steps, that they process at once. sample_rate, output_rate: of input and output, in Hz. high_pass:
        filter the input by a `HighPass`.
        """
        self._high_pass = HighPass(sample_rate) if high_pass else None
        self._input_resampler = Resampler(sample_rate, rate)
        self._output_resampler = Resampler(rate, output_rate)
        self._step, self._delay, self._longest = step, delay, longest
        # Latency: look-ahead of the output resampler, delay of the networks, the rest of a step, and
        # look-ahead of the input resampler.
        network_latency = (self._output_resampler.lookahead + delay + step - 1) / self._output_resampler.ratio
        self.latency = math.ceil(network_latency + (self._input_resampler.lookahead + 1) / self._ratio)
        self.repaired = 0
        self._pending = np.zeros(0, dtype=np.float32)  # input of the networks, less than a step
        self._processed = -delay  # output samples of the networks since the start of the source
        self._fed = self._returned = 0  # input and output samples
        self._flushed = False

    @abstractmethod
    def _run(self, wav: Samples) -> Samples:
        """Process whole steps, up to `_most` samples: (N,) -> (N,), delayed by `delay` samples."""

    @property
    def _most(self) -> int:
        """Samples, whole steps, that the networks may process next."""
        return self._longest

    @property
    def _ratio(self) -> Fraction:
        """Input samples per output sample."""
        return self._input_resampler.ratio * self._output_resampler.ratio

    def feed(self, samples: ArrayLike) -> Samples:
        """Process the next block of the source: floats (N,), N >= 0 -> float32 (M,), M >= 0, in [-1, 1].

        Raises ValueError for other shapes or types, and after `flush`.
        """
        if self._flushed:
            raise ValueError("this stream has been flushed; make another")
        block = self._repair(np.asarray(samples))
        self._fed += len(block)
        if self._high_pass:
            block = self._high_pass.feed(block)
        out = self._output_resampler.feed(self._process(self._input_resampler.feed(block))).clip(-1, 1)
        self._returned += len(out)
        return out

    def flush(self) -> Samples:
        """End the stream and return the remaining output: (M,). Raises ValueError if it has ended."""
        if self._flushed:
            raise ValueError("this stream has been flushed; make another")
        self._flushed = True
        rest = math.ceil(self._fed / self._input_resampler.ratio) - max(0, self._processed)
        silence = np.zeros(self._delay + self._step, dtype=np.float32)
        last = self._process(np.concatenate([self._input_resampler.flush(), silence]))[:rest]
        out = [self._output_resampler.feed(last), self._output_resampler.flush()]
        return np.concatenate(out).clip(-1, 1)[: math.ceil(self._fed / self._ratio) - self._returned]

    def _repair(self, block: np.ndarray) -> Samples:
        """A float32 copy, with zeros in place of samples that are NaN, infinite or huge."""
        if block.ndim != 1 or not np.issubdtype(block.dtype, np.floating):
            raise ValueError(
                f"a block must be floats in [-1, 1] of shape (N,), not {block.dtype} of shape {block.shape}"
            )
        sound = is_sound(block)
        self.repaired += int(np.count_nonzero(~sound))
        return np.where(sound, block, 0).astype(np.float32)

    def _process(self, wav: Samples) -> Samples:
        """Process all complete steps: (N,) -> (M,), at the networks' rate."""
        wav = np.concatenate([self._pending, wav])
        whole = len(wav) // self._step * self._step
        pieces, start = [], 0
        while start < whole:
            stop = min(start + self._most, whole)
            pieces.append(self._run(wav[start:stop]))
            start = stop
        self._pending = wav[whole:]
        early = max(0, min(-self._processed, whole))  # output for the time before the source
        self._processed += whole
        return np.concatenate(pieces)[early:] if pieces else np.zeros(0, dtype=np.float32)


class Stream(BlockStream):
    """Converts one source block by block. `Converter.stream` creates streams, which share its networks.

    The sizes of the blocks change the output by rounding errors only.

    Speaker, F0 range and level of the source are estimated while it streams where they are not given: the
    speaker every two seconds, F0 from a prior of ten voiced frames, the level from -25 dBFS by less than half
    a decibel in 20 ms. Where all are given, the output is that of `Converter.convert` within 1e-4.
    """

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
        filtered: bool = False,
    ) -> None:
        """longest: largest number of samples, in whole steps, that the networks process at once.

        sample_rate, output_rate: of input and output, in Hz. source: voice of the source speaker, required
        for a strength below 1. level: of the source, in dBFS. filtered: the source has passed a `HighPass`.
        """
        if source is not None:
            target = target.guided(source, engine.guidance_scale, strength)
        step, delay = engine.alignment.step, engine.alignment.delay
        super().__init__(
            rate=engine.sample_rate,
            step=step,
            delay=delay,
            longest=longest,
            sample_rate=sample_rate,
            output_rate=output_rate,
            high_pass=not filtered,
        )
        self._engine, self._source = engine, source
        self.speaker = SpeakerTracker(target, engine, estimate=source is None)
        self.pitch = PitchTracker(
            target.f0, pitch_shift, source.f0 if source else None, engine.alignment.stride
        )
        self.level = LevelTracker(level, step, delay)
        self._loudness = LoudnessMatcher(step / engine.sample_rate, step, delay)
        self._cache: Cache = {}

    @property
    def _most(self) -> int:
        return min(self._longest, self.speaker.remaining)

    def change(self, target: Voice, pitch_shift: float = 0.0, strength: float = 1.0) -> None:
        """Go on with another voice, pitch shift and strength, in the ranges of `Converter.stream`.

        Where the source speaker is estimated, a strength below 1 takes effect with the first estimate.
        """
        if self._source is not None:
            target, strength = target.guided(self._source, self._engine.guidance_scale, strength), 1.0
        self.speaker.change(target, strength)
        self.pitch.change(target.f0, pitch_shift, strength)

    @torch.inference_mode()
    def _run(self, wav: Samples) -> Samples:
        """Whole steps (N,) -> (N,), delayed by `alignment.delay`, at the level of the source."""
        before, after = self.level.gains(wav)
        scaled = wav * before
        x = torch.from_numpy(scaled)[None, None].to(self._engine.device)
        z, prosody = self._engine.analyse(x, self._cache)
        moved = self.pitch.move(prosody)
        out = self._engine.synthesise(z, moved, self.speaker.conditioning, self._cache)[0, 0].cpu().numpy()
        self.speaker.update(x, prosody)
        converted: Samples = out * self._loudness.gains(scaled, out) * after
        return converted


class SpeakerTracker:
    """The speaker conditioning of a stream, under guidance by a running estimate of the source speaker.

    The estimate is a mean over pieces of the source, weighted by their voiced frames.
    """

    conditioning: SpeakerConditioning
    remaining: int
    """Samples, whole steps, until the conditioning may change."""

    def __init__(self, target: Voice, engine: Engine, estimate: bool) -> None:
        self._target, self._engine, self._estimate = target, engine, estimate
        self._size = (
            math.ceil(_UPDATE_SECONDS * engine.sample_rate / engine.alignment.step) * engine.alignment.step
        )
        self.remaining = self._size if estimate else sys.maxsize
        self._pieces: list[Tensor] = []
        self._voiced = 0.0  # frames in these pieces
        self.source = target
        """Estimated voice of the source speaker; before the first estimate, the voice of the target."""
        self._source_frames = 0.0  # weight of the estimate, in voiced frames
        self._strength = 1.0
        self._set_voice(target)

    def change(self, target: Voice, strength: float) -> None:
        """Go on with another voice."""
        self._target, self._strength = target, strength
        if self._source_frames:
            self._set_voice(self._guided())
        else:
            self.source = target
            self._set_voice(target)

    def _guided(self) -> Voice:
        return self._target.guided(self.source, self._engine.guidance_scale, self._strength)

    @torch.inference_mode()
    def _set_voice(self, voice: Voice) -> None:
        self.conditioning = self._engine.conditioning(voice)

    def update(self, wav: Tensor, prosody: Tensor) -> None:
        """Add a piece of the source: (1, 1, N), N up to `remaining`, and its prosody (1, 3, T)."""
        if not self._estimate:
            return
        self._pieces.append(wav)
        self._voiced += F0Statistics.of(prosody).frames
        self.remaining -= wav.shape[-1]
        if self.remaining:
            return
        if self._voiced >= _LEAST_VOICED:
            embedding, tokens = self._engine.speaker(torch.cat(self._pieces, dim=-1))
            new = Voice(embedding[0].cpu(), tokens[0].cpu(), self._target.f0, self._target.made_by)
            self.source = Voice.mix([self.source, new], [self._source_frames, self._voiced])
            self._source_frames = min(self._source_frames + self._voiced, _MEMORY)
            self._set_voice(self._guided())
        self._pieces, self._voiced, self.remaining = [], 0.0, self._size


class PitchTracker:
    """Moves F0 from the range of the source, given or estimated while it streams, to the target's range."""

    def __init__(
        self, target: F0Statistics, semitones: float, source: F0Statistics | None, step: int
    ) -> None:
        self._target, self._semitones = target, semitones
        self._given = source is not None
        self.source = source or F0Statistics(0, 0, 0)
        self._step = step  # in frames
        self._strength = 1.0

    def change(self, target: F0Statistics, semitones: float, strength: float) -> None:
        """Go on with the range of another voice."""
        self._target, self._semitones, self._strength = target, semitones, strength

    def _range(self) -> F0Statistics:
        """The target's range, mixed with that of the source by strength."""
        if self._strength == 1:
            return self._target
        mean, std = (
            self._strength * of_target + (1 - self._strength) * of_source
            for of_target, of_source in (
                (self._target.mean, self.source.mean),
                (self._target.std, self.source.std),
            )
        )
        return F0Statistics.around(mean, std, self._target.frames + PRIOR.frames) - PRIOR

    def move(self, prosody: Tensor) -> Tensor:
        """Shift F0: (1, 3, T) -> (1, 3, T). An estimate at a step includes this step."""
        if self._given:
            return shift(prosody, self.source, self._range(), self._semitones)
        moved = []
        for step in prosody.split(self._step, dim=-1):
            total = self.source + F0Statistics.of(step)
            decay = min(1, _MEMORY / max(total.frames, 1))
            self.source = F0Statistics(*(decay * x for x in dataclasses.astuple(total)))
            moved.append(shift(step, self.source, self._range(), self._semitones))
        return torch.cat(moved, dim=-1)


class LevelTracker:
    """Gains that bring a source to the level of the networks' training data, and back.

    A level that is not given is estimated as a quantile, by small steps up and down (Robbins and Monro,
    1951): about a third of the active frames of speech lie above its `loudness`.
    """

    def __init__(self, level: float | None, step: int, delay: int) -> None:
        self._given = level is not None
        self.level = LEVEL if level is None else level
        self._step = step
        # Starts with the gains for the delay of the networks.
        self._gains_after = np.full(delay, 1 / self._gain, dtype=np.float32)

    @property
    def _gain(self) -> float:
        return gain_to(self.level)

    def gains(self, wav: Samples) -> tuple[Samples, Samples]:
        """Gains before and after the networks, for whole steps of input: (N,) -> 2 x (N,)."""
        step_gains = [self._gain]
        for step in wav.reshape(-1, self._step):
            if not self._given:
                self._update(step)
            step_gains.append(self._gain)
        # Linear interpolation between steps avoids clicks.
        position = np.arange(len(wav)) / self._step
        before = np.interp(position, np.arange(len(step_gains)), step_gains).astype(np.float32)
        self._gains_after = np.concatenate([self._gains_after, 1 / before])
        after = self._gains_after[: len(wav)]
        self._gains_after = self._gains_after[len(wav) :]
        return before, after

    def _update(self, frame: Samples) -> None:
        """Update the estimate of the level by a frame of about 20 ms."""
        level = 10 * math.log10(float(frame.var()) + 1e-12)  # the variance ignores a DC offset
        pause = level < max(self.level - 25, -60)
        if not pause and level < -3:  # speech is never louder
            self.level += 0.325 if level > self.level else -0.175


class LoudnessMatcher:
    """Gain that makes the output of the networks as loud as their input.

    The ratio of the mean powers up to now, with a prior, so that the gain changes slowly. Pauses hardly count
    in a mean power.
    """

    def __init__(self, step_seconds: float, step: int, delay: int) -> None:
        self._step = step
        self._decay = math.exp(-step_seconds / _LOUDNESS_SECONDS)
        self._prior = _LOUDNESS_PRIOR / step_seconds * 10 ** (LEVEL / 10)
        self._before = self._after = 0.0
        self._late = np.zeros(delay, dtype=np.float32)  # input for which there is no output yet
        self._gain = 1.0

    def gains(self, source: Samples, output: Samples) -> Samples:
        """Gains for an output that is delayed: the input of whole steps and the output, 2 x (N,) -> (N,)."""
        fed = np.concatenate([self._late, source])
        source, self._late = fed[: len(source)], fed[len(source) :]
        gains = [self._gain]
        for before, after in zip(self._powers(source), self._powers(output), strict=True):
            self._before = self._decay * self._before + before
            self._after = self._decay * self._after + after
            gain = math.sqrt((self._before + self._prior) / (self._after + self._prior))
            self._gain = min(max(gain, gain_to(0, -_MAX_GAIN)), gain_to(0, _MAX_GAIN))
            gains.append(self._gain)
        position = np.arange(len(source)) / self._step
        return np.interp(position, np.arange(len(gains)), gains).astype(np.float32)

    def _powers(self, wav: Samples) -> list[float]:
        steps = wav.reshape(-1, self._step).astype(np.float64)
        powers: list[float] = np.square(steps).mean(axis=1).tolist()
        return powers
