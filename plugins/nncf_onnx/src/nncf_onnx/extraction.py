"""Sub-models between target points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from nncf_core.errors import ValidationError
from nncf_core.transformations import PointKind, TargetPoint
from nncf_onnx.naming import named_nodes
from nncf_onnx.running import element_types


def extract(model: ir.Model, inputs: Sequence[TargetPoint], outputs: Sequence[TargetPoint]) -> ir.Model:
    """A sub-model, see :meth:`nncf_core.contracts.TargetPointInserter.extract`; ``model`` is not changed."""
    copy = model.clone()
    graph, nodes = copy.graph, named_nodes(copy)
    for name, node in nodes.items():
        node.name = name  # which may depend on nodes that are cut off
    if inputs:
        values = [value_at(copy, nodes, point) for point in inputs]
        types = element_types(model) if any(value.dtype is None for value in values) else {}
        starts = [_start(nodes, point, value, types) for point, value in zip(inputs, values, strict=True)]
        graph.inputs.clear()
        graph.inputs.extend(starts)
    ends = []
    for point in outputs:
        source = value_at(copy, nodes, point)
        # an output of its own for each point: one tensor may be asked for twice
        node = ir.Node("", "Identity", [source], name=f"{point}/output")
        node.outputs[0].name = str(point)
        node.outputs[0].type, node.outputs[0].shape = source.type, source.shape
        graph.append(node)
        ends.append(node.outputs[0])
    graph.outputs.clear()
    graph.outputs.extend(ends)
    _prune(graph)
    _check_closed(graph, inputs)
    return copy


def value_at(model: ir.Model, nodes: dict[str, ir.Node], point: TargetPoint) -> ir.Value:
    """The tensor at a target point of the main graph.

    :raises ValidationError: when there is none.
    """
    node = nodes.get(point.node)
    ports = () if node is None else node.inputs if point.kind is PointKind.INPUT else node.outputs
    value = ports[point.port] if point.port < len(ports) else None
    if node is None or value is None:
        raise ValidationError(f"The model has no point {point}.")
    if node.graph is not model.graph:
        raise ValidationError(f"The point {point} lies in the body of a control-flow node and cannot be reached alone.")
    return value


def _start(
    nodes: Mapping[str, ir.Node], point: TargetPoint, value: ir.Value, types: Mapping[str, ir.DataType]
) -> ir.Value:
    """A new graph input in place of the tensor at a point."""
    known = types.get(value.name or "")
    type_ = value.type or (None if known is None else ir.TensorType(known))
    new = ir.Value(name=str(point), type=type_, shape=value.shape)
    if point.kind is PointKind.INPUT:
        nodes[point.node].replace_input_with(point.port, new)
    else:
        for use in tuple(value.uses()):
            use.node.replace_input_with(use.idx, new)
    return new


def _prune(graph: ir.Graph) -> None:
    """Remove nodes and initializers that no output needs."""
    for node in reversed(list(graph)):
        if not any(output.uses() or output.is_graph_output() for output in node.outputs):
            graph.remove(node, safe=True)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            if value in graph.inputs:
                graph.inputs.remove(value)
            del graph.initializers[name]


def _check_closed(graph: ir.Graph, inputs: Sequence[TargetPoint]) -> None:
    if not inputs:
        return
    given = set(graph.inputs) | set(graph.initializers.values())
    for node in graph:
        for value in node.inputs:
            if value is not None and value.producer() is None and value not in given:
                raise ValidationError(
                    f"The outputs depend on {value.name!r}, which is not among the inputs "
                    f"{', '.join(map(str, inputs))}."
                )
