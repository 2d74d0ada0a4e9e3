"""Convert a voice with numpy and onnxruntime alone.

    python convert.py SOURCE.wav REFERENCE.wav OUT.wav [--stream]

Says what SOURCE says in the voice of REFERENCE, as `vcae convert SOURCE --voice REFERENCE` does, by the
graphs beside this file. With --stream the source goes through the graphs of two frames, 20 ms at a time, as
live speech would; only its level and the range of its pitch are taken beforehand.
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
SILENCE = 1e-3  # a peak below this is no sound


class Graphs:
    """The graphs in a folder, to be called by name. What a stream remembers is kept here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        about = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        self.rate: int = about["sample_rate"]
        self.window: int = about["win_length"]
        self.hop: int = about["hop_length"]
        self.delay: int = about["delay"]  # how many samples late the sound comes
        self.prosody_delay: int = about["prosody_delay"]  # how many frames late F0 comes
        self.level: float = about["level"]  # that the networks know, in dBFS
        self.guidance_scale: float = about[
            "guidance_scale"
        ]  # of the speaker code, away from the source speaker
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = 1  # for two frames, more cost more than they bring
        self.sessions: dict[str, onnxruntime.InferenceSession] = {}
        self.caches: dict[str, dict[str, Array]] = {}

    def __call__(self, name: str, **inputs: Array) -> Any:
        """The output of a graph, or a list of them, without its cache."""
        if name not in self.sessions:
            path = self.folder / f"{name}.onnx"
            self.sessions[name] = onnxruntime.InferenceSession(path, self.options)
            begin = path.with_suffix(".npz")
            self.caches[name] = dict(np.load(begin)) if begin.exists() else {}
        cache = self.caches[name]
        outputs = self.sessions[name].run(None, inputs | cache)
        own = len(outputs) - len(cache)
        self.caches[name] = dict(zip(cache, outputs[own:], strict=True))
        return outputs[0] if own == 1 else outputs[:own]


class Pitch(NamedTuple):
    """Mean and standard deviation of log-F0, and how many frames were voiced."""

    mean: float
    std: float
    voiced: float


