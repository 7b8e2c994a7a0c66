"""Decompression that the CPU plugin must not join with the operator behind it.

It takes the scales of a weight for those of the operator's channels, whatever axis they lie along. Where two operators
sum over different axes of one weight, that is wrong for one of them: OpenVINO 2026.4 gives other numbers, refuses the
model, or crashes. A Reshape that changes nothing, before such an operator, keeps it from that; the weight is then
decompressed for this operator when the model is compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import openvino as ov
from attrs import Factory, frozen
from openvino import opset1

from nncf_core.graph import Node
from nncf_core.numerics.tensor import CompressedTensor
from nncf_openvino.traversal import Value, sources, value_of

_TITLE = "as_it_is"


def is_joined_wrongly(node: Node, port: int, tensor: CompressedTensor) -> bool:
    """Whether an operator sums over an axis of a weight along which its scales differ, other than by groups.

    So do Gather operators that are no tables, since they take another axis.
    """
    layout = node.inputs[port].layout
    if layout is None:
        return node.op_type == "Gather"
    shared = tensor.reduction_axes if tensor.group_axis is None else (tensor.group_axis,)
    return not set(layout.reduction_axes) <= set(shared)


@frozen
class Separator:
    """Puts such Reshapes before inputs, one for all that take the same value.

    :param name: of the weight.
    :param number: makes a constant of an array, an element type and a name.
    :param unique: a name that no node of the model has, from a proposed one.
    """

    name: str
    number: Callable[..., Any]
    unique: Callable[[str], str]
    made: dict[Value, Any] = Factory(dict)

    def part(self, taken: Any) -> None:
        """Put one before an input."""
        source = taken.get_source_output()
        value = value_of(source)
        if value not in self.made:
            title = self.unique(f"{self.name}/{_TITLE}")
            shape = self.number(np.array(source.get_shape(), np.int64), ov.Type.i64, f"{title}/shape")
            same = opset1.reshape(source, shape, False)
            same.set_friendly_name(title)
            self.made[value] = same.output(0)
        taken.replace_source_output(self.made[value])


def rejoin(name: str, taken: Any) -> None:
    """Take away what :class:`Separator` put before an input that takes a weight."""
    node = taken.get_source_output().get_node()
    if node.get_friendly_name().startswith(f"{name}/{_TITLE}") and changes_nothing(node):
        taken.replace_source_output(sources(node)[0])


def changes_nothing(node: ov.Node) -> bool:
    """Whether a node is a Reshape to the shape that its input has."""
    if node.get_type_name() != "Reshape":
        return False
    before, after = node.get_input_partial_shape(0), node.get_output_partial_shape(0)
    return bool(before.is_static and after.is_static and before == after)
