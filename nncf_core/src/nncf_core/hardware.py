"""What a runtime on a device computes with integers: facts about it as data, which algorithms place quantizers by."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from nncf_core.graph import Node


@frozen
class OperatorSetup:
    """How a runtime computes operators of one type with integers.

    :param needs_weight: only with a constant operand of 8 bits; products of two activations stay as they are.
    :param needs_result: only when the result is quantized, too; otherwise the operator would be computed in floating
        point after all, and slower than without quantizers.
    :param only_between: not worth a quantizer of its own: computed with integers where operands and result are
        quantized anyway.
    """

    needs_weight: bool = False
    needs_result: bool = False
    only_between: bool = False


@frozen
class QuantizationSetup:
    """A runtime on a device.

    :param operators: by the framework's name of their type; all others are computed in floating point.
    :param transparent: types that move integers as they move numbers, so that a quantizer after them may as well stand
        before them.
    :param moves_through: whether the runtime finds a quantizer before transparent operators; otherwise one
        with the same range must stand behind each of them, too.
    :param fused: types that become part of the operator before them: nothing is quantized in between.
    :param stored: types that compute with floats beside integer operators, and whose weights may be stored in 8 bits
        nevertheless, at next to no cost.
    :param weight_zero_points: whether operators whose weights have zero points are computed with integers, too.
    """

    operators: Mapping[str, OperatorSetup] = field(factory=dict)
    transparent: frozenset[str] = frozenset()
    fused: frozenset[str] = frozenset()
    moves_through: bool = False
    stored: frozenset[str] = frozenset()
    weight_zero_points: bool = True

    def of(self, node: Node) -> OperatorSetup | None:
        """How an operator is computed with integers; ``None`` when it is not."""
        return self.operators.get(node.op_type)
