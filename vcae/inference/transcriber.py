"""The content code as phones that a person can read, edit and have spoken."""

import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from vcae.audio import Audio, Source
from vcae.errors import VcaeError
from vcae.inference.checkpoint import CheckpointError, fingerprint, model_files
from vcae.inference.checkpoint import load as load_checkpoint
from vcae.inference.converter import Converter, Reference, load
from vcae.model.phones import PHONES, SILENCE, Phone, PhoneCodec, PhoneConfig
from vcae.model.state import Cache
from vcae.progress import Progress

LONGEST = 10.0
"""Longest duration of an edited phone, in seconds."""


CHANGE = 2.5
"""Factor of the predicted change of the code.

The writer predicts means over speech, which are closer to each other than the phones are. On 24 recordings of
development speakers, a changed phone was read in 8, 29 and 33 % at factors of 1, 2.5 and 3.5, and 6, 9 and
12 % of the other phones changed.
"""


class PhoneError(VcaeError):
    """Phones that cannot be spoken. The message is one line that names the phone and the reason."""


class Transcriber:
    """Reads the phones of recordings, and speaks edited ones.

    codec: by default, that of the bundled model `studio`. Raises CheckpointError where it was trained on the
    code of another content encoder.
    """

    def __init__(self, converter: Converter, codec: PhoneCodec | None = None) -> None:
        codec = codec or load_codec()
        if codec.config.content != fingerprint(converter.autoencoder.content):
            raise CheckpointError(
                "the phone codec belongs to the content encoder of another model; use the model studio"
            )
        self.converter = converter
        self.codec = codec.to(converter.device).eval()
        self.frame = converter.step / converter.sample_rate
        """Seconds per frame of the content code, the grid of all times."""

    @classmethod
    def load(cls, model: str | Path | None = None, device: str = "cpu") -> Self:
        """Load a model with its phone codec; default: `studio`. Raises CheckpointError."""
        return cls(load(model, device), load_codec(model))

    def transcribe(self, source: Source, progress: Progress | None = None) -> list[Phone]:
        """The phones of a recording and its pauses, one after the other, without gaps. Raises AudioError.

        Times are on a grid of `frame`; the last phone may end up to a frame after the recording.
        """
        return phones_of(self._frames(source, progress), self.frame)

    @torch.inference_mode()
    def speak(self, source: Source, phones: Sequence[Phone], voice: Reference | None = None) -> Audio:
        """Speak a recording with edited phones, in a voice, or that of the recording (None).

        phones: those of `transcribe`, with other names, durations or order, fewer or more of them. Each takes
        its frames from the recording, [start, end), repeated or left out to last its `duration`; a phone that
        is inserted has no frames of its own (start = end), but a duration. Where a name is not that of the
        recording, code, voicing and energy are moved by the difference that the phone codec predicts. Phones
        as they were transcribed change nothing. The output has the level `vcae.audio.LEVEL`.

        Raises AudioError, VoiceError, and PhoneError for phones that cannot be spoken.
        """
        content, prosody, source_voice = self.converter.encode(source)
        names, take = spoken_frames(phones, self.frame, content.shape[-1])
        before = self._written(self._frames(source))
        change = self._written(names) - before[:, take]  # (D + 2, T)
        stride = prosody.shape[-1] // content.shape[-1]
        prosody = prosody.unflatten(-1, (-1, stride))[:, take]  # (3, T, stride)
        voicing, energy = change[-2:].unsqueeze(-1)
        edited = torch.stack([prosody[0], (prosody[1] + voicing).clamp(0, 1), prosody[2] + energy])
        moved = (content[:, take] + CHANGE * change[:-2])[None].to(self.converter.device)
        z = self.converter.autoencoder.bottleneck(moved).z[0].cpu()
        target = source_voice if voice is None else self.converter.guided(voice, source_voice)
        return self.converter.decode(z, edited.flatten(-2), target, source_f0=source_voice.f0)

    @torch.inference_mode()
    def _frames(self, source: Source, progress: Progress | None = None) -> list[int]:
        """Index of the phone of each frame."""
        reader, viterbi, cache = self.codec.reader, self.codec.viterbi(), Cache()
        found: list[int] = []
        late = reader.delay  # frames of the reader's output that describe nothing

        def read(z: Tensor) -> None:
            nonlocal late
            logits = reader(z[None].to(self.converter.device), cache)[0, :, min(late, z.shape[-1]) :]
            late -= min(late, z.shape[-1])
            found.extend(viterbi.feed(logits.log_softmax(0).cpu()))

        for code in self.converter.content_blocks(source, progress):
            if code.z.shape[-1]:
                read(code.z)
                last = code.z[:, -1:]
        read(last.expand(-1, reader.delay))
        return found + viterbi.flush()

    def _written(self, frames: Sequence[int]) -> Tensor:
        """Code, voicing and energy of phones by frame: (D + 2, T)."""
        return self.codec.writer(torch.tensor([list(frames)], device=self.converter.device))[0].cpu()


def load_codec(model: str | Path | None = None) -> PhoneCodec:
    """The phone codec of a model; default: `studio`. Raises CheckpointError."""
    path = model_files(model).phones
    if not path.exists():
        raise CheckpointError(f"{path}: no such file; use the model studio, which has a phone codec")
    return load_checkpoint(path, PhoneCodec, PhoneConfig)


def phones_of(frames: Sequence[int], frame: float) -> list[Phone]:
    """Indices of phones by frame as phones with times, for frames of so many seconds."""
    found, start = [], 0
    for index, run in groupby(frames):
        end = start + len(list(run))
        found.append(Phone(round(start * frame, 6), round(end * frame, 6), PHONES[index]))
        start = end
    return found


def spoken_frames(phones: Sequence[Phone], frame: float, length: int) -> tuple[list[int], list[int]]:
    """Index of the phone of each frame to speak, and the frame of a recording of `length` frames it takes.

    Raises PhoneError for phones that cannot be spoken.
    """
    names: list[int] = []
    take: list[int] = []
    for number, phone in enumerate(phones, start=1):
        where = f"phone {number}, {phone.name}"
        if phone.name not in PHONES:
            raise PhoneError(f"{where}: no such phone; there are {', '.join(PHONES)}")
        start, end = phone.start, phone.end
        duration = end - start if phone.duration is None else phone.duration
        if not 0 <= start <= end <= (length + 1) * frame:
            raise PhoneError(
                f"{where}: {start} to {end} is no time in the recording, which has {length * frame:.2f} s"
            )
        if not 0 <= duration <= max(LONGEST, end - start):
            raise PhoneError(f"{where}: a duration must be between 0 and {LONGEST:g} s, not {duration}")
        first, stop = (min(math.ceil(t / frame - 1e-6), length) for t in (start, end))
        count = stop - first if phone.duration is None else round(duration / frame)
        own = range(first, stop) or [min(first, length - 1)]
        take += [own[k * len(own) // count] for k in range(count)]
        names += [PHONES.index(phone.name)] * count
    if not names:
        raise PhoneError(f"no phone is left to speak; keep one, such as {SILENCE}")
    return names, take
