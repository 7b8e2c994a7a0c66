"""What a runtime on a device computes in 8 bits: facts about it as data, which algorithms place quantizers by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from attrs import evolve, field, frozen

from nncf_core.graph import Node, OpKind

_UNKNOWN = 16
"""What stands for the length of an axis that is not known; the first is that of samples, of which there may be one."""


@frozen
class LayerSize:
    """How large a layer is; of one in groups, how large a group is.

    :param channels: input channels that an output channel is computed from.
    :param taps: products that are summed for an output channel: channels by positions of the window.
    :param outputs: output channels that are computed from the same input channels.
    :param positions: of the result, all samples together.
    """

    channels: int
    taps: int
    outputs: int
    positions: int = 1

    @property
    def products_per_element(self) -> float:
        """Products for each element that is quantized before the layer or dequantized behind it."""
        return self.taps * self.outputs / (self.channels + self.outputs)


@frozen
class LeastSize:
    """Layers that are smaller in any respect take longer with integers than in floating point.

    :param channels: input channels that an output channel is computed from.
    :param outputs: output channels that are computed from the same input channels.
    :param products_per_element: what makes up for quantizing the operand and dequantizing the result.
    :param wide: input and output channels from which on the kernel's registers are filled.
    :param narrow_products_per_element: what it takes of them in layers of fewer.
    :param beside_float: what it takes more of them for each side, operand and result, on which there is a layer in
        floating point: numbers are brought into another order there, and operators between the two are not fused.
    :param products: what makes up for the time that every layer of integers takes, besides.
    :param positions: so many take as long as fewer.
    """

    channels: int = 1
    outputs: int = 1
    products_per_element: float = 0.0
    wide: tuple[int, int] = (1, 1)
    narrow_products_per_element: float = 0.0
    beside_float: float = 0.0
    products: int = 0
    positions: int = 1

    def allows(self, size: LayerSize, float_sides: int = 0) -> bool:
        """Whether a layer is large enough.

        :param float_sides: on how many sides there is a layer in floating point.
        """
        positions = max(size.positions, self.positions)
        narrow = size.channels < self.wide[0] or size.outputs < self.wide[1]
        needed = self.narrow_products_per_element if narrow else self.products_per_element
        needed += float_sides * self.beside_float
        return (
            size.channels >= self.channels
            and size.outputs >= self.outputs
            and positions * (size.taps * size.outputs - needed * (size.channels + size.outputs)) >= self.products
        )


@frozen
class KernelWidth:
    """How many output channels a runtime's kernels of convolutions compute at a time, whether there are so many or not.

    :param lanes: so many.
    :param moved: of kernels of integers, which first bring the elements of each window together: as long as that takes
        for each element, in products.
    :param gain: how many times fewer products, those of channels that are none among them, are worth another form.
    :param saved: products that have to be saved for each byte of the result, which has to be moved.
    """

    lanes: int
    moved: int
    gain: float
    saved: int


@frozen
class OperatorSetup:
    """How a runtime computes operators of one type with integers.

    :param needs_weight: only with a constant operand of 8 bits; products of two activations stay as they are.
    :param needs_result: only when the result is quantized, too; otherwise the operator would be computed in floating
        point after all, and slower than without quantizers.
    :param only_between: not worth a quantizer of its own: computed with integers where operands and result are
        quantized anyway.
    :param unified_operands: where two or more operands are computed on the way, all with the same scale and zero point,
        so that integers can be added, or put one behind the other, as they are. With one such operand the operator is
        computed in floating point.
    :param operands: indices of the inputs that are quantized; ``None``: all that are computed on the way.
    :param takes_quantized: takes operands as integers where they are quantized for others, and asks for nothing itself.
    :param least: layers that are smaller stay in floating point.
    """

    needs_weight: bool = False
    needs_result: bool = False
    only_between: bool = False
    unified_operands: bool = False
    takes_quantized: bool = False
    operands: tuple[int, ...] | None = None
    least: LeastSize = LeastSize()


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
    :param zero_points: whether integers of activations may have a zero point.
    :param signed: whether integers of activations are signed; ``None``: where there are numbers below zero.
    :param whole: whether what is not computed with integers runs on another device: results that leave the model, and
        constants beside activations, are quantized, too.
    :param integer_biases: whether biases become 32-bit integers, with the product of the scales of operand and weight.
    :param attention_output: whether the product of attention's probabilities and values is worth quantizers, too.
    :param float8: the operators that compute with 8-bit floats, by number format (``f8e4m3``, ``f8e5m2``).
    :param sums_of_16_bits: whether some processors of this kind add neighbouring products in 16 bits, which saturate.
    :param width: of the kernels of convolutions, where it pays to fill them; ``None``: nowhere.
    """

    operators: Mapping[str, OperatorSetup] = field(factory=dict)
    transparent: frozenset[str] = frozenset()
    fused: frozenset[str] = frozenset()
    moves_through: bool = False
    stored: frozenset[str] = frozenset()
    weight_zero_points: bool = True
    zero_points: bool = True
    signed: bool | None = None
    whole: bool = False
    integer_biases: bool = False
    attention_output: bool = False
    float8: Mapping[str, Mapping[str, OperatorSetup]] = field(factory=dict)
    sums_of_16_bits: bool = False
    width: KernelWidth | None = None

    def of(self, node: Node) -> OperatorSetup | None:
        """How an operator is computed with integers; ``None`` when it is not."""
        return self.operators.get(node.op_type)

    def in_float8(self, number_format: str) -> QuantizationSetup | None:
        """The setup of 8-bit floats, whose quantizers stand at operands; ``None`` when the runtime has no such."""
        operators = self.float8.get(number_format)
        return (
            None if operators is None else evolve(self, operators=operators, transparent=frozenset(), fused=frozenset())
        )

    def pays(self, node: Node, weight_shape: Sequence[int], float_sides: int = 0) -> bool:
        """Whether a layer is large enough for integers.

        :param weight_shape: of its constant operand.
        :param float_sides: on how many sides, operand and result, there is a layer in floating point.
        """
        return self.operators[node.op_type].least.allows(size_of(node, weight_shape), float_sides)


def size_of(node: Node, weight_shape: Sequence[int]) -> LayerSize:
    """The size of a layer with a constant weight."""
    _, port = node.weights[0]
    assert port.layout is not None
    reduced = [weight_shape[axis] for axis in port.layout.reduction_axes]
    outputs = prod(weight_shape[axis] for axis in port.layout.channel_axes)
    shape = node.outputs[0].shape
    if node.kind is not OpKind.CONV:
        return LayerSize(prod(reduced), prod(reduced), outputs, _positions((1, None) if shape is None else shape[:-1]))
    groups = int(str(node.attributes.get("group", 1)))
    where = (1, *[None] * (len(reduced) - 1)) if shape is None else (*shape[:1], *shape[2:])
    return LayerSize(reduced[0], prod(reduced), outputs // max(groups, 1), _positions(where))


def _positions(lengths: Sequence[int | None]) -> int:
    return prod((1 if axis == 0 else _UNKNOWN) if length is None else length for axis, length in enumerate(lengths))
