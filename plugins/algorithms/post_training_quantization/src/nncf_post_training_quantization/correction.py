"""Bias correction layer by layer: what quantization changes in a layer's mean output goes back into its bias.

For each output channel the bias takes ``E[y] - E[ŷ]``, with ``y`` the output before quantization and ``ŷ`` after it
(Nagel et al. 2019, https://arxiv.org/abs/1906.04721, section 4.2). ``ŷ`` is what the layer gives with all layers before
it quantized *and corrected*: shifts measured at once would make up for the same error several times.

Both means are taken over the same samples, so that samples that are not typical change both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from nncf_core.aggregators import AGGREGATORS
from nncf_core.contracts import Context
from nncf_core.graph import Graph, Node, OpKind
from nncf_core.log import nncf_logger
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.transformations import PointKind, TargetPoint, Transformation, point_of
from nncf_post_training_quantization.biases import Bias, biases_of
from nncf_post_training_quantization.parameters import Settings
from nncf_post_training_quantization.shelf import Shelf
from nncf_post_training_quantization.stages import Stage, network_inputs, reachable, stages

_LAYERS = (OpKind.CONV, OpKind.CONV_TRANSPOSE, OpKind.MATMUL)


def means(graph: Graph, layers: Iterable[Node], settings: Settings, context: Context) -> list[StatisticsRequest]:
    """Mean outputs of layers that will be quantized and whose bias is corrected."""
    found = biases_of(graph, layers, context, settings.all_biases)
    within = reachable(graph)
    left = [bias.node.name for bias in found if bias.output not in within]
    if left:
        nncf_logger.info("Biases of layers behind control flow are left as they are: %s.", ", ".join(left))
    return [bias.mean_output for bias in found if bias.output in within]


def requests(graph: Graph, settings: Settings, context: Context) -> list[StatisticsRequest]:
    """The inputs of the network, for each sample."""
    return [_kept(graph, name) for name in network_inputs(graph)] if _quantized(graph, settings, context) else []


def transformations(graph: Graph, statistics: Statistics, settings: Settings, context: Context) -> list[Transformation]:
    """The new biases; all at once, since edits are carried out as they come and parts are those of an unedited model.

    :param statistics: what :func:`means` and :func:`requests` asked for.
    """
    biases = {bias.output: bias for bias in _quantized(graph, settings, context) if bias.mean_output in statistics}
    parts = stages(graph, biases)
    edits: list[Transformation] = []
    with Shelf() as shelf:
        inputs = network_inputs(graph) if parts else ()
        for tensor in inputs:
            shelf[tensor] = statistics.tensors(_kept(graph, tensor))
        for part in context.progress.track(parts, "Correcting biases", len(parts)):
            _run(part, inputs, shelf, context)
            for tensor in part.layers:
                bias = biases[tensor]
                shift = _shift(bias, shelf[tensor], statistics)
                edit = bias.changed(shift, settings.threshold, "corrected by the mean error of the output")
                if edit is not None:
                    edits.append(edit)
                    if tensor not in part.finished:
                        shelf[tensor] = (_shifted(array, shift, bias.axis) for array in shelf[tensor])
            for tensor in part.finished:
                if tensor not in inputs:
                    shelf.drop(tensor)
    return edits


def _quantized(graph: Graph, settings: Settings, context: Context) -> list[Bias]:
    """Biases of layers whose weight is quantized."""
    within = reachable(graph)
    return [
        bias
        for bias in biases_of(graph, (node for node in graph if node.kind in _LAYERS), context, settings.all_biases)
        if bias.output in within and bias.weight.compressed_format is not None
    ]


def _kept(graph: Graph, tensor: str) -> StatisticsRequest:
    if graph.producer(tensor) is not None:
        return StatisticsRequest(point_of(graph, tensor), "tensors")
    node = next(node for node in graph.consumers(tensor) if not node.scope)
    port = next(index for index, port in enumerate(node.inputs) if port.tensor == tensor)
    return StatisticsRequest(TargetPoint(node.name, PointKind.INPUT, port), "tensors")


def _run(part: Stage, inputs: Sequence[str], shelf: Shelf, context: Context) -> None:
    """Put what a stage gives onto the shelf, for each sample."""
    run = context.part(tuple(part.inputs), tuple(part.outputs))
    named = {**{tensor: tensor for tensor in inputs}, **{str(point): tensor for point, tensor in part.inputs.items()}}
    for index in range(len(shelf[inputs[0]])):
        found = run({name: shelf[tensor][index] for name, tensor in named.items()})
        for point, tensor in part.outputs.items():
            shelf.add(tensor, found[str(point)])


def _shift(bias: Bias, outputs: Sequence[np.ndarray], statistics: Statistics) -> np.ndarray:
    """What is missing from the mean of each output channel, float64."""
    mean = AGGREGATORS["mean"](axis=bias.axis)
    for output in outputs:
        mean.update(output)
    return np.asarray(statistics[bias.mean_output] - mean.value)


def _shifted(array: np.ndarray, shift: np.ndarray, axis: int) -> np.ndarray:
    shape = [1] * array.ndim
    shape[axis] = -1
    return np.asarray(array + shift.reshape(shape).astype(array.dtype))
