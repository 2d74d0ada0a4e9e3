"""Phones and their times, by forced alignment of a recording to its English text.

By PocketSphinx (Huggins-Daines et al., ICASSP 2006), whose package carries CMU's acoustic model of American
English and a dictionary of 126,000 words, both under a BSD licence. Needs the extra `eval`.
"""

import math
import re
import unicodedata
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from vcae.audio import Samples, is_silent, resample
from vcae.errors import VcaeError
from vcae.model.phones import SILENCE, Phone

_RATE = 16_000  # what the acoustic model was trained on
_HOP = 0.01  # seconds from frame to frame
_MIDDLE = (0.025625 - _HOP) / 2  # frame t is of a window that starts at t: its middle is so much later
# Mean score of a frame, in PocketSphinx' units; 0 is a model that fits best of all. Found on read speech:
# right texts scored -9 to -29, those of another recording at best -32, if they could be aligned at all.
_WORST_TEXT = -32.0
_WORST_WORD = -60.0  # 1 word in 70 is below; most of these are errors of the transcript
# A guess of how an unknown word sounds, letter by letter; a digit is about two phones long.
_SOUNDS = {
    "a": "AE",
    "b": "B",
    "c": "K",
    "d": "D",
    "e": "EH",
    "f": "F",
    "g": "G",
    "h": "HH",
    "i": "IH",
    "j": "JH",
    "k": "K",
    "l": "L",
    "m": "M",
    "n": "N",
    "o": "AA",
    "p": "P",
    "q": "K",
    "r": "R",
    "s": "S",
    "t": "T",
    "u": "AH",
    "v": "V",
    "w": "W",
    "x": "K S",
    "y": "IY",
    "z": "Z",
    **dict.fromkeys("0123456789", "AH N"),
}


class _Word(NamedTuple):
    """A word as it was aligned: score and length in frames as a whole; start, end and name of each phone."""

    name: str
    score: int
    frames: int
    phones: list[tuple[int, int, str]]

    @property
    def is_filler(self) -> bool:
        """Whether it is a pause or a noise, such as <sil> or [NOISE]."""
        return self.name[0] in "<["

    @property
    def is_doubtful(self) -> bool:
        """Whether it is unknown, or fits the recording badly."""
        return self.name[0] == "?" or (not self.is_filler and self.score < _WORST_WORD * self.frames)


def align_phones(samples: Samples, sample_rate: int, text: str) -> list[Phone]:
    """The phones of a recording (N,) in order, of an English text that is spoken in it.

    Of several pronunciations the best fitting is taken. The phones of a word that is in no dictionary or that
    fits badly are not in the list, which has a gap there. The list is empty where the text as a whole cannot
    be aligned.
    Boundaries are on a grid of 10 ms, and no phone is shorter than 30 ms. Raises VcaeError where PocketSphinx
    is not installed.
    """
    decoder = load_decoder()
    names = [_name_of(decoder, word) for word in words_of(text)]
    if all(name[0] == "?" for name in names) or is_silent(samples):
        return []
    audio = resample(samples, sample_rate, _RATE)
    words = _align(decoder, names, audio / np.abs(audio).max())
    spoken = [word for word in words if not word.is_filler]
    if not spoken or sum(w.score for w in spoken) < _WORST_TEXT * sum(w.frames for w in spoken):
        return []
    end = words[-1].phones[-1][1]

    def seconds(frame: int) -> float:
        return len(samples) / sample_rate if frame == end else frame and frame * _HOP + _MIDDLE

    return [
        Phone(seconds(start), seconds(stop), SILENCE if word.is_filler else name)
        for word in words
        if not word.is_doubtful
        for start, stop, name in word.phones
    ]


def text_score(samples: Samples, sample_rate: int, text: str) -> float:
    """How well an English text fits a recording (N,): the mean score of a frame of its words, at most 0.

    In the units of `align_phones`, but from one fast pass, 200 times faster than real time. -inf where the
    text cannot be aligned, nan where it holds no word. Raises VcaeError where PocketSphinx is not installed.
    """
    decoder = load_decoder(fast=True)
    names = [_name_of(decoder, word) for word in words_of(text)]
    if not names:
        return math.nan
    if is_silent(samples):
        return -math.inf
    audio = resample(samples, sample_rate, _RATE)
    try:
        decoder.set_align_text(" ".join(names))
        decoder.start_utt()
        decoder.process_raw((audio / np.abs(audio).max() * 32767).astype(np.int16).tobytes(), full_utt=True)
        decoder.end_utt()
    except RuntimeError:
        return -math.inf
    words = [segment for segment in decoder.seg() or () if segment.word[0] not in "<["]
    if not words:
        return -math.inf
    # The decoder gives probabilities, whose logarithm to this base is the score.
    score = sum(math.log(max(word.ascore, 5e-324)) for word in words) / math.log(1.0001)
    return score / sum(word.end_frame - word.start_frame + 1 for word in words)


def _align(decoder: Any, names: list[str], audio: Samples) -> list[_Word]:
    """Words and fillers of a recording (N,) in [-1, 1]; none where the text does not fit."""
    pcm = (audio * 32767).astype(np.int16).tobytes()

    def process() -> None:
        decoder.start_utt()
        decoder.process_raw(pcm, full_utt=True)
        decoder.end_utt()

    try:
        decoder.set_align_text(" ".join(names))
        process()
        if decoder.hyp() is None:
            return []
        decoder.set_alignment()  # a second pass, for the phones within the words
        process()
        alignment = decoder.get_alignment()
    except RuntimeError:
        return []
    # A word must be asked for its phones before the next is drawn: they share a pointer.
    return [
        _Word(w.name, w.score, w.duration, [(p.start, p.start + p.duration, p.name) for p in w])
        for w in alignment
    ]


@cache
def load_decoder(fast: bool = False) -> Any:
    """PocketSphinx without a language model. Loads in two seconds. Raises VcaeError without the package.

    fast: score every other frame by fewer Gaussians, four times faster and less exact.
    """
    try:
        from pocketsphinx import Decoder
    except ModuleNotFoundError:
        raise VcaeError("pocketsphinx is not installed; pip install 'vcae[eval]'") from None
    speed = {"ds": 2, "topn": 2} if fast else {}
    return Decoder(lm=None, bestpath=False, loglevel="FATAL", **speed)


def words_of(text: str) -> list[str]:
    """Words in lower case, without accents or punctuation but for apostrophes."""
    plain = unicodedata.normalize("NFKD", text.lower().replace("\u2019", "'"))
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return re.findall(r"'?[^\W_]+(?:'[^\W_]+)*'?", plain)


def _name_of(decoder: Any, word: str) -> str:
    """The decoder's name of a word; that of an unknown word begins with a question mark."""
    for spelling in (word, word.strip("'")):
        if decoder.lookup_word(spelling):
            return spelling
    name = f"?{word}"
    if not decoder.lookup_word(name):
        sounds = [_SOUNDS[letter] for letter in word if letter in _SOUNDS] or ["AH"]
        decoder.add_word(name, " ".join(sounds), update=False)
    return name
