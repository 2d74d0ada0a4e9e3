"""Convert a voice with numpy and onnxruntime alone.

    python convert.py SOURCE.wav REFERENCE.wav OUT.wav [--stream]

Converts SOURCE into the voice of REFERENCE with the ONNX graphs in the folder of this file, like `vcae
convert SOURCE --voice REFERENCE`. With --stream, the source is processed two mel frames (20 ms) at a time, as
in live conversion; only its speaker, level and F0 range are measured beforehand.
"""

import argparse
import json
import math
import wave
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Array = NDArray[Any]
SILENCE = 1e-3  # a peak below this is silence
CUTOFF = 30.0  # Hz, of the filter against offset and rumble


class Graphs:
    """The graphs in a folder, called by name. Holds the caches of the streaming graphs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        about = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        self.rate: int = about["sample_rate"]
        self.window: int = about["win_length"]
        self.hop: int = about["hop_length"]
        self.delay: int = about["delay"]  # of the waveform, in samples
        self.prosody_delay: int = about["prosody_delay"]  # in mel frames
        self.level: float = about["level"]  # of recordings as inputs of the networks, in dBFS
        self.guidance_scale: float = about["guidance_scale"]  # of speaker guidance
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = 1  # for two frames, more threads are slower
        self.sessions: dict[str, onnxruntime.InferenceSession] = {}
        self.caches: dict[str, dict[str, Array]] = {}

    def __call__(self, name: str, **inputs: Array) -> Any:
        """Run a graph and store its cache; returns its output, or a list of outputs."""
        if name not in self.sessions:
            path = self.folder / f"{name}.onnx"
            self.sessions[name] = onnxruntime.InferenceSession(path, self.options)
            initial_cache = path.with_suffix(".npz")
            self.caches[name] = dict(np.load(initial_cache)) if initial_cache.exists() else {}
        cache = self.caches[name]
        outputs = self.sessions[name].run(None, inputs | cache)
        count = len(outputs) - len(cache)
        self.caches[name] = dict(zip(cache, outputs[count:], strict=True))
        return outputs[0] if count == 1 else outputs[:count]


class Pitch(NamedTuple):
    """Mean and standard deviation of log-F0, and the number of voiced frames."""

    mean: float
    std: float
    voiced: float


def convert(graphs: Graphs, source: Array, reference: Array, stream: bool) -> Array:
    """Convert the source into the voice of the reference: (N,), (M,) float32 in [-1, 1] -> (N,)."""
    hop, step = graphs.hop, 2 * graphs.hop
    reference, _ = levelled(graphs, reference)
    reference, target = voice_of(graphs, reference)
    if target.voiced * hop < 0.1 * graphs.rate:
        raise ValueError("the reference holds no speech; give some seconds of one person talking")
    wav, gain = levelled(graphs, source)
    speech, source_pitch = voice_of(graphs, wav)
    codes = zip(speaker_of(graphs, reference), speaker_of(graphs, speech), strict=True)
    # Speaker guidance: the target's code, moved away from that of the source speaker.
    scale = np.float32(graphs.guidance_scale)
    embedding, tokens = (
        target_code + scale * (target_code - source_code) for target_code, source_code in codes
    )
    embedding /= np.linalg.norm(embedding)

    suffix = "_stream" if stream else ""
    past = np.zeros(graphs.window - hop, np.float32)  # samples at the start of the next mel window
    tail = np.zeros((graphs.window // hop - 1, hop), np.float32)  # overlap of past windows with the next hops
    phase = 0.0
    out = []
    wav = padded(wav, graphs.delay, step)
    for block in np.split(wav, range(step, len(wav), step)) if stream else [wav]:
        past, mel = log_mel(graphs, past, block)
        z = graphs(f"content{suffix}", mel=mel)
        prosody = shifted(graphs(f"prosody{suffix}", mel=mel), source_pitch, target)
        mel = graphs(f"decoder{suffix}", z=z, prosody=prosody, embedding=embedding, tokens=tokens)
        phase, phases = integrated(phase, prosody, hop / graphs.rate)
        windows = graphs(f"vocoder{suffix}", mel=mel, prosody=prosody, phase=phases)[0]
        tail, hops = overlap_add(tail, windows.T)
        out.append(hops)
    matched = as_loud(graphs, wav, np.concatenate(out))
    return (matched[graphs.delay : graphs.delay + len(source)] / gain).clip(-1, 1)


def padded(wav: Array, more: int, multiple: int) -> Array:
    """Append `more` zeros, and then as many as make the length a multiple."""
    return np.pad(wav, (0, more + -(len(wav) + more) % multiple))


def log_mel(graphs: Graphs, past: Array, block: Array) -> tuple[Array, Array]:
    """New `past`, and the mel (1, n_mels, T) of a block of whole hops that follows `past`."""
    wav = np.concatenate([past, block])
    windows = np.lib.stride_tricks.sliding_window_view(wav, graphs.window)[:: graphs.hop]
    return wav[len(block) :], graphs("log_mel", windows=windows[None])


def whole_mel(graphs: Graphs, wav: Array) -> Array:
    """Mel of a whole signal of whole hops: (N,) -> (1, n_mels, N / hop)."""
    return log_mel(graphs, np.zeros(graphs.window - graphs.hop, np.float32), wav)[1]


def overlap_add(tail: Array, windows: Array) -> tuple[Array, Array]:
    """Overlap-add of windows (T, win_length): new `tail`, and (T * hop,) samples."""
    count, hop = len(windows), tail.shape[1]
    hops = np.concatenate([tail, np.zeros((count, hop), np.float32)])
    for i in range(windows.shape[1] // hop):
        hops[i : i + count] += windows[:, i * hop : (i + 1) * hop]
    return hops[count:], hops[:count].ravel()


def integrated(phase: float, prosody: Array, seconds: float) -> tuple[float, Array]:
    """Integrate F0 over hops of `seconds`: the last phase in cycles, and the phases of all frames, (1, T).

    In float64, because rounding errors accumulate. The phase decays in unvoiced frames.
    """
    log_f0, voicing = prosody[0, :2].astype(np.float64)
    phases = []
    for cycles, keep in zip(np.exp(log_f0) * seconds, np.minimum(2 * voicing, 1), strict=True):
        phase = keep * phase + cycles
        phases.append(phase % 1)
    return phase, np.array([phases], np.float32)


def voice_of(graphs: Graphs, wav: Array) -> tuple[Array, Pitch]:
    """What of a whole signal is speech: (N,) -> (M,), and its F0 statistics; all, where nothing is."""
    step, delay = 2 * graphs.hop, graphs.prosody_delay
    mel = whole_mel(graphs, padded(wav, graphs.delay, step))
    count = 2 * -(-len(wav) // step)  # without the frames of the padding
    prosody = graphs("prosody", mel=mel)[0, :, delay : delay + count]
    speech = speech_in(mel[0, :, :count], prosody)
    if not speech.any():
        speech = ~speech
    return wav[np.repeat(speech, graphs.hop)[: len(wav)]], pitch_of(prosody[:2] * [np.ones(count), speech])


def speech_in(mel: Array, prosody: Array) -> Array:
    """Which frames are speech: mel (n_mels, T), prosody (3, T) -> (T,).

    These are the voiced frames whose spectrum moves, as it does not in a tone, and what is not voiced within
    half a second of them.
    """
    _, voicing, energy = prosody
    lag = min(10, mel.shape[1] - 1)
    change = np.pad(np.abs(mel[:, lag:] - mel[:, : mel.shape[1] - lag]).mean(0), (lag, 0), "edge")
    voiced = (voicing > 0.5) & (energy > energy.max() - 4.6)
    moving = voiced & (around(voiced * change, 100) >= 0.4 * around(voiced, 100))
    return (around(moving, 50) > 0.5) & (moving | ~voiced)


def around(x: Array, frames: int) -> Array:
    """Sum of the values within so many frames: (T,) -> (T,)."""
    sums = np.cumsum(np.pad(x.astype(np.float64), (frames + 1, frames)))
    return sums[2 * frames + 1 :] - sums[: -2 * frames - 1]


def pitch_of(prosody: Array) -> Pitch:
    """F0 statistics of log-F0 and voicing, (2, T), with a prior of ten frames about 150 Hz."""
    log_f0, voicing = prosody.astype(np.float64)
    weights, middle = (4 * voicing - 2).clip(0, 1), math.log(150)
    voiced = weights.sum()
    mean = (weights @ log_f0 + 10 * middle) / (voiced + 10)
    square = (weights @ log_f0**2 + 10 * (middle**2 + 0.25**2)) / (voiced + 10)
    return Pitch(float(mean), math.sqrt(max(square - mean**2, 1e-4)), float(voiced))


def shifted(prosody: Array, source: Pitch, target: Pitch) -> Array:
    """Move F0 from the source's range to the target's: (1, 3, T) -> (1, 3, T)."""
    ratio = min(max(target.std / source.std, 0.6), 1.6)
    log_f0 = (prosody[:, :1] - source.mean) * ratio + target.mean
    return np.concatenate([log_f0.clip(math.log(40), math.log(1000)), prosody[:, 1:]], axis=1)


def speaker_of(graphs: Graphs, wav: Array) -> tuple[Array, Array]:
    """Speaker code: mean over pieces of ten seconds, weighted by the duration of their active frames."""
    codes, seconds = [], []
    for piece in np.split(wav, range(10 * graphs.rate, len(wav), 10 * graphs.rate)):
        missing = max(0, 2 * graphs.hop - len(piece))
        codes.append(graphs("speaker", mel=whole_mel(graphs, padded(piece, missing, graphs.hop))))
        active = 0 if np.abs(piece).max() < SILENCE else len(active_powers(piece, graphs.rate))
        seconds.append(0.01 + 0.02 * active)
    embedding, tokens = (np.average(np.stack(x), axis=0, weights=seconds) for x in zip(*codes, strict=True))
    return (embedding / np.linalg.norm(embedding)).astype(np.float32), tokens.astype(np.float32)


def as_loud(graphs: Graphs, wav: Array, out: Array) -> Array:
    """The output of the networks, delayed, as loud as their input: (N,), (N,) -> (N,).

    The gain is the square root of the ratio of the mean powers up to now, with a prior of 0.25 s.
    """
    size = 2 * graphs.hop
    seconds = size / graphs.rate
    late = np.concatenate([np.zeros(graphs.delay, np.float32), wav])[: len(out)]
    before = after = prior = 0.25 / seconds * 10 ** (graphs.level / 10)
    decay, gains = math.exp(-seconds / 5), [1.0]
    for powers in np.square(np.stack([late, out]).astype(np.float64)).reshape(2, -1, size).mean(2).T:
        before, after = (
            prior + decay * (x - prior) + power for x, power in zip((before, after), powers, strict=True)
        )
        gains.append(min(max(math.sqrt(before / after), 10**-0.3), 10**0.3))
    return out * np.interp(np.arange(len(out)) / size, np.arange(len(gains)), gains).astype(np.float32)


def high_passed(wav: Array, rate: int) -> Array:
    """Without offset and rumble: a Butterworth filter of order 2, (N,) -> (N,)."""
    w = math.tan(math.pi * CUTOFF / rate)
    norm = 1 + math.sqrt(2) * w + w * w
    a1, a2 = 2 * (w * w - 1) / norm, (1 - math.sqrt(2) * w + w * w) / norm
    inputs = (wav.astype(np.float64) / norm).tolist()
    first, second = -inputs[0], inputs[0]  # the first sample counts as an offset
    out = []
    for x in inputs:
        y = x + first
        first, second = second - 2 * x - a1 * y, x - a2 * y
        out.append(y)
    return np.array(out, np.float32)


def levelled(graphs: Graphs, wav: Array) -> tuple[Array, float]:
    """A signal scaled to the networks' level, and the gain."""
    loudness = float(10 * np.log10(active_powers(wav, graphs.rate).mean()))
    gain = 10 ** ((graphs.level - loudness) / 20)
    return wav * np.float32(gain), gain


