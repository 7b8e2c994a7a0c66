"""Scalings, shifts and normalizations with constants, folded into the layers beside them.

Behind a layer ``(W·x + b)·f + s = (f·W)·x + (f·b + s)``, with a factor and a shift for each output channel. Before a
layer ``W·(f·x + s) + b = (W·f)·x + (W·s + b)``, with one for each input channel. A shift can go only where nothing is
padded: padding is not shifted. A factor before a layer stays, since it is where ranges of channels can be evened out,
but for depthwise convolutions, and where it could go into the layer before. Results change by rounding only.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from attrs import frozen

from nncf_onnx.foldable_layers import Layer, broadcast, fits, layer_of, number_of, rewrite
from nncf_onnx.plain_constants import numbers_of, single_user
from nncf_onnx.rewriting import Rewriter

_TINY = 1e-3
"""What is smaller, compared with the largest, is not divided by."""


@frozen(eq=False)
class _Affine:
    """A node that computes ``x·factor + shift``.

    :param factor: a constant that broadcasts with the tensor; ``None`` for 1.
    :param shift: likewise; ``None`` for 0.
    :param along_channels: whether both have one dimension, which is the tensor's axis 1.
    """

    node: ir.Node
    source: ir.Value
    factor: np.ndarray | None
    shift: np.ndarray | None
    along_channels: bool = False

    def numbers(self, rank: int | None, axis: int, channels: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Factor and shift of each channel; ``None`` when they are no such things."""
        result = []
        for array, neutral in ((self.factor, 1.0), (self.shift, 0.0)):
            found: np.ndarray | None
            if array is None:
                found = np.full(channels, neutral)
            elif self.along_channels:
                fitting = array.size == channels and (axis == 1 or rank == 2)
                found = array if fitting else None
            else:
                found = broadcast(array, rank, axis, channels)
            if found is None:
                return None
            result.append(found)
        return result[0], result[1]

    def keeps_shape(self, rank: int, channels: int) -> bool:
        """Whether the result is known to have the shape of what it is computed from."""
        arrays = [array for array in (self.factor, self.shift) if array is not None]
        if self.along_channels or all(array.ndim <= 1 and array.size == 1 for array in arrays):
            return True
        shape = self.source.shape
        return shape is not None and len(shape) == rank and shape[1] == channels


def fold_scales(model: ir.Model, rewriter: Rewriter, arithmetic: bool, normalizations: bool) -> int:
    """Fold what can be in the main graph; gives how many nodes went.

    :param arithmetic: fold products, sums, differences and quotients with constants.
    :param normalizations: fold batch normalization.
    """
    folding = _Folding(rewriter, arithmetic, normalizations)
    behind = sum(folding.behind(node) for node in list(model.graph))
    return behind + sum(folding.before(node) for node in reversed(list(model.graph)))


