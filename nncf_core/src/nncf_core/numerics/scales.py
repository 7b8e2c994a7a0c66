"""Scales and zero points from the extremes of groups. Everything is computed in float32."""

from __future__ import annotations

from typing import NamedTuple

import ml_dtypes
import numpy as np

from nncf_core.numerics.formats import Scheme

EPS = np.float32(2.0**-23)
"""Scales of a smaller magnitude become this, so that groups of zeros can be divided by it."""

HALF_SMALLEST, HALF_LARGEST = np.float32(2.0**-16), np.float32(65504.0)
F8_LARGEST, F8_SMALLEST = np.float32(448.0), np.float32(2.0**-9)


class Scales(NamedTuple):
    """Scales as they are stored and as they are computed with, and zero points.

    :param stored: in the format of the scheme, or float32.
    :param factor: float32, what an element is divided by.
    :param zero_point: float32 integers, or ``None``.
    :param global_scale: one more factor for the whole tensor, already contained in ``factor``.
    :param fits: whether the stored format holds the scales well enough.
    """

    stored: np.ndarray
    factor: np.ndarray
    zero_point: np.ndarray | None = None
    global_scale: float | None = None
    fits: bool = True

    @classmethod
    def joined(cls, parts: list[Scales]) -> Scales:
        """Scales of the units of all parts, one part after the other."""
        if len(parts) == 1:
            return parts[0]
        zero_points = [part.zero_point for part in parts if part.zero_point is not None]
        return cls(
            np.concatenate([part.stored for part in parts]),
            np.concatenate([part.factor for part in parts]),
            np.concatenate(zero_points) if zero_points else None,
        )


def scales_of(lo: np.ndarray, hi: np.ndarray, scheme: Scheme, peak: np.float32, wide: bool) -> Scales:
    """Scales of groups whose smallest and largest values are known.

    Scales that are stored in float16 are rounded *before* zero points and codes are computed from them, so
    that codes fit the scales that a model really holds.

    :param lo: smallest value of each group, float32; the negative largest magnitude for unsigned scales.
    :param hi: largest value of each group, of the same shape.
    :param scheme: what to compute.
    :param peak: the table value or integer of the largest magnitude, with its sign.
    :param wide: keep scales in float32 that would be stored in float16.
    :raises FloatingPointError: when a scale is too large for float32.
    """
    if scheme.power_of_two_scale:
        return _power_of_two(hi / peak)
    if scheme.asymmetric:
        lo, hi = np.minimum(lo, np.float32(0)), np.maximum(hi, np.float32(0))
        scale = (hi - lo) / np.float32(2**scheme.format.bits - 1)
    elif scheme.signed_scale:
        scale = _signed(lo, hi, peak)
    else:
        scale = hi / peak
    size = np.abs(scale)
    smallest, largest = size.min(), size.max()
    if smallest < EPS:
        floored = size < EPS
        np.copyto(scale, EPS, where=floored)
        np.copyto(size, HALF_SMALLEST, where=floored)  # what became EPS fits, though float16 holds it as a subnormal
        smallest = size.min()
    if scheme.has_global_scale:
        return _two_levels(scale)
    stored, fits = scale, True
    if not wide:
        fits = bool(smallest >= HALF_SMALLEST and largest <= HALF_LARGEST)
        with np.errstate(over="ignore"):  # then it does not fit, and is not used
            stored = scale.astype(np.float16)
        scale = stored.astype(np.float32)
    if not scheme.asymmetric or not fits:
        return Scales(stored, scale, fits=fits)
    zero_point = np.clip(np.rint(-lo / scale), np.float32(0), np.float32(2**scheme.format.bits - 1))
    return Scales(stored, scale, zero_point)


def _signed(lo: np.ndarray, hi: np.ndarray, peak: np.float32) -> np.ndarray:
    """The scale that brings the extreme of the larger magnitude to ``peak``; of two equal ones that of its sign."""
    size = -lo
    with np.errstate(over="raise"):  # large weights over a table of tiny values
        scale: np.ndarray = np.where(size >= hi if peak < 0 else size > hi, lo, hi) / peak
    return scale


def _power_of_two(ratio: np.ndarray) -> Scales:
    """``2^ceil(log2 ratio)`` within 2^±127 as float8_e8m0fnu (OCP MX v1.0); 2^-127 for a group of zeros."""
    mantissa, exponent = np.frexp(ratio)  # ratio = mantissa · 2^exponent, 0.5 <= mantissa < 1: no rounding
    exponent = np.where(mantissa == 0.5, exponent - 1, exponent)
    exponent = np.where(ratio > 0, np.clip(exponent, -127, 127), -127)
    stored = (exponent + 127).astype(np.uint8).view(ml_dtypes.float8_e8m0fnu)
    return Scales(stored, np.ldexp(np.float32(1), exponent))


def _two_levels(scale: np.ndarray) -> Scales:
    """NVFP4: scales in float8_e4m3fn under one float32 factor, which brings the largest to 448.

    Scales too small for that get the smallest positive float8, since nothing can be divided by zero.
    """
    global_scale = scale.max() / F8_LARGEST
    relative = np.clip(scale / global_scale, F8_SMALLEST, F8_LARGEST)
    stored = relative.astype(ml_dtypes.float8_e4m3fn)
    return Scales(stored, stored.astype(np.float32) * global_scale, global_scale=float(global_scale))
