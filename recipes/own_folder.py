"""Train a model on your own recordings.

    python recipes/own_folder.py --corpora recordings                          # a folder for each speaker
    python recipes/own_folder.py --corpora recordings --speakers '_(?P<speaker>[a-z]+)_'    # by file name
    python recipes/own_folder.py --corpora recordings --speakers list.csv      # file,speaker,text,language
    python recipes/own_folder.py --corpora recordings --speakers none          # unknown

The corpus doctor examines the recordings first (`recipes/corpus.py`), then the stages of `recipes/bundled.py`
train one after the other. English texts help: in the table, or in NAME.tsv (id, text) of `--transcripts`,
where NAME is that of the folder.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import tyro
from bundled import ValidationConfig, main
from corpus import CorpusRecipe

from vcae.cli.console import in_one_line
from vcae.corpora.layouts import read_speech
from vcae.corpora.utterance import Utterance


@dataclass(frozen=True, kw_only=True)
class Recipe(CorpusRecipe):
    """All settings; the defaults are for an H100."""

    name: ClassVar = "own_folder"
    speakers: str = "folder"
    """How speakers are named: folder (one for each), none, a pattern with (?P<speaker>...), or a table."""
    validation: ValidationConfig = field(default_factory=lambda: ValidationConfig(speakers=1))

    def read(self) -> list[Utterance]:
        """All recordings in the folder."""
        return read_speech(self.corpora, transcripts=self.transcripts, speakers=self.speakers)


if __name__ == "__main__":
    with in_one_line():
        main(tyro.cli(Recipe, description=__doc__))
