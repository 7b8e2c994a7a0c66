"""Tensors that stay in a file: read through a memory map, and given back after use."""

from __future__ import annotations

import errno
import mmap
import os
import weakref
from contextlib import suppress
from pathlib import Path
from typing import IO

import ml_dtypes  # noqa: F401 - registers the low-bit dtypes' names with numpy
import numpy as np
import onnx_ir as ir

from nncf_core.errors import InvalidPathError, UnsupportedModelError

_CHUNK = 1 << 24


class MappedFile:
    """A read-only memory map of a file. The map outlives a renaming or removal of the file."""

    def __init__(self, path: Path) -> None:
        """Map a file.

        :raises InvalidPathError: when it cannot be read.
        :raises MemoryError: when the process may not have so many addresses.
        """
        self.path, self.size = path, 0
        try:
            self._file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            weakref.finalize(self, os.close, self._file)
            self.size = os.fstat(self._file).st_size
            self._map = mmap.mmap(self._file, 0, access=mmap.ACCESS_READ) if self.size else None
        except OSError as error:
            if error.errno == errno.ENOMEM:
                raise MemoryError(f"{path} cannot be mapped, {self.size:,} bytes") from None
            raise InvalidPathError(f"Cannot read {path}: {error.strerror}.") from None

    def view(self, offset: int, length: int) -> memoryview:
        """The bytes of a range."""
        whole = memoryview(self._map) if self._map is not None else memoryview(b"")
        return whole[offset : offset + length]

    def release(self, offset: int, length: int) -> None:
        """Give the pages that lie within a range back to the system; they are read again when needed."""
        if self._map is None or not hasattr(mmap, "MADV_DONTNEED"):
            return
        page = mmap.PAGESIZE
        start = -(-offset // page) * page
        stop = (offset + length) // page * page
        if stop > start:
            self._map.madvise(mmap.MADV_DONTNEED, start, stop - start)

    def copy(self, offset: int, length: int, file: IO[bytes]) -> None:
        """Write a range to another file: within the kernel where it can, otherwise in chunks that are given back."""
        end = offset + length
        file.flush()
        # not on every system, between file systems, or to what is no file: the rest is copied below
        with suppress(OSError, AttributeError):
            while offset < end and (copied := os.copy_file_range(self._file, file.fileno(), end - offset, offset)):
                offset += copied
        for start in range(offset, end, _CHUNK):
            count = min(_CHUNK, end - start)
            file.write(self.view(start, count))
            self.release(start, count)


class MappedTensor(ir.LazyTensor):
    """A tensor in a mapped file: the model file itself, or one of external data.

    :raises UnsupportedModelError: when the range does not lie in the file, or its length is not that of the
        shape and element type.
    """

    def __init__(
        self,
        file: MappedFile,
        offset: int,
        length: int | None,
        dtype: ir.DataType,
        shape: ir.Shape,
        name: str,
        doc_string: str | None = None,
        metadata_props: dict[str, str] | None = None,
    ) -> None:
        super().__init__(
            lambda: ir.Tensor(self.numpy(), dtype=dtype),
            dtype=dtype,
            shape=shape,
            name=name,
            doc_string=doc_string,
            metadata_props=metadata_props,
        )
        self._file = file
        self._offset = offset
        self._length = self.nbytes if length is None else length
        if self._length != self.nbytes:
            raise UnsupportedModelError(
                f"Tensor {name!r} has {self._length} bytes in {file.path.name}; its shape {tuple(shape)} and type "
                f"{dtype.name} need {self.nbytes}."
            )
        if offset < 0 or offset + self._length > file.size:
            raise UnsupportedModelError(
                f"Tensor {name!r} lies at bytes {offset} to {offset + self._length} of {file.path.name}, which has "
                f"{file.size}: the file is truncated or belongs to another model."
            )

    @classmethod
    def of(cls, tensor: ir.ExternalTensor, file: MappedFile) -> MappedTensor:
        """The same tensor, mapped.

        :param file: the file that its location means.
        """
        return cls(
            file,
            tensor.offset or 0,
            tensor.length,
            tensor.dtype,
            tensor.shape,
            tensor.name or "",
            tensor.doc_string,
            dict(tensor.metadata_props),
        )

    def numpy(self) -> np.ndarray:
        """The array: a read-only view of the file; 4-bit and 2-bit elements are unpacked into a copy."""
        raw = np.frombuffer(self._view(), np.uint8)
        if self.dtype.bitwidth < 8:
            return ir.PackedTensor(raw, self.dtype, shape=self.shape).numpy()
        return raw.view(self.dtype.numpy()).reshape(self.shape.numpy())

    def tobytes(self) -> bytes:
        """The bytes as they are in the file, whose pages are given back."""
        data = bytes(self._view())
        self.release()
        return data

    def tofile(self, file: IO[bytes]) -> None:
        """Copy the bytes to a file, without holding them in memory."""
        self._file.copy(self._offset, self._length, file)

    def release(self) -> None:
        """Give the pages back to the system."""
        self._file.release(self._offset, self._length)

    def _view(self) -> memoryview:
        return self._file.view(self._offset, self._length)