def convert(graphs: Graphs, source: Array, reference: Array, stream: bool) -> Array:
    """Source and reference, (N,) float32 in [-1, 1] -> the source in the other's voice, (N,)."""
    hop, step = graphs.hop, 2 * graphs.hop
    reference, _ = levelled(graphs, reference)
    target = pitch_of(graphs, reference)
    if target.voiced * hop < 0.1 * graphs.rate:
        raise ValueError("the reference holds no speech; give some seconds of one person talking")
    wav, gain = levelled(graphs, source)
    own = pitch_of(graphs, wav)
    codes = zip(speaker_of(graphs, reference), speaker_of(graphs, wav), strict=True)
    embedding, tokens = (to + np.float32(graphs.guidance_scale) * (to - of) for to, of in codes)
    embedding /= np.linalg.norm(embedding)

    which = "_stream" if stream else ""
    past = np.zeros(graphs.window - hop, np.float32)  # what the next windows begin with
    tail = np.zeros((graphs.window // hop - 1, hop), np.float32)  # what the last ones add to the next hops
    phase = 0.0
    out = []
    wav = padded(wav, graphs.delay, step)
    for block in np.split(wav, range(step, len(wav), step)) if stream else [wav]:
        past, mel = log_mel(graphs, past, block)
        z = graphs(f"content{which}", mel=mel)
        prosody = shifted(graphs(f"prosody{which}", mel=mel), own, target)
        mel = graphs(f"decoder{which}", z=z, prosody=prosody, embedding=embedding, tokens=tokens)
        phase, phases = advanced(phase, prosody, hop / graphs.rate)
        windows = graphs(f"vocoder{which}", mel=mel, prosody=prosody, phase=phases)[0]
        tail, hops = overlapped(tail, windows.T)
        out.append(hops)
    return (np.concatenate(out)[graphs.delay : graphs.delay + len(source)] / gain).clip(-1, 1)


def padded(wav: Array, more: int, multiple: int) -> Array:
    """A signal, `more` silence, and as much as makes the length a multiple."""
    return np.pad(wav, (0, more + -(len(wav) + more) % multiple))


def log_mel(graphs: Graphs, past: Array, block: Array) -> tuple[Array, Array]:
    """The mel of a block of whole hops that follows `past`, (1, n_mels, T), and the next past."""
    wav = np.concatenate([past, block])
    windows = np.lib.stride_tricks.sliding_window_view(wav, graphs.window)[:: graphs.hop]
    return wav[len(block) :], graphs("log_mel", windows=windows[None])


def whole_mel(graphs: Graphs, wav: Array) -> Array:
    """The mel of a whole signal of whole hops: (N,) -> (1, n_mels, N / hop)."""
    return log_mel(graphs, np.zeros(graphs.window - graphs.hop, np.float32), wav)[1]


def overlapped(tail: Array, windows: Array) -> tuple[Array, Array]:
    """Overlap and add windows (T, win_length): the next tail, and T hops of sound."""
    count, hop = len(windows), tail.shape[1]
    hops = np.concatenate([tail, np.zeros((count, hop), np.float32)])
    for i in range(windows.shape[1] // hop):
        hops[i : i + count] += windows[:, i * hop : (i + 1) * hop]
    return hops[count:], hops[:count].ravel()


def advanced(phase: float, prosody: Array, seconds: float) -> tuple[float, Array]:
    """Where F0 is in its cycle, a hop of so many seconds after the other: at last, and each time, (1, T).

    In float64, since errors add up; where there is no voice it is forgotten little by little.
    """
    log_f0, voicing = prosody[0, :2].astype(np.float64)
    phases = []
    for cycles, keep in zip(np.exp(log_f0) * seconds, np.minimum(2 * voicing, 1), strict=True):
        phase = keep * phase + cycles
        phases.append(phase % 1)
    return phase, np.array([phases], np.float32)


def pitch_of(graphs: Graphs, wav: Array) -> Pitch:
    """Of a whole signal; ten frames about 150 Hz are what is believed beforehand."""
    step, late = 2 * graphs.hop, graphs.prosody_delay
    prosody = graphs("prosody", mel=whole_mel(graphs, padded(wav, graphs.delay, step)))[0]
    own = prosody[:, late : late + 2 * -(-len(wav) // step)]  # the rest is of the silence around it
    log_f0, voicing = own[:2].astype(np.float64)
    weights, middle = (4 * voicing - 2).clip(0, 1), math.log(150)
    voiced = weights.sum()
    mean = (weights @ log_f0 + 10 * middle) / (voiced + 10)
    square = (weights @ log_f0**2 + 10 * (middle**2 + 0.25**2)) / (voiced + 10)
    return Pitch(float(mean), math.sqrt(max(square - mean**2, 1e-4)), float(voiced))


def shifted(prosody: Array, own: Pitch, target: Pitch) -> Array:
    """Move F0 from one range to another: (1, 3, T) -> (1, 3, T)."""
    ratio = min(max(target.std / own.std, 0.6), 1.6)
    log_f0 = (prosody[:, :1] - own.mean) * ratio + target.mean
    return np.concatenate([log_f0.clip(math.log(40), math.log(1000)), prosody[:, 1:]], axis=1)


def speaker_of(graphs: Graphs, wav: Array) -> tuple[Array, Array]:
    """The speaker code: of pieces of ten seconds, which count by how much sound is in them."""
    codes, sizes = [], []
    for piece in np.split(wav, range(10 * graphs.rate, len(wav), 10 * graphs.rate)):
        short = max(0, 2 * graphs.hop - len(piece))
        codes.append(graphs("speaker", mel=whole_mel(graphs, padded(piece, short, graphs.hop))))
        active = 0 if np.abs(piece).max() < SILENCE else len(active_powers(piece, graphs.rate))
        sizes.append(0.01 + 0.02 * active)
    embedding, tokens = (np.average(np.stack(x), axis=0, weights=sizes) for x in zip(*codes, strict=True))
    return (embedding / np.linalg.norm(embedding)).astype(np.float32), tokens.astype(np.float32)


def levelled(graphs: Graphs, wav: Array) -> tuple[Array, float]:
    """At the level that the networks know, and by which gain."""
    loudness = float(10 * np.log10(active_powers(wav, graphs.rate).mean()))
    gain = 10 ** ((graphs.level - loudness) / 20)
    return wav * np.float32(gain), gain


def active_powers(wav: Array, rate: int) -> Array:
    """Mean squares of the frames of 20 ms that are no pauses: within 40 dB of the loudest."""
    size = max(1, min(len(wav), round(0.02 * rate)))
    frames = wav[: len(wav) // size * size].reshape(-1, size)
    powers = np.einsum("ij,ij->i", frames, frames) / np.float32(size)
    return powers[powers >= powers.max() / 1e4]


def read(path: str, rate: int) -> Array:
    """Samples of a WAV file, (N,) float32, the mean of its channels."""
    try:
        with wave.open(path) as file:
            bits, found = 8 * file.getsampwidth(), file.getframerate()
            channels, data = file.getnchannels(), file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError(f"{path}: not a WAV file that can be read ({error or 'it ends early'})") from None
    if (bits, found) != (16, rate):
        raise ValueError(
            f"{path}: has {bits} bits at {found} Hz, not 16 at {rate}; "
            f"convert it first, as with ffmpeg -i IN -ar {rate} -c:a pcm_s16le OUT.wav"
        )
    whole = data[: len(data) // (2 * channels) * 2 * channels]  # a file may have been cut short
    wav: Array = (np.frombuffer(whole, "<i2").reshape(-1, channels) / np.float32(32768)).mean(1)
    if np.abs(wav).max(initial=0) < SILENCE:
        raise ValueError(f"{path}: is silent; there is no voice in it")
    return wav


def write(path: str, wav: Array, rate: int) -> None:
    """Write (N,) to a WAV file of 16 bits."""
    with wave.open(path, "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(np.rint(wav * 32768).clip(-32768, 32767).astype("<i2").tobytes())


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Convert a voice with numpy and onnxruntime alone.")
    parser.add_argument("source", help="what is said, a WAV file")
    parser.add_argument("reference", help="whose voice to say it in, a WAV file")
    parser.add_argument("out", help="the WAV file to write")
    parser.add_argument("--stream", action="store_true", help="go through the source two frames at a time")
    args = parser.parse_args()
    graphs = Graphs(Path(__file__).parent)
    try:
        wav = convert(graphs, read(args.source, graphs.rate), read(args.reference, graphs.rate), args.stream)
        write(args.out, wav, graphs.rate)
    except (ValueError, OSError) as error:
        parser.exit(2, f"convert.py: {error}\n")


if __name__ == "__main__":
    main()
