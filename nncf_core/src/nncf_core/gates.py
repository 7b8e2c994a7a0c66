"""Gates: what a network computes from the mean of each channel to weigh the channels by (squeeze and excitation).

Their layers see one position, so that integers save no time there; and an error in a weight of a channel is an error of
the whole channel (Hu et al. 2018, https://arxiv.org/abs/1709.01507, section 3).
"""

from __future__ import annotations

from collections.abc import Iterator

from nncf_core.graph import Graph, Node, OpKind, Trait

_POOLS = (OpKind.AVERAGE_POOL, OpKind.MAX_POOL, OpKind.REDUCE)
_LAYERS = (OpKind.CONV, OpKind.MATMUL)
_PASSED = (
    OpKind.ADD,
    OpKind.SUBTRACT,
    OpKind.MULTIPLY,
    OpKind.DIVIDE,
    OpKind.RELU,
    OpKind.ACTIVATION,
    OpKind.BATCH_NORM,
)


def gate_layers(graph: Graph) -> frozenset[str]:
    """Names of the layers of gates."""
    return frozenset(node.name for pool in graph.of_kind(_POOLS) for node in _gate(graph, pool) if node.kind in _LAYERS)


def _gate(graph: Graph, pool: Node) -> list[Node]:
    """What lies between a pool and the product with what it pooled; nothing when there is no such product."""
    weighed = pool.inputs[0].tensor
    found: list[Node] = []
    ahead = [port.tensor for port in pool.outputs]
    ends = False
    for node in _behind(graph, ahead):
        activations = [port.tensor for port in node.inputs if port.tensor and port.constant is None]
        if node.kind is OpKind.MULTIPLY and weighed in activations:
            ends = True
            continue
        if not (node.kind in _PASSED or (node.kind in _LAYERS and node.weights) or Trait.SHAPE_ONLY in node.traits):
            return []
        found.append(node)
        ahead += [port.tensor for port in node.outputs]
    return found if ends else []


def _behind(graph: Graph, tensors: list[str]) -> Iterator[Node]:
    """Nodes that take the tensors, each once; the list may grow meanwhile."""
    seen: set[str] = set()
    for tensor in tensors:
        for node in graph.consumers(tensor):
            if node.name not in seen:
                seen.add(node.name)
                yield node
