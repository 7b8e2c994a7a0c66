"""What layers give by plain arithmetic, of kinds whose meaning the graph tells in full."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nncf_core.graph import Constant, Node, OpKind, Port
from nncf_core.transformations import PointKind, TargetPoint

_NEUTRAL: Mapping[str, float] = {"alpha": 1, "beta": 1, "transA": 0}
"""Attributes of products with the values that change nothing."""


def by_arithmetic(
    node: Node, weight: Constant, values: np.ndarray, arrays: Mapping[TargetPoint, np.ndarray]
) -> np.ndarray | None:
    """A product of activations with a matrix, or rows of a table; ``None`` for other layers.

    :param values: of the weight, a matrix.
    :param arrays: what the layer is given and what it gives; the latter for its shape.
    """
    if len(node.inputs) != 2 or values.ndim != 2:
        return None
    place = next(index for index, port in enumerate(node.inputs) if port.constant == weight.name)
    port, given = node.inputs[place], arrays.get(TargetPoint(node.name, PointKind.INPUT, 1 - place))
    axes = _axes(port)
    if given is None or axes is None:
        return None
    reduced, channels = axes
    if node.kind is OpKind.EMBEDDING and place == 0 and (reduced, channels) == (1, 0) and given.dtype.kind in "iu":
        found = _rows(values, given)
    elif node.kind is OpKind.MATMUL and place == 1 and _is_plain(node) and given.dtype.kind in "fV":
        matrix = values if reduced == 0 else values.T
        fits = given.shape[-1:] == matrix.shape[:1]
        found = given.astype(np.float32, copy=False) @ matrix.astype(np.float32, copy=False) if fits else None
    else:
        return None
    result = arrays[TargetPoint(node.name)]
    # codes of 8 bits are no floats, which numpy's own types and those of others are told by
    return found if found is not None and found.shape == result.shape and result.dtype.kind in "fV" else None


def _axes(port: Port) -> tuple[int, int] | None:
    """The axis that is summed over, and that of the channels."""
    layout = port.layout
    if layout is None or layout.batch_axes or (len(layout.reduction_axes), len(layout.channel_axes)) != (1, 1):
        return None
    return layout.reduction_axes[0], layout.channel_axes[0]


def _is_plain(node: Node) -> bool:
    return all(float(str(node.attributes.get(name, value))) == value for name, value in _NEUTRAL.items()) and not any(
        node.attributes.get(name) for name in ("transpose_a", "activation_bits")
    )


def _rows(table: np.ndarray, indices: np.ndarray) -> np.ndarray | None:
    inside = indices.size == 0 or (indices.min() >= -len(table) and indices.max() < len(table))
    return table[indices.astype(np.int64)].astype(np.float32, copy=False) if inside else None
