"""Parts of a network between layers, so that each is run once although the layers are looked at one after the other.

A layer's *depth* is the largest number of layers on a way to it. Layers of one depth do not see each other; they and
what lies between them and the layers before make up a stage. A node is part of the first stage that needs it, and
tensors that later stages need are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from attrs import frozen

from nncf_core.graph import Graph, Node, OpKind
from nncf_core.transformations import PointKind, TargetPoint, point_of


@frozen
class Stage:
    """A part of a network.

    :param layers: names of the tensors that its layers give.
    :param inputs: the network's inputs and tensors of earlier stages, by the points where this one takes them.
    :param outputs: the layers' tensors and others that later stages take, by the points that give them.
    :param finished: tensors that no later stage takes.
    """

    layers: tuple[str, ...]
    inputs: Mapping[TargetPoint, str]
    outputs: Mapping[TargetPoint, str]
    finished: tuple[str, ...]


def stages(graph: Graph, layers: Iterable[str]) -> list[Stage]:
    """The stages of a graph.

    :param layers: names of the tensors that the layers give, all of them :func:`reachable`.
    """
    groups = _by_depth(graph, frozenset(layers))
    made: dict[str, int] = {}
    nodes = [_needed(graph, group, index, made) for index, group in enumerate(groups)]
    last: dict[str, int] = {}
    for index, (group, needed) in enumerate(zip(groups, nodes, strict=True)):
        last |= dict.fromkeys(group, index)
        last |= {tensor: index for tensor in _taken(needed) if _stage_of(graph, tensor, made) < index}
    return [
        Stage(
            group,
            dict(_starts(graph, needed, index, made)),
            {point_of(graph, tensor): tensor for tensor in last if _stage_of(graph, tensor, made) == index},
            tuple(tensor for tensor, stage in last.items() if stage == index),
        )
        for index, (group, needed) in enumerate(zip(groups, nodes, strict=True))
    ]


def reachable(graph: Graph) -> frozenset[str]:
    """Tensors that parts can give: they depend on the network's inputs, and on no control-flow node.

    What only the body of such a node takes cannot be fed to it.
    """
    found: set[str] = set()
    blocked: set[str] = set()
    for node in graph:
        operands = _operands(node)
        given = [port.tensor for port in node.outputs]
        if node.scope or node.kind is OpKind.CONTROL_FLOW or not blocked.isdisjoint(operands):
            blocked.update(given)
        elif any(tensor in found or is_input(graph, tensor) for tensor in operands):
            found.update(given)
    return frozenset(found)


def network_inputs(graph: Graph) -> tuple[str, ...]:
    """The inputs of the network that nodes outside of bodies take."""
    operands = (tensor for node in graph if not node.scope for tensor in _operands(node))
    return tuple(dict.fromkeys(tensor for tensor in operands if is_input(graph, tensor)))


def is_input(graph: Graph, tensor: str) -> bool:
    """Whether a tensor is an input of the network."""
    producer = graph.producer(tensor)
    return producer is None or producer.kind is OpKind.INPUT


def _by_depth(graph: Graph, layers: frozenset[str]) -> list[tuple[str, ...]]:
    """The layers' tensors by depth, in graph order."""
    depths: dict[str, int] = {}
    groups: dict[int, list[str]] = {}
    for node in graph:
        before = max((depths.get(tensor, 0) for tensor in _operands(node)), default=0)
        for port in node.outputs:
            depths[port.tensor] = before + (port.tensor in layers)
            if port.tensor in layers:
                groups.setdefault(before, []).append(port.tensor)
    return [tuple(groups[depth]) for depth in sorted(groups)]


def _needed(graph: Graph, tensors: Sequence[str], stage: int, made: dict[str, int]) -> list[Node]:
    """The nodes that give tensors and that no earlier stage runs."""
    found: list[Node] = []
    ahead = list(tensors)
    while ahead:
        node = graph.producer(ahead.pop())
        if node is not None and node.kind is not OpKind.INPUT and node.name not in made:
            made[node.name] = stage
            found.append(node)
            ahead += _operands(node)
    return found


def _starts(
    graph: Graph, needed: Sequence[Node], stage: int, made: Mapping[str, int]
) -> Iterator[tuple[TargetPoint, str]]:
    """The points where a stage takes what it does not make itself."""
    for node in needed:
        for index, port in enumerate(node.inputs):
            if port.tensor in _operands(node) and _stage_of(graph, port.tensor, made) < stage:
                produced = graph.producer(port.tensor) is not None
                at = point_of(graph, port.tensor) if produced else TargetPoint(node.name, PointKind.INPUT, index)
                yield at, port.tensor


def _stage_of(graph: Graph, tensor: str, made: Mapping[str, int]) -> int:
    """The stage that gives a tensor; the network's inputs are there before the first."""
    producer = graph.producer(tensor)
    return -1 if producer is None or producer.kind is OpKind.INPUT else made[producer.name]


def _taken(nodes: Iterable[Node]) -> Iterator[str]:
    return (tensor for node in nodes for tensor in _operands(node))


def _operands(node: Node) -> list[str]:
    return [port.tensor for port in node.inputs if port.tensor and port.constant is None]
