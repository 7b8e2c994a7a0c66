"""Progress of long work: a bar on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, Protocol, TextIO, TypeVar

from nncf_core.log import nncf_logger

T = TypeVar("T")


class Progress(Protocol):
    """Wraps an iterable and shows how far it got."""

    def track(self, items: Iterable[T], description: str, total: float | None = None) -> Iterator[T]:
        """Yield the items; each counts as 1 of ``total``."""


class SilentProgress:
    """Shows nothing."""

    def track(self, items: Iterable[T], description: str, total: float | None = None) -> Iterator[T]:
        """Yield the items."""
        yield from items


class LineProgress:
    """Plain lines for pipes, log files and notebooks: one after a while, more at growing intervals, one at the end.

    :param first: seconds until the first line; from line to line it takes twice as long.
    :param longest: seconds that it takes at most.
    :param patience: seconds; of work that takes less nothing is shown at the end.
    :param clock: gives seconds.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        first: float = 1.0,
        longest: float = 60.0,
        patience: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._first = first
        self._longest = longest
        self._patience = patience
        self._clock = clock

    def track(self, items: Iterable[T], description: str, total: float | None = None) -> Iterator[T]:
        """Yield the items."""
        stream = self._stream or sys.stderr
        of = "" if total is None else f"/{total:g}"
        start = shown = self._clock()
        done, pause = 0, self._first
        for item in items:
            yield item
            done += 1
            now = self._clock()
            if now - shown >= pause and done != total:
                shown, pause = now, min(2 * pause, self._longest)
                print(f"{description}: {done}{of}", file=stream, flush=True)
        taken = self._clock() - start
        if taken >= self._patience:
            print(f"{description}: {done}{of}, {taken:.1f} s", file=stream, flush=True)


class BarProgress:
    """A bar on a terminal (rich).

    :param patience: seconds; of work that takes less nothing is shown.
    """

    def __init__(self, patience: float = 0.0) -> None:
        self._patience = patience

    def track(self, items: Iterable[T], description: str, total: float | None = None) -> Iterator[T]:
        """Yield the items."""
        start, done = time.monotonic(), 0
        given = iter(items)
        if self._patience:
            for item in given:
                yield item
                done += 1
                if time.monotonic() - start >= self._patience:
                    break
            else:
                return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with RichProgress(*columns, console=Console(stderr=True), transient=False) as bars:
            task = bars.add_task(description, total=total, completed=done)
            for item in given:
                yield item
                bars.advance(task)


def default_progress(stream: TextIO | None = None) -> Progress:
    """A bar when the stream (standard error) is a terminal, lines otherwise."""
    stream = stream or sys.stderr
    return BarProgress() if stream.isatty() else LineProgress(stream)


def script_progress(stream: TextIO | None = None) -> Progress:
    """What scripts show of long work, and nothing of short work; nothing at all where the log is silenced.

    That is after ``nncf.disable_logging()``, or with a log level above ``logging.INFO``.
    """
    if nncf_logger.level > logging.INFO or not nncf_logger.propagate:
        return SilentProgress()
    stream = stream or sys.stderr
    return BarProgress(patience=1.0) if stream.isatty() else LineProgress(stream, patience=1.0)


def track(
    sequence: Iterable[T],
    description: str = "Working...",
    total: float | None = None,
    *,
    disable: bool = False,
    **appearance: Any,
) -> Iterator[T]:
    """Yield the items of a loop, and show how far it got, as :func:`script_progress` does.

    :param total: number of items; by default the length of ``sequence``, where it has one.
    :param disable: show nothing.
    :param appearance: how a bar looks in NNCF; taken so that scripts run.
    """
    length = len(sequence) if total is None and isinstance(sequence, Sized) else total
    return (SilentProgress() if disable else script_progress()).track(sequence, description, length)
