"""Reading formats that are tables: a Gather of a constant table at constant indices, and what scales it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from nncf_core.numerics.formats import FORMATS, NumberFormat
from nncf_core.numerics.tensor import CompressedTensor
from nncf_onnx.forms.compressed import (
    CompressedConstant,
    as_users_take_it,
    bytes_of,
    constant_input,
    only_user,
    original_name,
)
from nncf_onnx.traversal import dims

_INDICES = (ir.DataType.UINT4, ir.DataType.UINT8, ir.DataType.UINT16)


def lookup(node: ir.Node) -> tuple[ir.Value, CompressedConstant] | None:
    """The weight that a Gather looks up; ``None`` for every other Gather."""
    table, cast = constant_input(node, 0), node.inputs[1].producer() if node.inputs[1] is not None else None
    if table is None or len(table.shape) != 1 or cast is None or cast.op_type != "Cast":
        return None
    codes = constant_input(cast, 0)
    if codes is None or codes.dtype not in _INDICES:
        return None
    factors: list[ir.TensorProtocol] = []
    value = node.outputs[0]
    while (user := only_user(value)) is not None and user.op_type == "Mul":
        factor = constant_input(user, 1)
        if factor is None:
            break
        factors.append(factor)
        value = user.outputs[0]
    grouped = dims(codes.shape)
    if not 1 <= len(factors) <= 2 or len(factors[0].shape) != len(grouped):
        return None
    shape = grouped
    if user is not None and user.op_type == "Reshape" and (target := constant_input(user, 1)) is not None:
        shape = tuple(int(dim) for dim in target.numpy())
        value = user.outputs[0]
    values = np.asarray(table.numpy(), np.float32)
    name = _format_of(values)
    number_format = FORMATS[name] if name else NumberFormat("codebook", codes.dtype.bitwidth, "codebook", 0.0)
    value, dtype = as_users_take_it(value, ir.DataType.FLOAT)
    scale_shape = dims(factors[0].shape)
    if len(grouped) == len(shape):
        group_axis, size = None, -1
        kept, reduction = scale_shape, tuple(i for i, dim in enumerate(scale_shape) if dim == 1)
    else:
        group_axis = next(i for i, dim in enumerate(shape) if i >= len(grouped) - 1 or grouped[i] != dim)
        size = grouped[group_axis + 1]
        kept, reduction = (*scale_shape[: group_axis + 1], *scale_shape[group_axis + 2 :]), (group_axis,)

    def read() -> CompressedTensor:
        return CompressedTensor(
            format=number_format,
            shape=shape,
            codes=np.frombuffer(codes.tobytes(), np.uint8),
            scale=factors[0].numpy().reshape(kept),
            zero_point=None,
            dtype=dtype,
            reduction_axes=reduction,
            group_axis=group_axis,
            group_size=size,
            global_scale=float(factors[1].numpy()) if len(factors) > 1 else None,
            codebook=None if name else values,
        )

    granularity = "per channel" if size == -1 else f"group size {size}"
    stored = bytes_of(codes, table, *factors)
    original = original_name(cast.inputs[0])
    return value, CompressedConstant(original, dtype, shape, number_format.name, granularity, stored, read)


def _format_of(values: np.ndarray) -> str | None:
    for name, number_format in FORMATS.items():
        if number_format.values and np.array_equal(values, np.array(number_format.values, np.float32)):
            return name
    return None
