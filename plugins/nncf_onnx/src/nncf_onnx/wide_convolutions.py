"""Convolutions of few output channels, written so that onnxruntime's kernels are filled. No product is changed.

The kernels compute 16 output channels at a time, in floating point and with integers: one of 8 channels takes as long
as one of 16, and one of a single channel nearly so. Neighbouring positions can stand in for channels that are missing:
with copies of the kernel as outputs, each moved by a step, and steps that are as many times longer, a convolution gives
the results of several positions as channels, which are then brought into their places. Copies have zeros at their
edges, so that there are a few more products; the others are what they were, and sums of integers are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from attrs import frozen

from nncf_core.hardware import KernelWidth
from nncf_core.log import nncf_logger
from nncf_onnx.plain_constants import single_user, tensor_of
from nncf_onnx.rewriting import Rewriter
from nncf_onnx.traversal import dims

_ELEMENTWISE = frozenset({"Relu", "Clip", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid", "QuantizeLinear"})
"""What may stand between a convolution and the operators that bring positions into their places."""

_CODES = (ir.DataType.INT8, ir.DataType.UINT8)


def widen(model: ir.Model, width: KernelWidth) -> int:
    """Rewrite the convolutions of the main graph that get faster; gives how many there were.

    :param width: of the kernels of the device.
    """
    rewriter, count = Rewriter(model), 0
    for node in list(model.graph):
        layer = _layer_of(node)
        phases = None if layer is None else _phases(layer, width)
        if layer is not None and phases is not None:
            _rewrite(rewriter, layer, *phases)
            count += 1
    if count:
        nncf_logger.info("%d convolutions of few channels compute several positions at a time.", count)
    return count


@frozen
class _Layer:
    """A convolution in two dimensions.

    :param weight: what holds the kernel: an initializer, of floats or of codes.
    :param decoder: the DequantizeLinear behind it; ``None`` for floats.
    :param end: the last of the elementwise operators behind it, itself where there is none.
    """

    node: ir.Node
    weight: ir.Value
    decoder: ir.Node | None
    end: ir.Node
    strides: tuple[int, ...]
    pads: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Outputs, inputs, and the lengths of the kernel."""
        assert self.weight.const_value is not None
        return dims(self.weight.const_value.shape)

    @property
    def lengths(self) -> tuple[int | None, int | None]:
        """Height and width of the result, as far as they are known."""
        shape = self.node.outputs[0].shape
        known = [size if isinstance(size, int) else None for size in shape[2:]] if shape is not None else [None, None]
        return (known[0], known[1])


def _layer_of(node: ir.Node) -> _Layer | None:
    """A convolution that can be written in another way; ``None`` for all other nodes."""
    if node.op_type != "Conv" or node.domain != "" or node.inputs[0] is None:
        return None
    decoder = node.inputs[1].producer() if node.inputs[1] is not None else None
    weight = node.inputs[1] if decoder is None else decoder.inputs[0]
    tensor = tensor_of(weight)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if weight is None or tensor is None or len(tensor.shape) != 4 or not weight.is_initializer():
        return None
    if bias is not None and (tensor_of(bias) is None or not bias.is_initializer()):
        return None
    ends = node.attributes.get_string("auto_pad", "NOTSET")
    if node.attributes.get_int("group", 1) != 1 or ends != "NOTSET":
        return None
    strides, dilations, pads = (
        tuple(node.attributes.get_ints(name, default))
        for name, default in (("strides", (1, 1)), ("dilations", (1, 1)), ("pads", (0, 0, 0, 0)))
    )
    if dilations != (1, 1):
        return None
    end = node
    while (user := single_user(end.outputs[0])) is not None and user.op_type in _ELEMENTWISE and user.domain == "":
        end = user
        if end.op_type == "QuantizeLinear":
            break
    layer = _Layer(node, weight, decoder, end, strides, pads)
    return layer if (_is_float(layer, tensor) if decoder is None else _is_quantized(layer, tensor, decoder)) else None


def _is_float(layer: _Layer, tensor: ir.TensorProtocol) -> bool:
    """Whether onnxruntime has a kernel for channels in blocks: for fewer inputs than a block, and multiples of 4."""
    inputs = tensor.shape[1]
    blocks = isinstance(inputs, int) and (inputs < 16 or inputs % 4 == 0)
    return tensor.dtype == ir.DataType.FLOAT and blocks and layer.end.op_type != "QuantizeLinear"


