"""Phones: their names, and two small networks between phones and the content code.

`PhoneReader` predicts phones from the code of one content encoder, `PhoneWriter` the code from phones, and
`Viterbi` finds the most likely sequence.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcae.model.config import MelConfig
from vcae.model.layers import ChannelNorm, Conv1d, Pointwise, Stack
from vcae.model.state import Cache

SILENCE = "SIL"
"""The label of pauses, breaths and other noises."""
PHONES = (
    *(SILENCE, "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F"),
    *("G", "HH", "IH", "IY", "JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH"),
    *("T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH"),
)
"""All labels; a frame's label is an index into them, or -1 where it is unknown."""


class Phone(NamedTuple):
    """A phone in a recording."""

    start: float
    """In seconds."""
    end: float
    """In seconds."""
    name: str
    """One of CMUdict's 39 without stress, such as "AA", or SILENCE."""
    duration: float | None = None
    """In seconds, how long it is to be spoken; None: as long as it is in the recording."""


@dataclass(frozen=True)
class PhoneConfig:
    """Sizes of a `PhoneCodec`, and the content encoder whose code it was trained on.

    content: hash of this encoder. dim: channels of the code. delay: frames of code that the reader waits for.
    transition_weight: weight of the log-probabilities of transitions against those of the frames.
    """

    mel: MelConfig = field(default_factory=MelConfig)
    content: str = ""
    dim: int = 64
    width: int = 128
    hidden: int = 384
    delay: int = 6
    transition_weight: float = 1.0


class PhoneReader(nn.Module):
    """Content code (B, D, T) -> logits of phones (B, phones, T), `delay` frames late."""

    def __init__(self, config: PhoneConfig) -> None:
        super().__init__()
        c = config
        self.delay = c.delay
        self.input = Conv1d(c.dim, c.width, 5)
        self.blocks = Stack(c.width, c.hidden, [1, 1])
        self.norm = ChannelNorm(c.width)
        self.output = Pointwise(c.width, len(PHONES))

    def forward(self, z: Tensor, cache: Cache | None = None) -> Tensor:
        """(B, D, T) -> (B, phones, T)."""
        return self.output(self.norm(self.blocks(self.input(z, cache), cache)))


class PhoneWriter(nn.Module):
    """Phones of frames (B, T), -1 where unknown -> content code, voicing and log-energy (B, D + 2, T).

    It predicts the mean over all speakers and ways to speak, from the phones of a quarter of a second before
    and after. The difference between the outputs for two sequences is what changes in the code from one to
    the other.
    """

    def __init__(self, config: PhoneConfig) -> None:
        super().__init__()
        c = config
        self.input = Conv1d(len(PHONES), c.width, 3, causal=False)
        self.blocks = Stack(c.width, c.hidden, [1, 1, 2], causal=False)
        self.norm = ChannelNorm(c.width)
        self.output = Pointwise(c.width, c.dim + 2)

    def forward(self, phones: Tensor) -> Tensor:
        """(B, T) -> (B, D + 2, T)."""
        one_hot = F.one_hot(phones.long() + 1, len(PHONES) + 1)[..., 1:].mT.to(self.input.weight.dtype)
        return self.output(self.norm(self.blocks(self.input(one_hot))))


class PhoneCodec(nn.Module):
    """A reader, a writer, and how often phones follow each other from frame to frame.

    start: (phones,), log-probabilities of the first frame. transitions: (phones, phones), log-probabilities
    from row to column, a phone that goes on included.
    """

    start: Tensor
    transitions: Tensor

    def __init__(self, config: PhoneConfig) -> None:
        super().__init__()
        self.config = config
        self.reader = PhoneReader(config)
        self.writer = PhoneWriter(config)
        even = torch.full((len(PHONES), len(PHONES)), 1 / len(PHONES)).log()
        self.register_buffer("start", even[0].clone())
        self.register_buffer("transitions", even)

    def viterbi(self) -> "Viterbi":
        """A search by these probabilities, on the CPU."""
        weight = self.config.transition_weight
        return Viterbi(weight * self.start.cpu(), weight * self.transitions.cpu())


class Viterbi:
    """The most likely sequence of states (Viterbi, 1967), block by block.

    A state is given out as soon as it is the same in all surviving sequences, so that the result is that of a
    search through the whole signal, while memory stays bounded. start: (S,), transitions: (S, S),
    log-probabilities.
    """

    def __init__(self, start: Tensor, transitions: Tensor) -> None:
        self.start, self.transitions = start, transitions
        self._score: Tensor | None = None
        self._origins: list[Tensor] = []  # state at pending frame k of each state at pending frame k + 1

    def feed(self, scores: Tensor) -> list[int]:
        """Log-probabilities of the next frames (S, T) -> the states that are decided now."""
        for frame in scores.T:
            if self._score is None:
                self._score = self.start + frame
                continue
            best, origin = (self._score[:, None] + self.transitions).max(0)
            self._score = best + frame - best.max()
            self._origins.append(origin)
        states = torch.arange(len(self.start))
        for k in range(len(self._origins) - 1, -1, -1):
            states = self._origins[k][states]
            if bool((states == states[0]).all()):
                decided = self._path(k, int(states[0]))
                self._origins = self._origins[k + 1 :]
                return decided
        return []

    def flush(self) -> list[int]:
        """The states that are left at the end of the signal."""
        if self._score is None:
            return []
        return self._path(len(self._origins), int(self._score.argmax()))

    def _path(self, last: int, state: int) -> list[int]:
        """States of the pending frames up to `last`, where it is `state`."""
        path = [state]
        for origin in reversed(self._origins[:last]):
            path.append(int(origin[path[-1]]))
        return path[::-1]
