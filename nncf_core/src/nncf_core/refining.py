"""Weights on their way to codes: what is planned for them, and what those who refine it hand on to one another."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from attrs import field, frozen

from nncf_core.graph import Constant, Graph, Node, OpKind, WeightLayout
from nncf_core.transformations import CompressConstant, TargetPoint, Training, Transformation, point_of


@frozen
class CompressionRequest:
    """How a constant is to be compressed; a backend is asked whether it can express that.

    :param scheme: name of the scheme, e.g. ``int4_sym``.
    :param format: name of the number format of the codes, e.g. ``int4``.
    :param group_axis: axis that is divided into groups, ``None`` when it is not.
    :param group_size: elements that share a scale, ``-1`` when the axis is not divided.
    :param training: how it is to be trained afterwards; ``None``: not at all.
    """

    scheme: str
    format: str
    group_axis: int | None = None
    group_size: int = -1
    training: Training | None = None


@frozen
class LayerInput:
    """The activation that a layer multiplies with a weight.

    :param node: name of the layer.
    :param tensor: name of the tensor.
    :param point: where it is looked at; the same for all layers that take the tensor.
    :param axis: its axis of input channels.
    """

    node: str
    tensor: str
    point: TargetPoint
    axis: int


@frozen
class PlannedConstant:
    """A constant that an algorithm is going to compress.

    :param constant: the constant, with its values.
    :param layout: what its axes mean to its first user.
    :param request: the format.
    :param inputs: the activations that layers multiply with it, one for each layer; none of embeddings, recurrent
        layers, and layers in the bodies of control flow.
    """

    constant: Constant
    layout: WeightLayout
    request: CompressionRequest
    inputs: tuple[LayerInput, ...] = ()

    @property
    def channels(self) -> int:
        """How many input channels there are."""
        return self.constant.shape[self.layout.reduction_axes[0]] if self.layout.reduction_axes else 1


@frozen
class PlannedWeight:
    """A weight with the codes that it is going to have.

    :param plan: what was planned.
    :param edit: the codes so far.
    :param target: the values that the codes are to stand for, float32 of the constant's shape; ``None``: the constant's
        own.
    :param more: edits that go with it, such as a branch beside the layer.
    :param settled: whether codes were chosen to make up for each other, so that those nearest to the target would be
        worse.
    """

    plan: PlannedConstant
    edit: CompressConstant
    target: np.ndarray | None = field(default=None, repr=False, eq=False)
    more: tuple[Transformation, ...] = ()
    settled: bool = False

    def values(self) -> np.ndarray:
        """What the codes are to stand for, float32. Not to be written to."""
        if self.target is not None:
            return self.target
        return np.asarray(self.plan.constant.read()).astype(np.float32, copy=False)


def layer_inputs(graph: Graph, constant: str) -> tuple[LayerInput, ...]:
    """The activations that the users of a weight multiply with it."""
    found = []
    for node, index in graph.users(constant):
        if node.scope or node.inputs[index].layout is None:
            continue
        port = _activation(node, index)
        if port is not None:
            tensor = node.inputs[port].tensor
            found.append(LayerInput(node.name, tensor, point_of(graph, tensor), _channel_axis(node, port, index)))
    return tuple(found)


def _activation(node: Node, weight: int) -> int | None:
    """The input of a layer that is multiplied with its weight."""
    if node.kind not in (OpKind.MATMUL, OpKind.CONV, OpKind.CONV_TRANSPOSE):
        return None
    ports = [index for index, port in enumerate(node.inputs) if port.constant is None and port.tensor]
    before = [index for index in ports if index < weight]
    # the operand next to the weight: a bias may come first, or last
    return before[-1] if before else next(iter(ports), None)


def _channel_axis(node: Node, port: int, weight: int) -> int:
    if node.kind is not OpKind.MATMUL:
        return 1
    names = ("transA", "transpose_a") if port < weight else ("transB", "transpose_b")
    transposed = any(_is_set(node.attributes, name) for name in names)
    return -1 if (port < weight) != transposed else -2


def _is_set(attributes: Mapping[str, object], name: str) -> bool:
    return bool(attributes.get(name, False))
