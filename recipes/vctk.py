"""Train a model on VCTK 0.92: 110 English speakers, 44 hours, 48 kHz.

    vcae download vctk
    python recipes/vctk.py --corpora vctk

The corpus doctor examines the corpus first (`recipes/corpus.py`), then the stages of `recipes/bundled.py`
train one after the other. The folder is that which `vcae download` made, or the one in it.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import tyro
from bundled import ValidationConfig, main
from corpus import CorpusRecipe

from vcae.cli.console import in_one_line
from vcae.corpora.layouts import vctk
from vcae.corpora.utterance import Utterance


@dataclass(frozen=True, kw_only=True)
class Recipe(CorpusRecipe):
    """All settings; the defaults are for an H100."""

    name: ClassVar = "vctk"
    validation: ValidationConfig = field(default_factory=lambda: ValidationConfig(speakers=8))

    def read(self) -> list[Utterance]:
        """All recordings, of the first microphone where there are two."""
        return vctk(self.corpora, self.transcripts)


if __name__ == "__main__":
    with in_one_line():
        main(tyro.cli(Recipe, description=__doc__))
