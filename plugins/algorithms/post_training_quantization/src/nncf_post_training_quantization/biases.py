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
from nncf_core.transformations import InsertBias, PointKind, ReplaceConstant, TargetPoint, point_of


@frozen
class Bias:
    """The bias of a layer.

    :param node: the layer.
    :param weight: its weight.
    :param channels: number of output channels.
    :param constant: its bias, of one value for each output channel and used by nothing else, but by other layers of the
        same weight; ``None`` when it has none.
    :param output: the tensor that it is part of.
    :param axis: of the channels in inputs and outputs.
    :param mean: the request of the mean of each input channel.
    :param mean_output: the request of the mean of each output channel.
    """

    node: Node
    weight: Constant
    channels: int
    constant: Constant | None
    output: str
    axis: int
    mean: StatisticsRequest
    mean_output: StatisticsRequest

    def changed(self, shift: np.ndarray, threshold: float | None, reason: str) -> ReplaceConstant | InsertBias | None:
        """The edit that adds numbers to the bias; ``None`` when it would change too much, or they are not finite.

        :param shift: one for each output channel.
        :param threshold: how much a value may change, relative to its magnitude, except from zero; ``None``: at will.
        """
        if not np.isfinite(shift).all():
            return None
        if self.constant is None:
            return InsertBias(self.node.name, shift.reshape(-1), reason)
        old = self.constant.read().astype(np.float64)
        new = old + shift.reshape(old.shape)
        if threshold is not None and (np.abs(new - old)[old != 0] > threshold * np.abs(old[old != 0])).any():
            return None
        return ReplaceConstant(self.constant.name, new, reason)


def biases_of(
    graph: Graph, nodes: Iterable[Node], context: Context, everywhere: bool, *, shared: bool = False
) -> list[Bias]:
    """The biases that layers have: a third operand, or a constant that is added to the result.

    :param everywhere: also those that layers without one can be given.
    :param shared: also those that layers of the same weight share, all of which are among ``nodes``.
    """
    layers = (node for node in nodes if node.weights and not is_excluded(node, context.ignored))
    made = (_bias(graph, node, context, everywhere, shared) for node in layers)
    found = [bias for bias in made if bias is not None]
    weights: dict[str, list[str]] = {}
    for bias in found:
        if bias.constant is not None:
            weights.setdefault(bias.constant.name, []).append(bias.weight.name)
    return [
        bias
        for bias in found
        if bias.constant is None
        or weights[bias.constant.name] == [bias.weight.name] * len(graph.users(bias.constant.name))
    ]


def missing(bias: Bias, error: np.ndarray, mean: np.ndarray) -> np.ndarray | None:
    """What rounded weights take from each output channel's mean; ``None`` when input channels' means do not tell.

    :param error: ``W - Ŵ``, of the weight's shape.
    :param mean: mean of each input channel.
    """
    _, port = bias.node.weights[0]
    layout = port.layout
    assert layout is not None
    # [channels, reduced axes]
    order = (*layout.batch_axes, *layout.channel_axes, *layout.reduction_axes)
    matrix = error.transpose(order).reshape(bias.channels, *(error.shape[axis] for axis in layout.reduction_axes))
    if bias.node.kind is OpKind.CONV_TRANSPOSE:
        # outputs see different parts of the kernel; every input meets all of it, but where the result is cropped
        spread = _positions(bias)
        summed = matrix.reshape(matrix.shape[0], matrix.shape[1], -1).sum(axis=2)
        return (
            None if spread is None or summed.shape[1] != mean.size else np.asarray(summed @ mean.reshape(-1)) / spread
        )
    if bias.node.kind is OpKind.CONV:
        summed = matrix.reshape(matrix.shape[0], matrix.shape[1], -1).sum(axis=2)
        groups = mean.size // max(summed.shape[1], 1)
        if groups * summed.shape[1] != mean.size or summed.shape[0] % max(groups, 1):
            return None
        means = np.repeat(mean.reshape(groups, -1), summed.shape[0] // groups, axis=0)
        return np.asarray((summed * means).sum(axis=1))
    flat = matrix.reshape(matrix.shape[0], -1)
    return flat @ mean.reshape(-1) if flat.shape[1] == mean.size else None


def _positions(bias: Bias) -> float | None:
    """Positions of the result for each of the input; ``None`` when it is not known."""
    before, behind = bias.node.inputs[bias.mean.target.port].shape, bias.node.outputs[0].shape
    lengths = () if before is None or behind is None else tuple(zip(before[2:], behind[2:], strict=True))
    if lengths and all(old and new for old, new in lengths):
        return float(np.prod([new / old for old, new in lengths if old and new]))
    strides = bias.node.attributes.get("strides", bias.node.attributes.get("stride"))
    return float(np.prod(strides)) if isinstance(strides, (list, tuple)) else None


def _bias(graph: Graph, node: Node, context: Context, everywhere: bool, shared: bool) -> Bias | None:
    index, weight = node.weights[0]
    activation = next((i for i, port in enumerate(node.inputs) if i != index and port.constant is None), None)
    assert weight.layout is not None
    windows = node.kind in (OpKind.CONV, OpKind.CONV_TRANSPOSE)
    if activation is None or weight.constant is None or (weight.layout.batch_axes and not windows):
        return None
    if not windows and (activation > index or node.attributes.get("transA", 0)):
        return None
    third = _third_operand(graph, node)
    found = third or _added(graph, node, context.ignored)
    if found is None and not (everywhere and context.takes_bias(node)):
        return None
    shape = graph.constants[weight.constant].shape
    channels = int(np.prod([shape[axis] for axis in (*weight.layout.batch_axes, *weight.layout.channel_axes)]))
    constant, output = found or (None, node.outputs[0].tensor)
    if constant is not None:
        # what is added is broadcast from the last axis on, which is not that of a convolution's channels
        behind = len(weight.layout.reduction_axes) - 1 if windows and third is None else 0
        along = dict(enumerate(constant.shape[::-1])).get(behind, 1)
        alone = len(graph.users(constant.name)) == 1
        if not constant.size == channels == along or not constant.is_float or not (alone or shared):
            return None
    axis = 1 if windows else -1
    taken = StatisticsRequest(TargetPoint(node.name, PointKind.INPUT, activation), "mean", axis)
    given = StatisticsRequest(point_of(graph, output), "mean", axis)
    return Bias(node, graph.constants[weight.constant], channels, constant, output, axis, taken, given)


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
