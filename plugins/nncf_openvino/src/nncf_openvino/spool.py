"""Codes that wait until the model is written: in a temporary file, when they do not fit in memory."""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path

import numpy as np

from nncf_core.errors import InvalidPathError

_MOST = 1 << 28
_SEGMENT = 1 << 28
_ALIGNMENT = 64
_SHARE = 16  # of the memory that the process may have


class Spool:
    """Takes arrays, and gives back arrays of the same content that may lie in files without names.

    The files are in Python's folder for temporary files (``TMPDIR``), which must not be in memory itself.
    """

    def __init__(self, limit: int | None = None) -> None:
        """A spool.

        :param limit: bytes that may stay in memory; by default a share of what the process may have.
        """
        self._left = min(_MOST, available_memory() // _SHARE) if limit is None else limit
        self._segment: _Segment | None = None

    def put(self, array: np.ndarray) -> np.ndarray:
        """The array itself, or a writable view of a copy in a file.

        :param array: ``uint8``, one dimension.
        :raises InvalidPathError: when the file cannot be written.
        """
        if array.nbytes <= self._left:
            self._left -= array.nbytes
            return array if array.flags.c_contiguous and array.flags.writeable else array.copy()
        try:
            if self._segment is None or self._segment.room < array.nbytes:
                self._segment = _Segment(max(array.nbytes, _SEGMENT))
            return self._segment.add(np.ascontiguousarray(array))
        except OSError as error:
            if error.errno == errno.ENOMEM:
                raise MemoryError(f"{array.nbytes:,} bytes of a temporary file cannot be mapped") from None
            raise InvalidPathError(
                f"Cannot write {array.nbytes} bytes to a temporary file in {tempfile.gettempdir()}: {error.strerror}. "
                "Set TMPDIR to a folder with more room."
            ) from None


class _Segment:
    """A file for many arrays: each map of a file keeps the file open, and a process may have a thousand of them."""

    def __init__(self, size: int) -> None:
        self._file = tempfile.TemporaryFile(prefix="nncf_")  # noqa: SIM115 - it lives as long as the segment
        weakref.finalize(self, self._file.close)
        self._file.truncate(size)
        # the pages of a shared map are written back when memory is short, and are not counted as the process's own
        self._map = mmap.mmap(self._file.fileno(), size, access=mmap.ACCESS_WRITE)
        self._end, self.room = 0, size

    def add(self, array: np.ndarray) -> np.ndarray:
        """A view of a copy at the end of what the file holds."""
        start, length = self._end, array.nbytes
        self._file.seek(start)
        self._file.write(array.data)
        self._file.flush()
        self._end += length + -length % _ALIGNMENT
        self.room = max(len(self._map) - self._end, 0)
        return np.frombuffer(self._map, np.uint8, length, start)


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
