"""Codes that wait in a temporary file until the model is written, so that they need not fit in memory."""

from __future__ import annotations

import mmap
import tempfile

import numpy as np

IN_MEMORY = 1 << 27
"""Bytes that stay in memory; what exceeds them goes to a file."""

_PAGE = mmap.ALLOCATIONGRANULARITY


class Spool:
    """Takes arrays, and gives them back as arrays that lie in a file without a name."""

    def __init__(self, limit: int = IN_MEMORY) -> None:
        self._left = limit

    def put(self, array: np.ndarray) -> np.ndarray | None:
        """A writable view of a copy in a file; ``None`` while there is room for the array in memory.

        :param array: ``uint8``, one dimension.
        """
        if array.nbytes <= self._left or array.nbytes < _PAGE:
            self._left -= array.nbytes
            return None
        with tempfile.TemporaryFile(prefix="nncf_") as file:
            file.write(array.data)
            file.flush()
            # shared maps are written back when memory is short, and do not count as the process's own
            return np.frombuffer(mmap.mmap(file.fileno(), array.nbytes, access=mmap.ACCESS_WRITE), np.uint8)
