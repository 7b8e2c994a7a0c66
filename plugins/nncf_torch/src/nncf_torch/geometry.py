"""Which axes operators look across, and how those that only move elements move them.

Functions of ``torch`` and operators of ATen have their arguments in the same places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from nncf_core.graph import Move, MoveKind, OpKind
from nncf_torch.aten import kind_of

_AXIS: Mapping[str, tuple[int, Any]] = {
    # position of the argument, and its default
    "cat": (1, 0), "concat": (1, 0),
    "split": (2, 0), "split_with_sizes": (2, 0), "chunk": (2, 0), "tensor_split": (2, 0),
    "mean": (1, None), "sum": (1, None), "amax": (1, ()), "amin": (1, ()), "prod": (1, None), "max": (1, None),
    "min": (1, None), "argmax": (1, None), "argmin": (1, None), "logsumexp": (1, None), "var": (1, None),
    "std": (1, None),
    "softmax": (1, None), "log_softmax": (1, None), "_softmax": (1, None), "_log_softmax": (1, None),
    "_safe_softmax": (1, None),
}  # fmt: skip

_SAME_ORDER = frozenset(
    {
        "reshape", "view", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as",
    }
)  # fmt: skip
_SAME = frozenset(
    {
        "contiguous", "clone", "dropout", "alias", "detach", "identity", "lift_fresh_copy", "feature_dropout",
        "alpha_dropout",
    }
)  # fmt: skip


class Geometry(NamedTuple):
    """What :class:`~nncf_core.graph.Node` has of it."""

    axes: tuple[int, ...] | None = None
    moves: tuple[Move, ...] | None = None
    strides: tuple[int, ...] = ()
    equal_parts: bool = False


def geometry_of(op_type: str, shape: Sequence[int], arguments: Sequence[Any], named: Mapping[str, Any]) -> Geometry:
    """The geometry of a call.

    :param op_type: name of the function or operator, without overload.
    :param shape: of the first tensor.
    :param arguments: positional arguments, the tensor first.
    :param named: keyword arguments.
    """
    kind, rank = kind_of(op_type), len(shape)
    if kind is OpKind.SHAPE_ONLY:
        return Geometry(moves=_moves(op_type, shape, arguments, named))
    if kind is OpKind.CONV:
        strides = _argument(arguments, named, 3, "stride", 1)
        return Geometry(strides=tuple(strides) if isinstance(strides, (list, tuple)) else (strides,) * (rank - 2))
    if op_type == "prelu":
        return Geometry(axes=(1,))
    if kind is OpKind.LAYER_NORM:
        normalized = _argument(arguments, named, 1, "normalized_shape", ())
        return Geometry(axes=tuple(range(rank - len(normalized), rank)))
    if kind in (OpKind.MAX_POOL, OpKind.AVERAGE_POOL):
        windows = next((int(digit) for digit in op_type if digit.isdigit()), rank - 2)
        return Geometry(axes=tuple(range(rank - windows, rank)))
    if op_type not in _AXIS:
        return Geometry()
    position, default = _AXIS[op_type]
    found = _argument(arguments, named, position, "dim", default)
    if found is None:
        # of the whole tensor; softmax has an old default of its own
        return Geometry(axes=tuple(range(rank)) if kind is OpKind.REDUCE else None)
    listed = found if isinstance(found, (list, tuple)) else (found,)
    if not all(isinstance(axis, int) for axis in listed):
        return Geometry()
    axes = tuple(axis % rank for axis in listed) or tuple(range(rank))
    return Geometry(axes=axes, equal_parts=op_type == "chunk")


def _moves(
    op_type: str, shape: Sequence[int], arguments: Sequence[Any], named: Mapping[str, Any]
) -> tuple[Move, ...] | None:
    rank = len(shape)
    if op_type in _SAME:
        return ()
    if op_type in _SAME_ORDER:
        # of another element type, it is no view of the same elements
        is_cast = any(isinstance(argument, torch.dtype) for argument in (*arguments, *named.values()))
        return None if is_cast else (Move(MoveKind.RESHAPE),)
    if op_type in ("expand", "expand_as"):
        return (Move(MoveKind.EXPAND),)
    order = _order(op_type, rank, arguments, named)
    if order is not None:
        return (Move(MoveKind.PERMUTE, order),)
    if op_type == "slice":
        axis, start, stop, step = (
            _argument(arguments, named, position, name, default)
            for position, name, default in ((1, "dim", 0), (2, "start", None), (3, "end", None), (4, "step", 1))
        )
        return _sliced(shape, {axis: slice(start, stop, step)})
    if op_type == "narrow":
        names = ("dim", "start", "length")
        axis, start, length = (_argument(arguments, named, i, name, None) for i, name in enumerate(names, 1))
        return _sliced(shape, {axis: slice(start, start + length)}) if isinstance(start, int) else None
    if op_type == "select":
        axis, index = (_argument(arguments, named, i, n, None) for i, n in enumerate(("dim", "index"), 1))
        return _indexed(shape, {axis: index})
    if op_type == "__getitem__" and len(arguments) == 2:
        return _item(shape, arguments[1])
    return None


def _order(op_type: str, rank: int, arguments: Sequence[Any], named: Mapping[str, Any]) -> tuple[int, ...] | None:
    order = list(range(rank))
    if op_type == "permute":
        given = named.get("dims", arguments[1:])
        given = given[0] if len(given) == 1 and isinstance(given[0], (list, tuple)) else given
        return tuple(int(axis) % rank for axis in given)
    if op_type in ("transpose", "swapaxes"):
        first, second = _argument(arguments, named, 1, "dim0", 0), _argument(arguments, named, 2, "dim1", 1)
        order[first], order[second] = order[second], order[first]
    elif op_type == "mT":
        order[-1], order[-2] = order[-2], order[-1]
    elif op_type in ("t", "T", "numpy_T"):
        order.reverse()
    else:
        return None
    return tuple(order)


def _item(shape: Sequence[int], index: Any) -> tuple[Move, ...] | None:
    """Indexing by numbers, slices, ``None`` and ``...``."""
    items = list(index) if isinstance(index, tuple) else [index]
    plain = (int, slice, type(None), type(Ellipsis))
    if not all(isinstance(item, plain) and not isinstance(item, bool) for item in items):
        return None
    taken = sum(isinstance(item, (int, slice)) for item in items)
    slices: dict[int, slice] = {}
    changed, axis = False, 0
    for item in items:
        if item is Ellipsis:
            axis += len(shape) - taken
            continue
        if item is None:
            changed = True
            continue
        if isinstance(item, int):
            changed, item = True, slice(item % shape[axis], item % shape[axis] + 1)
        slices[axis] = item
        axis += 1
    moves = _sliced(shape, slices)
    return moves if moves is None or not changed else (*moves, Move(MoveKind.RESHAPE))


def _indexed(shape: Sequence[int], indices: Mapping[Any, Any]) -> tuple[Move, ...] | None:
    if not all(isinstance(index, int) for index in (*indices, *indices.values())):
        return None
    slices = {axis: slice(i % shape[axis], i % shape[axis] + 1) for axis, i in indices.items()}
    moves = _sliced(shape, slices)
    return None if moves is None else (*moves, Move(MoveKind.RESHAPE))


def _sliced(shape: Sequence[int], slices: Mapping[int, slice]) -> tuple[Move, ...] | None:
    moves = []
    for axis, part in slices.items():
        numbers = (axis, part.start, part.stop, part.step)
        if not all(number is None or isinstance(number, int) for number in numbers):
            return None
        start, stop, step = part.indices(shape[axis])
        if step < 1:
            return None
        if (start, stop, step) != (0, shape[axis], 1):
            moves.append(Move(MoveKind.SLICE, (axis % len(shape), start, max(stop, start), step)))
    return tuple(moves)


def _argument(arguments: Sequence[Any], named: Mapping[str, Any], position: int, name: str, default: Any) -> Any:
    if position < len(arguments):
        return arguments[position]
    return named.get(name, named.get("axis", default) if name == "dim" else default)
