"""Weights are clipped to k standard deviations of their tensor."""

import numpy as np
from attrs import frozen

from nncf_core.contracts import is_excluded
from nncf_core.report import weight_constants
from nncf_core.transformations import ReplaceConstant


@frozen
class ClippingParameters:
    """:param k: standard deviations from zero that are kept."""

    k: float = 3.0


class WeightClipping:
    """Needs no data."""

    name = "weight_clipping"
    parameters = ClippingParameters

    def schema(self):
        """JSON schema of the config section."""
        return {"type": "object", "properties": {"k": {"type": "number", "exclusiveMinimum": 0, "default": 3.0}}}

    def rounds(self, graph, params):
        """One round."""
        return 1

    def requests(self, graph, params, context, round_index):
        """No statistics."""
        return ()

    def transformations(self, graph, statistics, params, context, round_index):
        """One replacement for each weight with an outlier."""
        for constant in weight_constants(graph):
            users = [node for node, _ in graph.users(constant.name)]
            if not constant.is_float or any(is_excluded(node, context.ignored) for node in users):
                continue
            weight = constant.read().astype(np.float32)
            limit = params.k * float(weight.std())
            if np.abs(weight).max() > limit:
                yield ReplaceConstant(constant.name, np.clip(weight, -limit, limit), f"clipped to ±{limit:.4g}")
            constant.release()
