"""The values that codes stand for: from numbers to the nearest codes, and back."""

from __future__ import annotations

from functools import lru_cache

import ml_dtypes
import numpy as np
from attrs import evolve, field, frozen

from nncf_core.errors import ValidationError
from nncf_core.numerics.blocks import SCRATCH, by_row
from nncf_core.numerics.formats import NumberFormat, Scheme

_MANTISSA = 23  # explicit bits of a float32's mantissa
_EXPONENT_FIELD = np.int32(0x7F80_0000)


@frozen
class Grid:
    """A number format with its table, ready for work; plain data that can be sent to other processes.

    :param format: the format, with the bits that the table needs.
    :param table: values of a codebook, or of a format whose values are a sorted table; float32.
    :param thresholds: numbers above ``thresholds[i]`` are nearer to ``table[i + 1]`` than to ``table[i]``.
    :param peak: the value of the largest magnitude with its sign, the negative one of two.
    """

    format: NumberFormat
    table: np.ndarray | None = field(eq=False)
    thresholds: np.ndarray | None = field(eq=False)
    peak: np.float32

    @property
    def code_dtype(self) -> type[np.generic]:
        """Type of unpacked codes."""
        if self.format.bits > 8:
            return np.uint16
        return np.int8 if self.format.signed else np.uint8


def grid_for(scheme: Scheme, codebook: np.ndarray | None = None, name: str = "") -> Grid:
    """The grid of a scheme.

    :param codebook: the user's table, for the ``codebook`` scheme.
    :param name: what the tensor is called in errors.
    :raises ValidationError: when a table is missing, not wanted, or not a strictly increasing, finite one of
        2 to 65536 values.
    """
    number_format = scheme.format
    title = f"Tensor {name!r}, scheme {scheme.name}" if name else f"Scheme {scheme.name}"
    if scheme.codebook is not None:
        if codebook is not None:
            raise ValidationError(f"{title}: the scheme has a codebook of its own; leave codebook out.")
        codebook = np.array(scheme.codebook, np.float32)
    if number_format.family == "codebook":
        table = checked_table(codebook, title)
        bits = 4 if table.size <= 16 else 8 if table.size <= 256 else 16
        peak = table[-1] if table[-1] > -table[0] else table[0]
        return Grid(evolve(number_format, bits=bits), table, _thresholds(table), peak)
    if codebook is not None:
        raise ValidationError(f"{title}: the scheme takes no codebook; leave it out.")
    if number_format.family == "integer":
        lo, hi = number_format.lo, number_format.hi
        return Grid(number_format, None, None, np.float32(lo or hi))
    if number_format.mantissa_bits is None:
        table = np.array(number_format.values, np.float32)
        return Grid(number_format, table, _thresholds(table), np.float32(-number_format.max_value))
    return Grid(number_format, None, None, np.float32(number_format.max_value))


def checked_table(codebook: np.ndarray | None, title: str) -> np.ndarray:
    """A user's table in float32.

    :param title: where it is from, for messages.
    :raises ValidationError: when it is missing, or not a strictly increasing, finite one of 2 to 65536 values.
    """
    if codebook is None:
        raise ValidationError(f"{title}: a codebook is needed, a table of increasing values.")
    with np.errstate(over="ignore", invalid="ignore"):  # the check below looks at the result
        table = np.asarray(codebook).astype(np.float32)
    if table.ndim != 1 or not 2 <= table.size <= 65536:
        raise ValidationError(
            f"{title}: the codebook has shape {list(table.shape)}; 2 to 65536 values in a row are needed."
        )
    if not np.all(np.isfinite(table)) or not np.all(table[1:] > table[:-1]):
        raise ValidationError(f"{title}: the values of the codebook must be finite and strictly increasing.")
    return table


def _thresholds(table: np.ndarray) -> np.ndarray:
    """Mid-points, rounded down to float32 so that comparing float32 numbers with them is exact."""
    exact = (table[:-1].astype(np.float64) + table[1:].astype(np.float64)) / 2
    rounded = exact.astype(np.float32)
    return np.where(rounded > exact, np.nextafter(rounded, np.float32(-np.inf)), rounded)


