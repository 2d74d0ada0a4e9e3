"""How long computations report their progress: by functions that the caller passes in.

The library itself draws nothing; `vcae.cli.console` has the functions that draw.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeAlias

Progress: TypeAlias = Callable[[str, float, float | None], None]
"""Called with the name of the work on a recording, the seconds that are done, and the total if known."""
Track: TypeAlias = Callable[[Collection[Any], str], Iterable[Any]]
"""Takes the items and the name of a task, yields the items, and shows the progress."""


def untracked(items: Collection[Any], task: str) -> Iterable[Any]:
    """Yield the items without showing progress."""
    return items
