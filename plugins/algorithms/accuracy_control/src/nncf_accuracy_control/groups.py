"""Groups of edits that go together, so that what is reverted is computed in floating point.

An operator computes with integers when all its operands are quantized. Where one is not, the others' quantizers only
round. So quantizers that an operator takes, perhaps through operators that only move elements, are one group, with the
weights of the operators that they feed and with what made up for these weights' errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from attrs import frozen

from nncf_core.graph import FLOAT_DTYPES, Graph, OpKind, Trait
from nncf_core.hardware import QuantizationSetup
from nncf_core.transformations import (
    CompressConstant,
    InsertBias,
    InsertQuantizer,
    PointKind,
    ReplaceConstant,
    Transformation,
)


@frozen
class Group:
    """Edits that are reverted together, as indices in the list of all edits.

    :param quantizers: of activations.
    :param weights: compressed constants.
    :param biases: what makes up for the errors of these weights.
    :param nodes: names of the operators that are computed in floating point without them.
    """

    quantizers: tuple[int, ...]
    weights: tuple[int, ...]
    biases: tuple[int, ...]
    nodes: tuple[str, ...]

    @property
    def size(self) -> int:
        """Number of quantizers, of activations and of weights."""
        return len(self.quantizers) + len(self.weights)

    def reverted(self, with_weights: bool) -> frozenset[int]:
        """The edits that a model without this group lacks.

        :param with_weights: whether weights are float, too. Biases make up for errors of weights.
        """
        return frozenset(self.quantizers + (self.weights + self.biases if with_weights else ()))


def count(edits: Iterable[Transformation]) -> int:
    """Number of quantizers, of activations and of weights."""
    return sum(isinstance(edit, (InsertQuantizer, CompressConstant)) for edit in edits)


def groups_of(graph: Graph, edits: Sequence[Transformation], setup: QuantizationSetup) -> list[Group]:
    """The groups of a section's edits, in graph order of what they begin with.

    :param graph: the model before the edits.
    :param setup: what the runtime computes with integers.
    """
    return _Linked(graph, edits, setup).groups()


class _Linked:
    """Disjoint sets of edits, joined by the operators that take what they quantize (union-find)."""

    def __init__(self, graph: Graph, edits: Sequence[Transformation], setup: QuantizationSetup) -> None:
        self._graph, self._edits, self._setup = graph, edits, setup
        self._parent: dict[int, int] = {}
        self._nodes: dict[str, list[int]] = {}  # what operators take or hold
        self._integer: set[str] = set()
        self._at_input: dict[tuple[str, int], int] = {}
        self._at_output: dict[str, int] = {}
        self._weights: dict[str, int] = {}
        for index, edit in enumerate(edits):
            if isinstance(edit, InsertQuantizer):
                self._parent[index] = index
                node, port = graph.node(edit.target.node), edit.target.port
                if edit.target.kind is PointKind.OUTPUT:
                    self._at_output[node.outputs[port].tensor] = index
                else:
                    self._at_input[node.name, port] = index
            elif isinstance(edit, CompressConstant):
                self._parent[index] = index
                self._weights[edit.constant] = index

    def groups(self) -> list[Group]:
        """The sets, with the edits of biases that belong to them."""
        self._join_operands()
        self._join_results()
        members: dict[int, list[int]] = {}
        for index in self._parent:
            members.setdefault(self._root(index), []).append(index)
        nodes: dict[int, list[str]] = {}
        for name, indices in self._nodes.items():
            nodes.setdefault(self._root(indices[0]), []).append(name)
        biases: dict[int, list[int]] = {}
        for index, root in self._biases():
            biases.setdefault(root, []).append(index)
        found = [
            Group(
                tuple(index for index in indices if isinstance(self._edits[index], InsertQuantizer)),
                tuple(index for index in indices if isinstance(self._edits[index], CompressConstant)),
                tuple(biases.get(root, ())),
                tuple(nodes.get(root, ())),
            )
            for root, indices in members.items()
        ]
        place = {node.name: index for index, node in enumerate(self._graph)}
        return sorted(found, key=lambda group: min(map(place.__getitem__, group.nodes), default=len(place)))

    def _join_operands(self) -> None:
        """Join what each operator takes, through operators that only move elements."""
        carried: dict[str, list[int]] = {tensor: [index] for tensor, index in self._at_output.items()}
        for node in self._graph:
            if node.kind is OpKind.SHAPE_OF:
                continue
            taken: dict[int, None] = {}
            floating = False
            for port, operand in enumerate(node.inputs):
                own = self._at_input.get((node.name, port))
                found = list(carried.get(operand.tensor, ()) if own is None else [own])
                if operand.constant in self._weights:
                    found.append(self._weights[operand.constant])
                taken |= dict.fromkeys(found)
                floating |= not found and bool(operand.tensor) and operand.dtype in (None, *FLOAT_DTYPES)
            if not taken:
                continue
            weighted = any(port.constant in self._weights for port in node.inputs)
            if self._setup.of(node) is not None and (weighted or not floating):
                self._integer.add(node.name)
            self._join(taken)
            if Trait.QUANTIZATION_AGNOSTIC not in node.traits:
                self._nodes[node.name] = list(taken)
                continue
            for result in node.outputs:
                if result.tensor in self._at_output:  # the same range again
                    self._join([*taken, self._at_output[result.tensor]])
                else:
                    carried[result.tensor] = list(taken)

    def _join_results(self) -> None:
        """Join a quantizer that no integer operator takes with the operator that wants its result quantized."""
        fed: dict[int, list[str]] = {}
        for name, indices in self._nodes.items():
            for index in indices:
                fed.setdefault(index, []).append(name)
        for tensor, index in self._at_output.items():
            if any(node in self._integer for node in fed.get(index, ())):
                continue
            producer = self._graph.producer(tensor)
            while producer is not None and producer.name not in self._nodes and producer.inputs:
                producer = self._graph.producer(producer.inputs[0].tensor)
            if producer is not None and producer.name in self._nodes:
                self._join([*self._nodes[producer.name], index])

    def _biases(self) -> Iterator[tuple[int, int]]:
        """Edits of biases, with the set of the layer that they are for."""
        for index, edit in enumerate(self._edits):
            if isinstance(edit, InsertBias):
                layers = [self._graph.node(edit.node)] if edit.node in self._graph else []
            elif isinstance(edit, ReplaceConstant) and edit.constant not in self._weights:
                layers = [node for node, _ in self._graph.users(edit.constant)]
                layers += [before for node in layers for before in self._graph.predecessors(node)]
            else:
                continue
            for layer in layers:
                held = [self._weights[p.constant] for p in layer.inputs if p.constant in self._weights]
                if held:
                    yield index, self._root(held[0])
                    break

    def _join(self, indices: Iterable[int]) -> None:
        roots = sorted({self._root(index) for index in indices})
        for root in roots[1:]:
            self._parent[root] = roots[0]

    def _root(self, index: int) -> int:
        while self._parent[index] != index:
            index = self._parent[index]
        return index
