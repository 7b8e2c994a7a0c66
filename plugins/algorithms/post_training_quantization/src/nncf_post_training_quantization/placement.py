"""Where quantizers stand: at the tensors that the runtime's integer operators take and give.

Operators that the runtime computes with integers (its :class:`~nncf_core.hardware.QuantizationSetup`) *demand* that
their operands be quantized, and some of them their result. Operators that are worth no quantizer of their own join in
where everything around them is quantized anyway. Behind operators that only move elements a quantizer has the range of
the one before them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from attrs import frozen

from nncf_core.contracts import CompressionRequest, Context, is_excluded
from nncf_core.gates import gate_layers
from nncf_core.graph import FLOAT_DTYPES, Constant, Graph, Node, OpKind, Trait, WeightLayout
from nncf_core.hardware import QuantizationSetup
from nncf_core.transformations import PointKind, TargetPoint
from nncf_post_training_quantization.attention import (
    SUMS,
    angle_products,
    is_of_activations,
    probability_products,
    residual_sums,
)

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
        return frozenset({self.constant.name, *(node.name for node, _ in self.users)})

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
    """

    tensors: tuple[QuantizedTensor, ...]
    weights: tuple[QuantizedWeight, ...]
    nodes: tuple[Node, ...]
    constants: tuple[tuple[Constant, TargetPoint], ...] = ()


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
    places = _Places(graph, setup, context, quantize_outputs, frozenset().union(*left.values()), request)
    left["layers so small that integers would take longer"] = places.small_layers()
    for reason, names in left.items():
        # what nobody would quantize is no choice
        chosen = [name for name in sorted(names) if _takes_integers(graph.node(name), setup)]
        if chosen:
            more = f" and {len(chosen) - _NAMED} more" if len(chosen) > _NAMED else ""
            context.note(f"Left in floating point, as {reason}: {', '.join(chosen[:_NAMED])}{more}.")
    integer = places.integer_nodes()
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
    return Placement(tensors, tuple(_weights(graph, kept)), kept, tuple(_beside(graph, kept)) if setup.whole else ())


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
    """The graph with what is known of the runtime."""

    graph: Graph
    setup: QuantizationSetup
    context: Context
    quantize_outputs: bool
    left: frozenset[str]
    request: CompressionRequest

    def integer_nodes(self) -> frozenset[str]:
        """Names of the operators that are computed with integers."""
        own = {node.name for node in self.graph if self._is_worth_it(node)}
        between = {node.name for node in self.graph if self._may_join(node)}
        # the largest set of which each member is surrounded by the others
        while True:
            integer = own | between
            lost = {name for name in between if not self._is_surrounded(self.graph.node(name), own, integer)}
            if not lost:
                return frozenset(integer)
            between -= lost

    def small_layers(self) -> list[str]:
        """Names of the layers that could be computed with integers, but would take longer."""
        return [
            node.name
            for node in self.graph
            if (setup := self.setup.of(node)) is not None
            and setup.needs_weight
            and self._is_free(node)
            and not self._pays(node)
        ]

    def demands(self, integer: frozenset[str]) -> dict[str, set[str]]:
        """Consumers that demand each quantized tensor."""
        found: dict[str, set[str]] = {}
        for node in self.graph:
            if node.name not in integer:
                continue
            for tensor in self._operands(node):
                found.setdefault(tensor, set()).add(node.name)
            setup = self.setup.of(node)
            assert setup is not None
            if setup.needs_result or setup.only_between:
                result = self._result(node)
                found.setdefault(result, set()).update(n.name for n in self.graph.consumers(result))
        for node in self.graph:
            setup = self.setup.of(node)
            if setup is not None and setup.takes_quantized and node.name not in self.left and self._is_free(node):
                for tensor in self._operands(node):
                    if tensor in found:
                        found[tensor].add(node.name)
        return found

    def shared_ranges(self, integer: frozenset[str], sources: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
        """The other tensors that each shares its range with, where an operator wants one scale for its operands."""
        groups: dict[str, frozenset[str]] = {}
        for node in self.graph:
            setup = self.setup.of(node)
            if node.name not in integer or setup is None or not setup.unified_operands:
                continue
            roots = {_root(tensor, sources) for tensor in self._operands(node)}
            whole = roots.union(*(groups.get(root, frozenset()) for root in roots))
            groups |= dict.fromkeys(whole, frozenset(whole))
        return {root: tuple(sorted(group - {root})) for root, group in groups.items()}

    def factors(self, integer: frozenset[str], sources: Mapping[str, str]) -> frozenset[str]:
        """Operands of products of activations: with zero points on both sides each product has three terms more."""
        return frozenset(
            _root(tensor, sources)
            for node in self.graph
            if node.name in integer and is_of_activations(node)
            for tensor in self._operands(node)
        )

    def moved_up(self, demands: dict[str, set[str]]) -> dict[str, str]:
        """Extend the demands to tensors before operators that only move elements; gives the tensor before each."""
        sources: dict[str, str] = {}
        for node in reversed(self.graph.nodes):
            outputs = [port.tensor for port in node.outputs if self.graph.consumers(port.tensor)]
            if not self._moves(node) or not outputs or not all(self._is_whole(t, demands) for t in outputs):
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
            and not is_excluded(producer, self.context.ignored)
            and consumers >= {node.name for node in everyone}
            and self._may_be_quantized(tensor)
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

    def _is_worth_it(self, node: Node) -> bool:
        setup = self.setup.of(node)
        if setup is None or setup.only_between or not self._is_free(node) or node.name in self.left:
            return False
        if setup.takes_quantized or (setup.unified_operands and len(self._operands(node)) < 2):
            return False
        multiplies = node.kind is OpKind.MATMUL and not is_of_activations(node)
        if (setup.needs_weight or multiplies) and not self._has_weight(node):
            return False
        return not setup.needs_result or self._may_be_quantized(self._result(node))

    def _may_join(self, node: Node) -> bool:
        setup = self.setup.of(node)
        return (
            setup is not None
            and setup.only_between
            and node.name not in self.left
            and self._is_free(node)
            and (not setup.unified_operands or len(self._operands(node)) > 1)
            and all(port.constant is None for port in node.inputs if port.tensor and self._is_float(port.dtype))
            and self._may_be_quantized(self._result(node))
        )

    def _is_surrounded(self, node: Node, own: set[str], integer: set[str]) -> bool:
        operands = self._operands(node)
        return (
            bool(operands)
            and all(self._is_given(t, own, integer) for t in operands)
            and self._is_taken(self._result(node), integer)
        )

    def _is_given(self, tensor: str, own: set[str], integer: set[str]) -> bool:
        """Whether a tensor is quantized for somebody else's sake."""
        if any(node.name in own for node in self.graph.consumers(tensor)):
            return True
        producer = self.graph.producer(tensor)
        while producer is not None:
            setup = self.setup.of(producer)
            if producer.name in integer and setup is not None:
                return setup.needs_result or setup.only_between
            if producer.op_type not in self.setup.fused and not self._moves(producer):
                return False
            producer = self.graph.producer(producer.inputs[0].tensor)
        return False

    def _is_taken(self, tensor: str, integer: set[str]) -> bool:
        """Whether all who take a tensor compute with integers."""
        consumers = self.graph.consumers(tensor)
        return bool(consumers) and all(
            node.name in integer
            or (self._moves(node) and all(self._is_taken(port.tensor, integer) for port in node.outputs))
            for node in consumers
        )

    def _is_free(self, node: Node) -> bool:
        return not node.scope and not is_excluded(node, self.context.ignored) and bool(self._operands(node))

    def _has_weight(self, node: Node) -> bool:
        constants = self._constants_of(node)
        return (
            self._pays(node)
            and len(constants) == 1
            and all(
                constant.is_float
                and constant.shape
                and constant.size
                and self.context.refusal(constant, self.request) is None
                and all(self._is_weight_of(user, index) for user, index in self.graph.users(constant.name))
                for constant in constants
            )
        )

    def _constants_of(self, node: Node) -> list[Constant]:
        return [self.graph.constants[port.constant] for _, port in node.weights if port.constant is not None]

    def _pays(self, node: Node) -> bool:
        return all(self.setup.pays(node, constant.shape) for constant in self._constants_of(node))

    def _is_weight_of(self, user: Node, index: int) -> bool:
        return user.inputs[index].layout is not None and not is_excluded(user, self.context.ignored)

    def _operands(self, node: Node) -> list[str]:
        """Tensors of floating-point numbers that are computed on the way."""
        setup = self.setup.of(node)
        wanted = None if setup is None else setup.operands
        ports = [port for index, port in enumerate(node.inputs) if wanted is None or index in wanted]
        ports = [port for port in ports if port.tensor and port.constant is None and self._is_float(port.dtype)]
        return list(dict.fromkeys(port.tensor for port in ports))

    def _is_float(self, dtype: str | None) -> bool:
        # what nobody states is taken for numbers as weights are
        return dtype is None or dtype in FLOAT_DTYPES

    def _result(self, node: Node) -> str:
        """What an operator gives, with what the runtime makes part of it."""
        tensor = node.outputs[0].tensor
        while True:
            consumers = self.graph.consumers(tensor)
            if len(consumers) != 1 or consumers[0].op_type not in self.setup.fused or tensor in self.graph.outputs:
                return tensor
            if is_excluded(consumers[0], self.context.ignored):
                return tensor
            tensor = consumers[0].outputs[0].tensor

    def _may_be_quantized(self, tensor: str) -> bool:
        return self.quantize_outputs or (bool(self.graph.consumers(tensor)) and tensor not in self.graph.outputs)

    def _moves(self, node: Node) -> bool:
        return node.op_type in self.setup.transparent and not node.scope and not is_excluded(node, self.context.ignored)

    def _is_whole(self, tensor: str, demands: Mapping[str, set[str]]) -> bool:
        everyone = {node.name for node in self.graph.consumers(tensor)}
        return self._may_be_quantized(tensor) and demands.get(tensor, set()) >= everyone
