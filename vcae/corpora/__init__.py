"""Speech corpora: utterances with speaker and text, and which speakers may be trained on.

A reader (`vcae.corpora.layouts`) takes the folder of one corpus, in the layout in which its makers publish
it, and lists its utterances. It opens no audio, and the suffix of the audio files does not matter. A speaker
who occurs in two collections has the same name in both, so that a split by speaker keeps them together.
"""

from vcae.corpora.layouts import READERS, read_corpora, read_speech, read_transcripts
from vcae.corpora.splits import split_by_speaker, trainable
from vcae.corpora.utterance import (
    HELD_OUT_SPEAKERS,
    CorpusError,
    HeldOutError,
    Utterance,
    refuse_held_out,
)

__all__ = [
    "HELD_OUT_SPEAKERS",
    "READERS",
    "CorpusError",
    "HeldOutError",
    "Utterance",
    "read_corpora",
    "read_speech",
    "read_transcripts",
    "refuse_held_out",
    "split_by_speaker",
    "trainable",
]
