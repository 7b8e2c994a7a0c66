"""Weights as integers of 2 to 8 bits, stored in whole bytes: no CPU computes with fewer bits."""

from __future__ import annotations

import numpy as np
from attrs import frozen

from nncf_core.contracts import CompressionRequest
from nncf_core.graph import Constant, WeightLayout
from nncf_core.numerics.formats import FORMATS
from nncf_core.numerics.neighbours import LARGEST_SUM, neighbour_sums
from nncf_core.numerics.quantizer import asymmetric
from nncf_core.numerics.tensor import CompressedTensor
from nncf_post_training_quantization.ranges import RangeEstimator

_EPS = np.float32(2.0**-23)

_SHIFT = 64
"""The smallest integer of half of the range with zero points: 128 in the middle, which is 0 to runtimes that make
integers signed."""


@frozen
class WeightScheme:
    """How weights become integers.

    :param estimator: of their ranges; it says whether there are zero points.
    :param per_channel: whether there is one scale for each output channel; otherwise there is one for all.
    :param narrow: of integers without zero points: whether the smallest is left out.
    :param bits: of the integers.
    """

    estimator: RangeEstimator
    per_channel: bool = True
    narrow: bool = True
    bits: int = 8

    @property
    def request(self) -> CompressionRequest:
        """How they are stored."""
        symmetric = self.estimator.symmetric
        return CompressionRequest("int8_sym", "int8") if symmetric else CompressionRequest("int8_asym", "uint8")

    def integers(self, half_range: bool = False) -> tuple[int, int]:
        """The smallest and the largest integer.

        :param half_range: half of those of 8 bits.
        """
        if not self.estimator.symmetric:
            return (_SHIFT, _SHIFT + 127) if half_range else (0, 2**self.bits - 1)
        top = 2 ** (self.bits - 1) - 1
        return (-64, 64) if half_range else (-top if self.narrow else -top - 1, top)


def quantized(
    constant: Constant, layout: WeightLayout, scheme: WeightScheme, half_range: bool = False, pairs: bool = False
) -> CompressedTensor:
    """The codes of a constant.

    :param half_range: use half of the range, so that sums of two products fit into 16 bits, whatever the codes become.
    :param pairs: use so much of the range that these codes' sums of two products fit: those of neighbouring inputs,
        which processors without dot products of 8 bits add first (VPMADDUBSW of AVX2). Without zero points alone.
    """
    weight = constant.read().astype(np.float32, copy=False)
    channels = (*layout.batch_axes, *layout.channel_axes) if scheme.per_channel else ()
    reduced = tuple(axis for axis in range(weight.ndim) if axis not in channels)
    low, high = scheme.estimator.ends_of(weight, reduced, scheme.bits)
    zero_point = None
    bottom, top = scheme.integers(half_range)
    if scheme.estimator.symmetric:
        scale = np.maximum(np.maximum(low / np.float32(bottom), high / np.float32(top)), _EPS).astype(np.float32)
        if pairs and layout.reduction_axes:
            inside = np.clip(weight, scale * np.float32(bottom), scale * np.float32(top))
            sums = neighbour_sums(inside, layout.reduction_axes[0]).max(axis=reduced, keepdims=True)
            scale = np.maximum(scale, sums / np.float32(LARGEST_SUM))
        codes = _rounded(weight / scale, bottom, top).astype(np.int8)
    else:
        found = asymmetric(low.reshape(-1), high.reshape(-1), 7 if half_range else scheme.bits, axis=0)
        scale = found.scale.reshape(low.shape)
        zero_point = (found.zero_point.reshape(low.shape) + bottom).astype(np.uint8)
        codes = _rounded(weight / scale, bottom, top, zero_point).astype(np.uint8)
    return CompressedTensor(
        format=FORMATS[scheme.request.format],
        shape=weight.shape,
        codes=codes.view(np.uint8).reshape(-1),
        scale=scale,
        zero_point=zero_point,
        dtype=constant.dtype,
        reduction_axes=reduced,
    )


def _rounded(scaled: np.ndarray, bottom: int, top: int, zero_point: np.ndarray | None = None) -> np.ndarray:
    """Numbers rounded to integers from ``bottom`` to ``top``, in place."""
    np.rint(scaled, out=scaled)
    if zero_point is not None:
        np.add(scaled, zero_point, out=scaled)
    return np.clip(scaled, bottom, top, out=scaled)
