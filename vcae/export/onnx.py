"""Export of the networks to ONNX graphs, with an example script that converts without torch and vcae.

Every network becomes a graph for recordings of any length (`content.onnx`). Every causal network becomes a
second graph for two mel frames at a time (`content_stream.onnx`), with its cache as inputs and outputs;
initial values of the cache are in `content_stream.npz`. The caller cuts the signal into windows, integrates
F0 to phase, and overlap-adds the output windows, as the example `convert.py` does.

Needs the extra `export`.
"""

import json
import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnxscript.ir.passes.common import ClearMetadataAndDocStringPass
from torch import Tensor
from torch.export import Dim

from vcae.audio import LEVEL
from vcae.files import new_folder
from vcae.inference.converter import Converter
from vcae.inference.traced import TensorFunction
from vcae.model.bottleneck import VQ
from vcae.model.config import AutoencoderConfig
from vcae.model.mel import LogMel
from vcae.model.prosody import LOG_MIDDLE
from vcae.model.speaker import SpeakerCode

EXAMPLE = Path(__file__).with_name("convert.py")
"""The example script, copied to each export."""


def export_onnx(converter: Converter, folder: Path) -> None:
    """Write graphs, `manifest.json` and `convert.py` to a new or empty folder. Raises OutputError."""
    config = converter.autoencoder.config
    about = {
        "made_by": converter.made_by,
        "sample_rate": config.mel.sample_rate,
        "win_length": config.mel.win_length,
        "hop_length": config.mel.hop_length,
        "delay": converter.alignment.delay,
        "prosody_delay": converter.autoencoder.config.delay,
        "level": LEVEL,
        "guidance_scale": config.guidance_scale,
    }
    # Traced beyond the lengths for which some layers have a faster branch for few frames.
    any_length = shapes(config, Dim("steps", min=2048, max=2**24))
    with new_folder(folder) as unfinished, torch.no_grad(), _quiet():
        for name, network in networks(converter).items():
            inputs = network.zeros(shapes(config, 4096))
            write_graph(unfinished / f"{name}.onnx", network, inputs, any_length)
            two_frames = network.zeros(shapes(config, 1))
            initial_cache = network.keep_cache(two_frames)
            if initial_cache:
                path = unfinished / f"{name}_stream.onnx"
                write_graph(path, network, two_frames | initial_cache)
                arrays: dict[str, Any] = {key: x.numpy() for key, x in initial_cache.items()}
                np.savez(path.with_suffix(".npz"), **arrays)
        (unfinished / "manifest.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        shutil.copyfile(EXAMPLE, unfinished / "convert.py")


def shapes(config: AutoencoderConfig, steps: Any) -> dict[str, tuple[Any, ...]]:
    """Shapes of all inputs of the graphs, for a number of steps of two mel frames."""
    mel, frames = config.mel, 2 * steps
    return {
        "windows": (1, frames, mel.win_length),
        "mel": (1, mel.n_mels, frames),
        "z": (1, config.content_dim, steps),
        "prosody": (1, 3, frames),
        "phase": (1, frames),
        "embedding": (1, config.speaker_dim),
        "tokens": (1, config.token_dim, config.tokens),
    }


def networks(converter: Converter) -> dict[str, TensorFunction]:
    """The functions to export, on the CPU, by the names of their graphs."""
    auto, vocoder = deepcopy(converter.autoencoder).cpu().float(), deepcopy(converter.vocoder).cpu()
    log_mel = LogMel(auto.config.mel).double()  # as in the converter
    # The converter runs the prosody encoder in float64, but onnxruntime has no GELU in float64. Here only the
    # mean over the pitches is in float64, which suffices to keep errors of F0 from accumulating in the phase.
    # torch.onnx rounds constants to float32, so the pitches compensate for the rounding of LOG_MIDDLE.
    rounded = LOG_MIDDLE - torch.tensor(LOG_MIDDLE).item()
    auto.prosody.pitches = auto.prosody.pitches.double() + rounded
    if isinstance(auto.bottleneck, VQ):
        codebook = auto.bottleneck.quantiser._codebook
        del codebook.initted  # a tensor; a graph cannot branch on its value
        codebook.initted = True
    return {
        "log_mel": TensorFunction(
            lambda x, cache: log_mel.from_windows(x), "windows", "mel", log_mel=log_mel
        ),
        "content": TensorFunction(
            lambda mel, cache: auto.bottleneck(auto.content(mel, cache)).z,
            "mel",
            "z",
            content=auto.content,
            bottleneck=auto.bottleneck,
        ),
        "prosody": TensorFunction(
            lambda mel, cache: auto.prosody(mel, cache), "mel", "prosody", prosody=auto.prosody
        ),
        "speaker": TensorFunction(
            lambda mel, cache: auto.speaker.encode(mel), "mel", "embedding tokens", speaker=auto.speaker
        ),
        "decoder": TensorFunction(
            lambda z, prosody, e, t, cache: auto.decode(z, prosody, SpeakerCode(e, t), cache),
            "z prosody embedding tokens",
            "mel",
            decoder=auto.decoder,
        ),
        "vocoder": TensorFunction(vocoder.windows, "mel prosody phase", "windows", vocoder=vocoder),
    }


def write_graph(
    path: Path,
    network: TensorFunction,
    inputs: dict[str, Tensor],
    shapes: dict[str, tuple[Any, ...]] | None = None,
) -> None:
    """Write the graph of a network for the shapes of `inputs`, but with the dynamic axes among `shapes`."""
    varying = None
    if shapes is not None:
        varying = tuple(
            {axis: size for axis, size in enumerate(shapes[name]) if not isinstance(size, int)}
            for name in inputs
        )
    caches = [name.replace("cache", "next", 1) for name in inputs if name not in network.inputs]
    program: Any = torch.onnx.export(
        network,
        tuple(inputs.values()),
        dynamic_shapes=varying and (varying,),
        input_names=list(inputs),
        output_names=[*network.outputs, *caches],
        opset_version=20,
        verbose=False,
    )
    ClearMetadataAndDocStringPass()(program.model)  # they contain paths of this machine
    program.save(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress torch's messages about missing packages and its own code."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(level)
