"""Tensors of many samples that wait, in files beyond a limit, so that memory does not grow with their number."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 - registers the names of its element types with numpy
import numpy as np
from attrs import define, field

from nncf_core.errors import InvalidPathError

LIMIT = 1 << 28
"""Bytes of tensors that wait in memory."""


@define
class _Record:
    """Where a tensor is in a file."""

    start: int
    dtype: str
    shape: tuple[int, ...]


@define
class Spool:
    """Tensors by stream, name and number of the sample. Several threads may put and get them.

    :param folder: where the files are, one for each stream and name.
    :param limit: bytes that may stay in memory; 0 where files are to be found again by :meth:`reopen`.
    """

    folder: Path
    limit: int = LIMIT
    _held: dict[tuple[str, str], dict[int, np.ndarray | _Record]] = field(factory=dict)
    _bytes: int = 0
    _lock: threading.Lock = field(factory=threading.Lock)

    def put(self, stream: str, tensor: str, sample: int, array: np.ndarray) -> None:
        """Keep what a tensor is now.

        :raises InvalidPathError: when a file cannot be written.
        """
        array = np.asarray(array)
        with self._lock:
            of_samples = self._held.setdefault((stream, tensor), {})
            if self.limit and self._bytes + array.nbytes <= self.limit:
                self._bytes += array.nbytes
                of_samples[sample] = array.copy()
                return
            try:
                with self._file(stream, tensor).open("ab") as file:
                    record = _Record(file.tell(), array.dtype.name, array.shape)
                    file.write(array.tobytes())
            except OSError as error:
                raise InvalidPathError(
                    f"Cannot keep tensors in {self.folder}: {error.strerror or error}. Give a work_dir, or set TMPDIR "
                    "to a folder, with more room."
                ) from None
            of_samples[sample] = record

    def get(self, stream: str, tensor: str, sample: int) -> np.ndarray:
        """What was kept."""
        held = self._held[stream, tensor][sample]
        if isinstance(held, np.ndarray):
            return held
        dtype, count = np.dtype(held.dtype), int(np.prod(held.shape, dtype=np.int64))
        with self._file(stream, tensor).open("rb") as file:
            file.seek(held.start)
            raw = file.read(count * dtype.itemsize)
        return np.frombuffer(bytearray(raw), dtype).reshape(held.shape)

    def __contains__(self, key: object) -> bool:
        return key in self._held

    def drop_but(self, tensors: Iterable[str]) -> None:
        """Forget all tensors but some."""
        wanted = set(tensors)
        for stream, tensor in [key for key in self._held if key[1] not in wanted]:
            of_samples = self._held.pop((stream, tensor))
            self._bytes -= sum(held.nbytes for held in of_samples.values() if isinstance(held, np.ndarray))
            if any(isinstance(held, _Record) for held in of_samples.values()):
                self._file(stream, tensor).unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget everything."""
        self.drop_but(())

    @property
    def index(self) -> list[dict[str, Any]]:
        """What files hold, as plain data: with them, all that is needed to go on later."""
        return [
            {"stream": stream, "tensor": tensor, "sample": sample, **_plain(held)}
            for (stream, tensor), of_samples in self._held.items()
            for sample, held in sorted(of_samples.items())
            if isinstance(held, _Record)
        ]

    def reopen(self, index: Sequence[Mapping[str, Any]]) -> None:
        """Know nothing but what files hold that are there."""
        self._held, self._bytes = {}, 0
        for each in index:
            record = _Record(int(each["start"]), str(each["dtype"]), tuple(each["shape"]))
            self._held.setdefault((each["stream"], each["tensor"]), {})[int(each["sample"])] = record

    def _file(self, stream: str, tensor: str) -> Path:
        # names of tensors may be those of no file
        return self.folder / f"{hashlib.sha256(f'{stream}/{tensor}'.encode()).hexdigest()[:16]}.bin"


def _plain(record: _Record) -> dict[str, Any]:
    return {"start": record.start, "dtype": record.dtype, "shape": list(record.shape)}
