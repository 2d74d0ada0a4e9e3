"""Train a vocoder alone, on any speech: it needs neither texts nor speakers.

    python recipes/vocoder.py --corpora ~/corpora          # corpora by name, or a folder for each speaker
    python recipes/vocoder.py --corpora vctk --mel 24k
    python recipes/vocoder.py --corpora recordings --speakers none --start vcae/weights

The corpus doctor examines the recordings first (`recipes/corpus.py`). Narrow and noisy recordings are left
out, too: a vocoder learns to make whatever it hears. `vocoder.safetensors` is the result.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import tyro
from bundled import ValidationConfig, main
from corpus import CorpusRecipe, DoctorConfig

from vcae.cli.console import in_one_line
from vcae.corpora.layouts import read_speech
from vcae.corpora.utterance import Utterance
from vcae.doctor import PROBLEMS

LEFT_OUT = (*(name for name, problem in PROBLEMS.items() if problem.excluded), "narrow", "noisy", "hum")


@dataclass(frozen=True, kw_only=True)
class Recipe(CorpusRecipe):
    """All settings; the defaults are for an H100."""

    name: ClassVar = "vocoder"
    stages: tuple[str, ...] = ("vocoder",)
    """Stages to train."""
    speakers: str | None = None
    """How your own recordings name speakers: folder, none, a pattern, or a table; default: by the layout."""
    validation: ValidationConfig = field(default_factory=lambda: ValidationConfig(speakers=1))
    doctor: DoctorConfig = field(default_factory=lambda: DoctorConfig(exclude=LEFT_OUT, texts=False))

    def read(self) -> list[Utterance]:
        """All recordings."""
        return read_speech(self.corpora, transcripts=self.transcripts, speakers=self.speakers)


if __name__ == "__main__":
    with in_one_line():
        main(tyro.cli(Recipe, description=__doc__))
