"""Bias correction layer by layer: what quantization changes in a layer's mean output goes back into its bias.

For each output channel the bias takes ``E[y] - E[ŷ]``, with ``y`` the output before quantization and ``ŷ`` after it
(Nagel et al. 2019, https://arxiv.org/abs/1906.04721, section 4.2). ``ŷ`` is what the layer gives with all layers before
it quantized *and corrected*: shifts measured at once would make up for the same error several times.

Both means are taken over the same samples, so that samples that are not typical change both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nncf_core.aggregators import Mean
from nncf_core.contracts import Context, is_excluded
from nncf_core.graph import Graph, OpKind
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.transformations import ReplaceConstant
from nncf_post_training_quantization.biases import Bias, find_bias, is_within
from nncf_post_training_quantization.stages import Stage, stages

KEPT = "tensors"

_LAYERS = (OpKind.CONV, OpKind.CONV_TRANSPOSE, OpKind.MATMUL)


def means(graph: Graph, context: Context) -> list[StatisticsRequest]:
    """Mean outputs of all layers with a bias."""
    return [bias.mean_output for bias in _biases(graph, context)]


def requests(graph: Graph, context: Context) -> list[StatisticsRequest]:
    """What the first stage gives, for each sample."""
    parts = _stages(graph, _biases(graph, context))
    return [StatisticsRequest(point, KEPT) for part in parts[:1] for point in part.outputs]


def transformations(
    graph: Graph, statistics: Statistics, threshold: float | None, context: Context
) -> Iterator[ReplaceConstant]:
    """The new biases.

    :param statistics: mean outputs of the layers before quantization, and what :func:`requests` asked for.
    """
    biases = _biases(graph, context)
    parts = _stages(graph, biases)
    by_tensor = {bias.output: bias for bias in biases}
    kept: dict[str, list[np.ndarray]] = {}
    for part in context.progress.track(parts, "Correcting biases", len(parts)):
        if part.inputs:
            kept |= _run(part, kept, context)
        else:
            kept |= {t: list(statistics.tensors(StatisticsRequest(p, KEPT))) for p, t in part.outputs.items()}
        for tensor in part.layers:
            bias = by_tensor[tensor]
            shift = statistics[bias.mean_output] - _mean(kept[tensor], bias.axis)
            old = bias.constant.read().astype(np.float64)
            new = old + shift.reshape(old.shape)
            if not np.isfinite(shift).all() or not is_within(old, new, threshold):
                continue
            if tensor not in part.finished:
                kept[tensor] = [_shifted(array, shift, bias.axis) for array in kept[tensor]]
            yield ReplaceConstant(bias.constant.name, new, "corrected by the mean error of the layer's output")
        for tensor in part.finished:
            del kept[tensor]


def _biases(graph: Graph, context: Context) -> list[Bias]:
    """Of layers, quantized or not: quantized inputs, too, change what they give."""
    free = (n for n in graph if n.kind in _LAYERS and n.weights and not n.scope and not is_excluded(n, context.ignored))
    found = (find_bias(graph, node, context.ignored) for node in free)
    return [bias for bias in found if bias is not None]


def _stages(graph: Graph, biases: Sequence[Bias]) -> list[Stage]:
    return stages(graph, (bias.output for bias in biases))


def _run(part: Stage, kept: dict[str, list[np.ndarray]], context: Context) -> dict[str, list[np.ndarray]]:
    run = context.part(tuple(part.inputs), tuple(part.outputs))
    found: dict[str, list[np.ndarray]] = {tensor: [] for tensor in part.outputs.values()}
    count = len(next(iter(kept.values())))
    for index in range(count):
        given = run({str(point): kept[tensor][index] for point, tensor in part.inputs.items()})
        for point, tensor in part.outputs.items():
            found[tensor].append(given[str(point)])
    return found


def _mean(tensors: Sequence[np.ndarray], axis: int) -> np.ndarray:
    mean = Mean(axis)
    for tensor in tensors:
        mean.update(tensor)
    return mean.value


def _shifted(array: np.ndarray, shift: np.ndarray, axis: int) -> np.ndarray:
    shape = [1] * array.ndim
    shape[axis] = -1
    return array + shift.reshape(shape).astype(array.dtype)
