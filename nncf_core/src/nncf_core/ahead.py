"""Items that are made in another thread while the ones before them are used."""

from __future__ import annotations

import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar, cast

T = TypeVar("T")

_END: Any = object()


def ahead(items: Generator[T], stopped: threading.Event) -> Generator[T]:
    """The items, each of which is made while the one before it is used.

    :param items: is taken from in one other thread.
    :param stopped: is set when no more are wanted before the end: when who takes them stops, or what makes them fails.
    """
    try:
        with ThreadPoolExecutor(1) as executor:
            try:
                following = executor.submit(next, items, _END)
                while True:
                    held = [following.result()]
                    if held[0] is _END:
                        return
                    following = executor.submit(next, items, _END)
                    yield cast(T, held.pop())  # and let go of it: what runs a part of a model is large
            except BaseException:
                stopped.set()
                raise
    finally:
        with suppress(ValueError):  # it still runs where waiting for its end was interrupted, too
            items.close()
