"""What operators state of sizes, when the constants around them have become smaller."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import openvino as ov

from nncf_core.errors import UnsupportedModelError
from nncf_core.transformations import ResizeOutput
from nncf_openvino.geometry import integers


def resize(node: ov.Node, command: ResizeOutput, constant: Callable[[np.ndarray, ov.Type, str], Any]) -> None:
    """State other sizes, where a node states any.

    :param constant: makes one from values, element type and name.
    :raises UnsupportedModelError: when the sizes are computed, and not known.
    """
    (before, *_), (after, *_) = command.before, command.after
    op_type = node.get_type_name()

    def put(port: int, numbers: Sequence[int]) -> None:
        if integers(node, port) != tuple(numbers):
            kind = node.get_input_element_type(port)
            new = constant(np.asarray(numbers, np.int64), kind, f"{command.node}/sizes_{port}")
            node.input(port).replace_source_output(new.output(0))

    if op_type == "Reshape":
        stated = integers(node, 1)
        put(1, _computed_sizes(node, after) if stated is None else _replaced(stated, before, after))
    elif op_type == "Broadcast":
        stated = integers(node, 1)
        if stated is not None:
            tails = before[len(before) - len(stated) :], after[len(after) - len(stated) :]
            put(1, _replaced(stated, *tails))
    elif op_type == "VariadicSplit":
        axis = command.axis
        put(2, [int(shape[axis] or 0) for shape in command.after])
    elif op_type == "Slice" and command.slices:
        axes, starts, stops, steps = zip(*command.slices, strict=True)
        for port, numbers in enumerate((starts, stops, steps, axes)[: node.get_input_size() - 1], 1):
            put(port, numbers)
    elif op_type == "StridedSlice" and command.slices:
        for port, position in ((1, 1), (2, 2)):
            stated_there = list(integers(node, port) or ())
            for part in command.slices:
                stated_there[part[0]] = part[position]
            put(port, stated_there)


def _replaced(stated: Sequence[int], before: Sequence[int | None], after: Sequence[int | None]) -> list[int]:
    """Sizes of a reshape, of which -1 and 0 follow from its input."""
    return [
        int(new or 0) if size == old and old != new else size
        for size, old, new in zip(stated, before, after, strict=True)
    ]


def _computed_sizes(node: ov.Node, after: Sequence[int | None]) -> list[int]:
    """Sizes in place of some that were computed from shapes and numbers."""
    given = node.input(0).get_partial_shape()
    special = bool(node.get_attributes().get("special_zero"))
    sizes = []
    for index, size in enumerate(after):
        copied = special and not given.rank.is_dynamic and index < len(given) and given[index].is_dynamic
        sizes.append(size if size is not None else 0 if copied else -1)
    if sizes.count(-1) > 1:
        raise UnsupportedModelError(
            f"The sizes that {node.get_friendly_name()!r} gives are not known, and cannot be changed."
        )
    return sizes
