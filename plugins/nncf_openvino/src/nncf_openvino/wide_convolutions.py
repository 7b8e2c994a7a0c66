"""Convolutions of few output channels, written so that the CPU plugin's kernels are filled. No product is changed.

The kernels compute 16 output channels at a time, in floating point. Where there are fewer, neighbouring positions can
stand in for those that are missing: with copies of the kernel as outputs, each moved by a step, and steps that are as
many times longer, a convolution gives the results of several positions as channels, which are then brought into their
places. Sums are of the same products, with a few zeros among them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import openvino as ov
from attrs import frozen
from openvino import opset13

_LANES = 16
_GAIN = 1.5
"""How many times fewer products, those of channels that are none among them, are worth another form."""

_SAVED = 300
"""Products that have to be saved for each element of the result, which has to be moved."""

_ELEMENTWISE = {"Relu": opset13.relu, "Sigmoid": opset13.sigmoid, "Tanh": opset13.tanh}


def widen(model: ov.Model) -> int:
    """Rewrite the convolutions of a model that get faster, in place; gives how many there were."""
    count = 0
    for node in model.get_ordered_ops():
        layer = _layer_of(node) if node.get_type_name() == "Convolution" else None
        phases = None if layer is None else _phases(layer)
        if layer is not None and phases is not None:
            _rewrite(layer, *phases)
            count += 1
    return count


@frozen
class _Layer:
    """A convolution in two dimensions.

    :param kernel: its weight.
    :param behind: the elementwise operators behind it, each with what it adds to the channels, if anything.
    """

    node: Any
    kernel: np.ndarray
    behind: tuple[tuple[Any, np.ndarray | None], ...]

    @property
    def strides(self) -> tuple[int, ...]:
        """Along height and width."""
        return tuple(self.node.get_attributes()["strides"])

    @property
    def lengths(self) -> tuple[int, ...]:
        """Height and width of the result."""
        return tuple(axis.get_length() for axis in list(self.node.get_output_partial_shape(0))[2:])


def _layer_of(node: Any) -> _Layer | None:
    """A convolution that can be written in another way; ``None`` for others."""
    weight, shape = node.input_value(1).get_node(), node.get_output_partial_shape(0)
    attributes = node.get_attributes()
    if weight.get_type_name() != "Constant" or weight.get_element_type() != ov.Type.f32 or len(weight.shape) != 4:
        return None
    if list(attributes["dilations"]) != [1, 1] or attributes["auto_pad"] not in ("explicit", "valid"):
        return None
    if any(axis.is_dynamic for axis in list(shape)[2:]):
        return None
    behind: list[tuple[Any, np.ndarray | None]] = []
    end = node
    while (user := _only_user(end)) is not None:
        added = None
        if user.get_type_name() == "Add":
            numbers = next(value.get_node() for value in user.input_values() if value.get_node() != end)
            sizes = (1, weight.shape[0], 1, 1)
            if numbers.get_type_name() != "Constant" or tuple(numbers.shape) not in (sizes, (1, 1, 1, 1)):
                break
            added = np.broadcast_to(numbers.data, sizes)
        elif user.get_type_name() not in _ELEMENTWISE:
            break
        behind.append((user, added))
        end = user
    return _Layer(node, weight.data, tuple(behind))


def _only_user(node: Any) -> Any:
    users = list(node.output(0).get_target_inputs())
    return users[0].get_node() if len(users) == 1 else None


def _phases(layer: _Layer) -> tuple[int, int] | None:
    """Positions along height and width that become channels; ``None`` where that does not pay."""
    outputs, inputs, height, width = layer.kernel.shape
    down, right = layer.strides

    def work(phases: tuple[int, int]) -> float:
        """Products for each position, with those of channels that are none."""
        count = phases[0] * phases[1]
        taps = (height + (phases[0] - 1) * down) * (width + (phases[1] - 1) * right)
        return float(inputs * taps * -(-count * outputs // _LANES) * _LANES / count)

    tried = [(1, count) for count in (2, 4, 8, 16)] + [(2, 2), (4, 4)]
    fitting = [phases for phases in tried if phases[0] * phases[1] * outputs <= _LANES]
    best = min(fitting, key=work, default=(1, 1))
    before, after = work((1, 1)), work(best)
    return best if before >= _GAIN * after and before - after >= _SAVED * outputs else None


def _rewrite(layer: _Layer, high: int, wide: int) -> None:
    node, (down, right) = layer.node, layer.strides
    attributes = node.get_attributes()
    begins, ends = (list(attributes[f"pads_{side}"]) for side in ("begin", "end"))
    explicit = attributes["auto_pad"] == "explicit"
    wider = opset13.convolution(
        node.input_value(0),
        opset13.constant(_beside(layer.kernel, high, wide, down, right)),
        [high * down, wide * right],
        begins if explicit else [0, 0],
        [(ends[0] if explicit else 0) + (high - 1) * down, (ends[1] if explicit else 0) + (wide - 1) * right],
        [1, 1],
    )
    wider.set_friendly_name(f"{node.get_friendly_name()}/wide")
    end, last = wider, node
    for old, added in layer.behind:
        # made anew, which is when shapes are found
        last = old
        if added is None:
            end = _ELEMENTWISE[old.get_type_name()](end)
        else:
            end = opset13.add(end, opset13.constant(np.tile(added, (1, high * wide, 1, 1))))
    users = list(last.output(0).get_target_inputs())
    *_, result = _in_place(end, layer, high, wide)
    for target in users:
        target.replace_source_output(result.output(0))


def _beside(kernel: np.ndarray, high: int, wide: int, down: int, right: int) -> np.ndarray:
    """Copies of a kernel ``[outputs, inputs, height, width]`` as outputs, each moved by a step."""
    outputs, inputs, height, width = kernel.shape
    lengths = (height + (high - 1) * down, width + (wide - 1) * right)
    result = np.zeros((high, wide, outputs, inputs, *lengths), kernel.dtype)
    for row in range(high):
        for column in range(wide):
            top, left = row * down, column * right
            result[row, column, :, :, top : top + height, left : left + width] = kernel
    return result.reshape(-1, inputs, *lengths)


def _in_place(end: Any, layer: _Layer, high: int, wide: int) -> Iterator[Any]:
    """The operators that make positions of channels."""
    outputs, lengths = layer.kernel.shape[0], layer.lengths
    if high > 1:
        node = opset13.depth_to_space(end, "blocks_first", high)
    else:
        last = opset13.transpose(end, np.array([0, 2, 3, 1]))
        apart = opset13.reshape(last, np.array([0, 0, -1, outputs]), special_zero=True)
        node = opset13.transpose(apart, np.array([0, 3, 1, 2]))
    yield node
    if lengths[0] % high or lengths[1] % wide:
        yield opset13.slice(node, np.array([0, 0]), np.array(lengths), np.array([1, 1]), np.array([2, 3]))
