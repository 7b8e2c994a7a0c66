"""Compressed weights that are in a model already: by this backend, or by other tools."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
from attrs import frozen

from nncf_core.errors import UnsupportedModelError
from nncf_core.graph import WeightLayout
from nncf_core.numerics.formats import FORMATS, NumberFormat
from nncf_core.numerics.kernels import decompress
from nncf_core.numerics.packing import pack, unpack
from nncf_core.numerics.tensor import CompressedTensor
from nncf_onnx.forms.nbits import DOMAIN
from nncf_onnx.traversal import dims, walk

_BY_DTYPE = {
    ir.DataType.INT8: "int8",
    ir.DataType.UINT8: "uint8",
    ir.DataType.INT4: "int4",
    ir.DataType.UINT4: "uint4",
    ir.DataType.INT2: "int2",
    ir.DataType.FLOAT8E4M3FN: "f8e4m3",
}
_LOOKUPS = (ir.DataType.UINT4, ir.DataType.UINT8, ir.DataType.UINT16)


@frozen
class CompressedConstant:
    """A compressed weight.

    :param name: name of the constant before it was compressed, as far as it can be told.
    :param dtype: element type that it decompresses to.
    :param shape: shape that it decompresses to.
    :param format: number format.
    :param granularity: what shares a scale, for people.
    :param stored_bytes: bytes of codes, scales, zero points and tables.
    :param read: reads the compressed form.
    :param layout: meaning of the axes where the operator fixes it; ``None`` where users define it.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    format: str
    granularity: str
    stored_bytes: int
    read: Callable[[], CompressedTensor]
    layout: WeightLayout | None = None

    def read_dequantized(self) -> np.ndarray:
        """The values that the codes stand for."""
        return decompress(self.read())


def compressed_constants(model: ir.Model) -> dict[ir.Value, CompressedConstant]:
    """Every compressed weight by the value that stands for it.

    That is the dequantized value, or the codes where the operator itself decompresses them.
    """
    found: dict[ir.Value, CompressedConstant] = {}
    for node, _ in walk(model.graph):
        if node.domain == "" and node.op_type == "DequantizeLinear":
            constant = _dequantize_linear(node)
        elif node.domain == "" and node.op_type == "Gather":
            value, constant = _lookup(node)
            if constant is not None and value is not None:
                found[value] = constant
            continue
        elif node.domain == "" and node.op_type == "Mul":
            constant = _arithmetic(node)
        elif node.domain == DOMAIN and node.op_type in ("MatMulNBits", "GatherBlockQuantized"):
            constant = _nbits(node)
            value = node.inputs[1 if node.op_type == "MatMulNBits" else 0]
            if constant is not None and value is not None:
                found[value] = constant
            continue
        else:
            continue
        if constant is not None:
            found[node.outputs[0]] = constant
    return found


def _tensor(value: ir.Value | None) -> ir.TensorProtocol | None:
    if value is None or value.const_value is None or (value.is_graph_input() and not value.is_initializer()):
        return None
    return value.const_value


def _input(node: ir.Node, index: int) -> ir.TensorProtocol | None:
    return _tensor(node.inputs[index]) if index < len(node.inputs) else None


def _original_name(value: ir.Value | None) -> str:
    name = (value.name if value is not None else None) or ""
    return name.removesuffix("_quantized")


def _bytes(*tensors: ir.TensorProtocol | None) -> int:
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


