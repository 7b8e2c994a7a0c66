"""Progress of long work: a bar on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
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
    """Plain lines for pipes and log files: one every ``every`` seconds, and one at the end.

    :param patience: seconds; of work that takes less nothing is shown.
    """

    def __init__(self, stream: TextIO | None = None, every: float = 10.0, patience: float = 0.0) -> None:
        self._stream = stream
        self._every = every
        self._patience = patience

    def track(self, items: Iterable[T], description: str, total: float | None = None) -> Iterator[T]:
        """Yield the items."""
        stream = self._stream or sys.stderr
        of = "" if total is None else f"/{total:g}"
        start = shown = time.monotonic()
        done = 0
        for item in items:
            yield item
            done += 1
            now = time.monotonic()
            if now - shown >= self._every:
                shown = now
                print(f"{description}: {done}{of}", file=stream, flush=True)
        taken = time.monotonic() - start
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
    return BarProgress(patience=1.0) if stream.isatty() else LineProgress(stream, every=30.0, patience=30.0)


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
