"""Audio files and waveforms: read, write, find, resample, and tell how loud they are.

Every waveform is mono: a float32 array of shape (N,) with values in [-1, 1]. Long files are decoded and
resampled in blocks, so that beside the result itself little memory is needed.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vcae.errors import VcaeError
from vcae.output import check_output, replacing

Samples = npt.NDArray[np.float32]

AUDIO_SUFFIXES = frozenset(
    (
        *(".wav", ".wave", ".w64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf"),
        *(".m4a", ".mp4", ".aac", ".webm", ".mka", ".wma"),
    )
)
"""What counts as an audio file in a folder, in lower case; compare with ``path.suffix.lower()``."""

WRITABLE = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
"""What can be written: suffix to libsndfile's names of container and encoding."""
LEVEL = -25.0
"""What the networks hear every recording at, in dBFS as `loudness` measures it."""

_BLOCK = 2**16  # samples decoded, resampled or encoded at a time
_ACTIVE_DB = 40.0  # what is quieter than the loudest frame by more than this is a pause
_FRAME_SECONDS = 0.02
_SILENCE = 1e-3  # a peak below this (-60 dBFS) is silence


class AudioError(VcaeError):
    """An audio file that cannot be used. One line that names the file and says what to do about it."""


@dataclass(frozen=True, eq=False)
class Audio:
    """A mono waveform and its sample rate."""

    samples: Samples
    """(N,) float32 in [-1, 1]."""
    sample_rate: int
    """In Hz."""

    def __post_init__(self) -> None:
        if self.samples.ndim != 1:
            raise ValueError(f"samples must be of shape (N,), not {self.samples.shape}")
        if self.sample_rate <= 0:
            raise ValueError(f"sample_rate must be positive, not {self.sample_rate}")

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate

    def write(self, path: str | Path) -> None:
        """Write to a file, as the function ``write`` does."""
        write(path, self)