def _dequantize_linear(node: ir.Node) -> CompressedConstant | None:
    codes, scale, zero_point = (_input(node, index) for index in range(3))
    if codes is None or scale is None or codes.dtype not in _BY_DTYPE:
        return None
    if len(node.inputs) > 2 and node.inputs[2] is not None and zero_point is None:
        return None
    shape = dims(codes.shape)
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 1
    block = node.attributes["block_size"].as_int() if "block_size" in node.attributes else 0
    axis = axis % len(shape) if shape else 0
    if block:
        kept = dims(scale.shape)
        if shape[axis] % block:
            return None
        grouped = block < shape[axis]
        reduction: tuple[int, ...] = (axis,)
    else:
        per_axis = dims(scale.shape) == shape[axis : axis + 1] and len(shape) > 0
        reduction = tuple(i for i in range(len(shape)) if not (per_axis and i == axis))
        kept = tuple(1 if i in reduction else size for i, size in enumerate(shape))
        grouped = False
    number_format = FORMATS[_BY_DTYPE[codes.dtype]]

    def read() -> CompressedTensor:
        packed = np.frombuffer(codes.tobytes(), np.uint8)
        points = None if zero_point is None else zero_point.numpy()
        if points is not None and number_format.family == "float":
            points = None
        return _with_zero_point(
            number_format,
            packed,
            points,
            shape=shape,
            scale=scale.numpy().reshape(kept),
            dtype=scale.dtype.numpy().name,
            reduction_axes=reduction,
            group_axis=axis if grouped else None,
            group_size=block if grouped else -1,
        )

    granularity = f"group size {block}" if grouped else "per tensor" if len(reduction) == len(shape) else "per channel"
    return CompressedConstant(
        _original_name(node.inputs[0]),
        scale.dtype.numpy().name,
        shape,
        number_format.name,
        granularity,
        _bytes(codes, scale, zero_point),
        read,
    )


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


def _lookup(node: ir.Node) -> tuple[ir.Value | None, CompressedConstant | None]:
    """The table form: a Gather of a constant table at constant indices, and what follows it."""
    table, cast = _input(node, 0), node.inputs[1].producer() if node.inputs[1] is not None else None
    if table is None or len(table.shape) != 1 or cast is None or cast.op_type != "Cast":
        return None, None
    codes = _input(cast, 0)
    if codes is None or codes.dtype not in _LOOKUPS:
        return None, None
    factors: list[ir.TensorProtocol] = []
    value = node.outputs[0]
    while (user := _only_user(value)) is not None and user.op_type == "Mul" and _input(user, 1) is not None:
        factors.append(_input(user, 1))  # type: ignore[arg-type]
        value = user.outputs[0]
    if not 1 <= len(factors) <= 2:
        return None, None
    grouped = dims(codes.shape)
    shape = grouped
    if user is not None and user.op_type == "Reshape" and (target := _input(user, 1)) is not None:
        shape = tuple(int(dim) for dim in target.numpy())
        value = user.outputs[0]
    scale_shape = dims(factors[0].shape)
    if len(scale_shape) != len(grouped):
        return None, None
    values = np.asarray(table.numpy(), np.float32)
    name = _table_name(values)
    number_format = FORMATS[name] if name else NumberFormat("codebook", codes.dtype.bitwidth, "codebook", 0.0)
    if len(grouped) == len(shape):
        group_axis, size = None, -1
        kept = scale_shape
        reduction = tuple(i for i, dim in enumerate(scale_shape) if dim == 1)
    else:
        group_axis = next(i for i, dim in enumerate(shape) if i >= len(grouped) - 1 or grouped[i] != dim)
        size = grouped[group_axis + 1]
        kept = (*scale_shape[: group_axis + 1], *scale_shape[group_axis + 2 :])
        reduction = (group_axis,)

    def read() -> CompressedTensor:
        return CompressedTensor(
            format=number_format,
            shape=shape,
            codes=np.frombuffer(codes.tobytes(), np.uint8),
            scale=factors[0].numpy().reshape(kept),
            zero_point=None,
            dtype="float32",
            reduction_axes=reduction,
            group_axis=group_axis,
            group_size=size,
            global_scale=float(factors[1].numpy()) if len(factors) > 1 else None,
            codebook=None if name else values,
        )

    granularity = "per channel" if size == -1 else f"group size {size}"
    constant = CompressedConstant(
        _original_name(cast.inputs[0]),
        "float32",
        shape,
        number_format.name,
        granularity,
        _bytes(codes, table, *factors),
        read,
    )
    return value, constant


def _only_user(value: ir.Value) -> ir.Node | None:
    users = list(value.uses())
    return users[0].node if len(users) == 1 and users[0].idx == 0 else None


def _table_name(values: np.ndarray) -> str | None:
    for name, number_format in FORMATS.items():
        if number_format.values and np.array_equal(values, np.array(number_format.values, np.float32)):
            return name
    return None


