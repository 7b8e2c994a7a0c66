"""Tables of 8-bit codes with a scale for each row, where only Gather takes them: rows are looked up, then decompressed.

``Gather(codes, i) → Cast [→ Sub ← Unsqueeze ← Cast ← Gather(zero points, i)] → Mul ← Unsqueeze ← Gather(scales, i)``

DequantizeLinear before the Gather would decompress the whole table each time, for the few rows that are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from nncf_core.contracts import CompressionRequest
from nncf_core.errors import InternalError
from nncf_core.graph import Constant, Graph, WeightLayout
from nncf_core.numerics.formats import FORMATS
from nncf_core.numerics.tensor import CompressedTensor
from nncf_onnx.forms.common import CODE_DTYPES, Target, scale_in
from nncf_onnx.forms.compressed import (
    FLOATS,
    CompressedConstant,
    bytes_of,
    constant_input,
    only_user,
    original_name,
)
from nncf_onnx.rewriting import Rewriter, codes_tensor

_FORMATS = {ir.DataType.INT8: "int8", ir.DataType.UINT8: "uint8"}
_LAYOUT = WeightLayout((1,), (0,))


def holds(graph: Graph, constant: Constant, request: CompressionRequest) -> bool:
    """Whether this form can hold a constant: a matrix that nothing but Gather takes, along its first axis."""
    users = graph.users(constant.name)
    return (
        request.format in _FORMATS.values()
        and request.group_size == -1
        and len(constant.shape) == 2
        and bool(users)
        and all(node.op_type == "Gather" and index == 0 and node.inputs[0].layout == _LAYOUT for node, index in users)
        and all(node.inputs[0].tensor == constant.name for node, _ in users)
    )


def stored_bytes(tensor: CompressedTensor, dtype: str) -> int:
    """Bytes of codes, scales and zero points.

    :param dtype: element type that the users expect.
    """
    half = scale_in(tensor, ir.DataType.from_numpy(np.dtype(dtype)))
    rows, points = tensor.shape[0], tensor.zero_point
    scales = rows * (4 if half is None else half.itemsize)
    return tensor.codes.nbytes + scales + (0 if points is None else rows)


def _of_rows(values: np.ndarray, rows: int) -> np.ndarray:
    """Scales or zero points, one for each row; Gather takes rows of them, also where one serves the whole table."""
    return np.ascontiguousarray(np.broadcast_to(values.reshape(-1), rows))


def emit(rewriter: Rewriter, target: Target, tensor: CompressedTensor, users: Sequence[ir.Node]) -> None:
    """Write a constant in this form, and replace its users.

    :param users: the Gather operators that take it.
    """
    graph, name, rows = rewriter.graph_of(target.value), target.name, tensor.shape[0]
    scale = scale_in(tensor, target.dtype)
    scale = tensor.scale.astype(np.float32) if scale is None else scale
    computed = ir.DataType.from_numpy(scale.dtype)
    code_type, _ = CODE_DTYPES[tensor.format.name]
    codes = rewriter.constant(graph, f"{name}_quantized", codes_tensor(tensor.codes, code_type, tensor.shape))
    scales = rewriter.constant(graph, f"{name}_scale", ir.Tensor(_of_rows(scale, rows)))
    zero_points = None
    if tensor.zero_point is not None:
        points = ir.Tensor(_of_rows(tensor.zero_point.astype(np.uint8), rows))
        zero_points = rewriter.constant(graph, f"{name}_zero_point", points)
    last = rewriter.constant(graph, f"{name}_last_axis", ir.Tensor(np.array([-1], np.int64)))
    for node in users:
        chain = _Chain(rewriter, node, last)
        values = chain.cast(chain.rows_of(codes), computed)
        if zero_points is not None:
            shifts = chain.as_columns(chain.cast(chain.rows_of(zero_points), computed))
            values = chain.add("Sub", [values, shifts], computed)
        values = chain.add("Mul", [values, chain.as_columns(chain.rows_of(scales))], computed)
        if computed != target.dtype:
            chain.cast(values, target.dtype)
        rewriter.take_over_output(node, *chain.nodes)
    rewriter.drop_constant(target.value)


def undo(rewriter: Rewriter, target: Target, table: np.ndarray) -> ir.Value:
    """Put Gathers of a float table in place of those that take rows of codes.

    :param table: [rows, columns].
    """
    graph, codes = rewriter.graph_of(target.value), target.value
    if codes.name == target.name:
        rewriter.free(codes)
    new = rewriter.constant(graph, target.name, ir.Tensor(table))
    for usage in tuple(codes.uses()):
        found = _behind(usage.node)
        if found is None:
            raise InternalError(
                f"The codes of {target.name!r} are taken by {usage.node.name!r}, which does not scale them."
            )
        label = (usage.node.name or "").removesuffix("_codes")
        inputs = [new, usage.node.inputs[1]]
        end = found.end
        gather = rewriter.node("Gather", inputs, label, f"{end.outputs[0].name}_gathered", attributes={"axis": 0})
        rewriter.take_over_output(end, gather)
    return new


class _Chain:
    """The operators that take the place of a Gather, one after the other."""

    def __init__(self, rewriter: Rewriter, gather: ir.Node, last_axis: ir.Value) -> None:
        self.nodes: list[ir.Node] = []
        self._rewriter, self._gather, self._last_axis = rewriter, gather, last_axis

    def add(self, op_type: str, inputs: Sequence[ir.Value | None], dtype: ir.DataType, **attributes: int) -> ir.Value:
        """One more operator; gives its output."""
        base = f"{self._gather.name or self._gather.outputs[0].name}_{len(self.nodes)}_{op_type.lower()}"
        node = self._rewriter.node(op_type, inputs, base, f"{base}_output", dtype, attributes=attributes)
        self.nodes.append(node)
        return node.outputs[0]

    def rows_of(self, table: ir.Value) -> ir.Value:
        """The rows of a table that are looked up."""
        assert table.dtype is not None
        return self.add("Gather", [table, self._gather.inputs[1]], table.dtype, axis=0)

    def cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """Numbers of another type."""
        return self.add("Cast", [value], dtype, to=int(dtype))

    def as_columns(self, value: ir.Value) -> ir.Value:
        """One number for each row, to be spread along its columns."""
        assert value.dtype is not None
        return self.add("Unsqueeze", [value, self._last_axis], value.dtype)


class _Found(NamedTuple):
    """What decompresses the rows that a Gather takes.

    :param end: the operator that gives the rows as users take them.
    """

    end: ir.Node
    scale: ir.TensorProtocol
    zero_point: ir.TensorProtocol | None


def row_lookup(node: ir.Node) -> tuple[ir.Value, CompressedConstant] | None:
    """The table of which a Gather takes rows of codes, that are decompressed behind it; ``None`` for other Gathers."""
    codes, value = constant_input(node, 0), node.inputs[0]
    if value is None or codes is None or codes.dtype not in _FORMATS or len(codes.shape) != 2:
        return None
    found = _behind(node)
    if found is None:
        return None
    scale, zero_point = found.scale, found.zero_point
    rows, columns = (int(size) for size in codes.shape.numpy())
    if any(len(part.shape) != 1 or part.size != rows for part in (scale, zero_point) if part is not None):
        return None
    number_format, dtype = (
        FORMATS[_FORMATS[codes.dtype]],
        str((_dtype(found.end) if found.end.op_type == "Cast" else scale.dtype).numpy().name),
    )

    def read() -> CompressedTensor:
        points = None if zero_point is None else zero_point.numpy().reshape(rows, 1)
        return CompressedTensor(
            format=number_format,
            shape=(rows, columns),
            codes=np.frombuffer(codes.tobytes(), np.uint8),
            scale=scale.numpy().reshape(rows, 1),
            zero_point=points,
            dtype=dtype,
            reduction_axes=(1,),
        )

    return value, CompressedConstant(
        original_name(value),
        dtype,
        (rows, columns),
        number_format.name,
        "per channel",
        bytes_of(codes, scale, zero_point),
        read,
        _LAYOUT,
    )


def _behind(gather: ir.Node) -> _Found | None:
    """What decompresses the rows of a Gather, when that and nothing else is behind it."""
    cast = only_user(gather.outputs[0])
    user = None if cast is None or cast.op_type != "Cast" else only_user(cast.outputs[0])
    zero_point = None
    if user is not None and user.op_type == "Sub":
        zero_point = _of_the_same_rows(user.inputs[1], gather)
        user = None if zero_point is None else only_user(user.outputs[0])
    if user is None or user.op_type != "Mul":
        return None
    scale = _of_the_same_rows(user.inputs[1], gather)
    if scale is None or scale.dtype not in FLOATS:
        return None
    after = only_user(user.outputs[0])
    # behind scales of the users' own type a Cast is their own
    if after is not None and after.op_type == "Cast" and scale.dtype == ir.DataType.FLOAT != _dtype(after):
        return _Found(after if _dtype(after) in FLOATS else user, scale, zero_point)
    return _Found(user, scale, zero_point)


def _of_the_same_rows(value: ir.Value | None, gather: ir.Node) -> ir.TensorProtocol | None:
    """The table of which a value is looked up as a column, at the rows that a Gather takes, perhaps cast."""
    node = None if value is None else value.producer()
    for op_type in ("Unsqueeze", "Cast", "Gather"):
        if node is not None and node.op_type == op_type:
            if op_type == "Gather":
                return constant_input(node, 0) if node.inputs[1] is gather.inputs[1] else None
            node = None if node.inputs[0] is None else node.inputs[0].producer()
        elif op_type != "Cast":
            return None
    return None


def _dtype(cast: ir.Node) -> ir.DataType:
    return ir.DataType(cast.attributes["to"].as_int())
