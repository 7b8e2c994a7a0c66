"""Tensors of many samples: in memory up to a limit, in temporary files beyond it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import numpy as np

LIMIT = 2**30
"""Bytes that are kept in memory."""


class Shelf:
    """Arrays by the names of tensors, one for each sample; a context manager, which removes its files in the end.

    :param limit: bytes that are kept in memory.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit, self._bytes, self._files = limit, 0, 0
        self._arrays: dict[str, list[np.ndarray]] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __getitem__(self, tensor: str) -> list[np.ndarray]:
        return self._arrays[tensor]

    def __setitem__(self, tensor: str, arrays: Iterable[np.ndarray]) -> None:
        # what stays counts from the old ones on: both are there while the new ones are made
        new = [self._placed(array) for array in arrays]
        self.drop(tensor)
        self._arrays[tensor] = new

    def add(self, tensor: str, array: np.ndarray) -> None:
        """Keep the array of one more sample."""
        self._arrays.setdefault(tensor, []).append(self._placed(array))

    def drop(self, tensor: str) -> None:
        """Forget a tensor."""
        for array in self._arrays.pop(tensor, ()):
            if isinstance(array, np.memmap):
                Path(str(array.filename)).unlink()
            else:
                self._bytes -= array.nbytes

    def _placed(self, array: np.ndarray) -> np.ndarray:
        if self._bytes + array.nbytes <= self._limit or array.nbytes == 0:
            self._bytes += array.nbytes
            return array
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="nncf_")
        self._files += 1
        path = Path(self._folder.name) / str(self._files)
        filed = np.memmap(path, array.dtype, "w+", shape=array.shape)
        filed[...] = array
        return filed

    def __enter__(self) -> Shelf:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._arrays.clear()
        if self._folder is not None:
            self._folder.cleanup()
