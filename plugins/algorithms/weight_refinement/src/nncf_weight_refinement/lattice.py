"""What a weight of a number format may be: the levels that codes stand for, and the scales that are stored."""

from __future__ import annotations

from functools import cached_property, lru_cache

import ml_dtypes
import numpy as np
from attrs import field, frozen

from nncf_core.numerics.formats import SCHEMES, NumberFormat
from nncf_core.numerics.grid import Grid, decode, encode, grid_for
from nncf_core.numerics.scales import F8_LARGEST, F8_SMALLEST, HALF_LARGEST, HALF_SMALLEST
from nncf_core.numerics.tensor import CompressedTensor

_FINE = 4096  # steps of the table that stands in for a search among levels


@frozen
class Lattice:
    """The values ``(level - zero_point) · scale`` that a compressed tensor can hold.

    :param grid: the number format with its table.
    :param scale_dtype: element type of stored scales: float16, float32, float8_e8m0fnu or float8_e4m3fn.
    :param asymmetric: whether there are zero points.
    :param global_scale: the factor that scales in float8_e4m3fn are stored without; 1 otherwise.
    """

    grid: Grid
    scale_dtype: str
    asymmetric: bool = False
    global_scale: np.float32 = field(default=np.float32(1))

    @classmethod
    def of(cls, tensor: CompressedTensor) -> Lattice:
        """The lattice of a compressed tensor, whose scales keep their element type."""
        scale = np.float32(1 if tensor.global_scale is None else tensor.global_scale)
        return cls(_grid(tensor), tensor.scale_dtype, tensor.zero_point is not None, scale)

    @property
    def integer(self) -> bool:
        """Whether levels are integers."""
        return self.grid.format.family == "integer"

    @cached_property
    def lo(self) -> np.float32:
        """The smallest level."""
        return np.float32(levels_of(self.grid)[0])

    @cached_property
    def hi(self) -> np.float32:
        """The largest level."""
        return np.float32(levels_of(self.grid)[-1])

    @property
    def lopsided(self) -> bool:
        """Whether the levels of one sign are others than those of the other sign, so that scales may have a sign."""
        if self.asymmetric or self.scale_dtype not in ("float16", "float32"):
            return False
        levels = levels_of(self.grid)
        return not np.array_equal(levels, -levels[::-1])

    @property
    def two_largest(self) -> tuple[float, float]:
        """The largest magnitude of a level, and the next one of the same sign; of the range, with zero points."""
        levels = levels_of(self.grid)
        if self.asymmetric:
            return float(levels[-1] - levels[0]), float(levels[-2] - levels[0])
        largest, next_largest = (levels[-1], levels[-2]) if levels[-1] > -levels[0] else (levels[0], levels[1])
        return abs(float(largest)), abs(float(next_largest)) or abs(float(largest))

    def nearest(self, scaled: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """The level that is nearest to each number; halves go where :func:`~nncf_core.numerics.grid.encode` sends them.

        :param scaled: float32, of any shape: ``weight / scale + zero_point``.
        :param out: where to put the result; may be ``scaled``.
        """
        out = np.empty_like(scaled) if out is None else out
        if self.integer:
            np.rint(scaled, out=out)
            np.clip(out, self.lo, self.hi, out=out)
            return out
        flat = np.ascontiguousarray(scaled).reshape(1, -1, 1)
        codes = np.empty(flat.shape, self.grid.code_dtype)
        encode(self.grid, flat, np.ones((1, 1), np.float32), None, codes)
        decode(self.grid.format, codes, self.grid.table, flat_out := np.empty(flat.shape, np.float32))
        np.copyto(out, flat_out.reshape(out.shape))
        return out

    def codes(self, levels: np.ndarray) -> np.ndarray:
        """The codes, not packed, of numbers that are levels."""
        flat = np.ascontiguousarray(levels, np.float32).reshape(1, -1, 1)
        codes = np.empty(flat.shape, self.grid.code_dtype)
        encode(self.grid, flat, np.ones((1, 1), np.float32), None, codes)
        return codes.reshape(levels.shape)

    def decoded(self, codes: np.ndarray) -> np.ndarray:
        """The levels, float32, that codes stand for."""
        levels = np.empty(codes.shape, np.float32)
        decode(self.grid.format, codes, self.grid.table, levels)
        return levels

    def storable(self, scale: np.ndarray) -> np.ndarray:
        """The scales nearest to these that can be stored, float32 of the same shape.

        Magnitudes out of range get the nearest that is in range. A power of two is the nearest by ratio.
        """
        scale = np.asarray(scale, np.float32)
        if self.scale_dtype == "float32":
            return scale
        if self.scale_dtype == "float16":
            size = np.clip(np.abs(scale), HALF_SMALLEST, HALF_LARGEST).astype(np.float16).astype(np.float32)
            signed: np.ndarray = np.copysign(size, scale)
            return signed
        if self.scale_dtype == "float8_e8m0fnu":
            with np.errstate(divide="ignore"):
                exponent = np.clip(np.rint(np.log2(np.abs(scale))), -127, 127)
            power: np.ndarray = np.ldexp(np.float32(1), exponent.astype(np.int32))
            return power
        relative = np.clip(np.abs(scale) / self.global_scale, F8_SMALLEST, F8_LARGEST)
        stored: np.ndarray = relative.astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * self.global_scale
        return stored

    def stored(self, scale: np.ndarray) -> np.ndarray:
        """Storable scales in the element type that they are stored in."""
        if self.scale_dtype == "float8_e8m0fnu":
            _, exponent = np.frexp(scale)  # scale = 0.5 · 2^exponent
            stored: np.ndarray = (exponent + 126).astype(np.uint8).view(ml_dtypes.float8_e8m0fnu)
        elif self.scale_dtype == "float8_e4m3fn":
            stored = (scale / self.global_scale).astype(ml_dtypes.float8_e4m3fn)
        else:
            stored = scale.astype(self.scale_dtype)
        return stored


def _grid(tensor: CompressedTensor) -> Grid:
    if tensor.codebook is not None:
        return grid_for(SCHEMES["codebook"], tensor.codebook)
    return _plain_grid(tensor.format)


@lru_cache
def _plain_grid(number_format: NumberFormat) -> Grid:
    return grid_for(next(s for s in SCHEMES.values() if s.format.name == number_format.name))


def levels_of(grid: Grid) -> np.ndarray:
    """All levels of a grid, increasing, float32, without NaNs."""
    if grid.table is not None:
        return grid.table
    if grid.format.family == "integer":
        return np.arange(grid.format.lo or 0, (grid.format.hi or 0) + 1, dtype=np.float32)
    return _tiny_floats(grid.format)


@lru_cache
def _tiny_floats(number_format: NumberFormat) -> np.ndarray:
    codes = np.arange(2**number_format.bits, dtype=np.uint8)
    values = np.empty(codes.shape, np.float32)
    decode(number_format, codes, None, values)
    return np.unique(values[np.abs(values) <= np.float32(number_format.max_value)])  # false for NaN


@frozen(eq=False)
class NearLevels:
    """A table from equal steps to levels: nearest ones within a step, for a search that needs no more.

    :param levels: the level of each step.
    :param lo: where the first step begins.
    :param steps: steps for each unit.
    """

    levels: np.ndarray
    lo: np.float32
    steps: np.float32

    @classmethod
    def of(cls, grid: Grid) -> NearLevels:
        """The table of a format whose levels are few."""
        levels = levels_of(grid)
        lo, hi = levels[0], levels[-1]
        steps = np.float32((_FINE - 1) / (hi - lo))
        middle = lo + (np.arange(_FINE, dtype=np.float32)) / steps
        nearest = np.searchsorted((levels[1:] + levels[:-1]) / 2, middle)
        return cls(levels[nearest], lo, steps)
