"""Progress of long work: a bar on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Protocol, TextIO, TypeVar

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
    """Plain lines for pipes and log files: one when work starts, one every ``every`` seconds, one at the end."""

    def __init__(self, stream: TextIO | None = None, every: float = 10.0) -> None:
        self._stream = stream
        self._every = every

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
        print(f"{description}: {done}{of}, {time.monotonic() - start:.1f} s", file=stream, flush=True)


class BarProgress:
    """A bar on a terminal (rich)."""

    def track(self, items: Iterable[T], description: str, total: float | None = None) -> Iterator[T]:
        """Yield the items."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with RichProgress(*columns, console=Console(stderr=True), transient=False) as bars:
            task = bars.add_task(description, total=total)
            for item in items:
                yield item
                bars.advance(task)


def default_progress(stream: TextIO | None = None) -> Progress:
    """A bar when the stream (standard error) is a terminal, lines otherwise."""
    stream = stream or sys.stderr
    return BarProgress() if stream.isatty() else LineProgress(stream)