def _is_quantized(layer: _Layer, tensor: ir.TensorProtocol, decoder: ir.Node) -> bool:
    """Whether it becomes a QLinearConv."""
    operand = layer.node.inputs[0]
    before = None if operand is None else operand.producer()
    numbers = [tensor_of(value) for value in decoder.inputs[1:] if value is not None]
    shapes = [(), (tensor.shape[0],)] if decoder.attributes.get_int("axis", 1) == 0 else [()]
    return (
        tensor.dtype in _CODES
        and decoder.op_type == "DequantizeLinear"
        and all(each is not None and dims(each.shape) in shapes for each in numbers)
        and before is not None
        and before.op_type == "DequantizeLinear"
        and layer.end.op_type == "QuantizeLinear"
        and layer.end.inputs[1] is not None
        and layer.end.inputs[1].const_value is not None
        and layer.end.inputs[1].const_value.size == 1
    )


def _phases(layer: _Layer, width: KernelWidth) -> tuple[int, int] | None:
    """Positions along height and width that become channels; ``None`` where that does not pay."""
    outputs, inputs, height, breadth = layer.shape
    moved = width.moved if layer.decoder is not None else 0

    def work(phases: tuple[int, int]) -> float:
        """Products for each position, with those of channels that are none, and of elements that are brought there."""
        count = phases[0] * phases[1]
        taps = (height + (phases[0] - 1) * layer.strides[0]) * (breadth + (phases[1] - 1) * layer.strides[1])
        lanes = -(-count * outputs // width.lanes) * width.lanes
        return inputs * taps * (lanes + moved) / count

    most = width.lanes if layer.decoder is None else 2 * width.lanes
    tried = [(1, count) for count in (2, 4, 8, 16)] + [(2, 2), (4, 4)]
    tried = [phases for phases in tried if phases[0] * phases[1] * outputs <= most]
    best = min(tried, key=work, default=(1, 1))
    before, after = work((1, 1)), work(best)
    needed = width.saved * outputs * (4 if layer.decoder is None else 1)
    return best if before >= width.gain * after and before - after >= needed else None


def _rewrite(rewriter: Rewriter, layer: _Layer, high: int, wide: int) -> None:
    node, (down, right), count = layer.node, layer.strides, high * wide
    values = layer.weight.const_value
    assert values is not None
    zero_points = None if layer.decoder is None or len(layer.decoder.inputs) < 3 else layer.decoder.inputs[2]
    zeros = 0 if zero_points is None or zero_points.const_value is None else zero_points.const_value.numpy()
    kernel = _beside(values.numpy(), np.asarray(zeros).reshape(-1, 1, 1, 1), (high, wide), layer.strides)
    graph = rewriter.graph_of(layer.weight)
    codes = rewriter.constant(graph, f"{layer.weight.name}_wide", ir.Tensor(kernel))
    old = node.inputs[1]
    assert old is not None
    if layer.decoder is None:
        node.replace_input_with(1, codes)
        rewriter.drop_constant(old)
    else:
        numbers = [None if value is None else _repeated(rewriter, value, count) for value in layer.decoder.inputs[1:]]
        name = f"{layer.decoder.name}_wide"
        decoder = rewriter.node("DequantizeLinear", [codes, *numbers], name, f"{old.name}_wide", old.dtype)
        decoder.attributes.update(layer.decoder.attributes)
        decoder.outputs[0].shape = ir.Shape(kernel.shape)
        assert node.graph is not None
        node.graph.insert_before(node, decoder)
        node.replace_input_with(1, decoder.outputs[0])
        rewriter.drop_constant(old)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None:
        node.replace_input_with(2, _repeated(rewriter, bias, count))
        rewriter.drop_constant(bias)
    top, left, bottom, end = layer.pads
    pads = (top, left, bottom + (high - 1) * down, end + (wide - 1) * right)
    for key, lengths in (("pads", pads), ("strides", (high * down, wide * right)), ("kernel_shape", kernel.shape[2:])):
        node.attributes[key] = ir.AttrInt64s(key, lengths)
    sizes = layer.lengths
    chain = _in_place(_Maker(rewriter, layer), high, wide)
    between, current = [], node
    while current is not layer.end:
        between.append(current.outputs[0])
        current = next(iter(current.outputs[0].uses())).node
    for value in (*between, layer.end.outputs[0]):
        if value.shape is not None:
            value.shape = ir.Shape([value.shape[0], count * layer.shape[0], None, None])
    _insert_behind(rewriter, layer, chain, sizes)


def _beside(kernel: np.ndarray, zeros: np.ndarray, phases: tuple[int, int], strides: tuple[int, ...]) -> np.ndarray:
    """Copies of a kernel ``[outputs, inputs, height, width]`` as outputs, each moved by a step.

    :param zeros: what zero is, of each output.
    """
    outputs, inputs, height, width = kernel.shape
    lengths = (height + (phases[0] - 1) * strides[0], width + (phases[1] - 1) * strides[1])
    result = np.empty((*phases, outputs, inputs, *lengths), kernel.dtype)
    result[:] = zeros
    for row in range(phases[0]):
        for column in range(phases[1]):
            top, left = row * strides[0], column * strides[1]
            result[row, column, :, :, top : top + height, left : left + width] = kernel
    return result.reshape(-1, inputs, *lengths)


def _repeated(rewriter: Rewriter, value: ir.Value, count: int) -> ir.Value:
    """A constant with a number for each output, for so many copies of them; of a single number, itself."""
    tensor = value.const_value
    assert tensor is not None
    if tensor.size == 1 and not tensor.shape:
        return value
    return rewriter.constant(rewriter.graph_of(value), f"{value.name}_wide", ir.Tensor(np.tile(tensor.numpy(), count)))


@frozen
class _Maker:
    """Makes the operators that belong to a convolution."""

    rewriter: Rewriter
    layer: _Layer

    def constant(self, numbers: Sequence[int], what: str) -> ir.Value:
        """Integers."""
        graph = self.layer.node.graph
        assert isinstance(graph, ir.Graph)
        name = f"{self.layer.node.name}/{what}"
        return self.rewriter.constant(graph, name, ir.Tensor(np.asarray(numbers, np.int64)))

    def node(
        self, op_type: str, inputs: Sequence[ir.Value], what: str, *, integers: bool = False, **attributes: Any
    ) -> ir.Node:
        """An operator that gives elements of the result, or integers."""
        name, dtype = f"{self.layer.node.name}/{what}", self.layer.end.outputs[0].dtype
        made = self.rewriter.node(op_type, inputs, name, name, ir.DataType.INT64 if integers else dtype)
        made.attributes.update({key: ir.convenience.convert_attribute(key, value) for key, value in attributes.items()})
        return made


def _in_place(make: _Maker, high: int, wide: int) -> list[ir.Node]:
    """The operators that make positions of channels."""
    layer = make.layer
    value, outputs = layer.end.outputs[0], layer.shape[0]
    phases = {3: wide} if high == 1 else {2: high, 3: wide}
    if high == 1:
        last = make.node("Transpose", [value], "channels_last", perm=(0, 2, 3, 1))
        shape = make.constant([0, 0, -1, outputs], "apart_shape")
        chain = [last, make.node("Reshape", [last.outputs[0], shape], "apart")]
        axes = [2]
    else:
        chain = [make.node("DepthToSpace", [value], "apart", blocksize=high)]
        axes = [2, 3]
    lengths = [layer.lengths[axis - 2] for axis in phases]
    if any(length is None or length % count for length, count in zip(lengths, phases.values(), strict=True)):
        known = [length for length in lengths if length is not None]
        if len(known) == len(lengths):
            ends = make.constant(known, "ends")
        else:
            steps = _lengths_of_result(make, list(phases))
            ends = steps[-1].outputs[0]
            chain = [*steps, *chain]
        operands = [chain[-1].outputs[0], make.constant([0] * len(axes), "starts"), ends, make.constant(axes, "axes")]
        chain.append(make.node("Slice", operands, "cut"))
    if high == 1:
        chain.append(make.node("Transpose", [chain[-1].outputs[0]], "channels_first", perm=(0, 3, 1, 2)))
    return chain


def _lengths_of_result(make: _Maker, axes: Sequence[int]) -> list[ir.Node]:
    """What computes how long the result is along some axes."""
    layer = make.layer
    operand = layer.node.inputs[0]
    assert operand is not None
    producer = operand.producer()
    if layer.decoder is not None and producer is not None:
        operand = producer.inputs[0]  # nothing else is to take what only the layer dequantizes
        assert operand is not None
    shape = make.node("Shape", [operand], "shape", integers=True)
    lengths = make.node("Gather", [shape.outputs[0], make.constant(axes, "axes_cut")], "lengths", integers=True)
    more = [layer.pads[axis - 2] + layer.pads[axis] - layer.shape[axis] for axis in axes]
    room = make.node("Add", [lengths.outputs[0], make.constant(more, "padding")], "room", integers=True)
    strides = make.constant([layer.strides[axis - 2] for axis in axes], "strides")
    steps = make.node("Div", [room.outputs[0], strides], "steps", integers=True)
    ends = make.node("Add", [steps.outputs[0], make.constant([1], "first")], "ends", integers=True)
    return [shape, lengths, room, steps, ends]


def _insert_behind(
    rewriter: Rewriter, layer: _Layer, chain: list[ir.Node], lengths: tuple[int | None, int | None]
) -> None:
    """Let all who take the result take it from a chain of nodes; a model's output keeps its name."""
    value, output, graph = layer.end.outputs[0], chain[-1].outputs[0], layer.end.graph
    assert isinstance(graph, ir.Graph)
    graph.insert_after(layer.end, chain)
    output.type = value.type
    samples = None if value.shape is None else value.shape[0]
    output.shape = ir.Shape([samples, layer.shape[0], *lengths])
    if value.is_graph_output():
        value.name, output.name = output.name, value.name
    rewriter.replace_uses(value, output, keep=chain)
    for index, existing in enumerate(graph.outputs):
        if existing is value:
            graph.outputs[index] = output
