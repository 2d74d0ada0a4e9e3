"""Train a model on LibriTTS or LibriTTS-R: 2456 English readers, 585 hours, 24 kHz.

    vcae download libritts-r --parts train-clean-100 libritts_r_failed_speech_restoration_examples
    python recipes/libritts.py --corpora libritts-r

Without --parts, `vcae download` fetches all of it. The corpus doctor examines the corpus first
(`recipes/corpus.py`), then the stages of `recipes/bundled.py` train one after the other. Readers who are kept
for testing (`vcae.corpora.HELD_OUT_SPEAKERS`) are left out.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import tyro
from bundled import ValidationConfig, main
from corpus import CorpusRecipe

from vcae.cli.console import in_one_line
from vcae.corpora.layouts import READERS
from vcae.corpora.utterance import Utterance


@dataclass(frozen=True, kw_only=True)
class Recipe(CorpusRecipe):
    """All settings; the defaults are for an H100."""

    name: ClassVar = "libritts"
    corpus: Literal["libritts", "libritts-r"] = "libritts-r"
    """LibriTTS, or LibriTTS-R, whose sound was restored."""
    mel: Literal["16k", "24k"] = "24k"
    """The mel spectrogram of all networks: a preset, named by its sample rate."""
    validation: ValidationConfig = field(default_factory=lambda: ValidationConfig(speakers=12))

    def read(self) -> list[Utterance]:
        """All recordings of the parts that are there."""
        return READERS[self.corpus](self.corpora, self.transcripts)


if __name__ == "__main__":
    with in_one_line():
        main(tyro.cli(Recipe, description=__doc__))