def find_audio(path: str | Path) -> list[Path]:
    """List the audio files at ``path``: itself if it is a file, else all below the folder, sorted.

    Hidden files and folders are passed over; a folder without audio gives an empty list.
    Raises AudioError when there is nothing at ``path``.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise AudioError(f"{path}: no such file or folder")
    found: list[Path] = []
    for folder, subfolders, names in os.walk(path):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        found += [
            Path(folder, name)
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in AUDIO_SUFFIXES
        ]
    return sorted(found)


def read(path: str | Path, sample_rate: int | None = None) -> Audio:
    """Read an audio file of any common format, rate and number of channels as mono.

    Channels are averaged. ``sample_rate`` resamples to that rate; None keeps the file's own.
    Raises AudioError when the file is missing, empty, unreadable, or holds no or non-finite samples.
    """
    import soundfile

    path = Path(path)
    try:
        if path.is_dir():
            raise AudioError(f"{path}: is a folder; name an audio file")
        size = path.stat().st_size
        path.open("rb").close()
    except FileNotFoundError:
        raise AudioError(f"{path}: no such file") from None
    except OSError as error:
        raise AudioError(f"{path}: cannot be opened ({error.strerror}); check name and permissions") from None
    if size == 0:
        raise AudioError(f"{path}: is empty (0 bytes); record or download it again")
    try:
        return _gather(path, *_decode_with_soundfile(path), sample_rate)
    except soundfile.SoundFileError as error:
        reason = _tidy(getattr(error, "error_string", str(error)))

    import av  # slow to import, and seldom needed

    try:
        return _gather(path, *_decode_with_av(path), sample_rate)
    except (av.FFmpegError, EOFError):
        raise AudioError(
            f"{path}: not an audio file that can be read ({reason}); convert it to WAV or FLAC first"
        ) from None


def write(path: str | Path, audio: Audio) -> None:
    """Write a file in the format that its suffix names: .wav and .flac (16 bit), .ogg, .opus or .mp3.

    Samples beyond [-1, 1] are clipped. The file appears whole or not at all, replacing an older one.
    Raises OutputError or AudioError when it cannot be written; missing folders are not created.
    """
    import soundfile

    path = Path(path)
    check_output(path, WRITABLE)
    bad = _count_non_finite(audio.samples)
    if bad:
        raise AudioError(f"{path}: not written, {bad} of {len(audio.samples)} samples are NaN or infinite")

    container, encoding = WRITABLE[path.suffix.lower()]
    with replacing(path) as unfinished:
        try:
            with soundfile.SoundFile(
                os.fsencode(unfinished), "w", audio.sample_rate, 1, encoding, format=container
            ) as file:
                # In blocks, because libsndfile's Vorbis encoder crashes on very long ones.
                for block in _blocks(audio.samples):
                    file.write(_to_int16(block) if encoding == "PCM_16" else block.clip(-1, 1))
        except soundfile.SoundFileError as error:
            raise AudioError(
                f"{path}: cannot be written at {audio.sample_rate} Hz ({_tidy(str(error))});"
                " check the folder's permissions and free space, or choose .wav"
            ) from None


def resample(samples: Samples, from_rate: int, to_rate: int) -> Samples:
    """Resample (N,) from one rate in Hz to another: (ceil(N * to_rate / from_rate),) float32.

    Windowed-sinc interpolation, flat to 0.9 of the lower Nyquist frequency. Rates whose ratio takes
    whole numbers above 4000, such as 44101 to 16000, are met within 0.02 %, which is less than one hears.
    """
    if from_rate == to_rate:
        return samples
    return _concatenate(_resample_blocks(_blocks(samples), from_rate, to_rate))


def loudness(samples: Samples, sample_rate: int) -> float:
    """Level in dBFS (a full-scale square wave: 0): RMS of the active part; -inf for silence.

    Active are the frames of 20 ms that lie within 40 dB of the loudest, so that pauses do not count.
    """
    power = _frame_powers(samples, sample_rate)
    if not power.any():
        return float("-inf")
    active = power[power >= power.max() * 10 ** (-_ACTIVE_DB / 10)]
    return float(10 * np.log10(active.mean()))


def is_silent(samples: Samples) -> bool:
    """Whether no sample of (N,) reaches -60 dBFS; true of an empty array."""
    return len(samples) == 0 or bool(max(samples.max(), -samples.min()) < _SILENCE)


def speech_seconds(samples: Samples, sample_rate: int) -> float:
    """Seconds of (N,) that are not pauses: within 40 dB of the loudest frame; 0 where all is silent.

    Tells sound from silence, not speech from other sounds.
    """
    power = _frame_powers(samples, sample_rate)
    if is_silent(samples):
        return 0.0
    return float(np.count_nonzero(power >= power.max() * 10 ** (-_ACTIVE_DB / 10)) * _FRAME_SECONDS)


def _tidy(reason: str) -> str:
    """A library's message as a part of one of our sentences."""
    return " ".join(reason.removeprefix("Error : ").split()).rstrip(".")


def _blocks(samples: Samples, size: int = _BLOCK) -> Iterator[Samples]:
    return (samples[start : start + size] for start in range(0, len(samples), size))


def _count_non_finite(samples: Samples) -> int:
    return sum(int(np.count_nonzero(~np.isfinite(block))) for block in _blocks(samples))


def _concatenate(blocks: Iterable[Samples]) -> Samples:
    # A bytearray grows in place, where np.concatenate would hold everything twice.
    gathered = bytearray()
    for block in blocks:
        gathered += block.tobytes()
    return np.frombuffer(gathered, dtype=np.float32)


def _to_int16(samples: Samples) -> npt.NDArray[np.int16]:
    # The inverse of reading, which divides by 32768; libsndfile's own conversion is one step off.
    steps: npt.NDArray[np.int16] = np.rint(samples * np.float32(32768)).clip(-32768, 32767).astype(np.int16)
    return steps


def _decode_with_soundfile(path: Path) -> tuple[int, Iterator[Samples]]:
    """Sample rate and mono blocks; raises SoundFileError, possibly from the iterator."""
    import soundfile

    file = soundfile.SoundFile(os.fsencode(path))  # a name that is no UTF-8 is a name all the same

    def blocks() -> Iterator[Samples]:
        with file:
            while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
                yield block.mean(axis=1)

    return file.samplerate, blocks()


