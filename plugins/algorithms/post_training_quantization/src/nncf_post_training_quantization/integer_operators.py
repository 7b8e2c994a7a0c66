"""Which operators are computed with integers.

Those that the runtime computes with integers (its :class:`~nncf_core.hardware.QuantizationSetup`) are where they are
large enough. Those that are worth no quantizer of their own join in where everything around them is quantized anyway.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from attrs import frozen

from nncf_core.attention import is_of_activations
from nncf_core.contracts import CompressionRequest, Context, is_excluded
from nncf_core.graph import FLOAT_DTYPES, Constant, Graph, Node, OpKind, Trait
from nncf_core.hardware import QuantizationSetup


@frozen
class IntegerOperators:
    """A graph with what is known of the runtime.

    :param quantize_outputs: whether tensors that leave the model may be quantized.
    :param left: names of the nodes that stay in floating point.
    :param request: how weights are stored.
    """

    graph: Graph
    setup: QuantizationSetup
    context: Context
    quantize_outputs: bool
    left: frozenset[str]
    request: CompressionRequest

    def nodes(self) -> frozenset[str]:
        """Names of the operators that are computed with integers."""
        own = {node.name for node in self.graph if self._is_worth_it(node)}
        while True:
            integer = self._joined(own)
            # what stays in floating point makes its neighbours worth less
            small = {name for name in own if not self._pays(self.graph.node(name), integer)}
            if not small:
                return integer
            own -= small

    def small_layers(self, integer: frozenset[str]) -> list[str]:
        """Names of the layers that could be computed with integers, but would take longer.

        :param integer: those that are.
        """
        return [
            node.name
            for node in self.graph
            if (setup := self.setup.of(node)) is not None
            and setup.needs_weight
            and self.is_free(node)
            and not self._pays(node, integer)
        ]

    def _joined(self, own: set[str]) -> frozenset[str]:
        """Some operators, and those that join in where everything around them is quantized."""
        between = {node.name for node in self.graph if self._may_join(node)}
        # the largest set of which each member is surrounded by the others
        while True:
            integer = own | between
            lost = {name for name in between if not self._is_surrounded(self.graph.node(name), own, integer)}
            if not lost:
                return frozenset(integer)
            between -= lost

    def operands(self, node: Node) -> list[str]:
        """Tensors of floating-point numbers that are computed on the way."""
        setup = self.setup.of(node)
        wanted = None if setup is None else setup.operands
        ports = [port for index, port in enumerate(node.inputs) if wanted is None or index in wanted]
        ports = [port for port in ports if port.tensor and port.constant is None and self._is_float(port.dtype)]
        return list(dict.fromkeys(port.tensor for port in ports))

    def result(self, node: Node) -> str:
        """What an operator gives, with what the runtime makes part of it."""
        tensor = node.outputs[0].tensor
        while True:
            consumers = self.graph.consumers(tensor)
            if len(consumers) != 1 or consumers[0].op_type not in self.setup.fused or tensor in self.graph.outputs:
                return tensor
            if is_excluded(consumers[0], self.context.ignored):
                return tensor
            tensor = consumers[0].outputs[0].tensor

    def moves(self, node: Node) -> bool:
        """Whether an operator only moves elements."""
        return node.op_type in self.setup.transparent and not node.scope and not is_excluded(node, self.context.ignored)

    def may_be_quantized(self, tensor: str) -> bool:
        """Whether a tensor may be quantized where it leaves the model, if it does."""
        return self.quantize_outputs or (bool(self.graph.consumers(tensor)) and tensor not in self.graph.outputs)

    def is_free(self, node: Node) -> bool:
        """Whether the user, and the place in the graph, allow that an operator is quantized."""
        return not node.scope and not is_excluded(node, self.context.ignored) and bool(self.operands(node))

    def _is_worth_it(self, node: Node) -> bool:
        setup = self.setup.of(node)
        if setup is None or setup.only_between or not self.is_free(node) or node.name in self.left:
            return False
        if setup.takes_quantized or (setup.unified_operands and len(self.operands(node)) < 2):
            return False
        multiplies = node.kind is OpKind.MATMUL and not is_of_activations(node)
        if (setup.needs_weight or multiplies) and not self._has_weight(node):
            return False
        return not setup.needs_result or self.may_be_quantized(self.result(node))

    def _may_join(self, node: Node) -> bool:
        setup = self.setup.of(node)
        return (
            setup is not None
            and setup.only_between
            and node.name not in self.left
            and self.is_free(node)
            and (not setup.unified_operands or len(self.operands(node)) > 1)
            and all(port.constant is None for port in node.inputs if port.tensor and self._is_float(port.dtype))
            and self.may_be_quantized(self.result(node))
        )

    def _is_surrounded(self, node: Node, own: set[str], integer: Collection[str]) -> bool:
        operands = self.operands(node)
        return (
            bool(operands)
            and all(self._is_given(t, own, integer) for t in operands)
            and self._is_taken(self.result(node), integer)
        )

    def _is_given(self, tensor: str, own: set[str], integer: Collection[str]) -> bool:
        """Whether a tensor is quantized for somebody else's sake."""
        if any(node.name in own for node in self.graph.consumers(tensor)):
            return True
        return self._is_made(tensor, integer)

    def _is_made(self, tensor: str, integer: Collection[str]) -> bool:
        """Whether a tensor comes as integers, but for operators that move them."""
        producer = self.graph.producer(tensor)
        while producer is not None:
            setup = self.setup.of(producer)
            if producer.name in integer and setup is not None:
                return setup.needs_result or setup.only_between
            if producer.op_type not in self.setup.fused and not self.moves(producer):
                return False
            producer = self.graph.producer(producer.inputs[0].tensor)
        return False

    def _is_taken(self, tensor: str, integer: Collection[str]) -> bool:
        """Whether all who take a tensor compute with integers."""
        consumers = self.graph.consumers(tensor)
        return bool(consumers) and all(
            node.name in integer
            or (self.moves(node) and all(self._is_taken(port.tensor, integer) for port in node.outputs))
            for node in consumers
        )

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

    def _pays(self, node: Node, integer: Collection[str] | None = None) -> bool:
        """Whether a layer is large enough.

        :param integer: the operators that are computed with integers; ``None``: as if all around it were.
        """
        setup = self.setup.of(node)
        sides = 0 if setup is None or integer is None or not setup.least.beside_float else self._sides(node, integer)
        return all(self.setup.pays(node, constant.shape, sides) for constant in self._constants_of(node))

    def _sides(self, node: Node, integer: Collection[str]) -> int:
        """On how many sides of a layer there is one in floating point, with nothing but elementwise operators between.

        Layers of gates do not count, which see one position.
        """
        before = self._layers_near(self.operands(node), behind=False)
        behind = self._layers_near([self.result(node)], behind=True)
        return sum(not found <= {*integer, *self.left} for found in (before, behind))

    def _layers_near(self, tensors: Iterable[str], *, behind: bool) -> set[str]:
        """Names of the first layers with weights before, or behind, tensors."""
        found: set[str] = set()
        ahead, seen = list(tensors), set[str]()
        while ahead:
            tensor = ahead.pop()
            if tensor in seen:
                continue
            seen.add(tensor)
            producer = self.graph.producer(tensor)
            for node in self.graph.consumers(tensor) if behind else () if producer is None else (producer,):
                if node.weights:
                    found.add(node.name)
                elif Trait.ELEMENTWISE in node.traits or node.op_type in self.setup.fused or self.moves(node):
                    ahead += [port.tensor for port in node.outputs] if behind else self.operands(node)
        return found

    def _is_weight_of(self, user: Node, index: int) -> bool:
        return user.inputs[index].layout is not None and not is_excluded(user, self.context.ignored)

    def _is_float(self, dtype: str | None) -> bool:
        # what nobody states is taken for numbers as weights are
        return dtype is None or dtype in FLOAT_DTYPES