def encode(
    grid: Grid,
    values: np.ndarray,
    factor: np.ndarray,
    zero_point: np.ndarray | None,
    codes: np.ndarray,
) -> None:
    """Write the codes that are nearest to ``values / factor + zero_point`` into ``codes``.

    Halves go to the even integer, or to the tiny float with the even mantissa; in a sorted table to the lower
    value. What is out of range gets the code at the end of the range.

    :param values: float32, ``(units, length, inner)``.
    :param factor: float32, ``(units, inner)``.
    :param zero_point: float32 of the same shape, or ``None``.
    :param codes: of the grid's ``code_dtype``, ``(units, length, inner)``, not packed.
    """
    scaled = SCRATCH.array("values", values.shape)
    by_row(np.divide, values, factor, scaled)
    if grid.format.family == "integer":
        round_to_integers(grid, scaled, zero_point)
        np.copyto(codes, scaled, casting="unsafe")
    elif grid.thresholds is not None:
        _encode_sorted(scaled, grid.thresholds, codes)
    else:
        _encode_tiny_float(scaled, grid.format, codes)


def round_to_integers(grid: Grid, scaled: np.ndarray, zero_point: np.ndarray | None) -> None:
    """Replace scaled values by their integer codes, which stay float32."""
    if zero_point is not None:
        by_row(np.add, scaled, zero_point, scaled)
    np.rint(scaled, out=scaled)
    np.clip(scaled, np.float32(grid.format.lo), np.float32(grid.format.hi), out=scaled)


def _encode_sorted(scaled: np.ndarray, thresholds: np.ndarray, codes: np.ndarray) -> None:
    if thresholds.size > 15:
        np.copyto(codes, np.searchsorted(thresholds, scaled), casting="unsafe")
        return
    # Counting the thresholds below needs no branches: ten times as fast as a binary search for so few.
    above = SCRATCH.array("above", scaled.shape, np.bool_)
    np.greater(scaled, thresholds[0], out=codes.view(np.bool_))
    for threshold in thresholds[1:]:
        np.greater(scaled, threshold, out=above)
        np.add(codes, above.view(np.uint8), out=codes)


def _encode_tiny_float(scaled: np.ndarray, number_format: NumberFormat, codes: np.ndarray) -> None:
    """Codes of sign, exponent and ``m`` bits of mantissa; a negative number that becomes zero keeps its sign.

    With 2^e the power of two below a number (2^min_exponent for subnormal ones), the neighbours on the grid
    are 2^(e-m) apart. Adding 2^(e+23-m) lets the float32 addition do the rounding, half to even.
    """
    m, smallest = number_format.mantissa_bits, number_format.min_exponent
    assert m is not None
    assert smallest is not None
    negative = SCRATCH.array("above", scaled.shape, np.bool_)
    np.signbit(scaled, out=negative)
    np.abs(scaled, out=scaled)
    np.clip(scaled, np.float32(0), np.float32(number_format.max_value), out=scaled)
    power = SCRATCH.array("power", scaled.shape)
    np.clip(scaled, np.float32(2.0**smallest), np.float32(number_format.max_value), out=power)
    power_bits, bits = power.view(np.int32), scaled.view(np.int32)
    np.bitwise_and(power_bits, _EXPONENT_FIELD, out=power_bits)
    np.add(power_bits, np.int32((_MANTISSA - m) << _MANTISSA), out=power_bits)
    np.add(scaled, power, out=scaled)
    np.subtract(bits, power_bits, out=bits)  # multiples of 2^(e-m)
    # every exponent adds 2^m codes; exponent fields count from that of the smallest one
    np.right_shift(power_bits, _MANTISSA - m, out=power_bits)
    np.add(bits, power_bits, out=bits)
    np.copyto(codes, bits, casting="unsafe")
    first = (smallest + 127 + _MANTISSA - m) << m
    np.subtract(codes, np.uint8(first & 0xFF), out=codes)
    sign = np.left_shift(negative.view(np.uint8), number_format.bits - 1, out=negative.view(np.uint8))
    np.bitwise_or(codes, sign, out=codes)


def decode(number_format: NumberFormat, codes: np.ndarray, codebook: np.ndarray | None, out: np.ndarray) -> None:
    """Write the values that unpacked codes stand for into ``out``, float32 of the same shape."""
    if number_format.family == "integer":
        np.copyto(out, codes)
        return
    table = table_of(number_format) if codebook is None else np.asarray(codebook, np.float32)
    np.take(table, codes, out=out, mode="clip")


@lru_cache
def table_of(number_format: NumberFormat) -> np.ndarray:
    """The value of each code of a format of floats, float32."""
    table: np.ndarray = np.array(number_format.values, np.float32)
    if not number_format.values:
        dtype = {3: ml_dtypes.float8_e4m3fn, 2: ml_dtypes.float8_e5m2}[number_format.mantissa_bits or 3]
        table = np.arange(256, dtype=np.uint8).view(dtype).astype(np.float32)
    return table
