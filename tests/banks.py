"""Small banks of speakers who hum, for the tests of training and of recipes."""

from collections.abc import Sequence

import torch
from conftest import vowel
from torch import Tensor

from vcae.training.data import Bank

PITCHES = (110.0, 170.0, 230.0)


def hum_bank(
    pitches: Sequence[float] = PITCHES,
    seconds: int = 2,
    *,
    phones: Tensor | None = None,
    labelled: Sequence[bool] | None = None,
    texts: Sequence[str | None] | None = None,
) -> Bank:
    """One recording of each speaker. phones: of all frames, (50 * seconds * speakers,); default: unknown."""
    count, size = len(pitches), seconds * 16_000
    wav = torch.cat([vowel(p, size)[0, 0] for p in pitches])
    unknown = torch.full((len(wav) // 320,), -1)
    return Bank(
        samples=(32767 * wav).to(torch.int16),
        f0=torch.tensor(pitches).repeat_interleave(size // 160).half(),
        phones=(unknown if phones is None else phones).to(torch.int8),
        starts=torch.arange(count + 1) * size,
        speakers=torch.arange(count),
        labelled=torch.tensor(labelled or [True] * count),
        speaker_names=[f"test/{k}" for k in range(count)],
        ids=[str(k) for k in range(count)],
        texts=list(texts or [None] * count),
    )


def some_phones(seconds: int) -> Tensor:
    """Phones of a bank of so many seconds in all, unknown in a quarter of the frames."""
    phones = torch.arange(50 * seconds) % 40
    return phones.where(phones > 10, -1)
