"""Networks that predict a teacher's input from a log-mel, so that a teacher can be applied to a decoded mel.

Both are smoothed spectra of the same signal with other windows and bands, so that a small network that is
trained on natural speech converts one to the other, and passes a gradient.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcae.inference.checkpoint import load, save
from vcae.model.alignment import in_step, label_delay
from vcae.model.config import MelConfig
from vcae.model.mel import LogMel
from vcae.progress import Track, untracked
from vcae.training.augment import perturb_wav
from vcae.training.config import FrontEndFitConfig
from vcae.training.data import Sampler
from vcae.training.teachers.campplus import KaldiFilterBank
from vcae.training.teachers.whisper import HOP, SAMPLE_RATE, WhisperMel


@dataclass(frozen=True)
class FrontEndConfig:
    """Sizes of a `FrontEnd`."""

    teacher: Literal["whisper", "campplus"] = "whisper"
    """The teacher whose input is predicted."""
    mel: MelConfig = field(default_factory=MelConfig)
    width: int = 192
    """Hidden channels."""
    kernel: int = 5
    """Frames that a predicted frame depends on, odd."""
    bands: int = 80
    """Bands of the teacher's input."""


class FrontEnd(nn.Module):
    """Log-mel (B, n_mels, T) -> the teacher's input (B, bands, T - delay), that of samples from `hop` on.

    Raises ValueError for a mel of another rate than the teachers' 16 kHz and 100 Hz.
    """

    def __init__(self, config: FrontEndConfig) -> None:
        super().__init__()
        c = self.config = config
        if c.mel.sample_rate != SAMPLE_RATE or 2 * c.mel.hop_length != HOP:
            raise ValueError(f"teachers need a mel of {SAMPLE_RATE} Hz with a hop of {HOP // 2}")
        self.delay = label_delay(c.mel) + 1
        """Frames from the teacher's frame to the mel frame of the same centre, to the nearest frame."""
        padding = c.kernel // 2
        self.linear = nn.Conv1d(c.mel.n_mels, c.bands, c.kernel, padding=padding)
        hidden = nn.Conv1d(c.mel.n_mels, c.width, c.kernel, padding=padding)
        output = nn.Conv1d(c.width, c.bands, 1)
        nn.init.zeros_(output.weight)
        self.nonlinear = nn.Sequential(hidden, nn.GELU(), output)

    def forward(self, mel: Tensor) -> Tensor:
        """(B, n_mels, T) -> (B, bands, T - delay), the input of the teacher's `of_mel` or `of_features`."""
        x = self.config.mel.standardise(mel)
        x = (self.linear(x) + self.nonlinear(x))[..., self.delay :]
        return WhisperMel.normalise(x) if self.config.teacher == "whisper" else x - x.mean(-1, keepdim=True)

    def target(self, wav: Tensor, teacher: WhisperMel | KaldiFilterBank) -> Tensor:
        """What `forward` should give for the mel of a waveform at 16 kHz: (B, 1, N) -> (B, bands, frames).

        teacher: the front end of the teacher. The first frame of Whisper's is left out, so that its features
        are those of labels, as in `WhisperEncoder.of_labels`.
        """
        wav, hop = wav.squeeze(1), self.config.mel.hop_length
        return teacher(F.pad(wav[:, hop:], (0, hop)) if isinstance(teacher, WhisperMel) else wav)

    def loss(self, mel: Tensor, target: Tensor, edge: int = 2) -> Tensor:
        """L1 of the predicted input, but for the last `edge` frames that both have."""
        predicted, target = in_step(self(mel), target, 0)
        return F.l1_loss(predicted[..., :-edge], target[..., :-edge])


def find_or_fit(
    path: Path,
    config: FrontEndConfig,
    sampler: Sampler,
    fit: FrontEndFitConfig | None = None,
    track: Track = untracked,
) -> FrontEnd:
    """The front end in a file, or one that is fitted now and written there.

    Raises OutputError, and CheckpointError for a file that holds something else.
    """
    if not path.exists():
        front_end = FrontEnd(config)
        fit_front_end(front_end, sampler, fit, track)
        save(path, front_end)
    return load(path, FrontEnd, FrontEndConfig)  # in half precision, as a run that continues has it


def fit_front_end(
    front_end: FrontEnd, sampler: Sampler, config: FrontEndFitConfig | None = None, track: Track = untracked
) -> float:
    """Train on crops of a bank, on the bank's device; the mean L1 of the last hundred steps."""
    c, mel_config, device = config or FrontEndFitConfig(), front_end.config.mel, sampler.bank.samples.device
    front_end.to(device).train()
    log_mel = LogMel(mel_config).to(device)
    bands = front_end.config.bands
    teacher = WhisperMel(bands) if front_end.config.teacher == "whisper" else KaldiFilterBank(bands)
    teacher.to(device)
    optimiser = torch.optim.AdamW(front_end.parameters(), c.learning_rate, weight_decay=0.0)
    rng = torch.Generator(device).manual_seed(c.seed)
    recent: list[float] = []
    for step in track(range(c.steps), "Front end"):
        with torch.no_grad():
            wav = perturb_wav(sampler.batch(rng).source, c.content, mel_config, rng)
            mel, target = log_mel(wav), front_end.target(wav, teacher)
        for group in optimiser.param_groups:
            group["lr"] = c.learning_rate * min(1.0, 2 * (1 - step / c.steps))
        loss = front_end.loss(mel, target, c.edge)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        recent = [*recent[-99:], float(loss.detach())]
    front_end.eval()
    return sum(recent) / len(recent)
