"""Weights that a FakeQuantize rounds: the codes are not stored, but they can be told."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov

from nncf_core.numerics.formats import FORMATS
from nncf_core.numerics.tensor import CompressedTensor
from nncf_openvino.element_types import FLOATS, as_array, numpy_name, raw_bytes, type_name
from nncf_openvino.forms.compressed import CompressedConstant
from nncf_openvino.traversal import sources

_NEARLY = 1e-3  # how far from an integer a zero point may be, for the rounding of its ranges


def fake_quantized(node: ov.Node) -> CompressedConstant | None:
    """The weight that a FakeQuantize rounds to at most 256 levels; ``None`` for activations and other ranges."""
    data, *ranges = (_through_convert(source.get_node()) for source in sources(node))
    if data is None or any(constant is None for constant in ranges):
        return None
    if type_name(data.get_element_type()) not in FLOATS:
        return None
    shape, levels = tuple(data.shape), int(node.get_attributes()["levels"])
    kept = tuple(np.broadcast_shapes(*(tuple(constant.shape) for constant in ranges)))
    kept = (1,) * (len(shape) - len(kept)) + kept
    reduction = tuple(axis for axis, size in enumerate(kept) if size == 1)
    if not 2 <= levels <= 256 or not reduction or np.broadcast_shapes(kept, shape) != shape:
        return None

    def read() -> CompressedTensor:
        return _read(_values(data), [_values(constant) for constant in ranges], levels, kept, reduction, dtype)

    dtype = numpy_name(type_name(node.get_output_element_type(0)))
    per = "per tensor" if len(reduction) == len(shape) else "per channel"
    own = [node, *(source.get_node() for source in sources(node) if source.get_node().get_type_name() == "Convert")]
    return CompressedConstant(
        data.get_friendly_name(),
        dtype,
        shape,
        "uint8",
        f"{per}, FakeQuantize",
        sum(constant.get_byte_size() for constant in (data, *ranges)),
        read if _has_zero_points([_values(constant) for constant in ranges], levels) else None,
        node.output(0),
        frozenset(part.get_instance_id() for part in (*own, data, *ranges)),
    )


def _through_convert(node: ov.Node) -> Any:
    if node.get_type_name() == "Convert":
        node = sources(node)[0].get_node()
    return node if node.get_type_name() == "Constant" else None


def _values(constant: Any) -> np.ndarray:
    kind = type_name(constant.get_element_type())
    return as_array(raw_bytes(constant), kind, tuple(constant.shape), constant.get_friendly_name()).astype(np.float32)


def _has_zero_points(ranges: list[np.ndarray], levels: int) -> bool:
    """Whether 0 is one of the values, so that codes with integer zero points have the same values."""
    low, high = ranges[2], ranges[3]
    if not np.all(high > low):
        return False
    zero = -low / ((high - low) / np.float32(levels - 1))
    return bool(np.all((np.abs(zero - np.round(zero)) < _NEARLY) & (np.round(zero) >= 0) & (np.round(zero) <= 255)))


def _read(
    weight: np.ndarray,
    ranges: list[np.ndarray],
    levels: int,
    kept: tuple[int, ...],
    reduction: tuple[int, ...],
    dtype: str,
) -> CompressedTensor:
    """FakeQuantize of OpenVINO: ``round((x - il) / (ih - il) · (levels - 1)) / (levels - 1) · (oh - ol) + ol``."""
    steps = np.float32(levels - 1)
    in_low, in_high, low, high = ranges
    with np.errstate(divide="ignore", invalid="ignore"):
        codes = np.clip(np.nan_to_num(np.round((weight - in_low) / (in_high - in_low) * steps)), 0, steps)
    scale = (high - low) / steps
    return CompressedTensor(
        format=FORMATS["uint8"],
        shape=weight.shape,
        codes=codes.astype(np.uint8).reshape(-1),
        scale=np.broadcast_to(scale, kept).astype(np.float32),
        zero_point=np.broadcast_to(np.round(-low / scale), kept).astype(np.uint8),
        dtype=dtype,
        reduction_axes=reduction,
    )
