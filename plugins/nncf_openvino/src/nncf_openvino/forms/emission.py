"""The decompression subgraph that OpenVINO's plugins recognise and fuse with the operator behind it.

``codes → Convert [→ Subtract ← Convert ← zero point] → Multiply ← scale [→ Reshape] [→ Convert]``, and for codebooks
``Gather(table → Convert, indices [→ Convert])`` in place of the first Convert.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import openvino as ov
from attrs import frozen
from openvino import opset1, opset8
from openvino.op import Constant

from nncf_core.errors import ParameterNotSupportedError
from nncf_core.numerics.packing import pack, unpack
from nncf_core.numerics.tensor import CompressedTensor
from nncf_openvino.element_types import openvino_type
from nncf_openvino.forms.packing3 import pack_u3

CODE_TYPES = {
    "int8": "i8",
    "uint8": "u8",
    "int4": "i4",
    "uint4": "u4",
    "int3": "u3",
    "int2": "u2",
    "nf4": "nf4",
    "f4e2m1": "f4e2m1",
    "f8e4m3": "f8e4m3",
    "f8e5m2": "f8e5m2",
}
"""Element type of the codes by number format."""

INDEX_TYPES = {4: "u4", 8: "u8", 16: "u16"}
"""Element type of indices into a codebook, by their bits."""

UNSIGNED = {"int3": 4, "int2": 2}
"""Formats whose codes are stored with this zero point, since OpenVINO has no signed type for them."""

_LARGEST_HALF = float(np.finfo(np.float16).max)

MakeConstant = Callable[[np.ndarray, Sequence[int], ov.Type, str], Constant]
"""A new constant from bytes, shape, element type and name."""


@frozen
class Emitter:
    """Writes compressed constants.

    :param constant: makes constants.
    :param unique: a name that no node of the model has, from a proposed one.
    """

    constant: MakeConstant
    unique: Callable[[str], str]

    def emit(self, name: str, tensor: CompressedTensor, wanted: str | None, port: int, constant: bool = False) -> Any:
        """New nodes, not yet connected to users; returns the output that stands for the decompressed constant.

        :param name: name of the constant.
        :param wanted: element type that users take; ``None`` when they take any floating-point type.
        :param port: input of its first user.
        :param constant: whether users take nothing but constants. In models with FakeQuantize the CPU plugin keeps what
            looks like dequantization from being folded; a Reshape between keeps it from looking like that.
        """
        half = _fits_half(tensor)
        kind = ov.Type.f16 if half else ov.Type.f32
        values = self._values(name, tensor, kind)
        if constant:
            own = self._plain(np.array(grouped_shape(tensor), np.int64), f"{name}/own_shape")
            values = opset1.reshape(values, own, False)
            values.set_friendly_name(self.unique(f"{name}/as_it_is"))
        values = self._shifted(name, tensor, kind, values)
        scaled = opset1.multiply(values, self._scale(name, tensor, kind))
        scaled.set_friendly_name(self.unique(f"{name}/fq_weights_{port}"))
        result = scaled
        if grouped_shape(tensor) != tensor.shape:
            shape = self._plain(np.array(tensor.shape, np.int64), f"{name}/shape")
            result = opset1.reshape(scaled, shape, False)
            result.set_friendly_name(self.unique(f"{name}/reshape"))
        if wanted not in (None, kind.to_string()):
            result = self._convert(result, getattr(ov.Type, wanted), f"{scaled.get_friendly_name()}/convert")
        return result.output(0)

    def _values(self, name: str, tensor: CompressedTensor, kind: ov.Type) -> ov.Node:
        """What the codes stand for, before zero point and scale."""
        shape = grouped_shape(tensor)
        if tensor.format.family == "codebook":
            return self._looked_up(name, tensor, kind, shape)
        codes = self.constant(_stored(tensor), shape, getattr(ov.Type, CODE_TYPES[tensor.format.name]), name)
        return self._convert(codes, kind, f"{name}/convert")

    def _looked_up(self, name: str, tensor: CompressedTensor, kind: ov.Type, shape: Sequence[int]) -> ov.Node:
        assert tensor.codebook is not None
        table = self._table(name, tensor.codebook, kind)
        indices = self.constant(tensor.codes, shape, getattr(ov.Type, INDEX_TYPES[tensor.format.bits]), name)
        taken: ov.Node = indices
        if tensor.format.bits == 4:
            taken = self._convert(indices, ov.Type.u8, f"{name}/indices")
        result = opset8.gather(table, taken, self._plain(np.array(0, np.int64), f"{name}/codebook/axis"))
        result.set_friendly_name(self.unique(f"{name}/codebook/gather"))
        return result

    def _table(self, name: str, values: np.ndarray, kind: ov.Type) -> ov.Node:
        title = f"{name}/codebook"
        dtype = _table_type(values)
        table = self._plain(values.astype(np.dtype(dtype)), title)
        return table if openvino_type(dtype) == kind else self._convert(table, kind, f"{title}/convert")

    def _shifted(self, name: str, tensor: CompressedTensor, kind: ov.Type, values: ov.Node) -> ov.Node:
        title = f"{name}/zero_point"
        if tensor.format.name in UNSIGNED:
            point = self._plain(np.array(UNSIGNED[tensor.format.name], np.int8), title)
        elif tensor.zero_point is not None:
            raw = pack(tensor.zero_point.reshape(-1), tensor.format.bits)
            code_type = getattr(ov.Type, CODE_TYPES[tensor.format.name])
            point = self.constant(raw, scale_shape(tensor), code_type, self.unique(title))
        else:
            return values
        result = opset1.subtract(values, self._convert(point, kind, f"{title}/convert"))
        result.set_friendly_name(self.unique(f"{title}/subtract"))
        return result

    def _scale(self, name: str, tensor: CompressedTensor, kind: ov.Type) -> ov.Node:
        title = f"{name}/scale"
        scale = tensor.scale.reshape(scale_shape(tensor))
        if scale.dtype in (np.float16, np.float32):
            return self._plain(scale.astype(np.float16 if kind == ov.Type.f16 else np.float32), title)
        converted = self._convert(self._plain(scale, title), kind, f"{title}/convert")
        if tensor.global_scale is None:
            return converted
        factor = self._plain(np.array(tensor.global_scale, np.float32), f"{name}/second_order_scale")
        result = opset1.multiply(converted, factor)
        result.set_friendly_name(self.unique(f"{name}/dequantized_scale"))
        return result

    def _plain(self, array: np.ndarray, name: str) -> Constant:
        raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        return self.constant(raw, array.shape, openvino_type(array.dtype.name), self.unique(name))

    def _convert(self, node: ov.Node, kind: ov.Type, name: str) -> ov.Node:
        result = opset1.convert(node, kind.to_string())
        result.set_friendly_name(self.unique(name))
        return result


def stored_bytes(tensor: CompressedTensor) -> int:
    """Bytes of codes, scales, zero points and tables in a model."""
    total = tensor.nbytes + 4 * (tensor.global_scale is not None)
    if tensor.scale.dtype in (np.float16, np.float32):
        total += tensor.scale.size * ((2 if _fits_half(tensor) else 4) - tensor.scale.itemsize)
    if tensor.format.name in UNSIGNED:
        total += 1  # the zero point
    if tensor.codebook is not None:
        total += tensor.codebook.size * np.dtype(_table_type(tensor.codebook)).itemsize - tensor.codebook.nbytes
    return total


def grouped_shape(tensor: CompressedTensor) -> tuple[int, ...]:
    """Shape of the codes: the divided axis becomes groups and elements of a group."""
    axis = _divided_axis(tensor)
    if axis is None:
        return tensor.shape
    count = tensor.shape[axis] // tensor.group_size
    return (*tensor.shape[:axis], count, tensor.group_size, *tensor.shape[axis + 1 :])


def scale_shape(tensor: CompressedTensor) -> tuple[int, ...]:
    """Shape of the scales, which broadcasts against the codes."""
    axis = _divided_axis(tensor)
    return tensor.scale.shape if axis is None else (*tensor.scale.shape[: axis + 1], 1, *tensor.scale.shape[axis + 1 :])


def _divided_axis(tensor: CompressedTensor) -> int | None:
    """The axis that is divided into more than one group: a single one is the whole channel, and needs no Reshape."""
    axis = tensor.group_axis
    return None if axis is None or tensor.group_size in (-1, tensor.shape[axis]) else axis


def _stored(tensor: CompressedTensor) -> np.ndarray:
    """The bytes of the codes in OpenVINO's order of bits."""
    name = tensor.format.name
    if name not in CODE_TYPES:
        raise ParameterNotSupportedError(f"OpenVINO has no element type for {name}.")
    if name not in UNSIGNED:
        return tensor.codes
    codes = unpack(tensor.codes, tensor.format.bits, tensor.size, signed=True) + np.int8(UNSIGNED[name])
    unsigned = codes.view(np.uint8)
    return pack_u3(unsigned) if name == "int3" else pack(unsigned, tensor.format.bits)


def _fits_half(tensor: CompressedTensor) -> bool:
    """Whether float16 holds scales and codebook exactly, and weights at all: then it is the type to decompress in."""
    if tensor.dtype == "float64" or tensor.global_scale is not None:
        return False
    if tensor.codebook is not None and not _holds("float16", tensor.codebook):
        return False
    scale = tensor.scale.astype(np.float32)
    if tensor.scale.dtype != np.float16 and not _holds("float16", scale):
        return False
    number_format, table = tensor.format, tensor.codebook
    largest = (number_format.hi or number_format.max_value) if table is None else float(np.abs(table).max())
    return float(np.abs(scale).max(initial=0)) * max(largest, number_format.max_value) <= _LARGEST_HALF


def _table_type(values: np.ndarray) -> str:
    return next(dtype for dtype in ("float8_e4m3fn", "float16", "float32") if _holds(dtype, values))


def _holds(dtype: str, values: np.ndarray) -> bool:
    """Whether a narrower type holds float32 values exactly."""
    with np.errstate(over="ignore"):
        return bool(np.array_equal(values.astype(np.dtype(dtype)).astype(np.float32), values))
