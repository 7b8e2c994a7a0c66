"""Which axes operators look across, and how those that only move elements move them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import openvino as ov

from nncf_core.graph import Move, MoveKind, OpKind
from nncf_openvino.traversal import sources

_SAME_ORDER = frozenset({"Reshape", "Squeeze", "Unsqueeze"})
_LONG = 1 << 31
"""No axis is longer; for the end of a slice of one whose size is not known."""


def axes_of(node: ov.Node, op_type: str, kind: OpKind, attributes: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The axes that a node looks across; ``None`` when they are not known, or there are none."""
    ends = sources(node)
    shape = ends[0].get_partial_shape() if ends else None
    if shape is None or shape.rank.is_dynamic:
        return None
    rank = len(shape)
    if kind in (OpKind.CONCAT, OpKind.SOFTMAX) and "axis" in attributes:
        return (int(attributes["axis"]) % rank,)
    if kind is OpKind.SPLIT or (kind is OpKind.REDUCE and op_type.startswith("Reduce")):
        axes = integers(node, 1)
        return None if axes is None else tuple(axis % rank for axis in axes)
    if op_type == "PRelu":
        return (1,)
    return None


def moves_of(node: ov.Node, op_type: str, attributes: Mapping[str, Any]) -> tuple[Move, ...] | None:
    """How a node that only moves elements moves them; ``None`` when that is not known."""
    if op_type == "Identity":
        return ()
    if op_type in _SAME_ORDER:
        return (Move(MoveKind.RESHAPE),)
    if op_type == "Broadcast":
        plain = attributes.get("mode", "numpy") in ("numpy", "bidirectional")
        return (Move(MoveKind.EXPAND),) if plain else None
    shape = node.input(0).get_partial_shape()
    if shape.rank.is_dynamic:
        return None
    sizes = [dimension.get_length() if dimension.is_static else None for dimension in shape]
    if op_type == "Transpose":
        order = integers(node, 1)
        return None if order is None else (Move(MoveKind.PERMUTE, order or tuple(reversed(range(len(sizes))))),)
    if op_type == "Slice":
        numbers = [integers(node, port) for port in range(1, node.get_input_size())]
        if any(found is None for found in numbers):
            return None
        starts, stops, steps = (found or () for found in numbers[:3])
        axes = numbers[3] if len(numbers) > 3 else tuple(range(len(starts)))
        return _sliced(sizes, axes or (), starts, stops, steps)
    return _strided(node, sizes, attributes) if op_type == "StridedSlice" else None


def integers(node: ov.Node, port: int) -> tuple[int, ...] | None:
    """The integers at an input; ``None`` when they are no constant."""
    source = sources(node)[port].get_node() if port < node.get_input_size() else None
    if source is None or source.get_type_name() != "Constant":
        return None
    return tuple(int(number) for number in source.data.reshape(-1))


def _strided(node: ov.Node, sizes: Sequence[int | None], attributes: Mapping[str, Any]) -> tuple[Move, ...] | None:
    if any(any(attributes.get(f"{mask}_mask", ())) for mask in ("new_axis", "shrink_axis", "ellipsis")):
        return None
    starts, stops, steps = (integers(node, port) for port in (1, 2, 3))
    if starts is None or stops is None or (steps is None and node.get_input_size() > 3):
        return None
    whole = [list(attributes.get(f"{mask}_mask", ())) + [0] * len(starts) for mask in ("begin", "end")]
    begins = tuple(0 if whole[0][axis] else start for axis, start in enumerate(starts))
    lengths = [_LONG if size is None else size for size in sizes]
    ends = tuple(lengths[axis] if whole[1][axis] else stop for axis, stop in enumerate(stops))
    axes = [axis for axis in range(len(starts)) if not (whole[0][axis] and whole[1][axis])]
    chosen = steps or (1,) * len(starts)
    if any(chosen[axis] != 1 for axis in range(len(starts)) if axis not in axes):
        return None
    picked = [[part[axis] for axis in axes] for part in (begins, ends, chosen)]
    return _sliced(sizes, axes, picked[0], picked[1], picked[2])


def _sliced(
    sizes: Sequence[int | None],
    axes: Sequence[int],
    starts: Sequence[int],
    stops: Sequence[int],
    steps: Sequence[int],
) -> tuple[Move, ...] | None:
    moves = []
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        axis %= len(sizes)
        size = sizes[axis]
        if step < 1 or (size is None and min(start, stop) < 0):
            return None
        first, last, _ = slice(start, stop, step).indices(_LONG if size is None else size)
        moves.append(Move(MoveKind.SLICE, (axis, first, max(last, first), step)))
    return tuple(moves)
