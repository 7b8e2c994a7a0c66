"""Constants that a graph may be rewritten by: floating-point numbers that nothing else sees."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

_EXACT = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE})


def tensor_of(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor of a constant; ``None`` for anything that is computed, or that callers of the model may replace."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    producer = value.producer()
    is_constant = value.is_initializer() if producer is None else producer.op_type == "Constant"
    return value.const_value if is_constant else None


def numbers_of(value: ir.Value | None) -> np.ndarray | None:
    """A constant's numbers, float64, when they have so many digits that products may be taken in advance."""
    tensor = tensor_of(value)
    return None if tensor is None or tensor.dtype not in _EXACT else tensor.numpy().astype(np.float64)


def is_own(value: ir.Value | None) -> bool:
    """Whether one node takes the value, and nothing else sees it."""
    return value is not None and len(value.uses()) == 1 and not value.is_graph_output()


def single_user(value: ir.Value) -> ir.Node | None:
    """The node that alone takes a tensor, once, in the same graph; ``None`` when there are more, or it is an output."""
    uses, producer = list(value.uses()), value.producer()
    if len(uses) != 1 or value.is_graph_output():
        return None
    user = uses[0].node
    return user if producer is None or user.graph is producer.graph else None
