"""Quantizers of activations: ranges, and the integers or 8-bit floats that stand for them, computed in float32."""

from __future__ import annotations

from collections.abc import Mapping

import ml_dtypes
import numpy as np
from attrs import field, frozen

from nncf_core.errors import ValidationError
from nncf_core.numerics.formats import FORMATS

EPS = np.float32(2.0**-23)
"""Scales of a smaller magnitude become this."""

FLOAT8: Mapping[str, np.dtype] = {
    "f8e4m3": np.dtype(ml_dtypes.float8_e4m3fn),
    "f8e5m2": np.dtype(ml_dtypes.float8_e5m2),
}
"""8-bit floats (https://arxiv.org/abs/2209.05433) by the name of their number format."""


def _scale(value: object) -> np.ndarray:
    return np.asarray(value, np.float32)


def _zero_point(value: object) -> np.ndarray:
    return np.asarray(value, np.int32)


@frozen(eq=False)
class Quantizer:
    """``q = clip(round(x / scale) + zero_point, lo, hi)`` and back, ``x̂ = (q - zero_point) · scale``.

    With 8-bit floats ``q`` is the number of the format that is nearest to ``clip(x / scale, lo, hi)``; there is no zero
    point. Rounding is half to even.

    :param scale: float32, a scalar, or one for each index along ``axis``; positive.
    :param zero_point: int32 of the same shape, within ``lo`` and ``hi``.
    :param lo: smallest integer, or float.
    :param hi: largest integer, or float.
    :param axis: axis that the scales lie along; ``None`` when there is one scale.
    :param float8: number format, of :data:`FLOAT8`; ``None`` for integers.
    :raises ValidationError: when shapes or values do not fit.
    """

    scale: np.ndarray = field(converter=_scale)
    zero_point: np.ndarray = field(converter=_zero_point)
    lo: int
    hi: int
    axis: int | None = None
    float8: str | None = None

    def __attrs_post_init__(self) -> None:
        if self.scale.shape != self.zero_point.shape or self.scale.ndim != (self.axis is not None):
            raise ValidationError(
                f"A quantizer has scales of shape {self.scale.shape}, zero points of shape {self.zero_point.shape} and "
                f"the axis {self.axis}; without an axis both are scalars, with one both have one dimension."
            )
        if not (np.isfinite(self.scale).all() and (self.scale > 0).all()):
            raise ValidationError("The scales of a quantizer must be finite and positive.")
        if self.lo >= self.hi or self.zero_point.min() < self.lo or self.zero_point.max() > self.hi:
            raise ValidationError(f"The zero points of a quantizer must lie within {self.lo} and {self.hi}.")
        if self.float8 is not None and (self.float8 not in FLOAT8 or self.zero_point.any()):
            raise ValidationError(
                f"A quantizer to {self.float8}: 8-bit floats are {', '.join(FLOAT8)}; no zero points."
            )

    @property
    def format(self) -> str:
        """Name of the number format."""
        return self.float8 or f"{'int' if self.lo < 0 else 'uint'}{self.bits}"

    @property
    def bits(self) -> int:
        """Bits that the integers need."""
        return 8 if self.float8 else int(self.hi - self.lo).bit_length()

    @property
    def levels(self) -> int:
        """How many integers there are."""
        return self.hi - self.lo + 1

    @property
    def low(self) -> np.ndarray:
        """Smallest number that is represented, float32, of the scales' shape."""
        return np.asarray((self.lo - self.zero_point) * self.scale, np.float32)

    @property
    def high(self) -> np.ndarray:
        """Largest number that is represented, float32, of the scales' shape."""
        return np.asarray((self.hi - self.zero_point) * self.scale, np.float32)

    def unsigned(self) -> Quantizer:
        """The same quantizer with integers from 0."""
        assert self.float8 is None
        return Quantizer(self.scale, self.zero_point - self.lo, 0, self.hi - self.lo, self.axis)

    def signed(self) -> Quantizer:
        """The same quantizer with integers from one half of them below zero."""
        assert self.float8 is None
        lo = -(2 ** (self.bits - 1))
        return Quantizer(self.scale, self.zero_point - self.lo + lo, lo, self.hi - self.lo + lo, self.axis)

    def in_8_bits(self) -> Quantizer:
        """The same scales and zero points with all integers of 8 bits: what a runtime rounds to that knows no others,
        before or behind which a tensor has to be clipped to this one's range."""
        assert self.float8 is None
        lo, hi = (-128, 127) if self.lo < 0 else (0, 255)
        return Quantizer(self.scale, self.zero_point, lo, hi, self.axis)

    def encode(self, x: np.ndarray) -> np.ndarray:
        """The integers, int32 of the same shape; or the 8-bit floats, in their own element type."""
        scale, zero_point = self._along(x.ndim)
        if self.float8 is not None:
            codes, kind = x.astype(np.float32) / scale, FLOAT8[self.float8]
        else:
            codes, kind = np.rint(x.astype(np.float32) / scale) + zero_point, np.dtype(np.int32)
        result: np.ndarray = np.clip(codes, self.lo, self.hi).astype(kind)
        return result

    def apply(self, x: np.ndarray) -> np.ndarray:
        """What a tensor becomes, in its own element type."""
        scale, zero_point = self._along(x.ndim)
        codes = self.encode(x)
        codes = codes if self.float8 is None else codes.astype(np.float32)
        result: np.ndarray = ((codes - zero_point) * scale).astype(x.dtype)
        return result

    def _along(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        if self.axis is None:
            return self.scale, self.zero_point.astype(np.float32)
        shape = [1] * rank
        shape[self.axis] = -1
        return self.scale.reshape(shape), self.zero_point.astype(np.float32).reshape(shape)


def symmetric(
    low: np.ndarray, high: np.ndarray, bits: int = 8, axis: int | None = None, signed: bool | None = None
) -> Quantizer:
    """The quantizer without zero point for a range: signed, or unsigned when nothing lies below zero.

    :param low: smallest values, a scalar or one for each channel.
    :param high: largest values, of the same shape.
    :param signed: whether integers have a sign, where the range is not to say it; without one all below zero is 0.
    """
    low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
    signed = bool((low < 0).any()) if signed is None else signed
    largest = np.maximum(np.abs(low), np.abs(high)) if signed else high
    half = 2 ** (bits - 1)
    lo, hi = (-half, half - 1) if signed else (0, 2 * half - 1)
    scale = np.maximum(largest / np.float32(hi), EPS)
    return Quantizer(scale, np.zeros(scale.shape), lo, hi, axis)


def asymmetric(low: np.ndarray, high: np.ndarray, bits: int = 8, axis: int | None = None) -> Quantizer:
    """The quantizer with a zero point for a range, which is widened so that it contains zero exactly.

    :param low: smallest values, a scalar or one for each channel.
    :param high: largest values, of the same shape.
    """
    low = np.minimum(np.asarray(low, np.float32), np.float32(0))
    high = np.maximum(np.asarray(high, np.float32), np.float32(0))
    top = 2**bits - 1
    scale = np.maximum((high - low) / np.float32(top), EPS)
    zero_point = np.clip(np.rint(-low / scale), 0, top)
    # the zero point is rounded, so that one end would be cut by up to half a step: the other gives way
    below, above = zero_point, top - zero_point
    needed = np.maximum(
        np.where(below > 0, -low / np.maximum(below, 1), 0), np.where(above > 0, high / np.maximum(above, 1), 0)
    )
    return Quantizer(np.maximum(needed.astype(np.float32), EPS), zero_point, 0, top, axis)


def floating(
    low: np.ndarray, high: np.ndarray, float8: str, axis: int | None = None, headroom: float = 2.0
) -> Quantizer:
    """The quantizer to 8-bit floats for a range.

    :param low: smallest values, a scalar or one for each channel.
    :param high: largest values, of the same shape.
    :param float8: number format, of :data:`FLOAT8`.
    :param headroom: how many times wider the range of the quantizer is. It costs no precision but for the smallest of
        numbers.
    """
    largest = np.maximum(np.abs(np.asarray(low, np.float32)), np.abs(np.asarray(high, np.float32)))
    top = int(FORMATS[float8].max_value)
    scale = np.maximum(largest * np.float32(headroom) / np.float32(top), EPS)
    return Quantizer(scale, np.zeros(scale.shape), -top, top, axis, float8)
