"""An utterance of a corpus, and the speakers that nothing may be trained on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vcae.errors import VcaeError

# Drawn once, with random.Random(762).sample from the sorted adult women, then from the adult men.
_SPEECHOCEAN_DEVELOPMENT = (
    *("0736", "2059", "2282", "2488", "9600", "9606"),  # women
    *("0482", "1037", "1039", "1099", "2937", "9619"),  # men
)
_LIBRISPEECH_TEST = ("1688", "1998", "2033", "2414", "2609", "3005", "3080", "3331", "367", "533")

# The English and the Mexican Spanish prompts are spoken by one woman.
ASTERISK_VOICES = {
    "en_US_f": ("en-es", "en"),
    "es_MX_f": ("en-es", "es"),
    "fr_CA_f": ("fr", "fr"),
    "it_IT_m": ("it", "it"),
}

HELD_OUT_SPEAKERS: Mapping[str, str] = {
    **{f"librispeech/{name}": "test" for name in _LIBRISPEECH_TEST},
    **{f"asterisk/{name}": "development" for name, _ in ASTERISK_VOICES.values()},
    **{f"speechocean762/{name}": "development" for name in _SPEECHOCEAN_DEVELOPMENT},
}
"""Speakers whom nothing may be trained on, and the set they belong to: "test" or "development"."""


class CorpusError(VcaeError):
    """A corpus that cannot be read. One line that names the folder and the remedy."""


class HeldOutError(VcaeError):
    """Speakers kept for testing were given for training. One line that names them."""


@dataclass(frozen=True)
class Utterance:
    """One recording and what is known about it."""

    path: Path
    """The audio file."""
    speaker: str
    """The speaker, unique across corpora: ``vctk/p225``. Where no speakers are given, the file itself."""
    id: str
    """Name of the recording. In a parallel corpus the same sentence has the same id for every speaker."""
    corpus: str
    """The collection that the file was found in."""
    text: str | None = None
    """The spoken text, spelled and cased as in the corpus; None where unknown."""
    language: str = "en"
    """ISO 639 code; "zxx" for sounds that are not speech."""
    labelled: bool = True
    """Whether ``speaker`` is a person; False where the corpus does not name speakers."""
    held_out: str | None = None
    """None: may be trained on. Otherwise the set it is kept for, "test" or "development"."""


def refuse_held_out(utterances: Iterable[Utterance]) -> None:
    """Raise HeldOutError if any of the utterances may not be trained on."""
    held_out = sorted({f"{each.speaker} ({each.held_out})" for each in utterances if each.held_out})
    if held_out:
        more = f" and {len(held_out) - 3} more" if len(held_out) > 3 else ""
        raise HeldOutError(
            f"held-out speakers must not be trained on: {', '.join(held_out[:3])}{more};"
            " leave them out with corpora.trainable"
        )
