"""Files that are read through a memory map, and given back after use."""

from __future__ import annotations

import mmap
import os
import weakref
from pathlib import Path

import numpy as np

from nncf_core.errors import InvalidPathError


class MappedFile:
    """A read-only memory map of a file. The map outlives a renaming or removal of the file."""

    def __init__(self, path: Path) -> None:
        """Map a file.

        :raises InvalidPathError: when it cannot be read.
        """
        self.path = path
        try:
            file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            weakref.finalize(self, os.close, file)
            self.size = os.fstat(file).st_size
            self._map = mmap.mmap(file, 0, access=mmap.ACCESS_READ) if self.size else None
        except OSError as error:
            raise InvalidPathError(f"Cannot read {path}: {error.strerror}.") from None

    def bytes(self, offset: int, length: int) -> np.ndarray:
        """A range as a read-only view, ``uint8``."""
        if self._map is None:
            return np.zeros(0, np.uint8)
        return np.frombuffer(self._map, np.uint8, length, offset)

    def release(self, offset: int, length: int) -> None:
        """Give the pages that lie within a range back to the system; they are read again when needed."""
        if self._map is None or not hasattr(mmap, "MADV_DONTNEED"):
            return
        page = mmap.PAGESIZE
        start = -(-offset // page) * page
        stop = (offset + length) // page * page
        if stop > start:
            self._map.madvise(mmap.MADV_DONTNEED, start, stop - start)
