"""Walking through a model: graphs, bodies of control-flow nodes, nodes."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})
"""The only standard operators with bodies; those of other domains are looked at one by one."""


def dims(shape: ir.ShapeProtocol) -> tuple[int, ...]:
    """A shape of numbers."""
    return tuple(shape.numpy())


def bodies(node: ir.Node) -> Iterator[ir.Graph]:
    """The graphs in a node's attributes (If, Loop, Scan), in the order of their names."""
    if node.domain == "" and node.op_type not in CONTROL_FLOW:
        return
    found = [a for a in node.attributes.values() if a.type in _GRAPHS]
    for attribute in sorted(found, key=lambda a: a.name):
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        else:
            yield from attribute.as_graphs()


def walk(graph: ir.Graph, scope: tuple[ir.Node, ...] = ()) -> Iterator[tuple[ir.Node, tuple[ir.Node, ...]]]:
    """Every node with the control-flow nodes that contain it; a body comes before the node that runs it."""
    for node in graph:
        for body in bodies(node):
            yield from walk(body, (*scope, node))
        yield node, scope


def is_sorted(graph: ir.Graph, before: set[ir.Node] | None = None) -> bool:
    """Whether every node, also of bodies, comes after those whose outputs it takes.

    :param before: nodes that come before the graph.
    """
    before = set() if before is None else before
    for node in graph:
        if not all(is_sorted(body, before) for body in bodies(node)):
            return False
        producers = (value.producer() for value in node.inputs if value is not None)
        if not all(producer is None or producer in before for producer in producers):
            return False
        before.add(node)
    return True


def all_graphs(model: ir.Model) -> Iterator[ir.Graph]:
    """The main graph and all bodies."""
    waiting = [model.graph]
    while waiting:
        graph = waiting.pop(0)
        yield graph
        waiting.extend(body for node in graph for body in bodies(node))
