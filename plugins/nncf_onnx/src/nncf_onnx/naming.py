"""Names of nodes, constants and tensors in the neutral graph, and the onnx_ir objects that they stand for.

The names depend on the model alone, so builder and inserter find the same objects.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

import onnx_ir as ir

from nncf_onnx.recognition import CompressedConstant, compressed_constants
from nncf_onnx.traversal import all_graphs, walk


def named_nodes(model: ir.Model) -> dict[str, ir.Node]:
    """Every node, in topological order with bodies before the nodes that run them.

    A node's own name is kept where it is the first of that name; others are called after their type.
    """
    nodes = [node for node, _ in walk(model.graph)]
    taken = {node.name for node in nodes if node.name}
    result: dict[str, ir.Node] = {}
    for index, node in enumerate(nodes):
        name = node.name
        if not name or name in result:
            base = name or f"{node.op_type}_{index}"
            name, count = base, 0
            while name in result or name in taken:
                count += 1
                name = f"{base}_{count}"
        result[name] = node
    return result


def named_constants(
    model: ir.Model, compressed: dict[ir.Value, CompressedConstant] | None = None
) -> dict[str, ir.Value]:
    """Every constant: initializers, outputs of Constant nodes, and what compressed weights decompress to.

    :param compressed: what :func:`compressed_constants` gives for the model, when it is known already.
    """
    compressed = compressed_constants(model) if compressed is None else compressed
    values: list[tuple[str, ir.Value]] = []
    for graph in all_graphs(model):
        values += [(name, value) for name, value in graph.initializers.items() if value.const_value is not None]
    for node, _ in walk(model.graph):
        if node.op_type == "Constant" and node.domain == "":
            values += [(output.name or "", output) for output in node.outputs]
    result: dict[str, ir.Value] = {}
    for value, constant in compressed.items():
        _put(result, constant.name, value)
    for name, value in values:
        if value not in compressed:
            _put(result, name, value)
    return result


def tensor_names(
    model: ir.Model, constants: Mapping[str, ir.Value], compressed: Container[ir.Value]
) -> dict[ir.Value, str]:
    """Every tensor: bodies may use a name that another body has, and outputs that nothing uses may have none.

    :param constants: what :func:`named_constants` gives; a tensor that is a constant is called like it.
    :param compressed: the compressed ones, whose tensors are called otherwise.
    """
    result = {value: name for name, value in constants.items() if value not in compressed}
    taken = set(result.values())
    for graph in all_graphs(model):
        outputs = [output for node in graph for output in node.outputs]
        for value in (*graph.inputs, *graph.initializers.values(), *outputs):
            if value not in result:
                base = value.name or "unnamed"
                result[value] = name = _free(base, taken)
                taken.add(name)
    return result


def _put(result: dict[str, ir.Value], name: str, value: ir.Value) -> None:
    result[_free(name, result)] = value


def _free(base: str, taken: Container[str]) -> str:
    name, count = base, 0
    while name in taken:
        count += 1
        name = f"{base}#{count}"
    return name
