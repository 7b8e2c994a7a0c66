"""Sub-graphs between target points."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import fx

from nncf_core.errors import ValidationError
from nncf_core.transformations import PointKind, TargetPoint
from nncf_torch.graph_constants import graph_constants
from nncf_torch.graph_describing import named_nodes
from nncf_torch.graph_editing import locate, replace_operand
from nncf_torch.graph_model import GraphModel


def extract(
    model: GraphModel,
    inputs: Sequence[TargetPoint],
    outputs: Sequence[TargetPoint],
    names: Callable[[fx.Node, dict[str, int]], str] | None = None,
) -> GraphModel:
    """A sub-model, see :meth:`nncf_core.contracts.TargetPointInserter.extract`; ``model`` is not changed."""
    part = model.copy()
    graph = part.graph
    nodes = named_nodes(part, graph_constants(part), names)
    own = [node for node in graph.nodes if node.op == "placeholder"]
    ends = [locate(nodes, point)[1] for point in outputs]
    starts = dict[str, str]()
    for number, point in enumerate(inputs):
        node, source = locate(nodes, point)
        with graph.inserting_before(next(iter(graph.nodes))):
            start = graph.create_node("placeholder", f"start_{number}", name=f"start_{number}")
        start.meta = {"val": source.meta["val"]} if "val" in source.meta else {}
        starts[start.name] = str(point)
        if point.kind is PointKind.INPUT:
            replace_operand(node, point.port, start)
            # what was asked for at this very point is what is fed
            ends = [
                start if end is source and other == point else end for end, other in zip(ends, outputs, strict=True)
            ]
        else:
            source.replace_all_uses_with(start)
            ends = [start if end is source else end for end in ends]
    old = next(node for node in reversed(graph.nodes) if node.op == "output")
    graph.erase_node(old)
    graph.output(tuple(_unchanged(graph, ends)))
    _prune(graph)
    if inputs:
        _measure_at_starts(graph, own, [node for node in graph.nodes if node.name in starts])
        for node in own:
            if node.users:
                raise ValidationError(
                    f"The outputs depend on the input {node.name!r}, which is not among the inputs "
                    f"{', '.join(map(str, inputs))}."
                )
            graph.erase_node(node)
    # placeholders in the order of the points
    for name in reversed(list(starts)):
        node = next(n for n in graph.nodes if n.name == name)
        head = next(iter(graph.nodes))
        if node is not head:
            head.prepend(node)
    graph.set_codegen(torch.fx.graph.CodeGen())
    graph.lint()
    module = fx.GraphModule(part.module, graph)
    constant_inputs = {} if inputs else part.constant_inputs
    return GraphModel(module, None, constant_inputs, 0, tuple(map(str, outputs)), starts or part.input_names)


def _unchanged(graph: fx.Graph, ends: Sequence[fx.Node]) -> list[fx.Node]:
    """Copies of tensors as they are where they are made, if operators of the graph change tensors in place."""
    targets = {node.target for node in graph.nodes if isinstance(node.target, torch._ops.OpOverload)}
    if not any(target._schema.is_mutable for target in targets):
        return list(ends)
    copies = dict[fx.Node, fx.Node]()
    last = [node for node in graph.nodes if node.op == "placeholder"][-1]
    for end in dict.fromkeys(ends):
        with graph.inserting_after(last if end.op == "placeholder" else end):
            copies[end] = graph.call_function(torch.ops.aten.clone.default, (end,))
        copies[end].meta = dict(end.meta)
    return [copies[end] for end in ends]


def _measure_at_starts(graph: fx.Graph, own: Sequence[fx.Node], starts: Sequence[fx.Node]) -> None:
    """Take sizes that were those of the model's inputs from new inputs that have the same size."""
    known = {
        str(size): (start, axis)
        for start in reversed(starts)
        if isinstance(start.meta.get("val"), torch.Tensor)
        for axis, size in enumerate(start.meta["val"].shape)
        if isinstance(size, torch.SymInt)
    }
    sizes = [user for node in own for user in node.users if user.target is torch.ops.aten.sym_size.int]
    for node in sizes:
        place = known.get(str(node.meta.get("val")))
        if place is not None:
            node.args = place


def _prune(graph: fx.Graph) -> None:
    """Remove nodes that no output needs."""
    needed: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node.op in ("output", "placeholder") or node in needed:
            needed.add(node)
            needed.update(node.all_input_nodes)
    for node in reversed(list(graph.nodes)):
        if node not in needed:
            graph.erase_node(node)
