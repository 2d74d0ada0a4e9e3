"""Splits of a corpus by speaker."""

import random
from collections.abc import Iterable, Sequence

from vcae.corpora.utterance import Utterance


def trainable(utterances: Iterable[Utterance]) -> list[Utterance]:
    """Keep the utterances that may be trained on, in their order."""
    return [utterance for utterance in utterances if utterance.held_out is None]


def split_by_speaker(
    utterances: Sequence[Utterance], validation: int | float, seed: int = 0
) -> tuple[list[Utterance], list[Utterance]]:
    """Split into training and validation utterances without a speaker in both, keeping the order.

    ``validation`` is how many speakers go to validation: a number (int), or a share of them (float in
    [0, 1)), rounded. Speakers are drawn by ``seed``; the order of ``utterances`` has no influence.
    Raises ValueError when no speaker would be left to train on.
    """
    speakers = sorted({utterance.speaker for utterance in utterances})
    count = round(validation * len(speakers)) if isinstance(validation, float) else validation
    if not 0 <= count < max(len(speakers), 1):
        raise ValueError(
            f"validation={validation} takes {count} of {len(speakers)} speakers; leave at least one to train"
        )
    chosen = set(random.Random(seed).sample(speakers, count))  # noqa: S311 -- reproducible, not secret
    return (
        [utterance for utterance in utterances if utterance.speaker not in chosen],
        [utterance for utterance in utterances if utterance.speaker in chosen],
    )
