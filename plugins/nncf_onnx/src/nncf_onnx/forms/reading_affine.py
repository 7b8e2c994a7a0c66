"""Reading ``(codes - zero point) · scale``, written as DequantizeLinear or in single operators."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from nncf_core.numerics.formats import FORMATS, NumberFormat
from nncf_core.numerics.packing import pack, unpack
from nncf_core.numerics.tensor import CompressedTensor
from nncf_onnx.forms.compressed import (
    CompressedConstant,
    as_users_take_it,
    bytes_of,
    constant_input,
    integer,
    original_name,
)
from nncf_onnx.traversal import dims

_BY_DTYPE = {
    ir.DataType.INT8: "int8",
    ir.DataType.UINT8: "uint8",
    ir.DataType.INT4: "int4",
    ir.DataType.UINT4: "uint4",
    ir.DataType.INT2: "int2",
    ir.DataType.FLOAT8E4M3FN: "f8e4m3",
    ir.DataType.FLOAT8E5M2: "f8e5m2",
}

Found = tuple[ir.Value, CompressedConstant]


def dequantize_linear(node: ir.Node) -> Found | None:
    """The weight that a DequantizeLinear decompresses; ``None`` for activations and unknown element types."""
    codes, scale, zero_point = (constant_input(node, index) for index in range(3))
    if codes is None or scale is None or codes.dtype not in _BY_DTYPE:
        return None
    if len(node.inputs) > 2 and node.inputs[2] is not None and zero_point is None:
        return None
    shape = dims(codes.shape)
    block = integer(node, "block_size", 0)
    axis = integer(node, "axis", 1) % len(shape) if shape else 0
    grouped = False
    reduction: tuple[int, ...] = (axis,)
    if block:
        kept = dims(scale.shape)
        if kept != tuple(size // block if i == axis else size for i, size in enumerate(shape)) or shape[axis] % block:
            return None
        grouped = block < shape[axis]
    else:
        per_axis = dims(scale.shape) == shape[axis : axis + 1] and len(shape) > 0
        if not per_axis and np.prod(dims(scale.shape), dtype=np.int64) != 1:
            return None
        reduction = tuple(i for i in range(len(shape)) if not (per_axis and i == axis))
        kept = tuple(1 if i in reduction else size for i, size in enumerate(shape))
    number_format = FORMATS[_BY_DTYPE[codes.dtype]]
    value, dtype = as_users_take_it(node.outputs[0], scale.dtype)

    def read() -> CompressedTensor:
        points = None if zero_point is None or number_format.family == "float" else zero_point.numpy()
        return _with_zero_point(
            number_format,
            np.frombuffer(codes.tobytes(), np.uint8),
            points,
            shape=shape,
            scale=scale.numpy().reshape(kept),
            dtype=dtype,
            reduction_axes=reduction,
            group_axis=axis if grouped else None,
            group_size=block if grouped else -1,
        )

    granularity = f"group size {block}" if grouped else "per tensor" if len(reduction) == len(shape) else "per channel"
    stored = bytes_of(codes, scale, zero_point)
    name = original_name(node.inputs[0])
    return value, CompressedConstant(name, dtype, shape, number_format.name, granularity, stored, read)


def _with_zero_point(
    number_format: NumberFormat, packed: np.ndarray, points: np.ndarray | None, **fields: Any
) -> CompressedTensor:
    """The tensor; signed codes whose zero point is not 0 become unsigned ones."""
    kept = np.shape(fields["scale"])
    if points is not None and number_format.signed:
        signed = points.astype(np.int16).reshape(kept)
        if not signed.any():
            points = None
        else:
            half = 1 << (number_format.bits - 1)
            count = int(np.prod(fields["shape"], dtype=np.int64))
            codes = unpack(packed, number_format.bits, count, signed=True).astype(np.int16) + half
            packed = pack(codes.astype(np.uint8), number_format.bits)
            number_format = FORMATS[f"u{number_format.name}"]
            points = signed + half
    zero_point = None if points is None else points.astype(np.uint8).reshape(kept)
    return CompressedTensor(format=number_format, codes=packed, zero_point=zero_point, **fields)


def arithmetic(node: ir.Node) -> Found | None:
    """The weight that a Mul scales, after a Cast of constant codes and perhaps a Sub."""
    scale = constant_input(node, 1)
    inner = node.inputs[0].producer() if node.inputs[0] is not None else None
    zero_point = None
    if inner is not None and inner.op_type == "Sub":
        zero_point = constant_input(inner, 1)
        inner = inner.inputs[0].producer() if inner.inputs[0] is not None and zero_point is not None else None
    if scale is None or inner is None or inner.op_type != "Cast":
        return None
    codes = constant_input(inner, 0)
    if codes is None or codes.dtype not in _BY_DTYPE:
        return None
    shape, kept = dims(codes.shape), dims(scale.shape)
    if len(kept) != len(shape) or any(dim not in (1, size) for dim, size in zip(kept, shape, strict=True)):
        return None
    number_format = FORMATS[_BY_DTYPE[codes.dtype]]
    if zero_point is not None and (number_format.lo != 0 or dims(zero_point.shape) != kept):
        return None
    value, dtype = as_users_take_it(node.outputs[0], scale.dtype)

    def read() -> CompressedTensor:
        return CompressedTensor(
            format=number_format,
            shape=shape,
            codes=np.frombuffer(codes.tobytes(), np.uint8),
            scale=scale.numpy(),
            zero_point=None if zero_point is None else zero_point.numpy().astype(np.uint8),
            dtype=dtype,
            reduction_axes=tuple(i for i, dim in enumerate(kept) if dim == 1),
        )

    stored = bytes_of(codes, scale, zero_point)
    name = original_name(inner.inputs[0])
    return value, CompressedConstant(name, dtype, shape, number_format.name, "per channel", stored, read)
