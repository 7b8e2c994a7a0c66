"""What a runtime on a device computes with integers: facts about it as data, which algorithms place quantizers by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from attrs import field, frozen

from nncf_core.graph import Node, OpKind


@frozen
class LayerSize:
    """How large a layer is, seen from one of its outputs.

    :param channels: input channels that an output is computed from.
    :param taps: products that are summed for an output: channels by positions of the window.
    :param outputs: output channels that are computed from the same input channels.
    """

    channels: int = 1
    taps: int = 1
    outputs: int = 1

    def reaches(self, least: LayerSize) -> bool:
        """Whether nothing is smaller."""
        return self.channels >= least.channels and self.taps >= least.taps and self.outputs >= least.outputs


@frozen
class OperatorSetup:
    """How a runtime computes operators of one type with integers.

    :param needs_weight: only with a constant operand of 8 bits; products of two activations stay as they are.
    :param needs_result: only when the result is quantized, too; otherwise the operator would be computed in floating
        point after all, and slower than without quantizers.
    :param only_between: not worth a quantizer of its own: computed with integers where operands and result are
        quantized anyway.
    :param least: layers that are smaller take longer with integers than without.
    :param least_with_window: the same for layers whose window has more than one position.
    """

    needs_weight: bool = False
    needs_result: bool = False
    only_between: bool = False
    least: LayerSize = LayerSize()
    least_with_window: LayerSize = LayerSize()


@frozen
class QuantizationSetup:
    """A runtime on a device.

    :param operators: by the framework's name of their type; all others are computed in floating point.
    :param transparent: types that move integers as they move numbers, so that a quantizer after them may as well stand
        before them.
    :param moves_through: whether the runtime finds a quantizer before transparent operators; otherwise one
        with the same range must stand behind each of them, too.
    :param fused: types that become part of the operator before them: nothing is quantized in between.
    """

    operators: Mapping[str, OperatorSetup] = field(factory=dict)
    transparent: frozenset[str] = frozenset()
    fused: frozenset[str] = frozenset()
    moves_through: bool = False

    def of(self, node: Node) -> OperatorSetup | None:
        """How an operator is computed with integers; ``None`` when it is not."""
        return self.operators.get(node.op_type)

    def pays(self, node: Node, weight_shape: Sequence[int]) -> bool:
        """Whether a layer is large enough for integers.

        :param weight_shape: of its constant operand.
        """
        setup = self.operators[node.op_type]
        size = size_of(node, weight_shape)
        least = setup.least if size.taps == size.channels else setup.least_with_window
        return size.reaches(least)


def size_of(node: Node, weight_shape: Sequence[int]) -> LayerSize:
    """The size of a layer with a constant weight."""
    _, port = node.weights[0]
    assert port.layout is not None
    reduced = [weight_shape[axis] for axis in port.layout.reduction_axes]
    outputs = prod(weight_shape[axis] for axis in port.layout.channel_axes)
    if node.kind is not OpKind.CONV:
        return LayerSize(prod(reduced), prod(reduced), outputs)
    groups = int(str(node.attributes.get("group", 1)))
    return LayerSize(reduced[0], prod(reduced), outputs // max(groups, 1))
