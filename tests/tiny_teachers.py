"""Teachers of random weights and small banks, for the recipes that use teachers."""

from pathlib import Path

import torch
from conftest import vowel
from safetensors.torch import save_file

from vcae.training.data import Bank
from vcae.training.teachers import CamPlusPlus, WhisperEncoder
from vcae.training.teachers.whisper import WhisperConfig


def small_bank(path: Path, pitches: tuple[float, ...]) -> Path:
    """A bank of speakers of one second each, the first with phones."""
    size = 16_000
    wav = torch.cat([vowel(p, size)[0, 0] for p in pitches])
    phones = torch.arange(len(wav) // 320) % 40
    phones[50:] = -1
    made = Bank(
        samples=(32767 * wav).to(torch.int16),
        f0=torch.tensor(pitches).repeat_interleave(size // 160).half(),
        phones=phones.to(torch.int8),
        starts=torch.arange(len(pitches) + 1) * size,
        speakers=torch.arange(len(pitches)),
        labelled=torch.ones(len(pitches), dtype=torch.bool),
        speaker_names=[f"test/{p}" for p in pitches],
        ids=[str(p) for p in pitches],
        texts=[None] * len(pitches),
    )
    made.save(path)
    return path


def write_teachers(folder: Path) -> tuple[Path, Path]:
    """Write whisper.safetensors and campplus.safetensors."""
    torch.manual_seed(0)
    whisper = WhisperEncoder(WhisperConfig(width=64, heads=1, layers=1, positions=60))
    block = whisper.blocks[0]
    q, k, v = block.queries_keys_values.weight.chunk(3)
    q_bias, _, v_bias = block.queries_keys_values.bias.chunk(3)
    attention = {"q_proj.weight": q, "k_proj.weight": k, "v_proj.weight": v}
    attention |= {"q_proj.bias": q_bias, "v_proj.bias": v_bias}
    tensors = {f"layers.0.self_attn.{n}": t for n, t in attention.items()}
    tensors["embed_positions.weight"] = whisper.positions
    renamed = {
        "layer_norm": whisper.norm,
        "conv1": whisper.conv1,
        "conv2": whisper.conv2,
        "layers.0.self_attn_layer_norm": block.attention_norm,
        "layers.0.self_attn.out_proj": block.attention_output,
        "layers.0.final_layer_norm": block.norm,
        "layers.0.fc1": block.expand,
        "layers.0.fc2": block.project,
    }
    for name, module in renamed.items():
        tensors |= {f"{name}.weight": module.weight, f"{name}.bias": module.bias}
    save_file(
        {f"encoder.{n}": t.detach().clone() for n, t in tensors.items()}, folder / "whisper.safetensors"
    )
    save_file(CamPlusPlus().state_dict(), folder / "campplus.safetensors")
    return folder / "whisper.safetensors", folder / "campplus.safetensors"


def write_banks(folder: Path) -> tuple[Path, Path]:
    """Write a bank of three speakers to train on, and one of two to validate with."""
    train = small_bank(folder / "train.bank", (110.0, 170.0, 230.0))
    return train, small_bank(folder / "validation.bank", (140.0, 200.0))
