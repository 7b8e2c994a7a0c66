"""Codes that wait until the model is written: in a temporary file, when they do not fit in memory."""

from __future__ import annotations

import mmap
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np

_MOST = 1 << 28
_SHARE = 16  # of the memory that the process may have


class Spool:
    """Takes arrays, and gives back arrays of the same content that may lie in a file without a name.

    The file is in Python's folder for temporary files (``TMPDIR``), which must not be in memory itself.
    """

    def __init__(self, limit: int | None = None) -> None:
        """A spool.

        :param limit: bytes that may stay in memory; by default a share of what the process may have.
        """
        self._left = min(_MOST, available_memory() // _SHARE) if limit is None else limit

    def put(self, array: np.ndarray) -> np.ndarray:
        """The array itself, or a writable view of a copy in a file.

        :param array: ``uint8``, one dimension.
        """
        if array.nbytes <= self._left:
            self._left -= array.nbytes
            return array if array.flags.c_contiguous and array.flags.writeable else array.copy()
        with tempfile.TemporaryFile(prefix="nncf_") as file:
            file.write(np.ascontiguousarray(array).data)
            file.flush()
            # the pages of a shared map are written back when memory is short, and are not counted as the process's own
            return np.frombuffer(mmap.mmap(file.fileno(), array.nbytes, access=mmap.ACCESS_WRITE), np.uint8)


def available_memory() -> int:
    """Bytes of memory that this process may have, by its own limits, its control group's, or the machine's."""
    found = [_MOST * _SHARE]
    with suppress(ImportError):
        import resource

        found += [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_DATA, resource.RLIMIT_AS)]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            found.append(int(Path("/sys/fs/cgroup", name).read_text()))
    with suppress(AttributeError, ValueError, OSError):
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(size for size in found if size > 0)
