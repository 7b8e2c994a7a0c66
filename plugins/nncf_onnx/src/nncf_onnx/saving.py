"""Writing models as a stream: one tensor in memory at a time, whatever the size of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import onnx_ir as ir

from nncf_core.errors import InvalidPathError, UnsupportedModelError
from nncf_core.files import replacing
from nncf_onnx.external import has_external_data
from nncf_onnx.mapped import MappedTensor
from nncf_onnx.slots import slots
from nncf_onnx.traversal import dims
from nncf_onnx.wire import LARGE, STREAMED, expand

LIMIT = 2_000_000_000
"""Bytes of weights above which they are written to a file of their own: protobuf messages end at 2 GiB."""

_PAGE = 4096  # large tensors start at pages, so that a runtime can map each of them
_LINE = 64
_PLACEHOLDER = "<streamed>"


def save(model: ir.Model, path: Path) -> None:
    """Write a model: in one file, or with its large weights in a second one.

    There are two files when the weights exceed :data:`LIMIT`, or the model came with external data itself. The same
    model gives the same bytes.

    :raises InvalidPathError: when the folder is missing or not writable, or the disk is full.
    :raises UnsupportedModelError: when a tensor does not have the data that its shape calls for.
    """
    try:
        if stored_bytes(model) < LIMIT and not has_external_data(model):
            with replacing(path) as temporary, temporary.open("wb") as file:
                _write_single(model, file)
            return
        data = path.with_name(path.name + ".data")
        # the data is renamed last but one and the model right after it: no reading of the old pair comes between
        with replacing(path) as temporary, replacing(data) as temporary_data:
            _write_pair(model, temporary, temporary_data, data.name)
    except OSError as error:
        raise InvalidPathError(f"Cannot write {path}: {error.strerror or error}.") from None


def stored_bytes(model: ir.Model) -> int:
    """Bytes of all tensors."""
    return sum(slot.tensor.nbytes for slot in slots(model) if slot.tensor.dtype != ir.DataType.STRING)


def _write_single(model: ir.Model, file: IO[bytes]) -> None:
    with _large_elsewhere(model, lambda sizes: [(f"{STREAMED}{index}", None) for index in range(len(sizes))]) as large:
        skeleton = ir.to_proto(model).SerializeToString(deterministic=True)
    for part in expand(skeleton, [tensor.nbytes for tensor in large]):
        if isinstance(part, bytes):
            file.write(part)
        else:
            _write(large[part], file)


def _write_pair(model: ir.Model, path: Path, data_path: Path, location: str) -> None:
    def places(sizes: Sequence[int]) -> list[tuple[str, int | None]]:
        end = 0
        result: list[tuple[str, int | None]] = []
        for size in sizes:
            end += -end % (_PAGE if size >= _PAGE else _LINE)
            result.append((location, end))
            end += size
        return result

    with _large_elsewhere(model, places) as large:
        path.write_bytes(ir.to_proto(model).SerializeToString(deterministic=True))
    with data_path.open("wb") as data:
        for tensor in large:
            data.write(bytes(-data.tell() % (_PAGE if tensor.nbytes >= _PAGE else _LINE)))
            _write(tensor, data)


@contextmanager
def _large_elsewhere(
    model: ir.Model, places: Callable[[Sequence[int]], Sequence[tuple[str, int | None]]]
) -> Iterator[list[ir.TensorProtocol]]:
    """Within the block all large tensors of a model are references; yields the tensors.

    :param places: location and offset of each reference, from the sizes in bytes.
    """
    found = [slot for slot in slots(model) if _is_large(slot.tensor)]
    try:
        for slot, (location, offset) in zip(found, places([slot.tensor.nbytes for slot in found]), strict=True):
            slot.put(_reference(slot.tensor, slot.name, location, offset))
        yield [slot.tensor for slot in found]
    finally:
        for slot in found:
            slot.put(slot.tensor)


def _is_large(tensor: ir.TensorProtocol) -> bool:
    # a reference to another file would not be true where the model is written
    return isinstance(tensor, ir.ExternalTensor) or (tensor.dtype != ir.DataType.STRING and tensor.nbytes >= LARGE)


def _reference(tensor: ir.TensorProtocol, name: str, location: str, offset: int | None) -> ir.ExternalTensor:
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


def _write(tensor: ir.TensorProtocol, file: IO[bytes]) -> None:
    """Write a tensor's bytes as they are stored; numpy's own ``tofile`` is several times slower."""
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


@contextmanager
def without_large(model: ir.Model) -> Iterator[dict[str, ir.TensorProtocol]]:
    """Within the block the large initializers of the main graph are placeholders; yields the tensors by name."""
    large: dict[str, ir.TensorProtocol] = {}
    values = model.graph.initializers
    for name, value in values.items():
        tensor = value.const_value
        if tensor is not None and tensor.nbytes >= LARGE and tensor.dtype != ir.DataType.STRING:
            large[name] = tensor
            value.const_value = _reference(tensor, name, _PLACEHOLDER, 0)
    try:
        yield large
    finally:
        for name, tensor in large.items():
            values[name].const_value = tensor
