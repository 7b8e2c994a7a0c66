"""From numbers to the nearest codes and back, as :mod:`nncf_core.numerics.grid` does, on arrays of any library.

The standard has no way to look at the bits of a float, so tiny floats are found by their mid-points, too: where halves
go up to the even mantissa, the threshold is the next smaller float32.
"""

from __future__ import annotations

import numpy as np

from nncf_core.numerics.arrays import Array, Space
from nncf_core.numerics.formats import NumberFormat
from nncf_core.numerics.grid import Grid, table_of


class ArrayGrid:
    """A grid whose tables lie where the numbers do."""

    def __init__(self, grid: Grid, space: Space) -> None:
        self._xp, self._integers = space.xp, grid.format.family == "integer"
        if grid.format.lo is not None and grid.format.hi is not None:
            self._ends = space.numbers([grid.format.lo]), space.numbers([grid.format.hi])
        elif grid.thresholds is not None:
            self._sign, self._thresholds = 0, space.numbers(grid.thresholds)
        else:
            self._sign = 2 ** (grid.format.bits - 1)
            self._thresholds = space.numbers(magnitude_thresholds(table_of(grid.format)))

    def encode(self, values: Array, factor: Array, zero_point: Array | None) -> Array:
        """Codes that are nearest to ``values / factor + zero_point``, see :func:`nncf_core.numerics.grid.encode`.

        :param values: float32, ``(units, length, inner)``.
        :param factor: float32, ``(units, inner)``.
        :param zero_point: float32 of the same shape, or ``None``.
        :return: int32, one dimension.
        """
        xp = self._xp
        scaled = values / factor[:, None, :]
        if self._integers:
            return xp.reshape(xp.astype(self.round(scaled, zero_point), xp.int32), (-1,))
        flat = xp.reshape(scaled, (-1,))
        if not self._sign:
            return xp.astype(xp.searchsorted(self._thresholds, flat), xp.int32)
        codes = xp.astype(xp.searchsorted(self._thresholds, xp.abs(flat)), xp.int32)
        return codes + xp.astype(xp.signbit(flat), xp.int32) * self._sign

    def round(self, scaled: Array, zero_point: Array | None) -> Array:
        """Scaled values as integer codes, which stay float32."""
        xp, (lo, hi) = self._xp, self._ends
        if zero_point is not None:
            scaled = scaled + zero_point[:, None, :]
        return xp.minimum(xp.maximum(xp.round(scaled), lo), hi)


def magnitude_thresholds(table: np.ndarray) -> np.ndarray:
    """Numbers above ``thresholds[i]`` are nearer to the value of code ``i + 1`` than to that of ``i``; halves go to
    the even code.

    :param table: the value of every code, the sign in the highest bit; NaN where a code has no value.
    """
    magnitudes = table[: table.size // 2]
    magnitudes = magnitudes[~np.isnan(magnitudes)]
    middle = (magnitudes[:-1] + magnitudes[1:]) / np.float32(2)  # exact: a mantissa has room for one more bit
    odd = np.arange(middle.size) % 2 == 1
    thresholds: np.ndarray = np.where(odd, np.nextafter(middle, np.float32(0)), middle)
    return thresholds


def value_table(number_format: NumberFormat, codebook: Array | None, space: Space) -> Array | None:
    """The float32 values that codes stand for; ``None`` where they are the codes themselves.

    :param codebook: float32 table of a codebook format.
    """
    if number_format.family == "integer":
        return None
    return space.numbers(table_of(number_format)) if codebook is None else codebook


def decode(codes: Array, table: Array | None, space: Space) -> Array:
    """The float32 values that codes stand for, int32 of one dimension."""
    xp = space.xp
    if table is None:
        return xp.astype(codes, xp.float32)
    # codes of a file may exceed the table
    last = xp.full((1,), table.shape[0] - 1, dtype=xp.int32, device=space.device)
    return xp.take(table, xp.minimum(codes, last), axis=0)
