"""Giving memory-mapped pages of weights back to the system after use."""

from __future__ import annotations

import ctypes
import mmap
import sys
from bisect import bisect_right
from contextlib import suppress
from pathlib import Path

import numpy as np


class FilePages:
    """The shared, read-only maps of files that this process has: OpenVINO maps the weights of a model that it reads.

    Their pages can be dropped at any time, since they are read again when needed. Other systems than Linux do not say
    what is mapped, and keep the pages until memory is short.
    """

    def __init__(self) -> None:
        """Look at the maps of this moment."""
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._madvise = None
        if not sys.platform.startswith("linux"):
            return
        with suppress(OSError, ValueError, AttributeError):
            self._madvise = ctypes.CDLL(None, use_errno=True).madvise
            self._madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
            for line in Path("/proc/self/maps").read_text().splitlines():
                place, permissions, _, _, inode = line.split()[:5]
                # nobody writes into what is shared and read-only: nothing is lost with its pages
                if inode != "0" and permissions == "r--s":
                    start, stop = (int(text, 16) for text in place.split("-"))
                    self._starts.append(start)
                    self._stops.append(stop)

    def release(self, view: np.ndarray) -> None:
        """Give the pages that lie within a view back, where it is a view of a file."""
        address = view.ctypes.data
        index = bisect_right(self._starts, address) - 1
        if self._madvise is None or index < 0 or address + view.nbytes > self._stops[index]:
            return
        page = mmap.PAGESIZE
        start = -(-address // page) * page
        stop = (address + view.nbytes) // page * page
        if stop > start:
            self._madvise(start, stop - start, mmap.MADV_DONTNEED)
