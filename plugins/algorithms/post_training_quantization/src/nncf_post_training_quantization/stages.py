"""Parts of a network between layers, so that each is run once although the layers are looked at one after the other.

A layer's *depth* is the largest number of layers on a way to it. Layers of one depth do not see each other; what lies
between them and the layers before makes up a stage. A node is part of the first stage that needs it, and tensors that
later stages need are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from attrs import frozen

from nncf_core.graph import Graph, Node
from nncf_core.transformations import PointKind, TargetPoint, point_of


@frozen
class Stage:
    """A part of a network.

    :param layers: names of the tensors that its layers give.
    :param inputs: tensors that earlier stages kept, by the points where this one takes them; of the first stage none,
        which takes the network's inputs.
    :param outputs: points of the layers' tensors, and of those that later stages take.
    :param finished: tensors that no later stage takes.
    """

    layers: tuple[str, ...]
    inputs: Mapping[TargetPoint, str]
    outputs: Mapping[TargetPoint, str]
    finished: tuple[str, ...]


def stages(graph: Graph, layers: Iterable[str]) -> list[Stage]:
    """The stages of a graph.

    :param layers: names of the tensors that the layers give, none of them in the body of a control-flow node.
    """
    bodies = _bodies(graph)
    groups = _by_depth(graph, frozenset(layers), bodies)
    made: dict[str, int] = {}
    nodes = [_needed(graph, group, index, made, bodies) for index, group in enumerate(groups)]
    last: dict[str, int] = {}
    for index, (group, needed) in enumerate(zip(groups, nodes, strict=True)):
        last |= dict.fromkeys(group, index)
        for tensor in (t for node in needed for t in _operands(node, bodies)):
            if _stage_of(graph, tensor, made) < index:
                last[tensor] = index
    return [
        Stage(
            group,
            {} if index == 0 else dict(_starts(graph, needed, index, made, bodies)),
            {point_of(graph, t): t for t in last if _stage_of(graph, t, made) == index},
            tuple(tensor for tensor, stage in last.items() if stage == index),
        )
        for index, (group, needed) in enumerate(zip(groups, nodes, strict=True))
    ]


def _by_depth(graph: Graph, layers: frozenset[str], bodies: Mapping[str, Sequence[Node]]) -> list[tuple[str, ...]]:
    """The layers' tensors by depth, in graph order."""
    depths: dict[str, int] = {}
    groups: dict[int, list[str]] = {}
    for node in graph:
        before = max((depths.get(tensor, 0) for tensor in _operands(node, bodies)), default=0)
        for port in node.outputs:
            depths[port.tensor] = before + (port.tensor in layers)
            if port.tensor in layers:
                groups.setdefault(before, []).append(port.tensor)
    return [tuple(groups[depth]) for depth in sorted(groups)]


def _needed(
    graph: Graph, tensors: Sequence[str], stage: int, made: dict[str, int], bodies: Mapping[str, Sequence[Node]]
) -> list[Node]:
    """The nodes that give tensors and that no earlier stage runs."""
    found: list[Node] = []
    ahead = list(tensors)
    while ahead:
        node = graph.producer(ahead.pop())
        if node is not None and node.name not in made:
            made[node.name] = stage
            found.append(node)
            ahead += _operands(node, bodies)
    return found


def _starts(
    graph: Graph, needed: Sequence[Node], stage: int, made: Mapping[str, int], bodies: Mapping[str, Sequence[Node]]
) -> Iterator[tuple[TargetPoint, str]]:
    for node in needed:
        for tensor in _operands(node, bodies):
            if _stage_of(graph, tensor, made) == stage:
                continue
            if graph.producer(tensor) is not None:
                yield point_of(graph, tensor), tensor
            else:  # an input of the network
                for index, port in enumerate(node.inputs):
                    if port.tensor == tensor:
                        yield TargetPoint(node.name, PointKind.INPUT, index), tensor


def _stage_of(graph: Graph, tensor: str, made: Mapping[str, int]) -> int:
    """The stage that gives a tensor; inputs of the network are there from the first one on."""
    producer = graph.producer(tensor)
    return 0 if producer is None else made[producer.name]


def _bodies(graph: Graph) -> dict[str, list[Node]]:
    """The nodes in the bodies of control-flow nodes, by the names of these."""
    found: dict[str, list[Node]] = {}
    for node in graph:
        for name in node.scope:
            found.setdefault(name, []).append(node)
    return found


def _operands(node: Node, bodies: Mapping[str, Sequence[Node]]) -> list[str]:
    """Tensors that a node takes from outside, also those that only its bodies take."""
    inside = bodies.get(node.name, ())
    own = {port.tensor for other in inside for port in other.outputs}
    ports = [port for other in (node, *inside) for port in other.inputs if port.tensor and port.constant is None]
    return list(dict.fromkeys(port.tensor for port in ports if port.tensor not in own))
