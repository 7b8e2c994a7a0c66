"""Tensors of many samples that wait in files, so that memory does not grow with the number of samples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import ml_dtypes  # noqa: F401 - registers the names of its element types with numpy
import numpy as np
from attrs import define, field

from nncf_core.errors import InvalidPathError


@define
class Spool:
    """Tensors by stream, name and number of the sample.

    :param folder: where the files are.
    """

    folder: Path
    _types: dict[tuple[str, str], np.dtype] = field(factory=dict)

    def put(self, stream: str, tensor: str, sample: int, array: np.ndarray) -> None:
        """Keep a tensor.

        :raises InvalidPathError: when the file cannot be written.
        """
        # as plain bytes where numpy's format does not know the element type
        self._types[stream, tensor] = array.dtype
        raw = array if array.dtype.kind != "V" else array.view(f"u{array.dtype.itemsize}")
        try:
            with self._file(stream, tensor, sample).open("wb") as file:
                np.save(file, np.ascontiguousarray(raw) if raw.ndim else raw, allow_pickle=False)
        except OSError as error:
            raise InvalidPathError(
                f"Cannot keep tensors in {self.folder}: {error.strerror or error}. Give a work_dir, or set TMPDIR to a "
                "folder, with more room."
            ) from None

    def get(self, stream: str, tensor: str, sample: int) -> np.ndarray:
        """What was kept."""
        with self._file(stream, tensor, sample).open("rb") as file:
            array: np.ndarray = np.load(file, allow_pickle=False)
        return array.view(self._types[stream, tensor]) if array.ndim else array

    def __contains__(self, key: object) -> bool:
        return key in self._types

    def drop_but(self, tensors: Iterable[str], samples: int) -> None:
        """Forget all tensors but some."""
        wanted = set(tensors)
        for stream, tensor in [key for key in self._types if key[1] not in wanted]:
            for sample in range(samples):
                self._file(stream, tensor, sample).unlink(missing_ok=True)
            del self._types[stream, tensor]

    def clear(self) -> None:
        """Forget everything."""
        for file in self.folder.glob("*.npy"):
            file.unlink()
        self._types.clear()

    def _file(self, stream: str, tensor: str, sample: int) -> Path:
        # names of tensors may be those of no file
        name = hashlib.sha256(f"{stream}/{tensor}".encode()).hexdigest()[:16]
        return self.folder / f"{name}-{sample}.npy"

    @property
    def types(self) -> list[tuple[str, str, str]]:
        """Stream, name and element type of what is kept: with the files, all that is needed to go on later."""
        return [(stream, tensor, dtype.name) for (stream, tensor), dtype in self._types.items()]

    def reopen(self, types: Iterable[tuple[str, str, str]]) -> None:
        """Take over files that are there."""
        self._types = {(stream, tensor): np.dtype(name) for stream, tensor, name in types}
