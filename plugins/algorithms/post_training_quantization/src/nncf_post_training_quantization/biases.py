"""Biases, and fast bias correction: what rounding of weights changes in a mean output goes back into the bias.

With ``W`` the weights, ``Ŵ`` what their integers stand for and ``x`` the input, the mean output changes by
``(Ŵ - W)·E[x]`` (Nagel et al. 2019, https://arxiv.org/abs/1906.04721, section 4.2.1). For convolutions the mean of a
channel stands for all its positions.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from attrs import frozen

from nncf_core.contracts import Context, is_excluded
from nncf_core.graph import Constant, Graph, Node, OpKind
from nncf_core.statistics import StatisticsRequest
from nncf_core.transformations import PointKind, TargetPoint, point_of


@frozen
class Bias:
    """The bias of a layer.

    :param node: the layer.
    :param weight: its weight.
    :param constant: its bias, of one value for each output channel and used by nothing else.
    :param output: the tensor that it is part of.
    :param axis: of the channels in inputs and outputs.
    :param mean: the request of the mean of each input channel.
    :param mean_output: the request of the mean of each output channel.
    """

    node: Node
    weight: Constant
    constant: Constant
    output: str
    axis: int
    mean: StatisticsRequest
    mean_output: StatisticsRequest


def biases_of(graph: Graph, nodes: Iterable[Node], context: Context) -> list[Bias]:
    """The biases that layers have: a third operand, or a constant that is added to the result."""
    layers = (node for node in nodes if node.weights and not is_excluded(node, context.ignored))
    found = (_bias(graph, node, context.ignored) for node in layers)
    return [bias for bias in found if bias is not None]


def is_within(old: np.ndarray, new: np.ndarray, threshold: float | None) -> bool:
    """Whether no value of a bias changes by more than ``threshold`` times its magnitude; those of zero may."""
    if threshold is None:
        return True
    some = old != 0
    return bool((np.abs(new - old)[some] <= threshold * np.abs(old)[some]).all())


def corrected(bias: Bias, error: np.ndarray, mean: np.ndarray) -> np.ndarray | None:
    """The new values of a bias; ``None`` when means of the input channels do not tell them.

    :param error: ``W - Ŵ``, of the weight's shape.
    :param mean: mean of each input channel.
    """
    _, port = bias.node.weights[0]
    layout = port.layout
    assert layout is not None
    # [channels, reduced axes]
    order = (*layout.batch_axes, *layout.channel_axes, *layout.reduction_axes)
    matrix = error.transpose(order).reshape(bias.constant.size, *(error.shape[axis] for axis in layout.reduction_axes))
    if bias.node.kind is OpKind.CONV_TRANSPOSE:
        return None  # outputs see different parts of the kernel
    if bias.node.kind is OpKind.CONV:
        summed = matrix.reshape(matrix.shape[0], matrix.shape[1], -1).sum(axis=2)
        groups = mean.size // max(summed.shape[1], 1)
        if groups * summed.shape[1] != mean.size or summed.shape[0] % max(groups, 1):
            return None
        means = np.repeat(mean.reshape(groups, -1), summed.shape[0] // groups, axis=0)
        shift = (summed * means).sum(axis=1)
    else:
        flat = matrix.reshape(matrix.shape[0], -1)
        if flat.shape[1] != mean.size:
            return None
        shift = flat @ mean.reshape(-1)
    old = bias.constant.read()
    return np.asarray(old.astype(np.float64) + shift.reshape(old.shape))


def _bias(graph: Graph, node: Node, ignored: frozenset[str]) -> Bias | None:
    index, weight = node.weights[0]
    activation = next((i for i, port in enumerate(node.inputs) if i != index and port.constant is None), None)
    assert weight.layout is not None
    windows = node.kind in (OpKind.CONV, OpKind.CONV_TRANSPOSE)
    if activation is None or weight.constant is None or (weight.layout.batch_axes and not windows):
        return None
    if not windows and (activation > index or node.attributes.get("transA", 0)):
        return None
    third = _third_operand(graph, node)
    found = third or _added(graph, node, ignored)
    if found is None:
        return None
    constant, output = found
    shape = graph.constants[weight.constant].shape
    channels = int(np.prod([shape[axis] for axis in (*weight.layout.batch_axes, *weight.layout.channel_axes)]))
    # what is added is broadcast from the last axis on, which is not that of a convolution's channels
    behind = len(weight.layout.reduction_axes) - 1 if windows and third is None else 0
    if constant.size != channels or (channels > 1 and dict(enumerate(constant.shape[::-1])).get(behind) != channels):
        return None
    if len(graph.users(constant.name)) != 1 or not constant.is_float:
        return None
    axis = 1 if windows else -1
    taken = StatisticsRequest(TargetPoint(node.name, PointKind.INPUT, activation), "mean", axis)
    return Bias(
        node,
        graph.constants[weight.constant],
        constant,
        output,
        axis,
        taken,
        StatisticsRequest(point_of(graph, output), "mean", axis),
    )


def _third_operand(graph: Graph, node: Node) -> tuple[Constant, str] | None:
    if len(node.inputs) < 3 or node.inputs[2].constant is None:
        return None
    if float(str(node.attributes.get("beta", 1.0))) != 1.0 or float(str(node.attributes.get("alpha", 1.0))) != 1.0:
        return None
    return graph.constants[node.inputs[2].constant], node.outputs[0].tensor


def _added(graph: Graph, node: Node, ignored: frozenset[str]) -> tuple[Constant, str] | None:
    consumers = graph.consumers(node.outputs[0].tensor)
    if len(consumers) != 1 or consumers[0].kind is not OpKind.ADD or is_excluded(consumers[0], ignored):
        return None
    constants = [port.constant for port in consumers[0].inputs if port.constant is not None]
    return (graph.constants[constants[0]], consumers[0].outputs[0].tensor) if len(constants) == 1 else None
