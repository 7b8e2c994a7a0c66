"""What the axes of a weight mean to the OpenVINO operator that uses it."""

from __future__ import annotations

from collections.abc import Sequence

import openvino as ov

from nncf_core.graph import WeightLayout

_CONVOLUTIONS = {
    # the axes of groups, of output channels
    "Convolution": ((), 0),
    "DeformableConvolution": ((), 0),
    "GroupConvolution": ((0,), 1),
    "ConvolutionBackpropData": ((), 1),
    "GroupConvolutionBackpropData": ((0,), 2),
}

_RECURRENT = {
    # the inputs that are weights: of the input, and of the hidden state
    "LSTMSequence": (4, 5),
    "GRUSequence": (3, 4),
    "RNNSequence": (3, 4),
    "LSTMCell": (3, 4),
    "GRUCell": (2, 3),
    "RNNCell": (2, 3),
}


def layout_of(node: ov.Node, index: int, rank: int) -> WeightLayout | None:
    """The layout of the operand ``index`` of a node; ``None`` where that operand is no weight.

    :param rank: number of dimensions of the operand.
    """
    kind = node.get_type_name()
    if kind == "MatMul":
        return _matmul(node, index, rank)
    if kind == "GroupedMatMul":
        return WeightLayout((2,), (1,), (0,)) if index == 1 and rank == 3 else None
    if kind in _CONVOLUTIONS:
        groups, channel = _CONVOLUTIONS[kind]
        position = 2 if kind == "DeformableConvolution" else 1
        if index != position or rank < 3:
            return None
        return WeightLayout(_others(rank, (*groups, channel)), (channel,), groups)
    if kind == "Gather" and index == 0 and rank >= 2:
        return WeightLayout(tuple(range(1, rank)), (0,)) if _gather_axis(node) in (0, -rank) else None
    if kind in _RECURRENT and index in _RECURRENT[kind]:
        return WeightLayout((2,), (1,), (0,)) if rank == 3 else WeightLayout((1,), (0,))
    return None


def permuted(layout: WeightLayout, permutation: Sequence[int]) -> WeightLayout:
    """The layout before a transpose: axis ``i`` of its output is axis ``permutation[i]`` of its input."""

    def before(axes: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(permutation[axis] for axis in axes))

    return WeightLayout(before(layout.reduction_axes), before(layout.channel_axes), before(layout.batch_axes))


def _matmul(node: ov.Node, index: int, rank: int) -> WeightLayout | None:
    if rank == 0:
        return None
    if rank == 1:
        return WeightLayout((0,), ())
    transposed = bool(node.get_attributes()["transpose_a" if index == 0 else "transpose_b"])
    # A is [..., M, K], B is [..., K, N], before they are transposed
    last_is_reduced = transposed == (index == 1)
    rows, columns = rank - 2, rank - 1
    reduced, kept = (columns, rows) if last_is_reduced else (rows, columns)
    return WeightLayout((reduced,), (kept,), tuple(range(rank - 2)))


def _gather_axis(node: ov.Node) -> int | None:
    axis = node.input(2).get_source_output().get_node()
    return int(axis.data.item()) if axis.get_type_name() == "Constant" and axis.data.size == 1 else None


def _others(rank: int, axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(axis for axis in range(rank) if axis not in axes)
