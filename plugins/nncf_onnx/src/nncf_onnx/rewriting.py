"""Small edits of onnx_ir graphs that every form of compressed weights is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from nncf_core.errors import InternalError
from nncf_onnx.saving import stream
from nncf_onnx.traversal import all_graphs, dims, walk

_PACKED = {
    "int4": ir.DataType.INT4,
    "uint4": ir.DataType.UINT4,
    "int2": ir.DataType.INT2,
    "uint2": ir.DataType.UINT2,
}


class Rewriter:
    """Edits one model. Where things are is looked up once; what it adds itself it never moves."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self._scopes = dict(walk(model.graph))
        self._order = {node: index for index, node in enumerate(self._scopes)}
        self._names = {value.name for node in self._scopes for value in node.outputs}
        self._node_names = {node.name for node in self._scopes}
        self.former_inputs: list[str] = []
        """Constants that callers of the model could replace, and that are gone."""
        self._replaced: dict[ir.Node, tuple[ir.Node, ir.Node]] = {}
        graphs = {id(graph): graph for graph in all_graphs(model)}
        for graph in graphs.values():
            self._names |= set(graph.initializers) | {value.name for value in graph.inputs}

    @property
    def opset(self) -> int:
        """Version of the default domain."""
        return self.model.graph.opset_imports[""]

    def graph_of(self, value: ir.Value) -> ir.Graph:
        """The graph that a constant belongs to."""
        node = value.producer()
        graph = value.graph if node is None else node.graph
        if not isinstance(graph, ir.Graph):
            raise InternalError(f"The constant {value.name!r} belongs to no graph.")
        return graph

    def unique(self, name: str) -> str:
        """A name for a value that is not taken yet."""
        result, count = name, 0
        while result in self._names:
            count += 1
            result = f"{name}_{count}"
        self._names.add(result)
        return result

    def free(self, value: ir.Value) -> None:
        """Let another value have the name of one that is about to go."""
        # the tensor may be the user's own, and would be renamed with its value
        value.const_value = None
        name, value.name = value.name, self.unique(f"{value.name}_replaced")
        self._names.discard(name)

    def constant(self, graph: ir.Graph, name: str, tensor: ir.TensorProtocol) -> ir.Value:
        """A new initializer."""
        name = self.unique(name)
        tensor.name = name
        if graph is self.model.graph:
            tensor = stream(self.model, tensor)
        value = ir.Value(
            name=name, shape=ir.Shape(dims(tensor.shape)), type=ir.TensorType(tensor.dtype), const_value=tensor
        )
        graph.register_initializer(value)
        return value

    def node(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        name: str,
        output: str,
        dtype: ir.DataType | None = None,
        shape: Sequence[int] | None = None,
        domain: str = "",
        attributes: Mapping[str, int] | None = None,
    ) -> ir.Node:
        """A new node with one output, not yet in a graph."""
        if domain:
            self.model.graph.opset_imports.setdefault(domain, 1)
        base, count = name, 0
        while name in self._node_names:
            count += 1
            name = f"{base}_{count}"
        self._node_names.add(name)
        attrs = [ir.AttrInt64(key, value) for key, value in (attributes or {}).items()]
        node = ir.Node(domain, op_type, inputs, attrs, name=name, num_outputs=1)
        node.outputs[0].name = self.unique(output)
        if dtype is not None:
            node.outputs[0].dtype = dtype
        if shape is not None:
            node.outputs[0].shape = ir.Shape(shape)
        return node

    def cast(self, value: ir.Value, to: ir.DataType, name: str) -> ir.Node:
        """A new Cast, not yet in a graph."""
        node = self.node("Cast", [value], name, f"{value.name}_{name}", to, attributes={"to": int(to)})
        node.outputs[0].shape = value.shape
        return node

    def insert_before_users(self, value: ir.Value, nodes: Sequence[ir.Node]) -> None:
        """Put nodes into the graph of a constant, before the first node that uses it, itself or in its body."""
        graph = self.graph_of(value)
        users = [self._in_graph(usage.node, graph) for usage in value.uses()]
        users = [user for user in users if user not in nodes]
        if users:
            graph.insert_before(min(users, key=lambda node: self._order.get(node, -1)), nodes)
        else:
            graph.extend(nodes)

    def _in_graph(self, node: ir.Node, graph: ir.Graph) -> ir.Node:
        """The node of ``graph`` that is, or whose body contains, the given node."""
        return next((n for n in (*self._scopes.get(node, ()), node) if n.graph is graph), node)

    def replace_uses(self, old: ir.Value, new: ir.Value, keep: Sequence[ir.Node] = ()) -> None:
        """Let every user of a value but the given ones take another."""
        for usage in tuple(old.uses()):
            if usage.node not in keep:
                usage.node.replace_input_with(usage.idx, new)

    def take_over_output(self, old: ir.Node, *chain: ir.Node) -> None:
        """Replace a node by a chain of nodes, the last of which takes over its output's name."""
        end, graph = chain[-1], old.graph
        if graph is None:
            raise InternalError(f"The node {old.name!r} belongs to no graph.")
        for new in chain:
            self._scopes[new], self._order[new] = self._scopes[old], self._order[old]
        self._replaced[old] = chain[0], end
        graph.insert_before(old, chain)
        output, before = end.outputs[0], old.outputs[0]
        name = before.name
        before.name = None
        output.name, output.type, output.shape = name, before.type, before.shape
        ir.convenience.replace_all_uses_with(before, output, replace_graph_outputs=True)
        self.drop(old)

    def bypass(self, node: ir.Node, value: ir.Value) -> None:
        """Let a value take the place of a node's output, name included where the model's caller sees it."""
        output = node.outputs[0]
        if output.is_graph_output():
            value.name, output.name = output.name, value.name
            value.type, value.shape = output.type, output.shape
        ir.convenience.replace_all_uses_with(output, value, replace_graph_outputs=True)
        self.drop(node)

    def now(self, node: ir.Node, last: bool) -> ir.Node:
        """What stands in a node's place: the first, or the last, of a chain that replaced it."""
        return self._replaced[node][last] if node in self._replaced else node

    def drop(self, node: ir.Node) -> None:
        """Remove a node that nothing uses, and what only it used."""
        inputs = [value for value in node.inputs if value is not None]
        if node.graph is None or any(o.uses() or o.is_graph_output() for o in node.outputs):
            return
        node.graph.remove(node, safe=True)
        for value in inputs:
            self.drop_constant(value)

    def drop_constant(self, value: ir.Value) -> None:
        """Remove a value that nothing uses: an initializer, or a node and what only it used."""
        if value.uses() or value.is_graph_output():
            return
        producer = value.producer()
        if producer is not None:
            self.drop(producer)
            return
        graph = value.graph
        if graph is not None and value.is_initializer() and value.name is not None:
            if value in graph.inputs:
                graph.inputs.remove(value)
                self.former_inputs.append(value.name)
            del graph.initializers[value.name]


def codes_tensor(packed: np.ndarray, dtype: str, shape: Sequence[int]) -> ir.TensorProtocol:
    """A tensor from bytes; 4-bit and 2-bit elements are densely packed, the first in the lowest bits."""
    if dtype in _PACKED:
        return ir.PackedTensor(packed, _PACKED[dtype], shape=ir.Shape(shape))
    return ir.Tensor(packed.view(np.dtype(dtype)).reshape(tuple(shape)))
