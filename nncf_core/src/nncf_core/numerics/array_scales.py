"""Scales and zero points as :mod:`nncf_core.numerics.scales` computes them, on arrays of any library."""

from __future__ import annotations

from typing import NamedTuple

import ml_dtypes
import numpy as np

from nncf_core.numerics.array_grid import ArrayGrid
from nncf_core.numerics.arrays import Array, Space
from nncf_core.numerics.formats import FORMATS, Scheme
from nncf_core.numerics.grid import Grid
from nncf_core.numerics.scales import EPS, F8_LARGEST, F8_SMALLEST, HALF_LARGEST, HALF_SMALLEST


class ArrayScales(NamedTuple):
    """Scales of some groups.

    :param stored: float16 or float32, or the bits of a format of 8 bits as uint8.
    :param factor: float32, what an element is divided by.
    :param zero_point: float32 integers, or ``None``.
    :param fits: one boolean on the device: whether the stored format holds the scales well enough.
    """

    stored: Array
    factor: Array
    zero_point: Array | None
    fits: Array


class ScaleRule:
    """How a scheme computes scales; holds what that needs on the device.

    :param wide: keep scales in float32 that would be stored in float16.
    :param largest: the largest magnitude of the tensor, one float32, for schemes with a factor of the whole tensor.
    """

    def __init__(self, scheme: Scheme, grid: Grid, space: Space, wide: bool, largest: Array | None = None) -> None:
        self._scheme, self._wide, self._xp = scheme, wide, space.xp
        self._peak, self._negative = space.numbers([abs(float(grid.peak))]), bool(grid.peak < 0)
        self._zero, self._eps = space.numbers([0.0]), space.numbers([float(EPS)])
        self._top = space.numbers([2.0**scheme.format.bits - 1])
        self._halves = space.numbers([float(-HALF_LARGEST)]), space.numbers([float(HALF_LARGEST)])
        self.global_scale: Array | None = None
        self.stored_dtype = "float32" if wide else "float16"
        self.stored_format: str | None = None
        if scheme.power_of_two_scale:
            self._set_table(space, "float8_e8m0fnu")
            powers = np.ldexp(np.float32(1), np.arange(-127, 128))
            self._powers, self._last = space.numbers(powers), space.xp.asarray([254], device=space.device)
        elif scheme.has_global_scale:
            self._set_table(space, "float8_e4m3fn")
            self._f8 = ArrayGrid(Grid(FORMATS["f8e4m3"], None, None, F8_LARGEST), space)
            self._f8_ends = space.numbers([float(F8_SMALLEST)]), space.numbers([float(F8_LARGEST)])
            self.global_scale = self._not_zero(largest / self._peak) / self._f8_ends[1]

    def _set_table(self, space: Space, name: str) -> None:
        self.stored_dtype, self.stored_format = "uint8", name
        self._table = space.numbers(values_of_bits(name))

    def __call__(self, lo: Array, hi: Array) -> ArrayScales:
        """Scales of groups with these extremes, see :func:`nncf_core.numerics.scales.scales_of`.

        :param lo: smallest value of each group, float32, ``(units, inner)``; the negative largest magnitude for
            unsigned scales.
        :param hi: largest value of each group, of the same shape.
        """
        xp, scheme = self._xp, self._scheme
        if scheme.power_of_two_scale:
            # the first power that is not below: 2^ceil(log2)
            index = xp.minimum(xp.searchsorted(self._powers, xp.reshape(hi / self._peak, (-1,))), self._last)
            return self._of_bits(index, lo.shape)
        if scheme.asymmetric:
            lo, hi = xp.minimum(lo, self._zero), xp.maximum(hi, self._zero)
            raw = (hi - lo) / self._top
        elif scheme.signed_scale:
            towards, away = (-lo, hi) if self._negative else (hi, -lo)
            raw = xp.where(towards >= away, towards, -away) / self._peak
        else:
            raw = hi / self._peak
        scale = self._not_zero(raw)
        if scheme.has_global_scale:
            smallest, largest = self._f8_ends
            relative = xp.minimum(xp.maximum(scale / self.global_scale, smallest), largest)
            one = xp.ones_like(relative[:, :1])
            return self._of_bits(self._f8.encode(relative[:, None, :], one, None), lo.shape)
        stored, fits = scale, xp.all(xp.isfinite(scale))
        if not self._wide:
            size = xp.abs(scale)
            good = (size >= float(HALF_SMALLEST)) & (size <= float(HALF_LARGEST))
            fits = xp.all((xp.abs(raw) < self._eps) | good)
            # clipped so that nothing overflows; then it does not fit, and is not used
            low, high = self._halves
            stored = xp.astype(xp.minimum(xp.maximum(scale, low), high), xp.float16)
            scale = xp.astype(stored, xp.float32)
        zero_point = None
        if scheme.asymmetric:
            zero_point = xp.minimum(xp.maximum(xp.round(-lo / scale), self._zero), self._top)
        return ArrayScales(stored, scale, zero_point, fits)

    def _not_zero(self, scale: Array) -> Array:
        return self._xp.where(self._xp.abs(scale) < self._eps, self._eps, scale)

    def _of_bits(self, index: Array, shape: tuple[int, ...]) -> ArrayScales:
        xp = self._xp
        factor = xp.reshape(xp.take(self._table, index, axis=0), shape)
        if self.global_scale is not None:
            factor = factor * self.global_scale
        stored = xp.reshape(xp.astype(index, xp.uint8), shape)
        return ArrayScales(stored, factor, None, xp.all(xp.isfinite(factor)))


def values_of_bits(name: str) -> np.ndarray:
    """The float32 value of every code of a format of 8 bits.

    :param name: its name in ``ml_dtypes``.
    """
    values: np.ndarray = np.arange(256, dtype=np.uint8).view(getattr(ml_dtypes, name)).astype(np.float32)
    return values
