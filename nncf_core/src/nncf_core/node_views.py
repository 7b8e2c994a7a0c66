"""The graph of a model with the methods of NNCF's graphs, for scripts that look for nodes by name or type."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import fields, frozen

from nncf_core.errors import ValidationError
from nncf_core.graph import Graph, Node, OpKind


@frozen
class NNCFNode:
    """A node.

    :param node_id: its place in the order of the graph.
    :param node_name: what :class:`nncf.IgnoredScope` knows it by.
    :param node_type: the framework's name of the operator.
    """

    node_id: int
    node_name: str
    node_type: str


@frozen
class NNCFGraph(Graph):
    """A graph that scripts written for NNCF's can walk."""

    @classmethod
    def of(cls, graph: Graph) -> NNCFGraph:
        """The same graph with these methods."""
        return cls(**{each.name: getattr(graph, each.name) for each in fields(Graph)})

    def get_all_nodes(self) -> list[NNCFNode]:
        """All nodes, in topological order."""
        return self._views(self.nodes)

    def topological_sort(self) -> list[NNCFNode]:
        """All nodes, in topological order."""
        return self.get_all_nodes()

    def get_node_by_name(self, name: str) -> NNCFNode:
        """The node of this name.

        :raises ValidationError: when there is none.
        """
        return self._views([self.node(name)])[0]

    def get_node_by_id(self, node_id: int) -> NNCFNode:
        """The node at a place in the order.

        :raises ValidationError: when there is none.
        """
        if not 0 <= node_id < len(self.nodes):
            raise ValidationError(f"The graph has no node {node_id}; it has {len(self.nodes)} nodes, counted from 0.")
        return self.get_all_nodes()[node_id]

    def get_nodes_by_types(self, type_list: Iterable[str]) -> list[NNCFNode]:
        """Nodes of any of these operators."""
        wanted = set(type_list)
        return self._views(node for node in self.nodes if node.op_type in wanted)

    def get_next_nodes(self, node: NNCFNode) -> list[NNCFNode]:
        """Nodes that take what a node gives."""
        return self._views(self.successors(self.node(node.node_name)))

    def get_previous_nodes(self, node: NNCFNode) -> list[NNCFNode]:
        """Nodes whose results a node takes."""
        return self._views(self.predecessors(self.node(node.node_name)))

    def get_input_nodes(self) -> list[NNCFNode]:
        """The model's inputs."""
        return self._views(self.of_kind([OpKind.INPUT]))

    def get_output_nodes(self) -> list[NNCFNode]:
        """The model's outputs; where outputs are no nodes of their own, the nodes that give them."""
        given = [node for node in self.nodes if any(port.tensor in self.outputs for port in node.outputs)]
        return self._views(self.of_kind([OpKind.OUTPUT]) or given)

    def _views(self, nodes: Iterable[Node]) -> list[NNCFNode]:
        places = {node.name: index for index, node in enumerate(self.nodes)}
        return [NNCFNode(places[node.name], node.name, node.op_type) for node in nodes]
