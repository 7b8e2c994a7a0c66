"""Activation sparsity: the smallest inputs of linear layers become zero (Liu et al. 2024, TEAL,
https://arxiv.org/abs/2408.14690).

A layer's threshold is the mean, over the items of a dataset, of the quantile of magnitudes that is the share of zeros
asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from attrs import frozen

from nncf_core.contracts import Context, is_excluded
from nncf_core.errors import ValidationError
from nncf_core.graph import Graph, Node, OpKind
from nncf_core.scopes import IgnoredScope, ignored_names
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.transformations import InsertThreshold, PointKind, TargetPoint, Transformation

_KIND = "mean_abs_quantile"


@frozen
class Target:
    """Layers, and how many zeros their inputs are to have.

    :param scope: which layers.
    :param sparsity: share of zeros, from 0 to 1.
    """

    scope: IgnoredScope
    sparsity: float


@frozen
class ActivationSparsitySettings:
    """The config section.

    :param targets: layers with their shares of zeros.
    :param subset_size: number of items of the dataset that thresholds are found on; ``None``: all.
    """

    targets: list[Target]
    subset_size: int | None = None


_STRINGS = {"type": "array", "items": {"type": "string"}}

SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "description": "The smallest inputs of linear layers become zero.",
    "properties": {
        "targets": {
            "description": "Layers, and the share of zeros of their inputs.",
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "scope": {
                        "type": "object",
                        "properties": {
                            "names": _STRINGS,
                            "patterns": _STRINGS,
                            "types": _STRINGS,
                            "subgraphs": {"type": "array", "items": {"type": "object"}},
                            "validate": {"type": "boolean"},
                        },
                        "additionalProperties": False,
                    },
                    "sparsity": {"type": "number", "minimum": 0, "maximum": 1},
                },
                "required": ["scope", "sparsity"],
                "additionalProperties": False,
            },
        },
        "subset_size": {"type": ["integer", "null"], "minimum": 1, "default": None},
    },
    "required": ["targets"],
}


class ActivationSparsity:
    """The algorithm."""

    name: ClassVar[str] = "activation_sparsity"
    parameters: ClassVar[type] = ActivationSparsitySettings

    def schema(self) -> Mapping[str, Any]:
        """JSON schema of the section."""
        return SCHEMA

    def rounds(self, graph: Graph, params: ActivationSparsitySettings) -> int:
        """One."""
        return 1

    def requests(
        self, graph: Graph, params: ActivationSparsitySettings, context: Context, round_index: int
    ) -> Sequence[StatisticsRequest]:
        """A quantile of magnitudes at the input of each layer.

        :raises ValidationError: when no layer is in the scopes, or one is in two.
        """
        return [request for _, request, _ in _chosen(graph, params, context)]

    def transformations(
        self,
        graph: Graph,
        statistics: Statistics,
        params: ActivationSparsitySettings,
        context: Context,
        round_index: int,
    ) -> Iterator[Transformation]:
        """A threshold at the input of each layer."""
        for node, request, sparsity in _chosen(graph, params, context):
            threshold = float(statistics[request])
            name, reason = f"{node.name}/sparsify", f"{sparsity:.0%} of its inputs become zero"
            yield InsertThreshold(request.target, threshold, name, reason)


def _chosen(
    graph: Graph, params: ActivationSparsitySettings, context: Context
) -> list[tuple[Node, StatisticsRequest, float]]:
    """Layers with the statistic of their inputs, and the share of zeros."""
    found: dict[str, tuple[Node, StatisticsRequest, float]] = {}
    layers = [node for node in graph.of_kind([OpKind.MATMUL]) if node.weights]
    for target in params.targets:
        names = ignored_names(graph, target.scope)
        for node in layers:
            if node.name not in names or is_excluded(node, context.ignored):
                continue
            if node.name in found:
                raise ValidationError(f"activation_sparsity: two of the target scopes match {node.name!r}.")
            port = next(index for index, operand in enumerate(node.inputs) if operand.constant is None)
            point = TargetPoint(node.name, PointKind.INPUT, port)
            if not context.takes_multiplication(point):
                context.note(f"{node.name} gets no zeros: its input is no place that can be edited.")
                continue
            found[node.name] = node, StatisticsRequest(point, _KIND, None, target.sparsity), target.sparsity
    if not found:
        raise ValidationError(
            "activation_sparsity: no linear layer is in the target scopes, and out of the ignored scope."
        )
    return list(found.values())