@frozen
class _Folding:
    rewriter: Rewriter
    arithmetic: bool
    normalizations: bool

    def behind(self, node: ir.Node) -> int:
        """Fold all that follows a layer."""
        count = 0
        while (layer := layer_of(node)) is not None:
            result = layer.end.outputs[0]
            follower = single_user(result)
            affine = None if follower is None else self._affine(follower)
            if affine is None or affine.source is not result or (affine.shift is not None and not layer.has_bias_port):
                break
            numbers = affine.numbers(layer.rank, layer.axis, layer.channels)
            if numbers is None or not fits(layer, *layer.behind(*numbers)):
                break
            rewrite(layer, *layer.behind(*numbers), self.rewriter)
            self.rewriter.bypass(affine.node, result)
            count += 1
        return count

    def before(self, node: ir.Node) -> bool:
        """Fold a node into the layers that take its result."""
        affine = self._affine(node)
        if affine is None or node.graph is None:
            return False
        layers = _takers(node.outputs[0])
        if not layers:
            return affine.shift is None and self._through_shift(affine)
        rank, channels = _rank(layers), layers[0].input_channels
        numbers = affine.numbers(rank, 1, channels) if affine.keeps_shape(rank, channels) else None
        if numbers is None or (affine.shift is not None and any(layer.is_padded for layer in layers)):
            return False
        if affine.factor is None or all(layer.is_depthwise for layer in layers) or _takes_factors(affine.source):
            return self._into(layers, *numbers) and self._bypass(affine)
        if affine.shift is None:
            return False
        # a normalization becomes a product
        return self._into(layers, np.ones_like(numbers[0]), numbers[1]) and self._multiply(affine, layers, numbers[0])

    def _through_shift(self, affine: _Affine) -> bool:
        """``x·f + s`` before padded depthwise convolutions: ``x + s/f``, and the factor goes into their weights."""
        follower = single_user(affine.node.outputs[0])
        adding = None if follower is None else self._affine(follower)
        if adding is None or adding.shift is None or adding.factor is not None:
            return False
        layers = _takers(adding.node.outputs[0])
        if not layers or not all(layer.is_depthwise for layer in layers):
            return False
        rank, channels = _rank(layers), layers[0].input_channels
        whole = _Affine(adding.node, affine.source, affine.factor, adding.shift)
        if not whole.keeps_shape(rank, channels):
            return False
        factors, shifts = affine.numbers(rank, 1, channels), adding.numbers(rank, 1, channels)
        if factors is None or shifts is None or adding.source is not affine.node.outputs[0]:
            return False
        factor, shift = factors[0], shifts[1]
        if np.abs(factor).min() <= _TINY * np.abs(factor).max():
            return False
        if not self._into(layers, factor, np.zeros_like(factor)):
            return False
        moved = shift / factor
        self._operate("Add", affine.source, moved if np.ptp(moved) else moved[:1], layers, adding.node)
        return True

    def _into(self, layers: list[Layer], factor: np.ndarray, shift: np.ndarray) -> bool:
        if not all(fits(layer, *layer.before(factor, shift)) for layer in layers):
            return False
        for layer in layers:
            rewrite(layer, *layer.before(factor, shift), self.rewriter)
        return True

    def _bypass(self, affine: _Affine) -> bool:
        self.rewriter.bypass(affine.node, affine.source)
        return True

    def _multiply(self, affine: _Affine, layers: list[Layer], factor: np.ndarray) -> bool:
        self._operate("Mul", affine.source, factor, layers, affine.node)
        return False  # one node for another

    def _operate(self, op_type: str, source: ir.Value, array: np.ndarray, layers: list[Layer], old: ir.Node) -> None:
        """Let a node with a constant for each channel take the place of an old one."""
        weight, graph = layers[0].node.inputs[1], old.graph
        assert weight is not None
        assert weight.dtype is not None
        assert isinstance(graph, ir.Graph)
        values = array.reshape(-1, *(1,) * (_rank(layers) - 2)).astype(weight.dtype.numpy())
        name = f"{old.name or old.op_type}_folded"
        constant = self.rewriter.constant(graph, f"{name}_operand", ir.Tensor(values))
        new = self.rewriter.node(op_type, [source, constant], name, f"{old.outputs[0].name}_folded", weight.dtype)
        self.rewriter.take_over_output(old, new)

    def _affine(self, node: ir.Node) -> _Affine | None:
        if node.domain != "":
            return None
        if node.op_type == "BatchNormalization":
            return _normalization(node) if self.normalizations else None
        return _arithmetic(node) if self.arithmetic else None


def _arithmetic(node: ir.Node) -> _Affine | None:
    if node.op_type not in ("Mul", "Add", "Sub", "Div"):
        return None
    first, second = node.inputs
    left, right = numbers_of(first), numbers_of(second)
    if first is None or second is None or (left is None) == (right is None):
        return None
    source, array = (first, right) if left is None else (second, left)
    assert array is not None
    if not np.isfinite(array).all() or not array.size:
        return None
    if node.op_type == "Mul":
        return _Affine(node, source, array, None)
    if node.op_type == "Add":
        return _Affine(node, source, None, array)
    if node.op_type == "Sub":
        return _Affine(node, source, None, -array) if left is None else _Affine(node, source, np.asarray(-1.0), array)
    return _Affine(node, source, 1 / array, None) if left is None and array.all() else None


def _normalization(node: ir.Node) -> _Affine | None:
    scale, shift, mean, variance = (numbers_of(value) for value in node.inputs[1:5])
    source = node.inputs[0]
    if source is None or scale is None or shift is None or mean is None or variance is None:
        return None
    if number_of(node, "training_mode", 0) or any(o.uses() or o.is_graph_output() for o in node.outputs[1:]):
        return None
    factor = scale / np.sqrt(variance + number_of(node, "epsilon", 1e-5))
    shift = shift - mean * factor
    finite = np.isfinite(factor).all() and np.isfinite(shift).all()
    return _Affine(node, source, factor, shift, along_channels=True) if finite else None


def _takers(value: ir.Value) -> list[Layer]:
    """The convolutions and Gemms that take a tensor, all of the same rank; none when something else takes it, too."""
    uses = list(value.uses())
    producer = value.producer()
    graph = None if producer is None else producer.graph
    taking = [use.node for use in uses if use.idx == 0 and use.node.graph is graph]
    found = [layer_of(node) for node in taking if node.op_type in ("Conv", "Gemm")]
    layers = [layer for layer in found if layer is not None]
    if value.is_graph_output() or len(layers) != len(uses):
        return []
    kinds = {(layer.rank, layer.input_channels) for layer in layers}
    return layers if len(kinds) == 1 else []


def _rank(layers: list[Layer]) -> int:
    rank = layers[0].rank
    assert rank is not None
    return rank


def _takes_factors(value: ir.Value) -> bool:
    """Whether factors for the channels of a tensor can go into the layer that gives it."""
    producer = value.producer()
    if producer is not None and producer.op_type == "Relu" and producer.inputs[0] is not None:
        before = producer.inputs[0]
        producer = before.producer() if single_user(before) is producer else None
    layer = None if producer is None else layer_of(producer)
    return layer is not None and len(value.uses()) == 1
