"""Attention, as the graph shows it: which products of two activations are best left in floating point.

The product of probabilities and values averages: most probabilities are less than a step of 1/255, and what they say
together is lost.
"""

from __future__ import annotations

from nncf_core.attention import probabilities_of
from nncf_core.graph import Graph, OpKind

SUMS = frozenset(
    {
        OpKind.ADD, OpKind.SUBTRACT, OpKind.MULTIPLY, OpKind.DIVIDE, OpKind.AVERAGE_POOL, OpKind.REDUCE,
        OpKind.BATCH_NORM, OpKind.LAYER_NORM, OpKind.NORMALIZATION, OpKind.ACTIVATION, OpKind.SOFTMAX,
    }
)  # fmt: skip
"""What stays in floating point where the user says that a model is a transformer, whose residuals have a few large
values in channels of their own."""


def probability_products(graph: Graph) -> frozenset[str]:
    """Names of the products of a softmax and something that is no constant."""
    return frozenset(node.name for node in graph.of_kind((OpKind.MATMUL,)) if probabilities_of(graph, node) is not None)


def residual_sums(graph: Graph) -> frozenset[str]:
    """Names of the sums that are normalized: a residual grows from block to block, in a few channels far more than in
    the others."""
    norms = (OpKind.LAYER_NORM, OpKind.NORMALIZATION)
    return frozenset(
        node.name
        for node in graph.of_kind((OpKind.ADD,))
        if any(user.kind in norms for user in graph.consumers(node.outputs[0].tensor))
    )
