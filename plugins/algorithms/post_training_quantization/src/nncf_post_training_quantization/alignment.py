"""Channel alignment: channels of a tensor are shifted to one centre, which costs nothing.

One scale and zero point serve a tensor, so its range reaches from the lowest channel's low end to the highest one's
high end. Where a layer takes what another gives, ``W·x + b = W·(x - c) + (b + W·c)``: the bias of the layer before
gives way by the centre ``c`` of each channel, those behind make up for it. Then the widest channel sets the range.

Factors for channels are the algorithm ``smooth_quant``'s (both: Nagel et al. 2019, https://arxiv.org/abs/1906.04721).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from attrs import frozen

from nncf_core.contracts import Context
from nncf_core.graph import Graph, OpKind
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.transformations import Transformation, point_of
from nncf_post_training_quantization.biases import Bias, biases_of, missing

_KINDS = ("mean_min", "mean_max")


@frozen
class Alignable:
    """A tensor whose channels may be shifted.

    :param before: the bias that it ends with.
    :param behind: biases of all the layers that take it.
    """

    before: Bias
    behind: tuple[Bias, ...]


def requests(graph: Graph, context: Context) -> list[StatisticsRequest]:
    """The range of each channel."""
    return [request for tensor in _alignable(graph, context) for request in _ranges(graph, tensor)]


def transformations(graph: Graph, statistics: Statistics, context: Context) -> Iterator[Transformation]:
    """New biases on both sides of each tensor."""
    shifts: dict[str, np.ndarray] = {}
    biases: dict[str, Bias] = {}
    for tensor in _alignable(graph, context):
        low, high = (statistics[request] for request in _ranges(graph, tensor))
        widest, whole = (high - low).max(), max(high.max(), 0) - min(low.min(), 0)
        if not (np.isfinite(low).all() and np.isfinite(high).all() and widest < whole):
            continue
        centre = (low + high) / 2
        changes = [(tensor.before, -centre)]
        for bias in tensor.behind:
            change = missing(bias, bias.weight.read().astype(np.float64), centre)
            if change is None:
                break
            changes.append((bias, change))
        else:
            # what a layer gives stays the same but for the shift, so that changes of both its sides add up
            for bias, change in changes:
                biases[bias.node.name] = bias
                shifts[bias.node.name] = shifts.get(bias.node.name, 0) + change
    for name, bias in biases.items():
        edit = bias.changed(shifts[name], None, "channels shifted to one centre")
        if edit is not None:
            yield edit


def _ranges(graph: Graph, tensor: Alignable) -> Sequence[StatisticsRequest]:
    point = point_of(graph, tensor.before.output)
    return [StatisticsRequest(point, kind, tensor.before.axis) for kind in _KINDS]


def _alignable(graph: Graph, context: Context) -> list[Alignable]:
    layers = [node for node in graph if node.kind in (OpKind.CONV, OpKind.CONV_TRANSPOSE, OpKind.MATMUL)]
    biases = [bias for bias in biases_of(graph, layers, context, everywhere=True) if not bias.node.scope]
    # zeros that a convolution puts around its input would have to be shifted, too
    taking = {
        bias.node.name: bias
        for bias in biases
        if bias.weight.is_float
        and (bias.node.kind is OpKind.MATMUL or bias.node.attributes.get("padded") is False)
        and bias.node.kind is not OpKind.CONV_TRANSPOSE
    }
    found = []
    for bias in biases:
        names = [node.name for node in graph.consumers(bias.output)]
        if names and bias.output not in graph.outputs and all(name in taking for name in names):
            behind = tuple(taking[name] for name in names)
            if all(other.axis == bias.axis and other.mean.target.port == _port(graph, bias, other) for other in behind):
                found.append(Alignable(bias, behind))
    return found


def _port(graph: Graph, bias: Bias, taking: Bias) -> int:
    """The input at which a layer takes the tensor that a bias is part of."""
    return next(index for index, port in enumerate(taking.node.inputs) if port.tensor == bias.output)
