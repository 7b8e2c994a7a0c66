"""Writing models as a stream: one tensor in memory at a time, whatever the size of the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import onnx
import onnx_ir as ir

from nncf_core.files import replacing
from nncf_onnx.mapped import MappedTensor
from nncf_onnx.opening import tensors_of
from nncf_onnx.traversal import dims
from nncf_onnx.wire import LARGE, length_delimited, varint

LIMIT = 2_000_000_000
"""Bytes of weights above which they are written to a file of their own: protobuf messages end at 2 GiB."""

_ALIGNMENT = 4096  # pages, so that a runtime can map each tensor
_PLACEHOLDER = "<streamed>"
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9
_LENGTH_BYTES = 5


def save(model: ir.Model, path: Path) -> None:
    """Write a model in one file, or with external data in a second one when its weights exceed :data:`LIMIT`.

    The same model gives the same bytes.

    :raises InvalidPathError: when the folder is missing or not writable.
    """
    if stored_bytes(model) < LIMIT:
        with replacing(path) as temporary, temporary.open("wb") as file:
            _write_single(model, file)
        return
    data = path.with_name(path.name + ".data")
    # the data is renamed last but one and the model right after it: no reading of the old pair comes between
    with replacing(path) as temporary, replacing(data) as temporary_data:
        _write_pair(model, temporary, temporary_data, data.name)


def stored_bytes(model: ir.Model) -> int:
    """Bytes of all initializers."""
    return sum(tensor.nbytes for tensor in tensors_of(model))


def _write_single(model: ir.Model, file: IO[bytes]) -> None:
    with without_large(model) as large:
        proto = ir.to_proto(model)
    _restore_headers(proto.graph, large)
    headers = [t for t in proto.graph.initializer if t.name in large]
    kept = [t for t in proto.graph.initializer if t.name not in large]
    graph = onnx.GraphProto()
    graph.CopyFrom(proto.graph)
    del graph.initializer[:]
    graph.initializer.extend(kept)
    proto.ClearField("graph")
    file.write(proto.SerializeToString(deterministic=True))
    file.write(varint(_GRAPH << 3 | 2))
    position = file.tell()
    # the length is known at the end only: leave room for a number padded to five bytes
    file.write(bytes(_LENGTH_BYTES))
    file.write(graph.SerializeToString(deterministic=True))
    for header in headers:
        tensor = large[header.name]
        start = header.SerializeToString(deterministic=True) + length_delimited(_RAW_DATA, tensor.nbytes)
        file.write(length_delimited(_INITIALIZER, len(start) + tensor.nbytes))
        file.write(start)
        _write(tensor, file)
    length = file.tell() - position - _LENGTH_BYTES
    file.seek(position)
    file.write(_padded_varint(length))


def _padded_varint(value: int) -> bytes:
    groups = [value >> 7 * i & 0x7F for i in range(_LENGTH_BYTES)]
    return bytes(group | 0x80 for group in groups[:-1]) + bytes(groups[-1:])


def _write_pair(model: ir.Model, path: Path, data_path: Path, location: str) -> None:
    with without_large(model) as large:
        proto = ir.to_proto(model)
    _restore_headers(proto.graph, large)
    with data_path.open("wb") as data:
        for header in proto.graph.initializer:
            tensor = large.get(header.name)
            if tensor is None:
                continue
            data.write(bytes(-data.tell() % (_ALIGNMENT if tensor.nbytes >= _ALIGNMENT else 64)))
            header.data_location = onnx.TensorProto.EXTERNAL
            entries = {"location": location, "offset": str(data.tell()), "length": str(tensor.nbytes)}
            for key, value in entries.items():
                header.external_data.add(key=key, value=value)
            _write(tensor, data)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def _write(tensor: ir.TensorProtocol, file: IO[bytes]) -> None:
    """Write a tensor's bytes as they are stored; numpy's own ``tofile`` is several times slower."""
    if isinstance(tensor, MappedTensor):
        tensor.tofile(file)
    elif isinstance(tensor, ir.Tensor) and tensor.dtype.bitwidth >= 8:
        file.write(np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8).data)
    elif isinstance(tensor, ir.PackedTensor):
        file.write(np.ascontiguousarray(tensor.numpy_packed()).data)
    else:
        file.write(tensor.tobytes())


@contextmanager
def without_large(model: ir.Model) -> Iterator[dict[str, ir.TensorProtocol]]:
    """Within the block the large initializers of the main graph are placeholders; yields the tensors by name."""
    large: dict[str, ir.TensorProtocol] = {}
    values = model.graph.initializers
    for name, value in values.items():
        tensor = value.const_value
        if tensor is not None and tensor.nbytes >= LARGE and tensor.dtype != ir.DataType.STRING:
            large[name] = tensor
            value.const_value = ir.ExternalTensor(
                _PLACEHOLDER, 0, tensor.nbytes, tensor.dtype, shape=ir.Shape(dims(tensor.shape)), name=name
            )
    try:
        yield large
    finally:
        for name, tensor in large.items():
            values[name].const_value = tensor


def _restore_headers(graph: onnx.GraphProto, large: dict[str, ir.TensorProtocol]) -> None:
    for header in graph.initializer:
        if header.name in large:
            header.ClearField("external_data")
            header.ClearField("data_location")
