"""How a long computation reports its progress: a `Track` that the caller passes in.

`vcae.cli.console.track` draws a progress bar; the library itself draws nothing.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeAlias

Track: TypeAlias = Callable[[Collection[Any], str], Iterable[Any]]
"""Takes the items and the name of a task, yields the items, and shows the progress."""


def untracked(items: Collection[Any], task: str) -> Iterable[Any]:
    """Yield the items without showing progress."""
    return items
