"""Where quantizers stand: at the tensors that the runtime's integer operators take and give.

Operators that the runtime computes with integers (:mod:`.integer_operators`) *demand* that their operands be
quantized, and some of them their result. Behind operators that only move elements a quantizer has the range of the one
before them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from attrs import frozen

from nncf_core.angles import angle_products
from nncf_core.attention import is_of_activations
from nncf_core.contracts import CompressionRequest, Context, is_excluded
from nncf_core.gates import gate_layers
from nncf_core.graph import Constant, Graph, Node, Trait, WeightLayout
from nncf_core.hardware import QuantizationSetup
from nncf_core.transformations import PointKind, TargetPoint
from nncf_post_training_quantization.attention import (
    SUMS,
    probability_products,
    residual_sums,
)
from nncf_post_training_quantization.integer_operators import IntegerOperators

REQUEST = CompressionRequest("int8_sym", "int8")
"""How weights are stored."""


@frozen
class QuantizedTensor:
    """A tensor that is quantized.

    :param tensor: its name.
    :param points: where quantizers stand: at the producer's output, or at the inputs of some of its consumers.
    :param source: the tensor whose range it has; itself, or one before operators that only move elements.
    :param reason: who demands it.
    :param shared: other tensors that have the same range, which is that of all of them.
    :param symmetric: whether there must be no zero point.
    """

    tensor: str
    points: tuple[TargetPoint, ...]
    source: str
    reason: str
    shared: tuple[str, ...] = ()
    symmetric: bool = False


@frozen
class QuantizedWeight:
    """A constant operand of integer operators.

    :param users: nodes that take it, with the index of the operand.
    """

    constant: Constant
    users: tuple[tuple[Node, int], ...]

    @property
    def names(self) -> frozenset[str]:
        """The names that overrides may know it by."""
        return frozenset({self.constant.name}).union(*(node.names for node, _ in self.users))

    @property
    def layout(self) -> WeightLayout:
        """What its axes mean to the first of them."""
        user, index = self.users[0]
        layout = user.inputs[index].layout
        assert layout is not None
        return layout


@frozen
class Placement:
    """All that is quantized.

    :param constants: constants beside activations, with the inputs that take them.
    :param empty: why there is nothing, where there is nothing.
    """

    tensors: tuple[QuantizedTensor, ...]
    weights: tuple[QuantizedWeight, ...]
    nodes: tuple[Node, ...]
    constants: tuple[tuple[Constant, TargetPoint], ...] = ()
    empty: str = ""


def place(
    graph: Graph,
    setup: QuantizationSetup,
    context: Context,
    quantize_outputs: bool,
    *,
    request: CompressionRequest = REQUEST,
    transformer: bool = False,
    attention_output: bool = False,
) -> Placement:
    """What is quantized in a graph.

    :param quantize_outputs: whether tensors that leave the model may be quantized.
    :param request: how weights are stored.
    :param transformer: whether sums and the like stay in floating point, see :data:`.attention.SUMS`.
    :param attention_output: whether products of attention's probabilities and values are quantized.
    """
    left = _left(graph, setup, transformer, attention_output)
    rules = IntegerOperators(graph, setup, context, quantize_outputs, frozenset().union(*left.values()), request)
    integer = rules.nodes()
    left["layers so small that integers would take longer"] = rules.small_layers(integer)
    # what nobody would quantize is no choice
    chosen = {why: [n for n in sorted(names) if _takes_integers(graph.node(n), setup)] for why, names in left.items()}
    chosen = {why: names for why, names in chosen.items() if names}
    for reason, names in chosen.items():
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        context.note(f"Left in floating point, as {reason}: {', '.join(names[:_NAMED])}{more}.")
    places = _Places(graph, rules)
    demands = places.demands(integer)
    sources = places.moved_up(demands)
    shared = places.shared_ranges(integer, sources)
    symmetric = places.factors(integer, sources)
    order = dict.fromkeys(port.tensor for node in graph for port in (*node.inputs, *node.outputs))
    tensors = tuple(
        QuantizedTensor(
            tensor,
            points,
            _root(tensor, sources),
            places.reason(tensor, integer),
            shared.get(_root(tensor, sources), ()),
            bool(symmetric & {_root(tensor, sources), *shared.get(_root(tensor, sources), ())}),
        )
        for tensor in order
        if tensor in demands
        and not (setup.moves_through and tensor in sources)
        and (points := places.points(tensor, demands[tensor]))
    )
    kept = tuple(node for node in graph if node.name in integer)
    beside = tuple(_beside(graph, kept)) if setup.whole else ()
    empty = "" if kept else _why_empty(graph, setup, context, chosen)
    return Placement(tensors, tuple(_weights(graph, kept)), kept, beside, empty)


def _why_empty(graph: Graph, setup: QuantizationSetup, context: Context, left: Collection[str]) -> str:
    """Why nothing is quantized.

    :param left: why operators are left in floating point.
    """
    able = [node for node in graph if _takes_integers(node, setup)]
    if not able:
        return "the model has no operator that its runtime computes with integers"
    if all(is_excluded(node, context.ignored) for node in able):
        return "the ignored or target scope leaves out all that the runtime could compute with integers"
    if left:
        return f"what the runtime could compute with integers is left in floating point, as {' and '.join(left)}"
    return "the runtime would not compute any operator of the model with integers as it stands there"


def _beside(graph: Graph, nodes: Iterable[Node]) -> Iterator[tuple[Constant, TargetPoint]]:
    """Constants that are added to activations, or multiplied by them."""
    for node in nodes:
        for index, port in enumerate(node.inputs):
            constant = None if port.constant is None or port.layout is not None else graph.constants[port.constant]
            if Trait.ELEMENTWISE in node.traits and constant is not None and constant.is_float and constant.size:
                yield constant, TargetPoint(node.name, PointKind.INPUT, index)


_NAMED = 5  # nodes that a note names


def _takes_integers(node: Node, setup: QuantizationSetup) -> bool:
    operator = setup.of(node)
    return operator is not None and (not operator.needs_weight or bool(node.weights))


def _left(
    graph: Graph, setup: QuantizationSetup, transformer: bool, attention_output: bool
) -> dict[str, Collection[str]]:
    """Names of the nodes that stay in floating point, by the reason."""
    found: dict[str, Collection[str]] = {"angles of positions": angle_products(graph)}
    if not setup.whole:
        found["layers of gates that weigh channels"] = gate_layers(graph)
        found["sums that are normalized, whose channels differ"] = residual_sums(graph)
    if not attention_output:
        found["products of probabilities of attention"] = probability_products(graph)
    if transformer:
        found["sums and the like of a transformer"] = [node.name for node in graph.of_kind(SUMS)]
    return found


def _root(tensor: str, sources: Mapping[str, str]) -> str:
    while tensor in sources:
        tensor = sources[tensor]
    return tensor


def _weights(graph: Graph, nodes: Iterable[Node]) -> Iterator[QuantizedWeight]:
    seen: set[str] = set()
    for node in nodes:
        for _, port in node.weights:
            if port.constant is not None and port.constant not in seen:
                seen.add(port.constant)
                yield QuantizedWeight(graph.constants[port.constant], graph.users(port.constant))


@frozen
class _Places:
    """Tensors of a graph, by the rules for its operators."""

    graph: Graph
    rules: IntegerOperators

    def demands(self, integer: frozenset[str]) -> dict[str, set[str]]:
        """Consumers that demand each quantized tensor."""
        found: dict[str, set[str]] = {}
        for node in self.graph:
            if node.name not in integer:
                continue
            for tensor in self.rules.operands(node):
                found.setdefault(tensor, set()).add(node.name)
            setup = self.rules.setup.of(node)
            assert setup is not None
            if setup.needs_result or setup.only_between:
                result = self.rules.result(node)
                found.setdefault(result, set()).update(n.name for n in self.graph.consumers(result))
        for node in self.graph:
            setup = self.rules.setup.of(node)
            if (
                setup is not None
                and setup.takes_quantized
                and node.name not in self.rules.left
                and self.rules.is_free(node)
            ):
                for tensor in self.rules.operands(node):
                    if tensor in found:
                        found[tensor].add(node.name)
        return found

    def shared_ranges(self, integer: frozenset[str], sources: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
        """The other tensors that each shares its range with, where an operator wants one scale for its operands."""
        groups: dict[str, frozenset[str]] = {}
        for node in self.graph:
            setup = self.rules.setup.of(node)
            if node.name not in integer or setup is None or not setup.unified_operands:
                continue
            roots = {_root(tensor, sources) for tensor in self.rules.operands(node)}
            whole = roots.union(*(groups.get(root, frozenset()) for root in roots))
            groups |= dict.fromkeys(whole, frozenset(whole))
        return {root: tuple(sorted(group - {root})) for root, group in groups.items()}

    def factors(self, integer: frozenset[str], sources: Mapping[str, str]) -> frozenset[str]:
        """Operands of products of activations: with zero points on both sides each product has three terms more."""
        return frozenset(
            _root(tensor, sources)
            for node in self.graph
            if node.name in integer and is_of_activations(node)
            for tensor in self.rules.operands(node)
        )

    def moved_up(self, demands: dict[str, set[str]]) -> dict[str, str]:
        """Extend the demands to tensors before operators that only move elements; gives the tensor before each."""
        sources: dict[str, str] = {}
        for node in reversed(self.graph.nodes):
            outputs = [port.tensor for port in node.outputs if self.graph.consumers(port.tensor)]
            if not self.rules.moves(node) or not outputs or not all(self._is_whole(t, demands) for t in outputs):
                continue
            before = node.inputs[0].tensor
            demands.setdefault(before, set()).add(node.name)
            sources |= dict.fromkeys(outputs, before)
        return sources

    def points(self, tensor: str, consumers: set[str]) -> tuple[TargetPoint, ...]:
        """At the output when all consumers are to see the quantized tensor, otherwise at their inputs."""
        producer = self.graph.producer(tensor)
        everyone = self.graph.consumers(tensor)
        if (
            producer is not None
            and not is_excluded(producer, self.rules.context.ignored)
            and consumers >= {node.name for node in everyone}
            and self.rules.may_be_quantized(tensor)
        ):
            port = next(i for i, output in enumerate(producer.outputs) if output.tensor == tensor)
            return (TargetPoint(producer.name, PointKind.OUTPUT, port),)
        return tuple(
            TargetPoint(node.name, PointKind.INPUT, index)
            for node in everyone
            if node.name in consumers
            for index, port in enumerate(node.inputs)
            if port.tensor == tensor
        )

    def reason(self, tensor: str, integer: frozenset[str]) -> str:
        """Which operators a quantizer is for."""
        users = [node.op_type for node in self.graph.consumers(tensor) if node.name in integer]
        producer = self.graph.producer(tensor)
        if users:
            return f"operand of {', '.join(dict.fromkeys(users))}"
        return f"result of {producer.op_type}" if producer is not None else "operand"

    def _is_whole(self, tensor: str, demands: Mapping[str, set[str]]) -> bool:
        everyone = {node.name for node in self.graph.consumers(tensor)}
        return self.rules.may_be_quantized(tensor) and demands.get(tensor, set()) >= everyone
