"""The activations that weights are multiplied with."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from nncf_core.graph import Constant, Graph, Node, OpKind, Port
from nncf_core.transformations import TargetPoint, point_of
from nncf_weight_compression.selection import Weight

_TRANSPOSED = (("transA", "transpose_a"), ("transB", "transpose_b"))
"""What operators that turn an operand first call it, for the first and the second operand."""


@frozen
class Activation:
    """A tensor that a layer multiplies with a weight.

    :param node: the layer.
    :param port: where the tensor enters it.
    :param point: where it is looked at.
    :param axis: of the input channels; -1 or -2.
    """

    node: Node
    port: Port
    point: TargetPoint
    axis: int


def activations_of(graph: Graph, weight: Weight) -> Iterator[Activation]:
    """What every matrix product that takes a weight multiplies it with, in graph order.

    Embeddings look rows up, and a product with another constant is one: they have none.
    """
    for node, index in graph.users(weight.constant.name):
        if node.kind is not OpKind.MATMUL or node.inputs[index].layout is None:
            continue
        other = _other_operand(node, index)
        if other is not None:
            port = node.inputs[other]
            yield Activation(node, port, point_of(graph, port.tensor), _channel_axis(node, index, other, weight))


def _other_operand(node: Node, index: int) -> int | None:
    """The operand beside a weight; what is added to a product comes first (``addmm``) or last (``Gemm``)."""
    taken = [i for i, port in enumerate(node.inputs) if port.tensor and port.constant is None]
    before, after = [i for i in taken if i < index], [i for i in taken if i > index]
    return max(before) if before else min(after, default=None)


def _channel_axis(node: Node, index: int, other: int, weight: Weight) -> int:
    """The axis that is summed over: the last of a left operand, the one before of a right one, unless turned."""
    left = other < index
    turned = any(node.attributes.get(name) for name in _TRANSPOSED[0 if left else 1])
    axis = -1 if left != turned else -2
    # operators of other conventions: the sizes tell
    shape, channels = node.inputs[other].shape, _channels(weight.constant, weight)
    if shape is not None and len(shape) >= 2 and shape[axis] not in (None, channels) and shape[-3 - axis] == channels:
        return -3 - axis
    return axis


def _channels(constant: Constant, weight: Weight) -> int:
    return constant.shape[weight.layout.reduction_axes[-1]]
