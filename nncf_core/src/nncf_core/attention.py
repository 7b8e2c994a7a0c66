"""Attention that is written as two products with a softmax between them, as the graph shows it."""

from __future__ import annotations

from attrs import frozen

from nncf_core.graph import Graph, Node, OpKind, Trait

_MOVED = frozenset({OpKind.CAST, OpKind.CONCAT, OpKind.SPLIT, OpKind.SHAPE_ONLY})
"""Between probabilities and their product with values; dropout, which computes nothing, is of them."""

_SCALED = frozenset({OpKind.ADD, OpKind.SUBTRACT, OpKind.MULTIPLY, OpKind.DIVIDE, OpKind.CAST, OpKind.SHAPE_ONLY})
"""Between the product of queries and keys and softmax: factors, and masks that are added or multiplied by."""


@frozen
class AttentionBlock:
    """The operators of one block.

    :param scores: the product of queries and keys.
    :param softmax: what makes probabilities of it.
    :param values: the product of probabilities and values.
    :param masks: tensors that join the scores on their way to softmax, and are not of queries or keys.
    """

    scores: Node
    softmax: Node
    values: Node
    masks: frozenset[str]


def attention_blocks(graph: Graph) -> tuple[AttentionBlock, ...]:
    """Blocks in graph order, without operators that are attention as a whole."""
    found = []
    for node in graph.of_kind((OpKind.MATMUL,)):
        softmax = probabilities_of(graph, node)
        if softmax is None:
            continue
        between, products = _before(graph, softmax)
        if len(products) == 1:
            found.append(AttentionBlock(products[0], softmax, node, _masks(graph, products[0], (*between, softmax))))
    return tuple(found)


def is_of_activations(node: Node) -> bool:
    """Whether an operator multiplies two activations."""
    if node.kind is OpKind.ATTENTION:
        return True
    return node.kind is OpKind.MATMUL and not any(port.constant is not None for port in node.inputs[:2])


def probabilities_of(graph: Graph, product: Node) -> Node | None:
    """The softmax whose probabilities an operator multiplies something by that is no constant."""
    if product.kind is not OpKind.MATMUL or not is_of_activations(product):
        return None
    return next(
        (softmax for port in product.inputs if (softmax := _softmax_behind(graph, port.tensor)) is not None), None
    )


def _softmax_behind(graph: Graph, tensor: str) -> Node | None:
    producer = graph.producer(tensor)
    while producer is not None and producer.inputs and (producer.kind in _MOVED or Trait.SHAPE_ONLY in producer.traits):
        producer = graph.producer(producer.inputs[0].tensor)
    return producer if producer is not None and producer.kind is OpKind.SOFTMAX else None


def _before(graph: Graph, softmax: Node) -> tuple[list[Node], list[Node]]:
    """Operators that scale or mask what a softmax takes, in graph order, and products of activations behind them."""
    between, products, seen = list[Node](), list[Node](), {softmax.name}
    waiting = [softmax]
    while waiting:
        for node in graph.predecessors(waiting.pop()):
            if node.name in seen:
                continue
            seen.add(node.name)
            if node.kind is OpKind.MATMUL and is_of_activations(node):
                products.append(node)
            elif node.kind in _SCALED:
                between.append(node)
                waiting.append(node)
    order = {node.name: index for index, node in enumerate(graph)}
    return sorted(between, key=lambda node: order[node.name]), products


def _masks(graph: Graph, scores: Node, nodes: tuple[Node, ...]) -> frozenset[str]:
    """What operators that scores reach take beside them.

    :param nodes: in graph order.
    """
    reached, found = {scores.name}, set[str]()
    for node in nodes:
        before = {port.tensor: graph.producer(port.tensor) for port in node.inputs if port.constant is None}
        others = {tensor for tensor, producer in before.items() if producer is None or producer.name not in reached}
        if len(others) < len(before):
            reached.add(node.name)
            found |= others
    return frozenset(found)
