"""What a worker does with a piece of a tensor: functions of plain data, for processes as for threads."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from attrs import frozen

from nncf_core.numerics.blocks import SCRATCH, blocks_of, by_row, check_range, extremes, to_float32
from nncf_core.numerics.formats import Scheme
from nncf_core.numerics.grid import Grid, encode, round_to_integers
from nncf_core.numerics.packing import pack, packed_size
from nncf_core.numerics.scales import Scales, scales_of
from nncf_core.numerics.work import Target

_LONG = 512  # elements that a unit has at least for its memory to be fetched ahead
_SUM_ROWS = 512  # float32 sums of more rows, one row after the other, would lose digits


@frozen
class Job:
    """What is to be done to every piece of a tensor.

    :param wide: keep scales in float32 that would be stored in float16.
    :param packed: give codes packed; otherwise one by one, since pieces end inside of bytes.
    """

    scheme: Scheme
    grid: Grid
    wide: bool = False
    packed: bool = True

    @property
    def bits(self) -> int:
        """Bits of a code as pieces give it."""
        return self.grid.format.bits if self.packed else 8 * np.dtype(self.grid.code_dtype).itemsize

    def scales(self, lo: np.ndarray, hi: np.ndarray) -> Scales:
        """Scales of groups with these extremes."""
        return scales_of(lo, hi, self.scheme, self.grid.peak, self.wide)


class EncodedUnits(NamedTuple):
    """Scales of whole units, and their codes where these could not be put into the target."""

    scales: Scales
    codes: np.ndarray | None = None


def encode_units(piece: np.ndarray, job: Job, target: Target) -> EncodedUnits:
    """Scales and codes of whole units; no codes when the scales do not fit their stored format.

    :param piece: ``(units, length, inner)``.
    :raises FloatingPointError: when an element is not finite or too large.
    """
    values, lo, hi = _measure(piece, job)
    scales = job.scales(lo, hi)
    if not scales.fits:
        return EncodedUnits(scales)
    return EncodedUnits(scales, _encode(values, scales.factor, scales.zero_point, job, target))


def measure(piece: np.ndarray, job: Job) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest values of each ``[u, :, i]`` of a piece, shape ``(units, inner)``.

    :raises FloatingPointError: when an element is not finite or too large.
    """
    _, lo, hi = _measure(piece, job)
    return lo, hi


def encode_piece(
    piece: np.ndarray, factor: np.ndarray, zero_point: np.ndarray | None, job: Job, target: Target
) -> np.ndarray | None:
    """Codes of a piece whose scales are known, where they could not be put into the target."""
    return _encode(_float32(piece), factor, zero_point, job, target)


def squared_error(piece: np.ndarray, factor: np.ndarray, zero_point: np.ndarray | None, job: Job) -> np.ndarray:
    """Sums, over each ``[u, :, i]`` of a piece, of the squared integer quantization error; float64."""
    return _squared_error(_float32(piece), factor, zero_point, job)


def squared_error_of_units(piece: np.ndarray, job: Job) -> np.ndarray:
    """:func:`squared_error` of whole units.

    :raises FloatingPointError: when an element is not finite or too large.
    """
    values, lo, hi = _measure(piece, job)
    scales = job.scales(lo, hi)
    return _squared_error(values, scales.factor, scales.zero_point, job)


def _measure(piece: np.ndarray, job: Job) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The piece in float32, and its extremes."""
    units, length, inner = piece.shape
    lo, hi = np.empty((units, inner), np.float32), np.empty((units, inner), np.float32)
    # Short rows are copied even where they are float32: the processor fetches memory ahead of a copy, not of them.
    as_it_is = piece.dtype == np.float32 and piece.flags.c_contiguous and length * inner >= _LONG
    values = piece if as_it_is else SCRATCH.array("float32", piece.shape)
    for block in blocks_of(piece.shape):
        if not as_it_is:
            to_float32(piece[block], values[block])
        lo[block[::2]], hi[block[::2]] = extremes(values[block], not job.scheme.signed_range)
    check_range(lo, hi, piece.dtype)
    return values, lo, hi


def _float32(piece: np.ndarray) -> np.ndarray:
    if piece.dtype == np.float32:
        return piece
    values = SCRATCH.array("float32", piece.shape)
    for block in blocks_of(piece.shape):
        to_float32(piece[block], values[block])
    return values


def _encode(
    values: np.ndarray, factor: np.ndarray, zero_point: np.ndarray | None, job: Job, target: Target
) -> np.ndarray | None:
    out = np.empty(packed_size(values.size, job.bits), np.uint8) if target.array is None else target.array
    if job.bits < 8:
        codes = SCRATCH.array("codes", values.shape, np.uint8).view(job.grid.code_dtype)
    else:
        codes = out.view(job.grid.code_dtype).reshape(values.shape)
    for block in blocks_of(values.shape):
        zero = None if zero_point is None else zero_point[block[::2]]
        encode(job.grid, values[block], factor[block[::2]], zero, codes[block])
    if job.bits < 8:
        pack(codes, job.bits, out=out)
    return out if target.array is None else None


def _squared_error(values: np.ndarray, factor: np.ndarray, zero_point: np.ndarray | None, job: Job) -> np.ndarray:
    units, length, inner = values.shape
    total = np.zeros((units, inner), np.float64)
    for block in blocks_of(values.shape):
        exact, scale = values[block], factor[block[::2]]
        zero = None if zero_point is None else zero_point[block[::2]]
        error = SCRATCH.array("values", exact.shape)
        by_row(np.divide, exact, scale, error)
        round_to_integers(job.grid, error, zero)
        if zero is not None:
            by_row(np.subtract, error, zero, error)
        by_row(np.multiply, error, scale, error)
        np.subtract(error, exact, out=error)
        step = length if inner == 1 else _SUM_ROWS  # along contiguous rows numpy sums pairwise
        with np.errstate(over="ignore"):  # errors above 1e19 may well count as infinite
            np.square(error, out=error)
            for row in range(0, length, step):
                total[block[::2]] += np.add.reduce(error[:, row : row + step], axis=1)
    return total
