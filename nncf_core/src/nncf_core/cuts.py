"""Where a model can be cut in parts that run one after the other, each on what the ones before it left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from attrs import frozen

from nncf_core.graph import Graph, Node, OpKind
from nncf_core.transformations import PointKind, TargetPoint, point_of


@frozen
class Part:
    """A part of a model.

    :param tensors: names of the tensors that are looked at behind it.
    :param starts: the points where tensors come in, each with the name of its tensor.
    :param ends: the points of tensors that it computes, and that are looked at or that later parts take.
    :param kept: names of all tensors that later parts take, also of those that this one only lets pass.
    :param nodes: names of its nodes.
    """

    tensors: tuple[str, ...]
    starts: Mapping[TargetPoint, str]
    ends: Mapping[TargetPoint, str]
    kept: frozenset[str]
    nodes: frozenset[str]


def model_inputs(graph: Graph) -> dict[str, TargetPoint]:
    """The inputs of a model by the names of their tensors, with the point where each is first taken."""
    found: dict[str, TargetPoint] = {}
    for node in graph:
        for index, port in enumerate(node.inputs):
            if port.tensor and port.constant is None and not node.scope and _is_input(graph.producer(port.tensor)):
                found.setdefault(port.tensor, TargetPoint(node.name, PointKind.INPUT, index))
    return found


def _is_input(producer: Node | None) -> bool:
    # some frameworks have nodes for them
    return producer is None or producer.kind is OpKind.INPUT


def parts_of(graph: Graph, sizes: Mapping[str, int], most: int) -> list[Part]:
    """Cut a graph behind tensors that are looked at, before the layers that take them.

    What the layers before a tensor became can thus be known when it is looked at, and running all parts takes as long
    as running the whole.

    :param sizes: the tensors to look at, with the bytes of what is kept of each.
    :param most: bytes that a part may keep, unless one tensor alone takes more; 0 for a part for each tensor.
    """
    nodes = _needed(graph, sizes)
    made, taken, last = _spans(graph, nodes)
    groups = grouped(sorted(sizes, key=lambda tensor: (made[tensor], tensor)), sizes, most, made)
    crossing = _crossing(made, last, len(nodes))
    bounds = [0]
    for group, after in pairwise(groups):
        first = made[group[-1]] + 1
        # the next group's tensors are made behind the cut, and so are the results of the layers that take this one's
        limit = min(made[after[0]], *(taken[tensor] for tensor in group if made[tensor] + 1 == first))
        places = range(max(first, bounds[-1]), max(limit, first, bounds[-1]) + 1)
        bounds.append(min(places, key=lambda place: crossing[place]))
    bounds.append(len(nodes))
    return [
        _part(graph, nodes[start:end], tuple(group), made, last, start, end)
        for start, end, group in zip(bounds, bounds[1:], groups, strict=False)
    ]


def grouped(
    tensors: Iterable[str], sizes: Mapping[str, int], most: int, made: Mapping[str, int] | None = None
) -> list[list[str]]:
    """Tensors in groups that keep so many bytes at most, in order; one that takes more is alone.

    :param made: what made each; where it is the same they are in one group whatever their size.
    """
    groups: list[list[str]] = []
    held = 0
    for tensor in tensors:
        beside = bool(groups) and made is not None and made[tensor] == made[groups[-1][-1]]
        if not groups or not (beside or held + sizes[tensor] <= most):
            groups.append([])
            held = 0
        groups[-1].append(tensor)
        held += sizes[tensor]
    return groups


def _needed(graph: Graph, tensors: Iterable[str]) -> list[Node]:
    """The nodes that tensors depend on, in topological order."""
    wanted = set(tensors)
    found = []
    for node in reversed(graph.nodes):
        if node.kind is not OpKind.INPUT and any(port.tensor in wanted for port in node.outputs):
            wanted.update(port.tensor for port in node.inputs if port.constant is None)
            found.append(node)
    return found[::-1]


def _spans(graph: Graph, nodes: Sequence[Node]) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """The node that makes each tensor (-1: it is an input of the model), and the first and the last that take it."""
    made = dict.fromkeys(model_inputs(graph), -1)
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for port in node.inputs:
            if port.constant is None and port.tensor in made:
                first.setdefault(port.tensor, index)
                last[port.tensor] = index
        made.update((port.tensor, index) for port in node.outputs)
    for tensor in made:
        first.setdefault(tensor, len(nodes))
    return made, first, last


def _crossing(made: Mapping[str, int], last: Mapping[str, int], count: int) -> list[int]:
    """How many tensors cross the gap in front of each node."""
    steps = [0] * (count + 2)
    for tensor, index in last.items():
        steps[made[tensor] + 1] += 1
        steps[index + 1] -= 1
    total, found = 0, []
    for step in steps[: count + 1]:
        total += step
        found.append(total)
    return found


def _part(
    graph: Graph,
    nodes: Sequence[Node],
    tensors: tuple[str, ...],
    made: Mapping[str, int],
    last: Mapping[str, int],
    start: int,
    end: int,
) -> Part:
    kept = frozenset(tensor for tensor, index in last.items() if made[tensor] < end <= index)
    starts = {
        # a point at an input means that input alone
        TargetPoint(node.name, PointKind.INPUT, index): port.tensor
        for node in nodes
        for index, port in enumerate(node.inputs)
        if port.constant is None and made.get(port.tensor, end) < start
    }
    computed = sorted({tensor for tensor in (*kept, *tensors) if made[tensor] >= start})
    ends = {point_of(graph, tensor): tensor for tensor in computed}
    return Part(tensors, starts, ends, kept, frozenset(node.name for node in nodes))