def active_powers(wav: Array, rate: int) -> Array:
    """Mean squares of the active frames of 20 ms: those within 40 dB of the loudest."""
    size = max(1, min(len(wav), round(0.02 * rate)))
    frames = wav[: len(wav) // size * size].reshape(-1, size)
    if size > 1:
        frames = frames - frames.mean(axis=1, keepdims=True)
    powers = np.einsum("ij,ij->i", frames, frames) / np.float32(size)
    return powers[powers >= powers.max() / 1e4]


def read(path: str, rate: int) -> Array:
    """Read a WAV file of one channel, 16 bits and `rate` Hz, without offset and rumble: (N,) float32."""
    try:
        with wave.open(path) as file:
            bits, file_rate = 8 * file.getsampwidth(), file.getframerate()
            channels, data = file.getnchannels(), file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError(f"{path}: not a WAV file that can be read ({error or 'it ends early'})") from None
    if (bits, file_rate, channels) != (16, rate, 1):
        raise ValueError(
            f"{path}: has {channels} channels of {bits} bits at {file_rate} Hz, not 1 of 16 at {rate}; "
            f"convert it first, for example by ffmpeg -i IN -ac 1 -ar {rate} -c:a pcm_s16le OUT.wav"
        )
    wav: Array = np.frombuffer(data[: len(data) // 2 * 2], "<i2") / np.float32(32768)
    wav = high_passed(wav, rate) if len(wav) else wav
    if np.abs(wav).max(initial=0) < SILENCE:
        raise ValueError(f"{path}: is silent; give a recording of speech")
    return wav


def write(path: str, wav: Array, rate: int) -> None:
    """Write (N,) float32 to a WAV file of 16 bits."""
    with wave.open(path, "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(np.rint(wav * 32768).clip(-32768, 32767).astype("<i2").tobytes())


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Convert a voice with numpy and onnxruntime alone.")
    parser.add_argument("source", help="WAV file to convert")
    parser.add_argument("reference", help="WAV file of the target speaker")
    parser.add_argument("out", help="WAV file to write")
    parser.add_argument("--stream", action="store_true", help="process the source two mel frames at a time")
    args = parser.parse_args()
    graphs = Graphs(Path(__file__).parent)
    try:
        wav = convert(graphs, read(args.source, graphs.rate), read(args.reference, graphs.rate), args.stream)
        write(args.out, wav, graphs.rate)
    except (ValueError, OSError) as error:
        parser.exit(2, f"convert.py: {error}\n")


if __name__ == "__main__":
    main()
