"""Teachers of random weights and small banks, for the recipes that use teachers."""

from pathlib import Path
from typing import Any

import torch
from banks import PITCHES, hum_bank
from safetensors.torch import save_file

from vcae.training.config import CodebookConfig, PhoneClassifierConfig, SpeakerLabelsConfig
from vcae.training.teachers import CamPlusPlus, WhisperEncoder
from vcae.training.teachers.whisper import WhisperConfig


def write_teachers(folder: Path, positions: int = 60) -> tuple[Path, Path]:
    """Write whisper.safetensors, for recordings of up to `positions` / 50 s, and campplus.safetensors."""
    torch.manual_seed(0)
    whisper = WhisperEncoder(WhisperConfig(width=64, heads=1, layers=1, positions=positions))
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


def taught(folder: Path) -> dict[str, Any]:
    """What the recipes share that learn from teachers: tiny ones, banks, and settings to match."""
    whisper, campplus = write_teachers(folder)
    train, validation = write_banks(folder)
    return {
        "train": train,
        "validation": validation,
        "whisper": (whisper,),
        "campplus": campplus,
        "codebook": CodebookConfig(layer=1, clusters=6, components=3),
        "phones": PhoneClassifierConfig(width=8, steps=2, batch_size=8),
        "speakers": SpeakerLabelsConfig(crops=1, seconds=0.5),
    }


def write_banks(folder: Path) -> tuple[Path, Path]:
    """Write a bank of three speakers to train on, and one of two to validate with."""
    train, validation = folder / "train.bank", folder / "validation.bank"
    for path, pitches in ((train, PITCHES), (validation, (140.0, 200.0))):
        phones = torch.arange(50 * len(pitches)) % 40
        phones[50:] = -1  # only the first speaker has phones
        hum_bank(pitches, seconds=1, phones=phones).save(path)
    return train, validation
