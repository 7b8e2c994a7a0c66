"""What the axes of a weight mean to the ONNX operator that uses it."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from nncf_core.graph import OpKind, WeightLayout


def layout_of(node: ir.Node, index: int, rank: int, kind: OpKind) -> WeightLayout | None:
    """The layout of the operand ``index`` of a node; ``None`` where that operand is no weight.

    :param rank: number of dimensions of the operand.
    """
    if kind is OpKind.MATMUL and node.op_type == "MatMul" and index < 2:
        return _matmul(index, rank)
    if node.op_type == "Gemm" and index < 2 and rank == 2:
        transposed = bool(_integer(node, "transA" if index == 0 else "transB", 0))
        # A is [M, K], B is [K, N], before they are transposed
        reduction = int(transposed == (index == 1))
        return WeightLayout((reduction,), (1 - reduction,))
    if kind is OpKind.CONV and index == 1 and rank >= 3:
        return WeightLayout(tuple(range(1, rank)), (0,))
    if kind is OpKind.CONV_TRANSPOSE and index == 1 and rank >= 3:
        return _conv_transpose(_integer(node, "group", 1), rank)
    if kind is OpKind.EMBEDDING and node.op_type == "Gather" and index == 0 and rank >= 2:
        axis = _integer(node, "axis", 0)
        return WeightLayout(tuple(range(1, rank)), (0,)) if axis % rank == 0 else None
    if kind is OpKind.RECURRENT and index in (1, 2) and rank == 3:
        return WeightLayout((2,), (1,), (0,))
    return None


def permuted(layout: WeightLayout, permutation: Sequence[int]) -> WeightLayout:
    """The layout before a transpose: axis ``i`` of its output is axis ``permutation[i]`` of its input."""

    def before(axes: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(permutation[axis] for axis in axes))

    return WeightLayout(before(layout.reduction_axes), before(layout.channel_axes), before(layout.batch_axes))


def _matmul(index: int, rank: int) -> WeightLayout | None:
    if rank == 0:
        return None
    if rank == 1:
        return WeightLayout((0,), ())
    batch = tuple(range(rank - 2))
    rows, columns = rank - 2, rank - 1
    return WeightLayout((columns,), (rows,), batch) if index == 0 else WeightLayout((rows,), (columns,), batch)


def _conv_transpose(groups: int, rank: int) -> WeightLayout:
    # the kernel is [C_in, C_out / groups, ...]: with one group axis 1 is the output channel; with more, an output
    # channel is a part of axis 0 and of axis 1, and a scale for each input channel is what can be expressed
    if groups == 1:
        return WeightLayout((0, *range(2, rank)), (1,))
    return WeightLayout(tuple(range(1, rank)), (0,))


def _integer(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()
