"""Restore recordings: remove noise, widen telephone sound, give a voice to whispers and monotone speech."""

import math
from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Literal, TypeAlias, Unpack

import numpy as np
import torch
from torch import Tensor

from vcae.audio import Audio, Recording, Samples, concatenate, cut
from vcae.errors import AudioError, VcaeError
from vcae.inference.checkpoint import BUNDLED, fingerprint, load_vocoder
from vcae.inference.checkpoint import load as load_model
from vcae.inference.output import Encoding, at_rate, write_speech
from vcae.inference.stream import BlockStream, LevelTracker
from vcae.model.prosody import F0_CEIL, F0_FLOOR
from vcae.model.restorer import Restoration, Restorer, RestorerConfig, Task
from vcae.model.state import Cache
from vcae.model.vocoder import Vocoder
from vcae.progress import Progress

Way: TypeAlias = Literal["mask", "limited", "vocoder", "both", "copy"]
"""How clean speech is made: a mask on what is there; the same, with no more in a band than the predicted mel
has; the vocoder alone; above what is there, the vocoder or a copy of the band below."""
WAYS: dict[Task, Way] = {"denoise": "limited", "superres": "both", "revoice": "vocoder"}
"""The better way of each task, as `recipes/RESTORATION.md` measures it."""
_NARROW, _WIDE = 4400.0, 8800.0
"""In Hz: telephone sound, resampled from 8 kHz, holds nothing above the first, sound of 16 kHz nothing above
the second."""
_EMPTY_DB = -50.0
"""Level above that frequency, against the whole, below which the band counts as empty."""


def load(path: str | Path | None = None, device: str = "cpu") -> "SpeechRestorer":
    """Load the restorer in a folder that training wrote, or the bundled one. Raises CheckpointError.

    The vocoder is that of the folder, if there is one, else the bundled one.
    """
    folder = BUNDLED if path is None else Path(path)
    weights, vocoder = folder / "restorer.safetensors", folder / "vocoder.safetensors"
    restorer = load_model(weights, Restorer, RestorerConfig)
    return SpeechRestorer(restorer, load_vocoder(vocoder) if vocoder.exists() else load_vocoder(), device)


