"""Which ratio-defining weights keep the primary format when ``ratio`` is below 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from math import inf

import numpy as np

from nncf_core.contracts import Context
from nncf_core.errors import ValidationError
from nncf_core.graph import Graph, OpKind
from nncf_core.numerics.kernels import quantization_error, quantization_noise
from nncf_core.numerics.many import map_tensors
from nncf_core.parameters import SensitivityMetric
from nncf_core.refining import LayerInput, layer_inputs
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_weight_compression.selection import Weight

_STATISTICS: Mapping[SensitivityMetric, str] = {
    SensitivityMetric.HESSIAN_INPUT_ACTIVATION: "mean_mean_square",
    SensitivityMetric.MEAN_ACTIVATION_VARIANCE: "mean_mean_variance",
    SensitivityMetric.MAX_ACTIVATION_VARIANCE: "mean_max_variance",
    SensitivityMetric.MEAN_ACTIVATION_MAGNITUDE: "mean_channel_abs_max",
}
"""What each metric that depends on data looks at in a layer's input, for each sample."""


def needs_data(metric: SensitivityMetric) -> bool:
    """Whether a metric looks at activations."""
    return metric in _STATISTICS


def least_sensitive(sensitivities: Mapping[str, float], sizes: Mapping[str, int], ratio: float) -> frozenset[str]:
    """Names with the lowest sensitivity whose elements together are at most ``ratio`` of all.

    They are taken in ascending order of sensitivity (ties in the given order) up to the first that would
    exceed the ratio; so half of four equal weights is two, and ratio 0 is none.
    """
    budget = ratio * sum(sizes.values()) * (1 + 1e-9)
    chosen: list[str] = []
    taken = 0
    for name in sorted(sensitivities, key=lambda n: sensitivities[n]):
        taken += sizes[name]
        if taken > budget:
            break
        chosen.append(name)
    return frozenset(chosen)


def requests_for(weights: Sequence[Weight], metric: SensitivityMetric, graph: Graph) -> list[StatisticsRequest]:
    """The statistics that a metric needs.

    :raises ValidationError: when a layer's input is known to have fewer than two axes.
    """
    if not needs_data(metric):
        return []
    return [_request(each, metric, graph) for weight in weights for each in layer_inputs(graph, weight.constant.name)]


def _request(taken: LayerInput, metric: SensitivityMetric, graph: Graph) -> StatisticsRequest:
    if metric is SensitivityMetric.HESSIAN_INPUT_ACTIVATION:
        return StatisticsRequest(taken.point, _STATISTICS[metric])
    shape = next(port.shape for port in graph.node(taken.node).inputs if port.tensor == taken.tensor)
    if shape is not None and len(shape) < 2:
        raise ValidationError(
            f"sensitivity_metric {metric} looks at how the input of a layer varies over its rows; the input "
            f"{taken.tensor!r} of node {taken.node!r} has shape {list(shape)}, so no rows. Exclude the node with "
            "ignored_scope, or set sensitivity_metric to weight_quantization_error."
        )
    return StatisticsRequest(taken.point, _STATISTICS[metric], taken.axis)


def sensitivities(
    weights: Sequence[Weight], metric: SensitivityMetric, graph: Graph, statistics: Statistics, context: Context
) -> dict[str, float]:
    """How sensitive each weight is, by the constant's name; only the order has a meaning.

    - WEIGHT_QUANTIZATION_ERROR: 1 / (E + ε), where E is the INT8 error: the largest mean squared error of any channel.
      A weight that INT8 per channel represents badly gains most from the groups of the primary format, and is
      considered least sensitive to it.
    - MEAN_ACTIVATION_VARIANCE, MAX_ACTIVATION_VARIANCE: that, times the mean or the largest of the variances, over the
      rows of a sample, of the channels of the layer's input.
    - MEAN_ACTIVATION_MAGNITUDE: that, times the mean of the largest magnitudes of the input's channels.
    - HESSIAN_INPUT_ACTIVATION: the trace of the Hessian of the layer's squared error, relative to its size, which is
      twice the input's mean square (Dong et al. 2019, https://arxiv.org/abs/1911.03852, for a layer alone), times the
      Frobenius norm of the INT8 error.

    What is looked at in the input is averaged over the samples. A weight that several layers take counts by the most
    sensitive of them. One that only embeddings take is not sensitive at all; one in the body of a control-flow
    operator, where no statistics can be collected, more than all others. Where no sample reaches the layers, their
    input counts as the median of the others.
    """
    inputs: Callable[[Weight], float | None] = partial(_input_of, metric=metric, graph=graph, statistics=statistics)
    found = {weight.constant.name: inputs(weight) if needs_data(metric) else 1.0 for weight in weights}
    known = [factor for factor in found.values() if factor is not None and 0 < factor < inf]
    usual = float(np.median(known)) if known else 1.0
    factors = {name: usual if factor is None else factor for name, factor in found.items()}
    unseen = [name for name, factor in factors.items() if factor == inf]
    if unseen:
        context.note(
            f"{len(unseen)} weights in bodies of control-flow operators, such as {unseen[0]}, count as the most "
            "sensitive, for what they are multiplied with cannot be looked at."
        )
    # the others' place does not depend on their values
    read = [weight for weight in weights if 0 < factors[weight.constant.name] < inf]
    hessian = metric is SensitivityMetric.HESSIAN_INPUT_ACTIVATION
    errors = _errors(read, quantization_noise if hessian else quantization_error, context)
    eps = float(np.finfo(np.float32).eps)
    own = errors if hessian else {name: 1.0 / (error + eps) for name, error in errors.items()}
    return {name: factor * own.get(name, 1.0) for name, factor in factors.items()}


def _input_of(weight: Weight, metric: SensitivityMetric, graph: Graph, statistics: Statistics) -> float | None:
    """What a metric says of the inputs of a weight's layers; ``None`` where no sample has come by."""
    users = [node for node, _ in graph.users(weight.constant.name) if node.kind is OpKind.MATMUL]
    if any(node.scope for node in users):
        return inf
    requests = [_request(taken, metric, graph) for taken in layer_inputs(graph, weight.constant.name)]
    found = [float(statistics[request]) for request in requests if request in statistics]
    if requests and not found:
        return None
    return (2 if metric is SensitivityMetric.HESSIAN_INPUT_ACTIVATION else 1) * max(found, default=0.0)


def _errors(weights: Sequence[Weight], measure: Callable[..., float], context: Context) -> dict[str, float]:
    errors = map_tensors(
        context.executor,
        (
            (
                partial(measure, reduction_axes=weight.layout.reduction_axes, name=weight.constant.name),
                weight.constant.array(),
            )
            for weight in weights
        ),
    )
    result = {}
    shown = context.progress.track(weights, "Sensitivity of weights", len(weights))
    with closing(errors):
        for weight, error in zip(shown, errors, strict=True):
            weight.constant.release()
            result[weight.constant.name] = error
    return result
