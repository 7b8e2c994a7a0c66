"""What the forms share: the element types of codes, and a constant with all that is known of its use."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from attrs import frozen

from nncf_core.numerics.formats import NumberFormat
from nncf_core.numerics.tensor import CompressedTensor

CODE_DTYPES: Mapping[str, tuple[str, int]] = {
    "int8": ("int8", 13),
    "uint8": ("uint8", 13),
    "f8e4m3": ("float8_e4m3fn", 19),
    "f8e5m2": ("float8_e5m2", 19),
    "int4": ("int4", 21),
    "uint4": ("uint4", 21),
    "int2": ("int2", 25),
}
"""Element type of the codes in DequantizeLinear, and the first opset that knows it, by number format."""

BLOCKED_OPSET = 21
"""First opset whose DequantizeLinear has groups."""

HALF_SCALE_OPSET = 19
"""First opset whose DequantizeLinear gives float16."""


@frozen
class Target:
    """A constant that is compressed: its name in the graph, and the value that its users take."""

    name: str
    value: ir.Value

    @property
    def dtype(self) -> ir.DataType:
        """Element type that users expect."""
        dtype = self.value.dtype
        if dtype is None and self.value.const_value is not None:
            dtype = self.value.const_value.dtype
        return ir.DataType.FLOAT if dtype is None else dtype


def index_bits(format: NumberFormat) -> str:
    """Element type of indices into a table."""
    return {4: "uint4", 8: "uint8", 16: "uint16"}[format.bits]


def scale_in(tensor: CompressedTensor, dtype: ir.DataType) -> np.ndarray | None:
    """Scales in another element type, ``None`` when it does not hold them exactly."""
    wide = tensor.scale.astype(np.float32)
    if dtype == ir.DataType.FLOAT:
        return wide
    if dtype != ir.DataType.FLOAT16:
        return None
    with np.errstate(over="ignore"):
        half = wide.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), wide) else None
