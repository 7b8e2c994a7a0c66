"""What each kind of operator does with channels. What has no rule lets all channels that reach it stay.

- ``POINTWISE``: elements that meet are of channels that go together; constants lose what is along them.
- ``CONVOLUTION``, ``PRODUCT``: input channels go with slices of the weight; outputs are new channels. Of groups the
  same channel of each goes, so that they stay equal; of a depthwise convolution whole groups go.
- ``BATCH_NORM``: per channel, like its four constants.
- ``WINDOWS``, ``REDUCTION``, ``ACROSS``: channels may not vary on the axes that are looked across.
- ``CONCATENATION``, ``PARTS``, ``MOVES``: what happens to elements happens to the arrays of channels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nncf_core.graph import MoveKind, Node, OpKind, Port
from nncf_filter_pruning.channels import FREE
from nncf_filter_pruning.moving import moved
from nncf_filter_pruning.propagation import Layer, Propagation, Rule

_AXES = "looks across channels"
_SHAPES = "has shapes that are not known"


def nothing(state: Propagation, node: Node) -> str | None:
    """Inputs and outputs of the model, and what looks at no element."""
    if node.kind is OpKind.OUTPUT:
        for port in node.inputs:
            state.channels.block(state.of(port), f"{port.tensor!r} leaves the model")
    return None


def pointwise(state: Propagation, node: Node) -> str | None:
    """Each element of the output depends on the elements at its place in the operands, which are broadcast."""
    shape = node.outputs[0].shape
    if shape is None or len(node.outputs) != 1:
        return _SHAPES
    rank = len(shape)
    operands = [port for port in node.inputs if port.tensor and state.constant_of(port) is None]
    if not _broadcasts([port.shape for port in operands], shape):
        return "gives another shape than its operands have"
    arrays = [_padded(state.of(port), rank) for port in operands]
    common = np.broadcast_shapes((1,) * rank, *(array.shape for array in arrays))
    varying = [axis for axis, size in enumerate(common) if size > 1]
    result = np.zeros((1,) * rank, np.int64)
    met: list[np.ndarray] = []
    for port, channels in zip(operands, arrays, strict=True):
        sizes = (1,) * (rank - len(port.shape or ())) + (port.shape or ())
        repeated = [axis for axis in varying if sizes[axis] == 1]
        if repeated == varying != []:
            # the same for all channels of the others, such as a map of places
            state.channels.block(channels, f"{node.name!r} repeats it for all channels")
            continue
        if repeated and channels.any():
            return "repeats channels along an axis of others"
        for other in met:
            state.channels.join(other, channels, f"{node.name!r} combines it with what is of no layer")
        met.append(channels)
        result = np.where(result == FREE, channels, result)
    state.give(node.outputs[0], result)
    for index, port in enumerate(node.inputs):
        name = state.constant_of(port)
        if name is None:
            continue
        size = state.graph.constants[name].shape
        first = node.axes[0] if node.axes and len(size) == 1 else None
        if not state.claim_operand(node, index, result, rank, first):
            return f"takes {name!r} in a way that is not understood"
    return None


def convolution(state: Propagation, node: Node) -> str | None:
    """Weights are ``[O, I/G, …]``, of transposed convolutions ``[I, O/G, …]``, or have an axis for groups first."""
    found = _weight(state, node)
    if isinstance(found, str):
        return found
    weight, layout_batch = found
    constant = state.graph.constants[weight.constant or ""]
    data, output = node.inputs[0], node.outputs[0]
    if data.shape is None or output.shape is None or data.constant is not None:
        return _SHAPES
    shape, transposed = constant.shape, node.kind is OpKind.CONV_TRANSPOSE
    if weight.shape != shape:
        return f"takes {constant.name!r} in a way that is not understood"
    axis = len(data.shape) - (len(shape) - 2 - layout_batch) - 1
    total = output.shape[axis] if axis >= 0 else None
    if total is None or data.shape[axis] is None:
        return _SHAPES
    inputs = state.along(data, axis)
    if inputs is None:
        return _AXES
    first, second = layout_batch, layout_batch + 1
    input_axis, output_axis = (first, second) if transposed else (second, first)
    if layout_batch:
        groups = shape[0]
    else:
        groups = total // shape[1] if transposed else len(inputs) // shape[1]
    if groups > 1 and groups == len(inputs):
        outputs = np.repeat(inputs, total // groups)
        state.claim(node, 1, {0: inputs if shape[0] == groups else outputs})
        state.layers.append(Layer(node, constant.name, 0, outputs, None, own=False))
    else:
        in_groups = inputs.reshape(groups, -1)
        state.channels.join(in_groups[:1], in_groups, f"{node.name!r} has groups")
        own = state.channels.new(total // groups)
        outputs = np.tile(own, groups)
        whole = not layout_batch
        claims = {
            input_axis: inputs if transposed and whole else in_groups[0],
            output_axis: own if transposed or layout_batch else outputs,
        }
        state.claim(node, 1, claims)
        state.layers.append(Layer(node, constant.name, output_axis, outputs, input_axis, own=True))
    state.give(output, outputs.reshape([-1 if a == axis else 1 for a in range(len(output.shape))]))
    return _bias(state, node, 2, outputs)


def product(state: Propagation, node: Node) -> str | None:
    """A product with a matrix as second operand: the last axis of activations is summed over."""
    if len(node.weights) != 1 or "equation" in node.attributes:
        return "is not understood"
    index, weight = node.weights[0]
    data, output = node.inputs[index - 1], node.outputs[0]
    layout, constant = weight.layout, state.graph.constants[weight.constant or ""]
    if index == 0 or data.constant is not None or layout is None or len(constant.shape) != 2 or layout.batch_axes:
        return "is not understood"
    if any(node.attributes.get(name) for name in ("transA", "transpose_a")):
        return "transposes activations"
    if data.shape is None or output.shape is None or not data.shape:
        return _SHAPES
    if data.shape[-1] is None or output.shape[-1] is None:
        return _SHAPES
    (summed,), (kept,) = layout.reduction_axes, layout.channel_axes
    count = constant.shape[kept]
    if data.shape[-1] != constant.shape[summed] or output.shape != (*data.shape[:-1], count):
        return "is not understood"
    inputs = state.along(data, len(data.shape) - 1)
    if inputs is None:
        return _AXES
    outputs = state.channels.new(count)
    state.claim(node, index, {summed: inputs, kept: outputs})
    state.layers.append(Layer(node, constant.name, kept, outputs, summed, own=True))
    result = outputs.reshape((1,) * (len(output.shape) - 1) + (-1,))
    state.give(output, result)
    for other, port in enumerate(node.inputs):
        if other in (index, index - 1) or not port.tensor:
            continue
        if port.constant is None or not state.claim_operand(node, other, result, len(output.shape)):
            return "adds what is not understood"
    return None


def batch_norm(state: Propagation, node: Node) -> str | None:
    """Channels are along axis 1."""
    data = node.inputs[0]
    channels = None if data.shape is None or len(data.shape) < 2 else state.along(data, 1)
    if channels is None:
        return _AXES
    state.give(node.outputs[0], state.of(data))
    for index in range(1, len(node.inputs)):
        problem = _bias(state, node, index, channels)
        if problem is not None:
            return problem
    return None


def windows(state: Propagation, node: Node) -> str | None:
    """Pooling and resizing: over axes from 2 on, where nothing else is said."""
    data = node.inputs[0]
    if data.shape is None:
        return _SHAPES
    across = node.axes if node.axes is not None else tuple(range(2, len(data.shape)))
    return _across(state, node, across)


def across(state: Propagation, node: Node) -> str | None:
    """Softmax and layer normalization."""
    if node.axes is None:
        return "looks across axes that are not known"
    problem = _across(state, node, node.axes)
    if problem is None:
        for index, port in enumerate(node.inputs[1:], 1):
            if port.constant is not None:
                state.claim(node, index, {})
    return problem


def reduction(state: Propagation, node: Node) -> str | None:
    """Axes go, or have size 1 then."""
    data, output = node.inputs[0], node.outputs[0]
    channels = state.of(data)
    if not channels.any():
        return None
    if data.shape is None or output.shape is None or node.axes is None:
        return "looks across axes that are not known"
    if any(channels.shape[axis] > 1 for axis in node.axes):
        return _AXES
    if len(output.shape) != len(data.shape):
        channels = channels.squeeze(axis=node.axes)
    for port in node.outputs:
        state.give(port, channels)
    return None


def concatenation(state: Propagation, node: Node) -> str | None:
    """Channels of all operands, one behind the other."""
    output = node.outputs[0]
    arrays = [state.of(port) for port in node.inputs]
    if not any(array.any() for array in arrays):
        return None
    if node.axes is None or output.shape is None:
        return _SHAPES
    (axis,), rank = node.axes, len(output.shape)
    parts = []
    for port, array in zip(node.inputs, arrays, strict=True):
        size = None if port.shape is None or len(port.shape) != rank else port.shape[axis]
        if size is None:
            return _SHAPES
        padded = _padded(array, rank)
        parts.append(np.repeat(padded, size, axis) if padded.shape[axis] == 1 else padded)
    common = [max(part.shape[other] for part in parts) for other in range(rank)]
    whole = [
        np.broadcast_to(part, [part.shape[axis] if other == axis else n for other, n in enumerate(common)])
        for part in parts
    ]
    state.give(output, np.concatenate(whole, axis))
    return None


def parts(state: Propagation, node: Node) -> str | None:
    """A split along an axis; equal parts stay equal."""
    channels = state.of(node.inputs[0])
    if not channels.any():
        return None
    shapes = [port.shape for port in node.outputs]
    shape = node.inputs[0].shape
    if node.axes is None or shape is None:
        return _SHAPES
    (axis,) = node.axes
    sizes = [None if one is None or len(one) != len(shape) else one[axis] for one in shapes]
    if any(size is None for size in sizes) or sum(size or 0 for size in sizes) != shape[axis]:
        return _SHAPES
    whole = np.repeat(channels, sum(size or 0 for size in sizes), axis) if channels.shape[axis] == 1 else channels
    ends = np.cumsum([size or 0 for size in sizes])
    pieces = np.split(whole, ends[:-1], axis)
    if node.attributes.get("equal_parts"):
        if len(set(sizes)) > 1:
            return "makes parts that are not equal"
        for piece in pieces[1:]:
            state.channels.join(pieces[0], piece, f"{node.name!r} makes equal parts")
    for port, piece in zip(node.outputs, pieces, strict=True):
        state.give(port, piece)
    return None


def moves(state: Propagation, node: Node) -> str | None:
    """What moves elements moves channels."""
    channels = state.of(node.inputs[0])
    if not channels.any():
        if node.moves is not None and {move.kind for move in node.moves} == {MoveKind.RESHAPE}:
            state.let_be_a_vector(node)
        return None
    if node.moves is None:
        return "moves elements in a way that is not understood"
    shapes = node.inputs[0].shape, node.outputs[0].shape
    result = None if shapes[0] is None or shapes[1] is None else moved(channels, node.moves, shapes[0], shapes[1])
    if result is None:
        return _SHAPES
    steps = {move.numbers[0]: move.numbers[3] for move in node.moves if move.kind is MoveKind.SLICE}
    if any(step > 1 and channels.shape[axis] > 1 for axis, step in steps.items()):
        # which of those that stay are taken would depend on how many go before each
        return "takes every few channels"
    varying = [axis for axis, size in enumerate(result.shape) if size > 1]
    for axis in varying[:-1]:
        # e.g. [groups, channels]: the same of each group go, so that the parts stay equal
        state.channels.join(result.take([0], axis), result, f"{node.name!r} divides channels")
    state.give(node.outputs[0], state.channels.roots(result))
    return None


RULES: Mapping[OpKind, Rule] = {
    OpKind.INPUT: nothing,
    OpKind.OUTPUT: nothing,
    OpKind.SHAPE_OF: nothing,
    **dict.fromkeys(
        (
            OpKind.ADD, OpKind.SUBTRACT, OpKind.MULTIPLY, OpKind.DIVIDE, OpKind.RELU, OpKind.ACTIVATION,
            OpKind.PERIODIC, OpKind.CAST, OpKind.QUANTIZE, OpKind.DEQUANTIZE,
        ),
        pointwise,
    ),
    OpKind.CONV: convolution,
    OpKind.CONV_TRANSPOSE: convolution,
    OpKind.MATMUL: product,
    OpKind.BATCH_NORM: batch_norm,
    OpKind.MAX_POOL: windows,
    OpKind.AVERAGE_POOL: windows,
    OpKind.RESIZE: windows,
    OpKind.SOFTMAX: across,
    OpKind.LAYER_NORM: across,
    OpKind.REDUCE: reduction,
    OpKind.CONCAT: concatenation,
    OpKind.SPLIT: parts,
    OpKind.SHAPE_ONLY: moves,
}  # fmt: skip


def _weight(state: Propagation, node: Node) -> tuple[Port, int] | str:
    """The weight of a convolution, and its number of axes for groups."""
    if [index for index, _ in node.weights] != [1] or len(node.inputs) > 3:
        return "has no constant weight"
    port = node.inputs[1]
    assert port.layout is not None
    groups = len(port.layout.batch_axes)
    if groups > 1 or port.layout.batch_axes not in ((), (0,)):
        return "has a weight that is not understood"
    if len(port.layout.channel_axes) != 1 or port.layout.channel_axes[0] not in (groups, groups + 1):
        return "has a weight that is not understood"
    return port, groups


def _bias(state: Propagation, node: Node, index: int, channels: np.ndarray) -> str | None:
    """A vector with a number for each channel."""
    if index >= len(node.inputs) or not node.inputs[index].tensor:
        return None
    name = node.inputs[index].constant
    if name is None or state.graph.constants[name].shape != channels.shape:
        return "adds what is not understood"
    state.claim(node, index, {0: channels})
    return None


def _across(state: Propagation, node: Node, axes: tuple[int, ...]) -> str | None:
    data = node.inputs[0]
    channels = state.of(data)
    if not channels.any():
        return None
    shape, given = data.shape, node.outputs[0].shape
    if shape is None or given is None or len(shape) != len(given):
        return _SHAPES
    varying = [axis for axis, size in enumerate(channels.shape) if size > 1]
    if set(varying) & set(axes) or any(shape[axis] != given[axis] for axis in varying):
        return _AXES
    for port in node.outputs:
        state.give(port, channels)
    return None


def _padded(channels: np.ndarray, rank: int) -> np.ndarray:
    return channels.reshape((1,) * (rank - channels.ndim) + channels.shape)


def _broadcasts(shapes: list[tuple[int | None, ...] | None], result: tuple[int | None, ...]) -> bool:
    """Whether operands of these shapes broadcast to a shape; sizes that are not known fit all others."""
    for shape in shapes:
        if shape is None or len(shape) > len(result):
            return False
        for size, wanted in zip(reversed(shape), reversed(result), strict=False):
            if size not in (1, None) and wanted is not None and size != wanted:
                return False
    return True
