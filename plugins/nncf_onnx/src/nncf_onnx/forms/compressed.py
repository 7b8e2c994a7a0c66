"""What is known of a compressed weight that is in a model already, and how its parts are looked at."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes  # noqa: F401 - registers the low-bit dtypes' names with numpy
import numpy as np
import onnx_ir as ir
from attrs import frozen

from nncf_core.graph import WeightLayout
from nncf_core.numerics.kernels import decompress
from nncf_core.numerics.tensor import CompressedTensor

FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})
"""Element types of operands that weights decompress to."""


@frozen
class CompressedConstant:
    """A compressed weight.

    :param name: name of the constant before it was compressed, as far as it can be told.
    :param dtype: element type that it decompresses to.
    :param shape: shape that it decompresses to.
    :param format: number format.
    :param granularity: what shares a scale, for people.
    :param stored_bytes: bytes of codes, scales, zero points and tables.
    :param read: reads the compressed form.
    :param layout: meaning of the axes where the operator fixes it; ``None`` where users define it.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    format: str
    granularity: str
    stored_bytes: int
    read: Callable[[], CompressedTensor]
    layout: WeightLayout | None = None

    def read_dequantized(self) -> np.ndarray:
        """The values that the codes stand for."""
        return decompress(self.read())


def constant_input(node: ir.Node, index: int) -> ir.TensorProtocol | None:
    """The constant at an input; ``None`` when there is none, or the caller of the model may replace it."""
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None or value.const_value is None or (value.is_graph_input() and not value.is_initializer()):
        return None
    return value.const_value


def original_name(value: ir.Value | None) -> str:
    """The name that a constant had before its codes got this one."""
    name = (value.name if value is not None else None) or ""
    return name.removesuffix("_quantized")


def bytes_of(*tensors: ir.TensorProtocol | None) -> int:
    """Bytes that tensors take in the model."""
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


def integer(node: ir.Node, name: str, default: int) -> int:
    """An attribute of a node."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def only_user(value: ir.Value) -> ir.Node | None:
    """The node that takes a value as its first input, when nothing else takes it."""
    users = list(value.uses())
    if value.is_graph_output() or len(users) != 1 or users[0].idx != 0:
        return None
    return users[0].node


def as_users_take_it(value: ir.Value, dtype: ir.DataType) -> tuple[ir.Value, str]:
    """The decompressed value after the Cast to its users' element type, where one follows, and that type's name."""
    user = only_user(value)
    if user is not None and user.domain == "" and user.op_type == "Cast" and "to" in user.attributes:
        to = ir.DataType(user.attributes["to"].as_int())
        if to in FLOATS:
            value, dtype = user.outputs[0], to
    return value, dtype.numpy().name
