"""Attention, as the graph shows it: which products of two activations are best left in floating point.

The product of probabilities and values averages: most probabilities are less than a step of 1/255, and what they say
together is lost.
"""

from __future__ import annotations

from nncf_core.graph import Graph, Node, OpKind, Trait

_PASSED = frozenset({OpKind.CAST, OpKind.CONCAT, OpKind.SPLIT, OpKind.SHAPE_ONLY})

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
    return frozenset(
        node.name
        for node in graph.of_kind((OpKind.MATMUL,))
        if is_of_activations(node) and any(_is_softmax(graph, port.tensor) for port in node.inputs)
    )


def residual_sums(graph: Graph) -> frozenset[str]:
    """Names of the sums that are normalized: a residual grows from block to block, in a few channels far more than in
    the others."""
    norms = (OpKind.LAYER_NORM, OpKind.NORMALIZATION)
    return frozenset(
        node.name
        for node in graph.of_kind((OpKind.ADD,))
        if any(user.kind in norms for user in graph.consumers(node.outputs[0].tensor))
    )


def is_of_activations(node: Node) -> bool:
    """Whether an operator multiplies two activations."""
    if node.kind is OpKind.ATTENTION:
        return True
    return node.kind is OpKind.MATMUL and not any(port.constant is not None for port in node.inputs[:2])


def _is_softmax(graph: Graph, tensor: str) -> bool:
    producer = graph.producer(tensor)
    while (
        producer is not None and producer.inputs and (producer.kind in _PASSED or Trait.SHAPE_ONLY in producer.traits)
    ):
        producer = graph.producer(producer.inputs[0].tensor)
    return producer is not None and producer.kind is OpKind.SOFTMAX
