"""Whose process this is: a command's own, or a script's that uses the library; and when it may be stopped."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from nncf_core.log import nncf_logger

_own = False


def own() -> None:
    """Say that the process runs one command and ends: what no command needs may be left out."""
    global _own
    _own = True


def is_own() -> bool:
    """Whether the process runs one command and ends."""
    return _own


@contextmanager
def finishing(what: str) -> Iterator[None]:
    """Within the block the first Ctrl-C changes nothing, since what it asks for is being done; the second ends it.

    :param what: is done, for people.
    """
    usual = signal.default_int_handler
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not usual:
        yield
        return

    def wait(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, usual)
        nncf_logger.warning("Interrupted: %s, which takes a moment. Another Ctrl-C ends the run without it.", what)

    signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