def _decode_with_av(path: Path) -> tuple[int, Iterator[Samples]]:
    """Sample rate and mono blocks; raises FFmpegError, possibly from the iterator, or EOFError."""
    import av

    container = av.open(str(path))
    if not container.streams.audio:
        container.close()
        raise EOFError("no audio stream")
    stream = container.streams.audio[0]

    def blocks() -> Iterator[Samples]:
        planar = av.AudioResampler(format="fltp")  # floats, a row for each channel; rate and channels stay
        with container:
            for frame in container.decode(stream):
                for converted in planar.resample(frame):
                    yield converted.to_ndarray().mean(axis=0)

    return stream.rate, blocks()


def _gather(path: Path, rate: int, blocks: Iterator[Samples], sample_rate: int | None) -> Audio:
    """Check decoded blocks, resample them if asked to, and join them."""
    checked = _checked(path, blocks)
    if sample_rate is None or sample_rate == rate:
        return Audio(_concatenate(checked), rate)
    return Audio(_concatenate(_resample_blocks(checked, rate, sample_rate)), sample_rate)


def _checked(path: Path, blocks: Iterable[Samples]) -> Iterator[Samples]:
    total = bad = 0
    for block in blocks:
        total += len(block)
        bad += _count_non_finite(block)
        yield block
    if total == 0:
        raise AudioError(f"{path}: holds no samples; record or download it again")
    if bad:
        raise AudioError(f"{path}: {bad} of {total} samples are NaN or infinite; export it again")


@cache
def _resampler(ratio: Fraction) -> Any:
    from torchaudio.transforms import Resample  # slow to import

    return Resample(
        ratio.numerator,
        ratio.denominator,
        resampling_method="sinc_interp_kaiser",
        lowpass_filter_width=64,
        rolloff=0.9475937167399596,
        beta=14.769656459379492,
    )


def _resample_blocks(blocks: Iterable[Samples], from_rate: int, to_rate: int) -> Iterator[Samples]:
    """Resample a waveform that comes in blocks; the result is that of resampling it in one piece.

    The resampler makes every ``new`` outputs from ``old`` inputs and a margin of neighbours on both sides,
    so a piece that starts at a multiple of ``old`` and brings its margins gives exactly its share.
    """
    import torch

    # The filter bank has a row for each output of a period, so the period must be kept short.
    if from_rate > to_rate:
        ratio = 1 / Fraction(to_rate, from_rate).limit_denominator(4000)
    else:
        ratio = Fraction(from_rate, to_rate).limit_denominator(4000)
    resampler = _resampler(ratio)
    old, new = ratio.numerator, ratio.denominator
    margin = 0 if ratio == 1 else ceil(resampler.width / old)  # in periods

    def convert(piece: Samples) -> Samples:
        periods = len(piece) // old - 2 * margin
        with torch.inference_mode():
            converted: Samples = resampler(torch.from_numpy(piece[: (periods + 2 * margin) * old])).numpy()
        return converted[margin * new : (margin + periods) * new]

    silence = np.zeros(margin * old, dtype=np.float32)
    pending = silence
    received = emitted = 0
    for block in blocks:
        received += len(block)
        pending = np.concatenate([pending, block])
        periods = len(pending) // old - 2 * margin
        if periods * old >= _BLOCK // 2:  # decoders may give small blocks, which would take long one by one
            yield convert(pending)
            emitted += periods * new
            pending = pending[periods * old :]
    # Silence completes the last period and its margin.
    rest = convert(np.concatenate([pending, np.zeros(old, dtype=np.float32), silence]))
    yield rest[: ceil(received / ratio) - emitted]


def _frame_powers(samples: Samples, sample_rate: int) -> Samples:
    """Mean square of each frame of 20 ms; a shorter waveform is one frame, and a shorter tail is left out."""
    size = max(1, min(len(samples), round(_FRAME_SECONDS * sample_rate)))
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    powers: Samples = np.einsum("ij,ij->i", frames, frames) / np.float32(size)
    return powers
