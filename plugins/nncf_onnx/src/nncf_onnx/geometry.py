"""Which axes operators look across, and how those that only move elements move them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from nncf_core.graph import Move, MoveKind, OpKind

_DEFAULT_AXIS = {OpKind.SPLIT: 0, OpKind.SOFTMAX: -1}
_SAME_ORDER = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten"})
_SAME = frozenset({"Identity", "Dropout"})
_LONG = 1 << 31
"""No axis is longer; for the end of a slice of one whose size is not known."""


def axes_of(node: ir.Node, kind: OpKind) -> tuple[int, ...] | None:
    """The axes that a node looks across; ``None`` when they are not known, or there are none."""
    shape = _shape(node.inputs[0]) if node.inputs else None
    rank = len(shape) if shape is not None else _rank_of_outputs(node, kind)
    if rank is None:
        return None
    axis = _attribute(node, "axis")
    if kind is OpKind.REDUCE and not node.op_type.startswith("Arg"):
        axes = _attribute(node, "axes") or integers(node, 1)
        if axes is None:
            given = len(node.inputs) > 1 and node.inputs[1] is not None
            return None if given or _attribute(node, "noop_with_empty_axes") else tuple(range(rank))
        return tuple(int(one) % rank for one in axes)
    if kind is OpKind.LAYER_NORM:
        first = (-1 if axis is None else axis) % rank
        return tuple(range(first, rank))
    if kind in (OpKind.QUANTIZE, OpKind.DEQUANTIZE):
        return ((1 if axis is None else axis) % rank,)
    if kind is OpKind.REDUCE:
        axis = 0 if axis is None else axis
    elif kind not in (OpKind.CONCAT, *_DEFAULT_AXIS):
        return None
    axis = _DEFAULT_AXIS.get(kind) if axis is None else axis
    return None if axis is None else (axis % rank,)


def moves_of(node: ir.Node) -> tuple[Move, ...] | None:
    """How a node that only moves elements moves them; ``None`` when that is not known."""
    if node.op_type in _SAME:
        return ()
    if node.op_type in _SAME_ORDER:
        return (Move(MoveKind.RESHAPE),)
    if node.op_type == "Expand":
        return (Move(MoveKind.EXPAND),)
    shape = _shape(node.inputs[0])
    if shape is None:
        return None
    if node.op_type == "Transpose":
        order = _attribute(node, "perm")
        return (Move(MoveKind.PERMUTE, tuple(reversed(range(len(shape)))) if order is None else tuple(order)),)
    return _sliced(node, shape) if node.op_type == "Slice" else None


def strides_of(node: ir.Node) -> tuple[int, ...]:
    """The strides of a convolution."""
    strides = _attribute(node, "strides")
    shape = _shape(node.inputs[1])
    return tuple(strides) if strides is not None else () if shape is None else (1,) * (len(shape) - 2)


def has_equal_parts(node: ir.Node) -> bool:
    """Whether a split makes a number of equal parts."""
    given = len(node.inputs) > 1 and node.inputs[1] is not None
    return not given and "split" not in node.attributes


def integers(node: ir.Node, port: int) -> tuple[int, ...] | None:
    """The integers at an input; ``None`` when they are no constant."""
    value = node.inputs[port] if port < len(node.inputs) else None
    tensor = None if value is None else value.const_value
    return None if tensor is None else tuple(int(number) for number in tensor.numpy().reshape(-1))


def _sliced(node: ir.Node, shape: Sequence[int | None]) -> tuple[Move, ...] | None:
    starts, stops = integers(node, 1), integers(node, 2)
    if starts is None or stops is None:
        return None
    axes: Sequence[int] | None = range(len(starts))
    steps: Sequence[int] | None = (1,) * len(starts)
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        axes = integers(node, 3)
    if len(node.inputs) > 4 and node.inputs[4] is not None:
        steps = integers(node, 4)
    if axes is None or steps is None or min(steps) < 1:
        return None
    moves = []
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        axis %= len(shape)
        size = shape[axis]
        if size is None and min(start, stop) < 0:
            return None
        first, last, _ = slice(start, stop, step).indices(_LONG if size is None else size)
        moves.append(Move(MoveKind.SLICE, (axis, first, max(last, first), step)))
    return tuple(moves)


def _rank_of_outputs(node: ir.Node, kind: OpKind) -> int | None:
    same = kind in (OpKind.CONCAT, OpKind.SPLIT, OpKind.SOFTMAX, OpKind.LAYER_NORM)
    shape = _shape(node.outputs[0]) if same else None
    return None if shape is None else len(shape)


def _shape(value: ir.Value | None) -> tuple[int | None, ...] | None:
    if value is None or value.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) and dim >= 0 else None for dim in value.shape)


def _attribute(node: ir.Node, name: str) -> Any:
    found = node.attributes.get(name)
    return None if found is None else found.value
