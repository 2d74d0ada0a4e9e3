"""Progress over a collection, without a terminal: whoever calls a long function passes how it is shown."""

from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeAlias

Track: TypeAlias = Callable[[Collection[Any], str], Iterable[Any]]
"""Goes through a collection and shows how far it is; the second argument names the task."""


def untracked(items: Collection[Any], task: str) -> Iterable[Any]:
    """Go through a collection and show nothing."""
    return items
