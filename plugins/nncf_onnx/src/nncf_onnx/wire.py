"""The protobuf wire format of ONNX files, read without reading the weights.

protobuf cannot parse a message partially: loading a model of several gigabytes copies all its weights. Here the
file is walked over a memory map instead, and every large ``raw_data`` of a tensor is replaced by external data
that refers to the model file itself, at the offset where the bytes are. What remains is a small *skeleton* that
protobuf parses as usual.

Field numbers are those of onnx.proto; https://protobuf.dev/programming-guides/encoding describes the format.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nncf_core.errors import UnsupportedModelError

LARGE = 1024
"""Smallest ``raw_data``, in bytes, that is left in the file."""

SELF = "<this file>"
"""Location of external data that is in the model file itself. It is no valid file name in a model."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_TENSOR = "tensor"
_RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 9, 13, 14

_CHILDREN: Mapping[str, Mapping[int, str]] = {
    # message: {field number: message}, as far as tensors lie beneath
    "model": {7: "graph", 25: "function"},
    "function": {7: "node"},
    "graph": {1: "node", 5: _TENSOR},
    "node": {5: "attribute"},
    "attribute": {5: _TENSOR, 6: "graph", 10: _TENSOR, 11: "graph"},
}


def skeleton(data: memoryview) -> bytes:
    """A serialised ModelProto without large ``raw_data``.

    :param data: the bytes of a model file, memory-mapped.
    :raises UnsupportedModelError: when they are not in the wire format, or end too early.
    """
    return b"".join(_rewrite(data, 0, len(data), "model"))


def varint(value: int) -> bytes:
    """A number in the base-128 encoding."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def length_delimited(number: int, length: int) -> bytes:
    """The tag and length that precede ``length`` bytes of field ``number``."""
    return varint(number << 3 | _BYTES) + varint(length)


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
    for number, begin, body, stop in _fields(data, start, end):
        if number != _RAW_DATA or stop - body < LARGE:
            yield bytes(data[begin:stop])
            continue
        for key, value in (("location", SELF), ("offset", str(body)), ("length", str(stop - body))):
            entry = b"".join(
                length_delimited(i, len(text)) + text for i, text in ((1, key.encode()), (2, value.encode()))
            )
            yield length_delimited(_EXTERNAL_DATA, len(entry)) + entry
        yield varint(_DATA_LOCATION << 3 | _VARINT) + varint(1)


def _fields(data: memoryview, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
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


def _read_varint(data: memoryview, position: int, end: int) -> tuple[int, int]:
    result = shift = 0
    while position < end and shift < 70:
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7
    raise UnsupportedModelError(f"The model is truncated or no ONNX model: no number ends before byte {position}.")