class SpeechRestorer:
    """Restores recordings of any length, in blocks of `block_seconds`, with a restorer and a vocoder.

    Outputs have the sample rate of the mel, `sample_rate`, and the level of the source. Raises ValueError
    where the mels of restorer and vocoder differ.
    """

    def __init__(
        self, restorer: Restorer, vocoder: Vocoder, device: str = "cpu", block_seconds: float = 5.0
    ) -> None:
        config = restorer.config.mel
        if vocoder.config.mel != config:
            raise ValueError("restorer and vocoder must have the same mel")
        self.restorer, self.vocoder = restorer.to(device).eval(), vocoder.to(device).eval()
        self.sample_rate = config.sample_rate
        self.step = 2 * config.hop_length
        """Samples that the networks process at once, at least."""
        self.block = max(1, round(block_seconds * self.sample_rate / self.step)) * self.step
        self.device = torch.device(device)

    def denoise(self, source: str | Path | Audio, attenuation_limit: float = math.inf) -> Audio:
        """Remove noise and reverberation.

        attenuation_limit: in dB; noise is attenuated by no more than this, since a share of the source is
        added. Fewer words are lost then (observation adding, Iwamoto et al., 2022). Raises
        AudioError, and VcaeError for a limit below 0 dB.
        """
        return self.restore(source, "denoise", attenuation_limit=attenuation_limit)

    def superres(self, source: str | Path | Audio, sample_rate: int | None = None) -> Audio:
        """Widen telephone sound: generate what is above 4 kHz, at a higher sample rate also above 8 kHz.

        sample_rate: of the result, in Hz; above the restorer's, the default, wide-band sound is taken, too.
        Raises AudioError, also for sound that lacks nothing.
        """
        wanted = sample_rate or self.sample_rate
        blocks = self.restore_blocks(source, "superres", full_band=wanted > self.sample_rate)
        samples = concatenate(at_rate(blocks, self.sample_rate, wanted))
        return Audio(samples, wanted, self.comment("superres"))

    def revoice(self, source: str | Path | Audio, pitch: float | None = None) -> Audio:
        """Speak whispered or monotone speech with a voice and a melody.

        pitch: mean F0 of the voice in Hz; None: estimated from the whisper. Raises AudioError, VcaeError.
        """
        return self.restore(source, "revoice", pitch)

    def restore(
        self,
        source: str | Path | Audio,
        task: Task,
        pitch: float | None = None,
        way: Way | None = None,
        attenuation_limit: float = math.inf,
    ) -> Audio:
        """Restore a recording; the result has its length and level.

        pitch: as for `revoice`. way: how, by default the better one, `WAYS`. attenuation_limit: as for
        `denoise`. Raises AudioError, VcaeError.
        """
        samples = concatenate(
            self.restore_blocks(source, task, pitch, way, attenuation_limit=attenuation_limit)
        )
        return Audio(samples, self.sample_rate, self.comment(task))

    def restore_blocks(
        self,
        source: str | Path | Audio,
        task: Task,
        pitch: float | None = None,
        way: Way | None = None,
        progress: Progress | None = None,
        full_band: bool = False,
        attenuation_limit: float = math.inf,
    ) -> Iterator[Samples]:
        """Yield the samples that `restore` returns, block by block; memory does not grow with the source.

        full_band: pass on what is wider than telephone sound, of which `write_speech` then extends the
        bandwidth, unless that is full already.
        """
        recording = Recording(source, self.sample_rate, progress)
        if recording.silent:
            raise AudioError(f"{recording.name}: is silent; give a recording of speech")
        if task == "superres" and _reaches(recording, _NARROW):
            if not full_band:
                raise AudioError(
                    f"{recording.name}: holds sound above {_NARROW / 1000:g} kHz already; give telephone"
                    " sound, or ask for a sample rate of 48000 Hz (--sample-rate 48000)"
                )
            if _reaches(Recording(source, 3 * self.sample_rate), _WIDE):
                raise AudioError(
                    f"{recording.name}: holds sound above {_WIDE / 1000:g} kHz already; nothing is missing"
                )
            yield from recording.blocks("restoring")
            return
        start = partial(
            self.stream,
            task,
            way=way,
            level=recording.level,
            filtered=True,
            attenuation_limit=attenuation_limit,
        )
        if task == "revoice" and pitch is None:
            listener = start()
            for block in cut(recording.blocks("listening"), self.block):
                listener.feed(block)
            pitch = listener.pitch
        stream = start(pitch=pitch)
        yield from map(stream.feed, cut(recording.blocks("restoring"), self.block))
        yield stream.flush()

    def restore_file(
        self,
        source: str | Path | Audio,
        out: str | Path,
        task: Task,
        pitch: float | None = None,
        progress: Progress | None = None,
        attenuation_limit: float = math.inf,
        **encoding: Unpack[Encoding],
    ) -> None:
        """Restore to a file, block by block. Raises OutputError and the errors of `restore`."""
        full_band = (encoding.get("sample_rate") or self.sample_rate) > self.sample_rate
        blocks = self.restore_blocks(
            source,
            task,
            pitch,
            progress=progress,
            full_band=full_band,
            attenuation_limit=attenuation_limit,
        )
        write_speech(out, blocks, self.sample_rate, self.comment(task), **encoding)

    def comment(self, task: Task) -> str:
        """What is said in the metadata of an output."""
        return f"speech after {task}, made by vcae with the weights {self.fingerprint}"

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all weights. Only outputs need it."""
        return fingerprint(self.restorer, self.vocoder)

    def stream(
        self,
        task: Task,
        *,
        sample_rate: int | None = None,
        output_rate: int | None = None,
        pitch: float | None = None,
        level: float | None = None,
        way: Way | None = None,
        filtered: bool = False,
        attenuation_limit: float = math.inf,
    ) -> "RestorationStream":
        """Start to restore a source that arrives block by block, such as from a microphone.

        sample_rate: of the source, in Hz (default: the restorer's). output_rate: of the output (default: that
        of the source). level: `loudness` of the source in dBFS; estimated while streaming where it is not
        given. pitch, way, attenuation_limit: as for `restore`. filtered: the source has passed a
        `vcae.audio.HighPass`. Raises VcaeError for a pitch or a limit out of range.
        """
        if pitch is not None and not F0_FLOOR <= pitch <= F0_CEIL:
            raise VcaeError(f"the pitch must be from {F0_FLOOR:g} to {F0_CEIL:g} Hz, not {pitch:g}")
        if not attenuation_limit >= 0:
            raise VcaeError(f"the attenuation limit must be 0 dB or more, not {attenuation_limit:g}")
        sample_rate = sample_rate or self.sample_rate
        return RestorationStream(
            self,
            task,
            way or WAYS[task],
            sample_rate=sample_rate,
            output_rate=output_rate or sample_rate,
            pitch=pitch,
            level=level,
            filtered=filtered,
            attenuation_limit=attenuation_limit,
        )


class RestorationStream(BlockStream):
    """Restores one source block by block. `SpeechRestorer.stream` makes streams, which share its networks.

    Where the level is given, and the pitch if the speech is to be voiced, the output is that of `restore`, up
    to rounding errors.
    """

    def __init__(
        self,
        owner: SpeechRestorer,
        task: Task,
        way: Way,
        *,
        sample_rate: int,
        output_rate: int,
        pitch: float | None = None,
        level: float | None = None,
        filtered: bool = False,
        attenuation_limit: float = math.inf,
    ) -> None:
        """Rates: of input and output. The others: as for `SpeechRestorer.stream`."""
        delay = owner.restorer.delay
        super().__init__(
            rate=owner.sample_rate,
            step=owner.step,
            delay=delay,
            longest=owner.block,
            sample_rate=sample_rate,
            output_rate=output_rate,
            high_pass=not filtered,
        )
        self._restorer, self._vocoder, self._device = owner.restorer, owner.vocoder, owner.device
        self._way = way
        self._kept = 10 ** (-attenuation_limit / 20)
        """Share of the source in the output."""
        self._centre = None if pitch is None else torch.tensor([math.log(pitch)], device=owner.device)
        with torch.inference_mode():
            self._conditions = self._restorer.conditions([task], self._centre)
        self.level = LevelTracker(level, owner.step, delay)
        self._cache: Cache = {}
        self._voiced = self._log_f0 = 0.0  # sums over the frames so far

    @property
    def pitch(self) -> float:
        """Mean F0 that the restorer has predicted so far, in Hz; 150 before it predicts a voiced frame."""
        return math.exp(self._log_f0 / self._voiced) if self._voiced else 150.0

    @torch.inference_mode()
    def _run(self, wav: Samples) -> Samples:
        """Whole steps (N,) -> (N,), `restorer.delay` samples late, at the level of the source."""
        before, after = self.level.gains(wav)
        made = self._restore(torch.from_numpy(wav * before)[None, None].to(self._device))
        restored: Samples = made[0, 0].cpu().numpy() * after
        return restored

    def _restore(self, wav: Tensor) -> Tensor:
        """(1, 1, N) -> (1, 1, N)."""
        restorer, cache = self._restorer, self._cache
        spectrum = restorer.spectrum(wav, cache)
        out = restorer(spectrum, self._conditions, cache)
        seen = restorer.delayed(spectrum, cache)
        made = self._made(seen, out)
        return restorer.waveform(made + self._kept * (seen - made), cache)

    def _made(self, seen: Tensor, out: Restoration) -> Tensor:
        """The restored spectrum in step with the spectrum of the source, both complex (1, bins, T)."""
        restorer, vocoder, cache = self._restorer, self._vocoder, self._cache
        if self._way == "mask":
            return restorer.masked(seen, out)
        mel, prosody = restorer.vocoder_input(out, self._centre)
        voicing = (4 * prosody[:, 1] - 2).clamp(0, 1).double()
        self._voiced += float(voicing.sum())
        self._log_f0 += float((voicing * prosody[:, 0]).sum())
        if self._way == "limited":
            return restorer.limited(seen, out, mel, vocoder)
        if self._way == "copy":
            return restorer.crossed(seen, vocoder.shaped(restorer.copied(seen), mel))
        made = vocoder.spectra(mel, prosody, vocoder.phase(prosody, cache), cache)
        return restorer.crossed(seen, made) if self._way == "both" else made


def _reaches(recording: Recording, hertz: float) -> bool:
    """Whether a recording holds sound above a frequency."""
    above = total = 0.0
    for block in cut(recording.blocks("listening"), recording.sample_rate):
        power = np.abs(np.fft.rfft(block * np.hanning(len(block)))) ** 2
        total += float(power.sum())
        above += float(power[round(len(power) * 2 * hertz / recording.sample_rate) :].sum())
    return above > total * 10 ** (_EMPTY_DB / 10)
