"""Factors for channels, and the constants that take them in without any change of what a network computes.

Where what gives a tensor and all that take it hold constants for each channel, factors can move from one side to the
other: ``x·W = (x/s)·(s·W)``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum

import numpy as np
from attrs import frozen

from nncf_core.contracts import Context, is_excluded
from nncf_core.graph import Constant, Graph, Node, OpKind, Port, WeightLayout
from nncf_core.transformations import PointKind, TargetPoint, point_of


class Role(Enum):
    """Which axes of a constant the channels are."""

    OUTPUTS = "output channels of a weight"
    INPUTS = "input channels of a weight"
    ELEMENTS = "elements of an operand"


@frozen
class Share:
    """What a constant takes in.

    :param inverse: whether it is divided by the factors rather than multiplied.
    :param layout: of a weight.
    :param behind: of an operand: number of axes behind that of the channels.
    """

    constant: Constant
    role: Role
    inverse: bool
    layout: WeightLayout | None = None
    behind: int = 0

    def factors(self, channels: np.ndarray) -> np.ndarray:
        """What the constant is multiplied by, so shaped that it broadcasts against it.

        :param channels: a factor for each channel of the activations.
        """
        values = 1 / channels if self.inverse else channels
        if self.layout is None:
            return values.reshape(-1, *[1] * self.behind)
        shape = self.constant.shape
        kept = (*self.layout.batch_axes, *self.layout.channel_axes)
        if self.role is Role.OUTPUTS:
            return values.reshape([size if axis in kept else 1 for axis, size in enumerate(shape)])
        axis = self.layout.reduction_axes[0]
        groups = values.size // shape[axis]
        # [outputs, inputs of a group]: groups follow one another along the outputs
        outputs = int(np.prod([shape[a] for a in kept])) if groups > 1 else 1
        matrix = np.repeat(values.reshape(groups, -1), outputs // groups, axis=0)
        sizes = [shape[a] if groups > 1 else 1 for a in kept]
        spread = matrix.reshape(*sizes, shape[axis], *[1] * (len(shape) - len(kept) - 1))
        return np.moveaxis(spread, range(spread.ndim), (*kept, axis, *self.layout.reduction_axes[1:]))


def tensors(graph: Graph) -> Iterator[tuple[Node | None, Port]]:
    """Tensors of activations with their producers, which inputs of the network lack, in graph order."""
    seen: set[str] = set()
    for node in graph:
        for port in node.inputs:
            if port.constant is None and port.tensor not in seen and graph.producer(port.tensor) is None:
                seen.add(port.tensor)
                yield None, port
        for port in node.outputs:
            yield node, port


def fits(shares: Iterable[Share], channels: int) -> bool:
    """Whether all constants have as many channels as the activations have."""
    ones = np.ones(channels)
    for share in shares:
        try:
            broadcast = np.broadcast_shapes(share.constant.shape, share.factors(ones).shape)
        except ValueError:
            return False
        if share.layout is not None and broadcast != share.constant.shape:
            return False
    return True


@frozen
class ChannelScaling:
    """Finds the constants on both sides of a tensor.

    :param ignored: names of the nodes that are left alone.
    :param through_products: whether factors reach, through the product of two tensors, one of the two that is taken by
        nothing else: of a gated feed-forward network the projection that has no activation.
    """

    graph: Graph
    ignored: frozenset[str]
    through_products: bool = False

    def axes_behind(self, producer: Node | None, tensor: str) -> int | None:
        """Axes behind the channels of a tensor: those of a kernel, or none before and after matrix products."""
        for user in (*self.graph.consumers(tensor), *([] if producer is None else [producer])):
            if user.kind is OpKind.CONV and user.weights:
                _, weight = user.weights[0]
                assert weight.layout is not None
                return len(weight.layout.reduction_axes) - 1
            if user.kind is OpKind.MATMUL and user.weights:
                return 0
        return None

    def after(self, tensor: str, behind: int) -> tuple[Share, ...] | None:
        """What all who take a tensor multiply by the factors; ``None`` when one of them cannot."""
        found: list[Share] = []
        consumers = self._takers(tensor)
        for node in consumers:
            share = self._operand(node, tensor, behind)
            if share is None:
                return None
            found.append(share)
        return tuple(found) if found and len({node.name for node in consumers}) == len(found) else None

    def layers(self, tensor: str, behind: int, context: Context) -> tuple[tuple[TargetPoint, ...], tuple[Share, ...]]:
        """The layers that take a tensor: where to divide what they take, and what undoes that."""
        found: dict[TargetPoint, Share] = {}
        consumers = self._takers(tensor)
        for node in consumers:
            share = self._operand(node, tensor, behind)
            if share is not None and share.role is Role.INPUTS:
                index = next(i for i, port in enumerate(node.inputs) if port.tensor == tensor)
                found[TargetPoint(node.name, PointKind.INPUT, index)] = share
        everyone = len(found) == len(consumers) > 1 and tensor not in self.graph.outputs
        source = point_of(self.graph, tensor)
        if everyone and source.kind is PointKind.OUTPUT and context.takes_multiplication(source):
            return (source,), tuple(found.values())
        found = {point: share for point, share in found.items() if context.takes_multiplication(point)}
        return tuple(found), tuple(found.values())

    def before(self, tensor: str, behind: int) -> tuple[Share, ...] | None:
        """What divides a tensor by the factors; ``None`` when nothing can."""
        node = self.graph.producer(tensor)
        if tensor in self.graph.outputs:
            return None
        if node is None or not self._is_free(node) or len(node.outputs) != 1:
            return None
        if node.kind in (OpKind.CONV, OpKind.CONV_TRANSPOSE, OpKind.MATMUL):
            return self._outputs(node, behind)
        if node.kind in (OpKind.BATCH_NORM, OpKind.LAYER_NORM):
            return self._affine(node, behind)
        activations = [port for port in node.inputs if port.tensor and port.constant is None]
        if self.through_products and node.kind is OpKind.MULTIPLY and len(activations) == 2 == len(node.inputs):
            return self._one_of(activations, behind)
        if len(activations) != 1:
            return None
        if node.kind is OpKind.RELU or (node.kind in (OpKind.MAX_POOL, OpKind.AVERAGE_POOL) and behind):
            return self._passed_on(activations[0].tensor, behind)
        if node.kind not in (OpKind.ADD, OpKind.SUBTRACT, OpKind.MULTIPLY, OpKind.DIVIDE) or len(node.inputs) != 2:
            return None
        position = next(i for i, port in enumerate(node.inputs) if port.constant is not None)
        own = self._elements(node.inputs[position], behind, inverse=node.kind is not OpKind.DIVIDE)
        if own is None or (node.kind is OpKind.DIVIDE and position == 0):
            return None
        if node.kind in (OpKind.MULTIPLY, OpKind.DIVIDE):
            return (own,)
        rest = self._passed_on(activations[0].tensor, behind)
        return None if rest is None else (own, *rest)

    def divided(self, tensor: str, behind: int) -> tuple[str, ...]:
        """The tensors that :meth:`before` divides, a tensor and those between it and the constants."""
        found = [tensor]
        while (node := self.graph.producer(found[-1])) is not None:
            activations = [port.tensor for port in node.inputs if port.tensor and port.constant is None]
            passes = node.kind in (OpKind.RELU, OpKind.ADD, OpKind.SUBTRACT)
            if not passes and not (node.kind in (OpKind.MAX_POOL, OpKind.AVERAGE_POOL) and behind):
                break
            found.append(activations[0])
        return tuple(found)

    def _one_of(self, factors: list[Port], behind: int) -> tuple[Share, ...] | None:
        """What divides the first factor of a product that something can divide; a square has no such one."""
        if factors[0].tensor == factors[1].tensor:
            return None
        found = (self._passed_on(port.tensor, behind) for port in factors)
        return next((shares for shares in found if shares is not None), None)

    def _passed_on(self, tensor: str, behind: int) -> tuple[Share, ...] | None:
        return self.before(tensor, behind) if len(self._takers(tensor)) == 1 else None

    def _takers(self, tensor: str) -> tuple[Node, ...]:
        """The nodes that look at the elements of a tensor."""
        return tuple(node for node in self.graph.consumers(tensor) if node.kind is not OpKind.SHAPE_OF)

    def _operand(self, node: Node, tensor: str, behind: int) -> Share | None:
        """What a node multiplies one of its operands by."""
        if not self._is_free(node) or sum(port.tensor == tensor for port in node.inputs) != 1:
            return None
        if node.kind in (OpKind.CONV, OpKind.MATMUL):
            position = next(i for i, port in enumerate(node.inputs) if port.tensor == tensor)
            if len(node.weights) != 1 or node.weights[0][0] < position or _transposed(node):
                return None
            return self._weight(node, behind, Role.INPUTS, inverse=False)
        constants = [port for port in node.inputs if port.constant is not None]
        if node.kind is OpKind.MULTIPLY and len(node.inputs) == 2 and len(constants) == 1:
            return self._elements(constants[0], behind, inverse=False)
        return None

    def _weight(self, node: Node, behind: int, role: Role, inverse: bool) -> Share | None:
        _, port = node.weights[0]
        layout = port.layout
        assert port.constant is not None
        assert layout is not None
        constant = self.graph.constants[port.constant]
        if not self._is_own(constant) or len(layout.reduction_axes) != behind + 1 or not layout.channel_axes:
            return None
        if node.kind is OpKind.MATMUL and layout.batch_axes:
            return None
        # [inputs, outputs of a group]: no axis is that of all outputs, unless a group is one channel
        if node.kind is OpKind.CONV_TRANSPOSE and layout.channel_axes == (0,) and constant.shape[1] > 1:
            return None
        return Share(constant, role, inverse, layout)

    def _outputs(self, node: Node, behind: int) -> tuple[Share, ...] | None:
        """What a layer divides its output channels by: the weight and whatever is added."""
        if len(node.weights) != 1:
            return None
        weight = self._weight(node, behind, Role.OUTPUTS, inverse=True)
        added = [port for port in node.inputs if port.constant is not None and port.layout is None]
        shares = (weight, *(self._elements(port, 0, inverse=True) for port in added))
        return None if any(share is None for share in shares) else tuple(s for s in shares if s is not None)

    def _affine(self, node: Node, behind: int) -> tuple[Share, ...] | None:
        """What a normalization divides its result by: the scale and the shift that it ends with."""
        own = node.inputs[1:3]
        batch = node.kind is OpKind.BATCH_NORM
        if node.inputs[0].constant is not None or not own or own[0].constant is None or batch != bool(behind):
            return None
        shares = [self._elements(port, 0, inverse=True) for port in own if port.tensor]
        return None if any(share is None for share in shares) else tuple(s for s in shares if s is not None)

    def _elements(self, port: Port, behind: int, inverse: bool) -> Share | None:
        constant = None if port.constant is None else self.graph.constants[port.constant]
        if constant is None or not self._is_own(constant) or port.shape is None:
            return None
        # a transpose between the constant and its user would turn the axes around
        if tuple(port.shape) != constant.shape:
            return None
        return Share(constant, Role.ELEMENTS, inverse, behind=behind)

    def _is_own(self, constant: Constant) -> bool:
        return constant.is_float and constant.size > 0 and len(self.graph.users(constant.name)) == 1

    def _is_free(self, node: Node) -> bool:
        return not node.scope and not is_excluded(node, self.ignored)


def _transposed(node: Node) -> bool:
    return bool(node.attributes.get("transA", 0) or node.attributes.get("transpose_a", False))
