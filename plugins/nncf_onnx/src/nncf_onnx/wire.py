"""The protobuf wire format of ONNX files, read and written without the weights.

protobuf cannot parse or serialise a message partially: loading a model of several gigabytes copies all its weights,
and so does saving. Here the file is walked over a memory map instead, and the data of every large tensor is replaced
by external data that refers to the model file itself, at the offset where the bytes are. What remains is a small
*skeleton* that protobuf parses as usual. On the way back, :func:`expand` tells which bytes of a skeleton to write, and
where those of the tensors belong between them.

Field numbers are those of onnx.proto; https://protobuf.dev/programming-guides/encoding describes the format.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import NamedTuple

from nncf_core.errors import UnsupportedModelError

LARGE = 1024
"""Smallest data of a tensor, in bytes, that is left in the file."""

SELF = "<this file>"
"""Location of external data that is in the model file itself. It is no valid file name in a model."""

STREAMED = "<streamed> "
"""Location of external data, followed by the number of the tensor, that :func:`expand` puts into the model."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_GRAPH, _INITIALIZER = 7, 5
_TENSOR = "tensor"
_FLOAT_DATA, _RAW_DATA, _DOUBLE_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 4, 9, 10, 13, 14
_AS_STORED = frozenset({_FLOAT_DATA, _RAW_DATA, _DOUBLE_DATA})
"""Fields whose bytes are those of the array: raw data, and packed floating-point numbers."""

_MARK = STREAMED.encode()
_NUMBER = re.compile(re.escape(_MARK) + rb"(\d+)")

_CHILDREN: Mapping[str, Mapping[int, str]] = {
    # message: {field number: message}, as far as tensors lie beneath
    "model": {7: "graph", 25: "function"},
    "function": {7: "node"},
    "graph": {1: "node", 5: _TENSOR},
    "node": {5: "attribute"},
    "attribute": {5: _TENSOR, 6: "graph", 10: _TENSOR, 11: "graph"},
}


def skeleton(data: memoryview) -> bytes:
    """A serialised ModelProto without the data of large tensors.

    :param data: the bytes of a model file, memory-mapped.
    :raises UnsupportedModelError: when they are not in the wire format, or end too early.
    """
    return b"".join(_rewrite(data, 0, len(data), "model"))


def varint(value: int, width: int = 0) -> bytes:
    """A number in the base-128 encoding, in ``width`` bytes when it needs fewer."""
    out = bytearray()
    while value > 0x7F or len(out) < width - 1:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def length_delimited(number: int, length: int, width: int = 0) -> bytes:
    """The tag and length, in at least ``width`` bytes, that precede ``length`` bytes of field ``number``."""
    return varint(number << 3 | _BYTES) + varint(length, width)


def _rewrite(data: memoryview, start: int, end: int, message: str) -> Iterator[bytes]:
    children = _CHILDREN[message]
    for number, begin, body, stop in _fields(data, start, end):
        child = children.get(number)
        if child is None or stop - body < LARGE:
            yield bytes(data[begin:stop])
            continue
        parts = list(_tensor(data, body, stop) if child == _TENSOR else _rewrite(data, body, stop, child))
        yield length_delimited(number, sum(map(len, parts)))
        yield from parts


def _tensor(data: memoryview, start: int, end: int) -> Iterator[bytes]:
    fields = list(_fields(data, start, end))
    stored = [field for field in fields if field[0] in _AS_STORED]
    # a repeated field may come in pieces, which only protobuf puts together
    if len(stored) != 1 or stored[0][3] - stored[0][2] < LARGE:
        yield bytes(data[start:end])
        return
    for number, begin, body, stop in fields:
        if number not in _AS_STORED:
            yield bytes(data[begin:stop])
            continue
        for key, value in (("location", SELF), ("offset", str(body)), ("length", str(stop - body))):
            entry = b"".join(
                length_delimited(i, len(text)) + text for i, text in ((1, key.encode()), (2, value.encode()))
            )
            yield length_delimited(_EXTERNAL_DATA, len(entry)) + entry
        yield varint(_DATA_LOCATION << 3 | _VARINT) + varint(1)


class Parts(NamedTuple):
    """Bytes, and numbers of tensors whose bytes come in their place; all of them take ``length`` bytes."""

    parts: list[bytes | int]
    length: int


