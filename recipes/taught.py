"""What the recipes share that learn from Whisper and CAM++: the teachers, and their labels of a bank.

Labels are written beside the banks, as `content-BANK.safetensors` and `speakers-BANK.safetensors`, where the
next run finds them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from vcae.cli.console import track
from vcae.training.config import CodebookConfig, PhoneClassifierConfig, SpeakerLabelsConfig
from vcae.training.data import Bank
from vcae.training.teachers import CamPlusPlus, WhisperEncoder, load_campplus, load_whisper
from vcae.training.teachers.labels import Codebook, ContentLabels, find_or_embed, find_or_label


@dataclass(frozen=True, kw_only=True)
class TaughtRecipe:
    """Banks, teachers and labels."""

    train: Path
    """Bank of speech to train on."""
    validation: Path
    """Bank of other speakers."""
    whisper: tuple[Path, ...]
    """Weights of Whisper base: a file, or its parts in order."""
    campplus: Path
    """Weights of CAM++."""
    runs: Path | None = Path(__file__).parent / "runs.tsv"
    """Table to which a finished run appends a row; None: no row."""

    codebook: CodebookConfig = field(default_factory=CodebookConfig)
    phones: PhoneClassifierConfig = field(default_factory=PhoneClassifierConfig)
    speakers: SpeakerLabelsConfig = field(default_factory=SpeakerLabelsConfig)

    def labels(
        self,
        path: Path,
        bank: Bank,
        whisper: Callable[[], WhisperEncoder],
        campplus: Callable[[], CamPlusPlus],
        codebook: Codebook | None = None,
    ) -> tuple[ContentLabels, Tensor]:
        """Content labels of the bank at a path, and the embeddings of its speakers, (S, 1, 192).

        whisper, campplus: load a teacher onto the bank's device, if it is needed. codebook: as for
        `find_or_label`. Raises VcaeError.
        """
        content = find_or_label(beside(path, "content"), bank, self.codebook, whisper, codebook, track)
        # One embedding for all speeds: perturbed sources of any speed have another pitch and envelope anyway.
        return content, find_or_embed(beside(path, "speakers"), bank, campplus, (1.0,), self.speakers, track)

    def load_whisper(self) -> WhisperEncoder:
        """Whisper. Raises VcaeError."""
        return load_whisper(*self.whisper)

    def load_campplus(self) -> CamPlusPlus:
        """CAM++. Raises VcaeError."""
        return load_campplus(self.campplus)

    @property
    def teachers(self) -> list[dict[str, Any]]:
        """The teachers, for the files of the run."""
        return [
            {"stage": "Whisper", "files": [path.name for path in self.whisper]},
            {"stage": "CAM++", "files": [self.campplus.name]},
        ]


def beside(bank: Path, name: str) -> Path:
    """A file beside a bank that belongs to it."""
    return bank.with_name(f"{name}-{bank.stem}.safetensors")
