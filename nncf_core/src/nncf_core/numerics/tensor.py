"""The compressed form of a constant: low-bit codes with scales and zero points."""

from __future__ import annotations

import math

import numpy as np
from attrs import evolve, field, frozen

from nncf_core.numerics.arrays import dtype_of, is_foreign, nbytes_of, size_of, to_host
from nncf_core.numerics.formats import NumberFormat


@frozen
class CompressedTensor:
    """A tensor in a low-bit number format.

    With ``v`` the value that a code stands for, the dequantized tensor is, in float32,
    ``ŵ = (v - zero_point) · scale · global_scale``, where scale and zero point are shared by ``group_size``
    consecutive elements along ``group_axis``.

    The arrays are numpy's, or those of another library on a device (:mod:`nncf_core.numerics.arrays`), where that is
    what :meth:`~nncf_core.graph.Constant.array` gave; :meth:`on_host` gives numpy's in any case.

    :param format: number format of the codes.
    :param shape: shape of the dequantized tensor; the codes have the same element order (C order).
    :param codes: ``uint8``, one dimension. Codes of 8 bits take a byte each. Narrower codes are packed
        densely, the first code in the lowest bits; 4-bit codes are two a byte, low nibble first. Signed
        integers are in two's complement; codebook formats hold indices. An odd tail is filled with zeros.
    :param scale: ``shape`` with 1 in every reduction axis, or with the number of groups in ``group_axis``.
        float16, float32, or the format that a format prescribes (float8_e8m0fnu, float8_e4m3fn).
    :param zero_point: codes of the same shape as ``scale``, unpacked, ``uint8``; ``None`` for symmetric
        formats.
    :param dtype: element type of the tensor before compression, e.g. ``float32``.
    :param reduction_axes: axes along which a scale is shared.
    :param group_axis: the axis that is divided into groups; ``None`` when it is not divided.
    :param group_size: elements along ``group_axis`` that share a scale; ``-1`` when it is not divided.
    :param global_scale: one float32 factor for the whole tensor (NVFP4); ``None`` otherwise.
    :param codebook: values that the indices stand for (float32), for codebook formats; ``None`` otherwise.
    :param scale_format: ``None`` with arrays of numpy. Those of other libraries hold the bits of scales in
        float8_e8m0fnu or float8_e4m3fn as uint8; this is the name of the type then.
    """

    format: NumberFormat
    shape: tuple[int, ...]
    codes: np.ndarray = field(repr=False, eq=False)
    scale: np.ndarray = field(repr=False, eq=False)
    zero_point: np.ndarray | None = field(repr=False, eq=False)
    dtype: str
    reduction_axes: tuple[int, ...]
    group_axis: int | None = None
    group_size: int = -1
    global_scale: float | None = None
    codebook: np.ndarray | None = field(default=None, repr=False, eq=False)
    scale_format: str | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def scale_dtype(self) -> str:
        """Name of the element type of scales, whatever holds them."""
        return self.scale_format or dtype_of(self.scale).name

    @property
    def nbytes(self) -> int:
        """Bytes of codes, scales and zero points (4-bit zero points counted as packed)."""
        zero_points = 0 if self.zero_point is None else -(-size_of(self.zero_point) * self.format.bits // 8)
        codebook = 0 if self.codebook is None else nbytes_of(self.codebook)
        return nbytes_of(self.codes) + nbytes_of(self.scale) + zero_points + codebook

    def on_host(self) -> CompressedTensor:
        """The same with arrays of numpy; itself when it has them."""
        if not is_foreign(self.codes):
            return self
        scale = to_host(self.scale)
        return evolve(
            self,
            codes=to_host(self.codes),
            scale=scale if self.scale_format is None else scale.view(np.dtype(self.scale_format)),
            zero_point=None if self.zero_point is None else to_host(self.zero_point),
            codebook=None if self.codebook is None else to_host(self.codebook),
            scale_format=None,
        )
