"""Element types of OpenVINO, their names in numpy and ``ml_dtypes``, and the bytes of constants."""

from __future__ import annotations

from collections.abc import Mapping

import ml_dtypes  # noqa: F401 - registers the low-bit dtypes' names with numpy
import numpy as np
import openvino as ov
from openvino.op import Constant

from nncf_core.errors import UnsupportedModelError
from nncf_core.numerics.packing import unpack

NUMPY_NAMES: Mapping[str, str] = {
    "f64": "float64",
    "f32": "float32",
    "f16": "float16",
    "bf16": "bfloat16",
    "f8e4m3": "float8_e4m3fn",
    "f8e5m2": "float8_e5m2",
    "f8e8m0": "float8_e8m0fnu",
    "f4e2m1": "float4_e2m1fn",
    "boolean": "bool",
    "i64": "int64",
    "i32": "int32",
    "i16": "int16",
    "i8": "int8",
    "i4": "int4",
    "u64": "uint64",
    "u32": "uint32",
    "u16": "uint16",
    "u8": "uint8",
    "u4": "uint4",
}
"""numpy's name of an element type; numpy lacks nf4, u1, u2, u3, u6 and strings."""

_OPENVINO_NAMES = {numpy_name: name for name, numpy_name in NUMPY_NAMES.items()}

FLOATS = frozenset({"f64", "f32", "f16", "bf16"})
"""Element types of operands that weights decompress to."""


def type_name(kind: ov.Type) -> str:
    """OpenVINO's short name of an element type, as in IR files: ``f32``, ``u4`` …"""
    return str(kind.to_string())


def numpy_name(name: str) -> str:
    """numpy's name of an element type, OpenVINO's own where numpy lacks it."""
    return NUMPY_NAMES.get(name, name)


def openvino_type(dtype: str) -> ov.Type:
    """The element type of a numpy dtype."""
    return getattr(ov.Type, _OPENVINO_NAMES[dtype])


def raw_bytes(node: Constant) -> np.ndarray:
    """The bytes of a constant as it holds them: a read-only view, one dimension."""
    return np.atleast_1d(node.data).reshape(-1).view(np.uint8)


def as_array(raw: np.ndarray, kind: str, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Bytes as an array; a view, but for elements of four bits, which are unpacked.

    :raises UnsupportedModelError: when numpy lacks the element type.
    """
    if kind not in NUMPY_NAMES:
        raise UnsupportedModelError(f"The constant {name!r} has elements of type {kind}, which numpy lacks.")
    dtype = np.dtype(NUMPY_NAMES[kind])
    if kind in ("i4", "u4", "f4e2m1"):
        codes = unpack(raw, 4, int(np.prod(shape, dtype=np.int64)), signed=kind == "i4")
        return (codes.view(dtype) if kind == "f4e2m1" else codes.astype(dtype)).reshape(shape)
    return raw.view(dtype).reshape(shape)
