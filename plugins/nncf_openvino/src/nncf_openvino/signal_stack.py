"""The stack on which a thread handles signals."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _Stack(ctypes.Structure):
    """``stack_t`` of Linux."""

    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def signal_stack_kept() -> Iterator[None]:
    """Leave this thread the stack for signals that it has, whatever OpenVINO's CPU plugin does.

    The plugin gives a stack of its own to the thread that loads it, and unmaps it in the thread that is the last to use
    what was compiled. Where these are two, the next signal in the first one, Ctrl-C for instance, ends the process
    (OpenVINO 2026.4).
    """
    if sys.platform != "linux":
        yield
        return
    stack, library = _Stack(), ctypes.CDLL(None)
    library.sigaltstack(None, ctypes.byref(stack))
    try:
        yield
    finally:
        library.sigaltstack(ctypes.byref(stack), None)
