"""Weights in 8 bits without zero point, one scale for each output channel."""

from __future__ import annotations

import numpy as np

from nncf_core.graph import Constant, WeightLayout
from nncf_core.numerics.formats import FORMATS
from nncf_core.numerics.tensor import CompressedTensor

_EPS = np.float32(2.0**-23)


def quantized(constant: Constant, layout: WeightLayout, half_range: bool) -> CompressedTensor:
    """The codes of a constant: integers from -127 to 127, or half of that.

    :param half_range: use half of the range, so that sums of two products fit into 16 bits.
    """
    weight = constant.read().astype(np.float32)
    channels = (*layout.batch_axes, *layout.channel_axes)
    kept = tuple(axis for axis in range(weight.ndim) if axis in channels)
    reduced = tuple(axis for axis in range(weight.ndim) if axis not in kept)
    largest = np.abs(weight).max(axis=reduced, keepdims=True)
    peak = np.float32(64 if half_range else 127)
    scale = np.maximum(largest / peak, _EPS).astype(np.float32)
    codes = np.clip(np.rint(weight / scale), -peak, peak).astype(np.int8)
    return CompressedTensor(
        format=FORMATS["int8"],
        shape=weight.shape,
        codes=codes.view(np.uint8).reshape(-1),
        scale=scale,
        zero_point=None,
        dtype=constant.dtype,
        reduction_axes=reduced,
    )