class Expanded(NamedTuple):
    """A model file: the fields before the graph, those of the graph itself, and those after it."""

    head: bytes
    graph: Parts
    tail: Parts


def expand(skeleton: bytes, sizes: Sequence[int], written: Container[int] = ()) -> Expanded:
    """What a model file consists of.

    :param skeleton: a serialised ModelProto, where tensor ``i`` is external data at the location ``STREAMED + str(i)``.
    :param sizes: bytes of each tensor.
    :param written: tensors that are left out of the graph.
    """
    for number, begin, body, stop in _fields(skeleton, 0, len(skeleton)):
        if number == _GRAPH:
            graph = _expand(skeleton, body, stop, "graph", sizes, written)
            return Expanded(skeleton[:begin], graph, _expand(skeleton, stop, len(skeleton), "model", sizes, written))
    return Expanded(skeleton, Parts([], 0), Parts([], 0))


def graph_start(length: int, width: int = 0) -> bytes:
    """What precedes the fields of a graph of ``length`` bytes.

    :param width: bytes for the length; more than it needs are filled up, which every reader of protobuf understands.
    """
    return length_delimited(_GRAPH, length, width)


def initializer_start(tensor: bytes, size: int) -> bytes:
    """What precedes the data of an initializer.

    :param tensor: a serialised TensorProto, external data at the location ``STREAMED + "0"``.
    :param size: bytes of the data.
    """
    (head, _), length = _with_data(tensor, 0, len(tensor), [size])
    assert isinstance(head, bytes)
    return length_delimited(_INITIALIZER, length) + head


def _expand(data: bytes, start: int, end: int, message: str, sizes: Sequence[int], written: Container[int]) -> Parts:
    """Parts and length of a message."""
    children = _CHILDREN[message]
    parts: list[bytes | int] = []
    length, copied = 0, start
    for number, begin, body, stop in _fields(data, start, end):
        child = children.get(number)
        if child is None or data.find(_MARK, body, stop) < 0:
            continue
        header = data[copied:begin]
        copied = stop
        if child == _TENSOR:
            inner, size = _with_data(data, body, stop, sizes)
            if inner[-1] in written:
                parts.append(header)
                length += len(header)
                continue
        else:
            inner, size = _expand(data, body, stop, child, sizes, written)
        header += length_delimited(number, size)
        parts += [header, *inner]
        length += len(header) + size
    parts.append(data[copied:end])
    return Parts(parts, length + end - copied)


def _with_data(data: bytes, start: int, end: int, sizes: Sequence[int]) -> Parts:
    """Parts and length of a tensor."""
    kept, tensor = b"", None
    for number, begin, body, stop in _fields(data, start, end):
        if number == _EXTERNAL_DATA:
            found = _NUMBER.search(data, body, stop)
            tensor = int(found[1]) if found else tensor
        elif number != _DATA_LOCATION:
            kept += data[begin:stop]
    if tensor is None:
        return Parts([data[start:end]], end - start)
    kept += length_delimited(_RAW_DATA, sizes[tensor])
    return Parts([kept, tensor], len(kept) + sizes[tensor])


def _fields(data: memoryview | bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, start of the tag, start of the value and end of every field of a message."""
    position = start
    while position < end:
        begin = position
        tag, position = _read_varint(data, position, end)
        kind = tag & 7
        if kind == _BYTES:
            length, body = _read_varint(data, position, end)
            stop = body + length
        elif kind == _VARINT:
            body = position
            _, stop = _read_varint(data, position, end)
        elif kind in (_FIXED64, _FIXED32):
            body, stop = position, position + (8 if kind == _FIXED64 else 4)
        else:
            raise UnsupportedModelError(f"Byte {begin} is not the start of a protobuf field: this is no ONNX model.")
        if stop > end:
            raise UnsupportedModelError(
                f"The model is truncated: a field at byte {begin} ends at byte {stop}, beyond byte {end}."
            )
        yield tag >> 3, begin, body, stop
        position = stop


def _read_varint(data: memoryview | bytes, position: int, end: int) -> tuple[int, int]:
    result = shift = 0
    while position < end and shift < 70:
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7
    raise UnsupportedModelError(f"The model is truncated or no ONNX model: no number ends before byte {position}.")
