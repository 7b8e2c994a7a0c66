"""The two forms of a model on disk, each written in one go from front to back.

Tensors may be written before the model is finished: those of a file that is one protobuf message come first among the
fields of its graph, whose length is filled in at the end.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import onnx_ir as ir

from nncf_core.errors import InvalidPathError, UnsupportedModelError
from nncf_onnx.mapped import MappedTensor
from nncf_onnx.slots import Slot, slots
from nncf_onnx.traversal import dims
from nncf_onnx.wire import LARGE, STREAMED, expand, graph_start, initializer_start

_PAGE = 4096  # large tensors start at pages, so that a runtime can map each of them
_LINE = 64
_LENGTH_BYTES = 5  # as many as the length of a message of 2 GiB needs


class WrittenTensor(ir.LazyTensor):
    """A tensor that is in the file already, and read from there when it is asked for."""

    def __init__(self, tensor: ir.TensorProtocol, writer: Writer, offset: int) -> None:
        super().__init__(self._read, dtype=tensor.dtype, shape=ir.Shape(dims(tensor.shape)), name=tensor.name)
        self.offset = offset
        self._file, self._source = writer.file, writer.source

    def tobytes(self) -> bytes:
        """The bytes as they are in the file."""
        if not self._file.closed:
            self._file.flush()
        self._source.seek(self.offset)
        return self._source.read(self.nbytes)

    def _read(self) -> ir.TensorProtocol:
        raw = np.frombuffer(self.tobytes(), np.uint8)
        if self.dtype.bitwidth < 8:
            return ir.PackedTensor(raw, self.dtype, shape=self.shape)
        return ir.Tensor(raw.view(self.dtype.numpy()).reshape(dims(self.shape)), dtype=self.dtype)


class Writer(ABC):
    """Writes one model.

    :param path: where the model will be found; only for the tensors' locations and for errors.
    :param target: the file with the tensors that is written meanwhile.
    """

    def __init__(self, path: Path, target: Path) -> None:
        self.path = path
        self._target = target
        self._files = ExitStack()
        with self._reporting():
            self._open()

    def _open(self) -> None:
        # not truncated: after that, some file systems begin to write to the disk as soon as the file is closed
        handle = os.open(self._target, os.O_WRONLY | getattr(os, "O_BINARY", 0))
        self.file: IO[bytes] = self._files.enter_context(os.fdopen(handle, "wb"))
        self.source: IO[bytes] = self._files.enter_context(self._target.open("rb", buffering=0))
        self._written: dict[ir.TensorProtocol, None] = {}

    def put(self, tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        """Write an initializer of the main graph now, if it is worth it; gives what stands for it in the model.

        :raises InvalidPathError: when the disk is full.
        """
        if not is_large(tensor) or isinstance(tensor, (MappedTensor, WrittenTensor, ir.ExternalTensor)):
            return tensor
        with self._reporting():
            self._begin(tensor)
            written = WrittenTensor(tensor, self, self.file.tell())
            write(tensor, self.file)
        self._written[written] = None
        return written

    def finish(self, model: ir.Model) -> None:
        """Write all the rest.

        :raises InvalidPathError: when the disk is full.
        :raises UnsupportedModelError: when a tensor does not have the data that its shape calls for.
        """
        found = [slot for slot in slots(model) if is_large(slot.tensor)]
        with self._reporting():
            if not self._is_true(model):
                self._restart()
            try:
                self._complete(model, found)
            finally:
                for slot in found:
                    slot.put(slot.tensor)
            self.file.flush()

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def _is_true(self, model: ir.Model) -> bool:
        """Whether all that is written is still in the model, under the name that it was written with."""
        values = model.graph.initializers.values()
        found = {
            value.const_value
            for value in values
            if value.const_value is not None and value.const_value.name == value.name
        }
        return self._written.keys() <= found

    def _restart(self) -> None:
        """Begin anew. What was written is read from the old file which has no name any more."""
        self.file.close()
        self._target.unlink()
        self._target.touch()
        self._open()

    @abstractmethod
    def _begin(self, tensor: ir.TensorProtocol) -> None:
        """Write what precedes the bytes of a tensor."""

    @abstractmethod
    def _complete(self, model: ir.Model, found: Sequence[Slot]) -> None:
        """Write the model; the tensors in its slots may be replaced."""

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InvalidPathError(f"Cannot write {self.path}: {error.strerror or error}.") from None


class SingleFile(Writer):
    """One protobuf message."""

    def __init__(self, path: Path, target: Path, model: ir.Model) -> None:
        super().__init__(path, target)
        self._head = _head(model)

    def _begin(self, tensor: ir.TensorProtocol) -> None:
        if not self._written:
            self.file.write(self._head + graph_start(0, _LENGTH_BYTES))
        header = ir.serde.serialize_tensor(reference(tensor, tensor.name or "", f"{STREAMED}0"))
        self.file.write(initializer_start(header.SerializeToString(deterministic=True), tensor.nbytes))

    def _is_true(self, model: ir.Model) -> bool:
        return super()._is_true(model) and _head(model) == self._head

    def _complete(self, model: ir.Model, found: Sequence[Slot]) -> None:
        for index, slot in enumerate(found):
            slot.put(reference(slot.tensor, slot.name, f"{STREAMED}{index}"))
        written = {index for index, slot in enumerate(found) if slot.tensor in self._written}
        whole = expand(_serialized(model), [slot.tensor.nbytes for slot in found], written)
        before = len(whole.head) + len(graph_start(0, _LENGTH_BYTES))
        length = whole.graph.length + (self.file.tell() - before if written else 0)
        if not written:
            self.file.write(whole.head + graph_start(length))
        for part in (*whole.graph.parts, *whole.tail.parts):
            if isinstance(part, bytes):
                self.file.write(part)
            else:
                write(found[part].tensor, self.file)
        if written:
            self.file.seek(len(whole.head))
            self.file.write(graph_start(length, _LENGTH_BYTES))


class FilePair(Writer):
    """A protobuf message, and a file with its large tensors."""

    def __init__(self, path: Path, target: Path, messages: Mapping[str, Path]) -> None:
        """Open the file with the tensors.

        :param target: the file with the tensors that is written meanwhile.
        :param messages: files for the message, by the name under which it refers to the one with the tensors.
        """
        super().__init__(path, target)
        self._messages = messages

    def _begin(self, tensor: ir.TensorProtocol) -> None:
        self.file.write(bytes(-self.file.tell() % _alignment(tensor)))

    def _complete(self, model: ir.Model, found: Sequence[Slot]) -> None:
        end, offsets = self.file.tell(), []
        for slot in found:
            if isinstance(slot.tensor, WrittenTensor) and slot.tensor in self._written:
                offsets.append(slot.tensor.offset)
            else:
                offsets.append(end + -end % _alignment(slot.tensor))
                end = offsets[-1] + slot.tensor.nbytes
        for location, message in self._messages.items():
            for slot, offset in zip(found, offsets, strict=True):
                slot.put(reference(slot.tensor, slot.name, location, offset))
            message.write_bytes(_serialized(model))
        for slot in found:
            if slot.tensor not in self._written:
                self._begin(slot.tensor)
                write(slot.tensor, self.file)


def is_large(tensor: ir.TensorProtocol) -> bool:
    """Whether a tensor is written as a stream."""
    # a reference to another file would not be true where the model is written
    return isinstance(tensor, ir.ExternalTensor) or (tensor.dtype != ir.DataType.STRING and tensor.nbytes >= LARGE)


def reference(tensor: ir.TensorProtocol, name: str, location: str, offset: int | None = None) -> ir.ExternalTensor:
    """What stands for a tensor in a message that does not contain it."""
    return ir.ExternalTensor(
        location,
        offset,
        None if offset is None else tensor.nbytes,
        tensor.dtype,
        shape=ir.Shape(dims(tensor.shape)),
        name=name,
        doc_string=tensor.doc_string,
        metadata_props=dict(tensor.metadata_props),
    )


def write(tensor: ir.TensorProtocol, file: IO[bytes]) -> None:
    """Write a tensor's bytes as they are stored; numpy's own ``tofile`` is several times slower.

    :raises UnsupportedModelError: when there are more or fewer bytes than its shape and type call for.
    """
    start = file.tell()
    if isinstance(tensor, MappedTensor):
        tensor.tofile(file)
    elif isinstance(tensor, ir.Tensor) and tensor.dtype.bitwidth >= 8:
        file.write(np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8).data)
    elif isinstance(tensor, ir.PackedTensor):
        file.write(np.ascontiguousarray(tensor.numpy_packed()).data)
    else:
        file.write(tensor.tobytes())
    if file.tell() - start != tensor.nbytes:
        raise UnsupportedModelError(
            f"The tensor {tensor.name!r} has {file.tell() - start} bytes; its shape and type need {tensor.nbytes}."
        )


def _alignment(tensor: ir.TensorProtocol) -> int:
    return _PAGE if tensor.nbytes >= _PAGE else _LINE


def _head(model: ir.Model) -> bytes:
    """What a message begins with, up to the graph."""
    names = ("ir_version", "producer_name", "producer_version", "domain", "model_version", "doc_string")
    empty = ir.Model(ir.Graph([], [], nodes=[], name="graph"), **{name: getattr(model, name) for name in names})
    return expand(_serialized(empty), []).head


def _serialized(model: ir.Model) -> bytes:
    message: bytes = ir.serde.serialize_model(model).SerializeToString(deterministic=True)
    return message
