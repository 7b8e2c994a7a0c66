"""Magnitudes of activations are moved into the weights (SmoothQuant, https://arxiv.org/abs/2211.10438, eq. 4)."""

import numpy as np
from attrs import frozen

from nncf_core.contracts import is_excluded
from nncf_core.graph import OpKind
from nncf_core.statistics import StatisticsRequest
from nncf_core.transformations import InsertMultiply, PointKind, ReplaceConstant, TargetPoint


@frozen
class SmoothingParameters:
    """:param alpha: how much of the magnitude is moved, 0 to 1. :param subset_size: samples to use."""

    alpha: float = 0.5
    subset_size: int = 16


class ActivationSmoothing:
    """Divides each channel of a layer's input by a factor and multiplies the weight's rows by it."""

    name = "activation_smoothing"
    parameters = SmoothingParameters

    def schema(self):
        """JSON schema of the config section."""
        return {
            "type": "object",
            "properties": {
                "alpha": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.5},
                "subset_size": {"type": "integer", "minimum": 1, "default": 16},
            },
        }

    def rounds(self, graph, params):
        """One round."""
        return 1

    def requests(self, graph, params, context, round_index):
        """Largest magnitude of each input channel of each layer."""
        return [_request(node) for node, _, _ in _layers(graph)]

    def transformations(self, graph, statistics, params, context, round_index):
        """For each layer a multiplication, and the weight that undoes it."""
        for node, constant, axis in _layers(graph):
            if is_excluded(node, context.ignored):
                continue
            weight = constant.read().astype(np.float32)
            other_axes = tuple(i for i in range(weight.ndim) if i != axis)
            x, w = statistics[_request(node)], np.abs(weight).max(axis=other_axes)
            factor = np.maximum(x, 1e-5) ** params.alpha / np.maximum(w, 1e-5) ** (1 - params.alpha)
            factor = factor.astype(np.float32)
            yield InsertMultiply(_request(node).target, 1 / factor, f"{node.name}/smooth", "smaller activations")
            shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
            yield ReplaceConstant(constant.name, weight * factor.reshape(shape), "undoes smaller activations")
            constant.release()


def _request(node):
    return StatisticsRequest(TargetPoint(node.name, PointKind.INPUT, 0), "abs_max", -1)


def _layers(graph):
    """Products of an activation and a weight that nothing else uses: node, constant, reduction axis."""
    for node in graph.of_kind([OpKind.MATMUL]):
        if len(node.inputs) < 2 or node.inputs[0].constant or not node.inputs[1].layout or node.scope:
            continue
        constant = graph.constants[node.inputs[1].constant]
        axes = node.inputs[1].layout.reduction_axes
        if constant.is_float and len(constant.shape) == 2 and len(axes) == 1 and len(graph.users(constant.name)) == 1:
            yield node, constant, axes[0]