def _arithmetic(node: ir.Node) -> CompressedConstant | None:
    """``(Cast(codes) - zero point) · scale`` in single operators."""
    scale = _input(node, 1)
    inner = node.inputs[0].producer() if node.inputs[0] is not None else None
    zero_point = None
    if inner is not None and inner.op_type == "Sub":
        zero_point = _input(inner, 1)
        inner = inner.inputs[0].producer() if inner.inputs[0] is not None and zero_point is not None else None
    if scale is None or inner is None or inner.op_type != "Cast":
        return None
    codes = _input(inner, 0)
    if codes is None or codes.dtype not in (ir.DataType.INT8, ir.DataType.UINT8):
        return None
    shape = dims(codes.shape)
    kept = dims(scale.shape)
    if len(kept) != len(shape):
        return None
    number_format = FORMATS[_BY_DTYPE[codes.dtype]]

    def read() -> CompressedTensor:
        return CompressedTensor(
            format=number_format,
            shape=shape,
            codes=np.frombuffer(codes.tobytes(), np.uint8),
            scale=scale.numpy(),
            zero_point=None if zero_point is None else zero_point.numpy().astype(np.uint8),
            dtype=scale.dtype.numpy().name,
            reduction_axes=tuple(i for i, dim in enumerate(kept) if dim == 1),
        )

    return CompressedConstant(
        _original_name(inner.inputs[0]),
        scale.dtype.numpy().name,
        shape,
        number_format.name,
        "per channel",
        _bytes(codes, scale, zero_point),
        read,
    )


def _nbits(node: ir.Node) -> CompressedConstant | None:
    gather = node.op_type == "GatherBlockQuantized"
    codes, scale, zero_point = (_input(node, i) for i in ((0, 2, 3) if gather else (1, 2, 3)))
    if codes is None or scale is None:
        return None
    bits = node.attributes["bits"].as_int() if "bits" in node.attributes else 4
    block = node.attributes["block_size"].as_int()
    if codes.dtype != ir.DataType.UINT8 or bits not in (2, 4, 8) or (bits == 2 and zero_point is not None):
        return None
    if gather:
        rows, width = dims(codes.shape)
        columns = width * 8 // bits
    else:
        rows, columns = node.attributes["N"].as_int(), node.attributes["K"].as_int()
    count = -(-columns // block)
    points, number_format = None, FORMATS[f"int{bits}"]
    if zero_point is not None:
        packed = np.frombuffer(zero_point.tobytes(), np.uint8)
        points = unpack(packed, bits, packed.size * 8 // bits, signed=False).reshape(rows, -1)[:, :count]
        if (points == 1 << (bits - 1)).all():
            points = None
        else:
            number_format = FORMATS[f"uint{bits}"]

    def read() -> CompressedTensor:
        raw = np.frombuffer(codes.tobytes(), np.uint8)
        matrix = unpack(raw, bits, rows * count * block, signed=False).reshape(rows, -1)[:, :columns]
        scales = scale.numpy().reshape(rows, count)
        kept = points
        if kept is None:
            # unsigned with half of the range as zero point, to two's complement
            matrix = matrix - np.uint8(1 << (bits - 1))
        whole = count == 1 or columns % block != 0
        if whole and not (scales == scales[:, :1]).all():
            raise UnsupportedModelError(
                f"The last block of the weight {codes.name!r} is shorter than the others; its codes cannot be read."
            )
        if whole:
            # blocks that repeat one scale, the last one padded: a whole channel
            scales, kept = scales[:, :1], None if kept is None else kept[:, :1]
        return CompressedTensor(
            format=number_format,
            shape=(rows, columns),
            codes=pack(matrix, bits),
            scale=scales,
            zero_point=kept,
            dtype=scale.dtype.numpy().name,
            reduction_axes=(1,),
            group_axis=None if whole else 1,
            group_size=-1 if whole else block,
        )

    return CompressedConstant(
        _original_name(node.inputs[0 if gather else 1]),
        scale.dtype.numpy().name,
        (rows, columns),
        number_format.name,
        f"group size {block}",
        _bytes(codes, scale, zero_point),
        read,
        WeightLayout((1,), (0,)),
    )
