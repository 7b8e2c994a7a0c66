"""What quantization asks of the data, and the edits that it makes of the answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nncf_core.contracts import Context
from nncf_core.errors import ValidationError
from nncf_core.graph import Graph, Node
from nncf_core.log import nncf_logger
from nncf_core.numerics.kernels import decompress
from nncf_core.numerics.quantizer import Quantizer, asymmetric, symmetric
from nncf_core.parameters import OverflowFix
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.transformations import (
    CompressConstant,
    InsertQuantizer,
    Transformation,
    point_of,
)
from nncf_post_training_quantization.biases import biases_of, missing
from nncf_post_training_quantization.parameters import Correction, Settings
from nncf_post_training_quantization.placement import Placement, place
from nncf_post_training_quantization.weights import quantized


def requests(graph: Graph, settings: Settings, context: Context) -> Sequence[StatisticsRequest]:
    """Ends of ranges, and means of the inputs of layers whose bias is corrected."""
    placement = _placement(graph, settings, context)
    wanted = [
        StatisticsRequest(point_of(graph, tensor.source), kind)
        for tensor in placement.tensors
        for kind in (settings.low, settings.high)
    ]
    if settings.correction is Correction.FAST:
        wanted += [bias.mean for bias in biases_of(graph, placement.nodes, context, settings.all_biases)]
    return wanted


def layers(graph: Graph, settings: Settings, context: Context) -> Sequence[Node]:
    """The layers that will be quantized."""
    return [node for node in _placement(graph, settings, context).nodes if node.weights]


def transformations(
    graph: Graph, statistics: Statistics, settings: Settings, context: Context
) -> Iterator[Transformation]:
    """Quantizers of activations, integers for weights, and new biases.

    :raises ValidationError: when a range is not finite.
    """
    placement = _placement(graph, settings, context)
    if not placement.nodes:
        nncf_logger.warning("The model has no operator that its runtime would compute with integers.")
        return
    for tensor in placement.tensors:
        point = point_of(graph, tensor.source)
        low = statistics[StatisticsRequest(point, settings.low)]
        high = statistics[StatisticsRequest(point, settings.high)]
        quantizer = _quantizer(low, high, settings, tensor.source)
        for target in tensor.points:
            yield InsertQuantizer(target, quantizer, f"{target.node}/{target.kind.value}_{target.port}", tensor.reason)
    first = _first_layers(graph, placement)
    description = "Quantizing weights"
    for weight in context.progress.track(placement.weights, description, len(placement.weights)):
        user, index = weight.users[0]
        layout = user.inputs[index].layout
        assert layout is not None
        half = settings.half_range is OverflowFix.ENABLE or (
            settings.half_range is OverflowFix.FIRST_LAYER and user.name in first
        )
        tensor8 = quantized(weight.constant, layout, half)
        if settings.correction is Correction.FAST:
            error = weight.constant.read().astype(np.float32) - decompress(tensor8, np.float32)
            yield from _bias_corrections(graph, weight.users, error, statistics, settings, context)
        yield CompressConstant(weight.constant.name, tensor8, "operand of an integer operator", integer_operand=True)
        weight.constant.release()


def _bias_corrections(
    graph: Graph,
    users: Sequence[tuple[Node, int]],
    error: np.ndarray,
    statistics: Statistics,
    settings: Settings,
    context: Context,
) -> Iterator[Transformation]:
    for bias in biases_of(graph, [node for node, _ in users], context, settings.all_biases):
        shift = missing(bias, error, statistics[bias.mean]) if bias.mean in statistics else None
        if shift is not None:
            edit = bias.changed(shift, settings.threshold, "corrected by the mean error of the weights")
            yield from () if edit is None else (edit,)


def _placement(graph: Graph, settings: Settings, context: Context) -> Placement:
    return place(graph, context.quantization_setup(settings.device), context, settings.quantize_outputs)


def _quantizer(low: np.ndarray, high: np.ndarray, settings: Settings, tensor: str) -> Quantizer:
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ValidationError(
            f"The tensor {tensor!r} holds NaN or infinite values for some items of the dataset; look at the data, or "
            "leave out the nodes that take it with an ignored scope."
        )
    return symmetric(low, high) if settings.symmetric else asymmetric(low, high)


def _first_layers(graph: Graph, placement: Placement) -> frozenset[str]:
    """Integer layers before which there is no other."""
    layers = {node.name for node in placement.nodes if node.weights}
    behind: set[str] = set()
    first: set[str] = set()
    for node in graph:
        after = any(p.name in behind or p.name in layers for p in graph.predecessors(node))
        if after:
            behind.add(node.name)
        elif node.name in layers:
            first.add(node.name)
    return frozenset(first)
