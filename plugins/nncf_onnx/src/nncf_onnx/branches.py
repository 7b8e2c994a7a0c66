"""Low-rank branches beside products: ``Add(y, MatMul(MatMul(x, Aᵀ), Bᵀ))``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from nncf_core.graph import Graph
from nncf_core.low_rank import branched_layers
from nncf_core.numerics.packing import unpack
from nncf_core.numerics.tensor import CompressedTensor
from nncf_core.transformations import Adapter
from nncf_onnx.forms import dequantize_linear
from nncf_onnx.rewriting import Rewriter


def takes_low_rank(graph: Graph, constant: str) -> bool:
    """Whether all layers that take a weight are products without a factor of their own."""
    layers = branched_layers(graph, constant)
    return bool(layers) and all(
        node.op_type in ("MatMul", "Gemm") and node.attributes.get("alpha", 1.0) == 1.0 for node, _ in layers
    )


def operand(
    rewriter: Rewriter, graph: ir.Graph, name: str, adapter: Adapter, dtype: ir.DataType
) -> tuple[ir.Value, list[ir.Node]]:
    """A matrix of a branch as second operand of a MatMul, that is transposed; and nodes that decompress it."""
    if not isinstance(adapter, CompressedTensor):
        values = np.ascontiguousarray(np.asarray(adapter).T.astype(dtype.numpy()))
        return rewriter.constant(graph, name, ir.Tensor(values)), []
    tensor = _transposed(adapter.on_host())
    nodes = dequantize_linear.nodes(rewriter, graph, name, tensor, dtype)
    return nodes[-1].outputs[0], nodes


def branch(
    rewriter: Rewriter, name: str, source: ir.Value, matrices: Sequence[ir.Value], behind: ir.Value
) -> list[ir.Node]:
    """The products of a branch, and the sum, not yet in a graph.

    :param source: activations.
    :param matrices: both operands.
    :param behind: what the layer gives.
    """
    (down, up), dtype = matrices, behind.dtype
    first = rewriter.node("MatMul", [source, down], f"{name}/down", f"{name}/down/output", dtype)
    second = rewriter.node("MatMul", [first.outputs[0], up], f"{name}/up", f"{name}/up/output", dtype)
    total = rewriter.node("Add", [behind, second.outputs[0]], name, f"{behind.name}_corrected", dtype)
    total.outputs[0].shape = second.outputs[0].shape = behind.shape
    return [first, second, total]


def _transposed(tensor: CompressedTensor) -> CompressedTensor:
    """A matrix of codes of 8 bits, with one scale for each row, turned over."""
    rows, columns = tensor.shape
    codes = unpack(tensor.codes, tensor.format.bits, tensor.size, tensor.format.signed).reshape(rows, columns)
    zero_point = None if tensor.zero_point is None else tensor.zero_point.reshape(1, rows)
    return CompressedTensor(
        format=tensor.format,
        shape=(columns, rows),
        codes=np.ascontiguousarray(codes.T).reshape(-1).view(np.uint8),
        scale=tensor.scale.reshape(1, rows),
        zero_point=zero_point,
        dtype=tensor.dtype,
        reduction_axes=(0,),
    )
