"""Layers whose weights may be changed, and what they compute in numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from attrs import frozen

from nncf_onnx.plain_constants import is_own, numbers_of, single_user
from nncf_onnx.rewriting import Rewriter

_CONVOLUTIONS = ("Conv", "ConvTranspose")


@frozen(eq=False)
class Layer:
    """A layer with constants that it alone uses.

    :param node: Conv, ConvTranspose, Gemm or MatMul.
    :param weight: the values of its weight, float64.
    :param outputs: axis of the weight that is the output channel.
    :param bias: the values of its bias, one for each output channel; ``None`` when there is none.
    :param end: the node that adds the bias; the layer itself but for MatMul.
    :param rank: dimensions of the result; ``None`` when they are not known.
    """

    node: ir.Node
    weight: np.ndarray
    outputs: int
    bias: np.ndarray | None
    end: ir.Node
    rank: int | None

    @property
    def axis(self) -> int:
        """Axis of the result along which its channels lie."""
        return 1 if self.node.op_type in _CONVOLUTIONS else -1

    @property
    def channels(self) -> int:
        """Output channels."""
        return int(self.weight.shape[self.outputs])

    @property
    def input_channels(self) -> int:
        """Input channels of a Conv or Gemm."""
        return int(self.weight.shape[1 - self.outputs]) * _groups(self.node)

    @property
    def has_bias_port(self) -> bool:
        """Whether it can be given a bias."""
        return self.node.op_type != "MatMul" or self.bias is not None

    @property
    def is_depthwise(self) -> bool:
        """Whether every output channel is computed from one input channel."""
        return self.node.op_type == "Conv" and self.weight.shape[1] == 1 and _groups(self.node) > 1

    @property
    def is_padded(self) -> bool:
        """Whether it may take zeros that are not of the tensor."""
        attributes = self.node.attributes
        auto = attributes["auto_pad"].as_string() if "auto_pad" in attributes else "NOTSET"
        pads = attributes["pads"].as_ints() if "pads" in attributes else ()
        return self.node.op_type != "Gemm" and (auto not in ("NOTSET", "VALID") or any(pads))

    def behind(self, factor: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weight and bias of ``(W·x + b)·factor + shift``, both for output channels."""
        side = [1] * self.weight.ndim
        side[self.outputs] = -1
        bias = np.zeros(self.channels) if self.bias is None else self.bias
        return self.weight * factor.reshape(side), bias * factor + shift

    def before(self, factor: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weight and bias of ``W·(x·factor + shift) + b``, both for input channels, of a Conv or Gemm."""
        bias = np.zeros(self.channels) if self.bias is None else self.bias
        if self.node.op_type == "Gemm":
            side = [1, 1]
            side[1 - self.outputs] = -1
            added = (self.weight * shift.reshape(side)).sum(axis=1 - self.outputs)
            return self.weight * factor.reshape(side), bias + added
        groups, each = _groups(self.node), int(self.weight.shape[1])
        parts = self.weight.reshape(groups, -1, each, int(np.prod(self.weight.shape[2:])))
        scaled = (parts * factor.reshape(groups, 1, each, 1)).reshape(self.weight.shape)
        return scaled, bias + (parts * shift.reshape(groups, 1, each, 1)).sum(axis=(2, 3)).reshape(-1)


def layer_of(node: ir.Node) -> Layer | None:
    """The layer that a node is; ``None`` when it is none, or its constants may not be changed."""
    if node.domain != "" or node.graph is None or node.op_type not in (*_CONVOLUTIONS, "Gemm", "MatMul"):
        return None
    weight = numbers_of(node.inputs[1])
    if weight is None or not is_own(node.inputs[1]):
        return None
    end, given, outputs, rank = node, node.inputs[2] if len(node.inputs) > 2 else None, 0, weight.ndim
    known: int | None = rank
    if node.op_type == "ConvTranspose":
        if _groups(node) != 1:
            return None
        outputs = 1
    elif node.op_type == "Gemm":
        if (number_of(node, "alpha", 1), number_of(node, "beta", 1), number_of(node, "transA", 0)) != (1, 1, 0):
            return None
        outputs = 0 if number_of(node, "transB", 0) else 1
    elif node.op_type == "MatMul":
        if rank != 2:
            return None
        outputs, shape = 1, node.outputs[0].shape
        known = None if shape is None else len(shape)
        following = single_user(node.outputs[0])
        if following is not None and following.op_type == "Add" and following.domain == "":
            other = following.inputs[0] if following.inputs[1] is node.outputs[0] else following.inputs[1]
            if is_own(other) and _row(other, weight.shape[1]) is not None:
                end, given = following, other
    bias = _row(given, weight.shape[outputs])
    if given is not None and (bias is None or not is_own(given)):
        return None
    return Layer(node, weight, outputs, bias, end, known)


def rewrite(layer: Layer, weight: np.ndarray, bias: np.ndarray, rewriter: Rewriter) -> None:
    """Give a layer new values; one without a bias, and without need of one, gets none."""
    _put(layer.node, 1, weight, rewriter)
    if layer.node.op_type == "MatMul":
        if layer.bias is not None:
            index = next(i for i, value in enumerate(layer.end.inputs) if value is not layer.node.outputs[0])
            given = layer.end.inputs[index]
            assert given is not None
            assert given.const_value is not None
            _put(layer.end, index, bias.reshape(given.const_value.shape.numpy()), rewriter)
    elif layer.bias is not None:
        _put(layer.node, 2, bias, rewriter)
    elif bias.any():
        given = layer.node.inputs[1]
        assert given is not None
        assert given.dtype is not None
        assert isinstance(layer.node.graph, ir.Graph)
        tensor = ir.Tensor(bias.astype(given.dtype.numpy()))
        layer.node.resize_inputs(3)
        layer.node.replace_input_with(2, rewriter.constant(layer.node.graph, f"{given.name}_bias", tensor))


def fits(layer: Layer, *arrays: np.ndarray) -> bool:
    """Whether values remain finite as the layer stores them."""
    given = layer.node.inputs[1]
    assert given is not None
    assert given.dtype is not None
    largest = np.finfo(given.dtype.numpy()).max
    return all(bool((np.abs(array) <= largest).all()) for array in arrays)


def number_of(node: ir.Node, name: str, default: float) -> float:
    """A numeric attribute."""
    attribute = node.attributes.get(name)
    return default if attribute is None else float(attribute.value)


def _put(node: ir.Node, index: int, array: np.ndarray, rewriter: Rewriter) -> None:
    """New values for a constant operand that the node alone uses."""
    old = node.inputs[index]
    assert old is not None
    assert old.dtype is not None
    assert isinstance(node.graph, ir.Graph)
    values = array.astype(old.dtype.numpy())
    if old.is_initializer():
        old.const_value, old.shape = ir.Tensor(values, name=old.name), ir.Shape(values.shape)
        return
    name = old.name or "constant"
    rewriter.free(old)
    node.replace_input_with(index, rewriter.constant(node.graph, name, ir.Tensor(values)))
    rewriter.drop_constant(old)


def _groups(node: ir.Node) -> int:
    return int(number_of(node, "group", 1))


def _row(value: ir.Value | None, channels: int) -> np.ndarray | None:
    """A bias along the last axis."""
    array = numbers_of(value)
    if array is None or array.ndim > 2 or array.size != channels or array.shape[-1:] != (channels,):
        return None
    return array.reshape(-1)


def broadcast(array: np.ndarray, rank: int | None, axis: int, channels: int) -> np.ndarray | None:
    """One value for each channel, from an array that is combined with a tensor; ``None`` when it is no such array.

    :param rank: dimensions of the tensor; ``None`` when they are not known.
    :param axis: of the tensor, along which channels lie.
    """
    if array.ndim > (1 if rank is None else rank):
        return None  # the result would have more dimensions than the tensor
    shape: Sequence[int] = array.shape if rank is None else (*(1,) * (rank - array.ndim), *array.shape)
    if any(size != 1 for size in (*shape[: axis % max(len(shape), 1)], *shape[axis % max(len(shape), 1) + 1 :])):
        return None
    if array.size not in (1, channels):
        return None
    return np.broadcast_to(array.reshape(-1), (channels,))
