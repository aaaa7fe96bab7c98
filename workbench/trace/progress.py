"""A bar for what takes over a second with a long trace."""

import threading
from collections.abc import Iterable, Sized
from typing import Protocol, TypeVar

MANY = 1000

Item = TypeVar("Item", covariant=True)


class SizedIterable(Sized, Iterable[Item], Protocol[Item]):
    """Something to go through whose length is known."""


def progress(items: SizedIterable[Item], what: str, unit: str = "step") -> Iterable[Item]:
    """The items, with a bar after a second if there are many. Only the main thread has a cell that waits for them."""
    if len(items) < MANY or threading.current_thread() is not threading.main_thread():
        return items
    from tqdm.auto import tqdm  # chooses its notebook form by what is running it

    found: Iterable[Item] = tqdm(items, desc=what, unit=unit, delay=1.0, leave=False)
    return found
