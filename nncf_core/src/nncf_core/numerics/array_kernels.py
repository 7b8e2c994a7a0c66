"""Compress, decompress and measure arrays of any library where they lie, bit for bit as numpy's kernels do.

The numpy kernels are made for caches; these are made for devices: few large operations, and hardly any wait for a
result. They go over pieces of the tensor, so that beyond it and its codes some tens of megabytes are enough. A tensor
whose elements are not in C order in memory is copied first, as numpy's kernels do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from math import sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from nncf_core.numerics.array_grid import ArrayGrid, decode, value_table
from nncf_core.numerics.array_packing import pack, unpack
from nncf_core.numerics.array_scales import ScaleRule, values_of_bits
from nncf_core.numerics.arrays import Array, Space, dtype_of, space_of
from nncf_core.numerics.blocks import LARGEST, bad_value, check_dtype, largest_value
from nncf_core.numerics.formats import SCHEMES, Scheme
from nncf_core.numerics.grid import Grid, grid_for
from nncf_core.numerics.layout import Layout, Piece, layout_of
from nncf_core.numerics.packing import CODES_PER_WORD, packed_size
from nncf_core.numerics.tensor import CompressedTensor

_PIECE = 1 << 20  # elements that are worked on at a time: 4 MiB in float32


def compress(
    weight: Array,
    scheme: Scheme,
    *,
    reduction_axes: Sequence[int] | int,
    group_axis: int | None = None,
    group_size: int = -1,
    codebook: np.ndarray | None = None,
    name: str = "",
) -> CompressedTensor:
    """See :func:`nncf_core.numerics.kernels.compress`; the arrays of the result lie beside ``weight``.

    Scales in float8_e8m0fnu and float8_e4m3fn are given as their bits.
    """
    source = _Source(weight, layout_of(tuple(weight.shape), reduction_axes, group_axis, group_size, name), name)
    grid, space, layout = grid_for(scheme, codebook, name), source.space, source.layout
    largest = _largest_magnitude(source) if scheme.has_global_scale else None
    rule = ScaleRule(scheme, grid, space, wide=False, largest=largest)
    parts = _encode(source, scheme, grid, rule)
    if not parts.fit:
        parts = _encode(source, scheme, grid, ScaleRule(scheme, grid, space, wide=True, largest=largest))
        if not parts.fit:
            raise bad_value(name)
    xp = space.xp
    return CompressedTensor(
        format=grid.format,
        shape=layout.shape,
        codes=parts.codes,
        scale=xp.reshape(parts.scale, layout.scale_shape),
        zero_point=None if parts.zero_point is None else xp.reshape(parts.zero_point, layout.scale_shape),
        dtype=source.dtype.name,
        reduction_axes=layout.reduction_axes,
        group_axis=layout.group_axis,
        group_size=layout.group_size,
        global_scale=None if rule.global_scale is None else float(rule.global_scale[0]),
        codebook=None if grid.table is None or grid.format.family != "codebook" else space.numbers(grid.table),
        scale_format=rule.stored_format,
    )


def decompress(tensor: CompressedTensor, dtype: DTypeLike | None = None) -> np.ndarray:
    """See :func:`nncf_core.numerics.kernels.decompress`; the result lies where the codes do."""
    target = np.dtype(tensor.dtype if dtype is None else dtype)
    check_dtype(target, "")
    layout = layout_of(tensor.shape, tensor.reduction_axes, tensor.group_axis, tensor.group_size)
    pieces = list(layout.pieces(_PIECE)) if layout.order is None else [Piece(0, layout.units, 0, layout.length)]
    space = space_of(tensor.codes)
    xp, scale_shape = space.xp, (layout.units, 1, layout.inner)
    scale = xp.reshape(tensor.scale, scale_shape)
    scales_of = None if tensor.scale_format is None else space.numbers(values_of_bits(tensor.scale_format))
    values_of = value_table(tensor.format, tensor.codebook, space)
    zero_point = None if tensor.zero_point is None else xp.reshape(tensor.zero_point, scale_shape)
    global_scale = None if tensor.global_scale is None else space.numbers([tensor.global_scale])
    limit = min(largest_value(target), largest_value(np.dtype(np.float32)))
    low, high = space.numbers([-limit]), space.numbers([limit])
    out = space.empty((layout.size,), target.name)
    for piece in pieces:
        start, count, units = layout.start(piece), layout.count(piece), slice(piece.first_unit, piece.last_unit)
        codes = unpack(tensor.codes, tensor.format.bits, count, tensor.format.signed, start)
        if layout.order is not None:
            codes = xp.reshape(_viewed(xp.reshape(codes, layout.shape), layout, xp), (-1,))
        values = decode(codes, values_of, space)
        values = xp.reshape(values, (units.stop - units.start, piece.last_row - piece.first_row, layout.inner))
        if zero_point is not None:
            values = values - xp.astype(zero_point[units, :, :], xp.float32)
        stored = xp.reshape(scale[units, :, :], (-1,))
        factor = (
            xp.astype(stored, xp.float32)
            if scales_of is None
            else xp.take(scales_of, xp.astype(stored, xp.int32), axis=0)
        )
        values = values * xp.reshape(factor, (-1, 1, layout.inner))
        if global_scale is not None:
            values = values * global_scale
        if target != np.float32:
            values = xp.astype(xp.minimum(xp.maximum(values, low), high), out.dtype)
        out[start : start + count] = xp.reshape(values, (-1,))
    restored: np.ndarray = _restored(out, layout, xp)
    return restored


def quantization_error(weight: Array, reduction_axes: Sequence[int] | int, name: str = "") -> float:
    """See :func:`nncf_core.numerics.kernels.quantization_error`; sums differ in their last bits."""
    worst, _, length = _squared_errors(weight, reduction_axes, name)
    return worst / length


def quantization_noise(weight: Array, reduction_axes: Sequence[int] | int, name: str = "") -> float:
    """See :func:`nncf_core.numerics.kernels.quantization_noise`; sums differ in their last bits."""
    _, total, _ = _squared_errors(weight, reduction_axes, name)
    return sqrt(total)


def _squared_errors(weight: Array, reduction_axes: Sequence[int] | int, name: str) -> tuple[float, float, int]:
    """The largest sum of squared errors of a channel, that of all, and the elements of a channel."""
    source = _Source(weight, layout_of(tuple(weight.shape), reduction_axes, name=name), name)
    scheme, space, xp = SCHEMES["int8_asym"], source.space, source.space.xp
    grid = grid_for(scheme)
    rule, table = ScaleRule(scheme, grid, space, wide=True), ArrayGrid(grid, space)
    worst = xp.zeros((1,), dtype=xp.float64, device=space.device)
    everything = xp.zeros((1,), dtype=xp.float64, device=space.device)
    for band, lo, hi in source.bands(magnitude=False):
        scales, total = rule(lo, hi), xp.zeros(lo.shape, dtype=xp.float64, device=space.device)
        factor, zero = scales.factor[:, None, :], scales.zero_point
        assert zero is not None
        for piece in band:
            exact = source.values(piece)
            error = (table.round(exact / factor, zero) - zero[:, None, :]) * factor - exact
            total = total + xp.sum(error * error, axis=1, dtype=xp.float64)
        worst = xp.maximum(worst, xp.max(total))
        everything = everything + xp.sum(total)
    source.check()
    return float(worst[0]), float(everything[0]), source.layout.length


class _Source:
    """A tensor as ``(units, length, inner)``; remembers its smallest and largest value while it is read.

    :raises ValidationError: when it is not of a floating-point type.
    """

    def __init__(self, weight: Array, layout: Layout, name: str) -> None:
        self.dtype, self.layout, self._name = dtype_of(weight), layout, name
        check_dtype(self.dtype, name)
        self.space: Space = space_of(weight)
        self._weight, self._view = weight, _viewed(weight, layout, self.space.xp)
        self._lowest, self._highest = self.space.numbers([np.inf]), self.space.numbers([-np.inf])

    def values(self, piece: Piece) -> Array:
        """A piece in float32."""
        xp = self.space.xp
        part = self._view[piece.first_unit : piece.last_unit, piece.first_row : piece.last_row, :]
        return xp.astype(part, xp.float32, copy=False)

    def bands(self, magnitude: bool) -> Iterator[tuple[list[Piece], Array, Array]]:
        """Pieces of the same units, with the extremes of these, ``(units, inner)``.

        :param magnitude: give ``-m, m`` for the largest magnitude ``m`` instead.
        """
        xp = self.space.xp
        for _, pieces in groupby(self.layout.pieces(_PIECE), key=lambda piece: piece.first_unit):
            band = list(pieces)
            lo = hi = None
            for piece in band:
                values = self.values(piece)
                values = xp.abs(values) if magnitude else values
                high = xp.max(values, axis=1)
                low = -high if magnitude else xp.min(values, axis=1)
                lo, hi = (low, high) if lo is None else (xp.minimum(lo, low), xp.maximum(hi, high))
            self._lowest = xp.minimum(self._lowest, xp.min(lo))
            self._highest = xp.maximum(self._highest, xp.max(hi))
            yield band, lo, hi

    def check(self) -> Array:
        """See whether all elements are finite and not too large; gives the largest magnitude, one float32.

        :raises ValidationError: naming the first element, in C order, that is not.
        """
        xp, limit = self.space.xp, float(LARGEST)
        peak = xp.maximum(-self._lowest, self._highest)
        if float(peak[0]) <= limit:  # false for NaN, which the extremes carry on
            return peak
        flat = xp.reshape(self._weight, (-1,))
        for start in range(0, flat.shape[0], _PIECE):
            block = flat[start : start + _PIECE]
            bad = ~(xp.abs(xp.astype(block, xp.float32)) <= limit)
            if bool(xp.any(bad)):
                index = int(xp.argmax(xp.astype(bad, xp.int32)))
                position = [int(i) for i in np.unravel_index(start + index, self.layout.shape)]
                value = np.asarray(float(block[index])).astype(self.dtype)[()]
                raise bad_value(self._name, value, position)
        raise AssertionError("extremes without an element")


def _largest_magnitude(source: _Source) -> Array:
    for _ in source.bands(magnitude=True):
        pass
    return source.check()


class _Parts(NamedTuple):
    codes: Array
    scale: Array
    zero_point: Array | None
    fit: bool


def _encode(source: _Source, scheme: Scheme, grid: Grid, rule: ScaleRule) -> _Parts:
    layout, space, bits, table = source.layout, source.space, grid.format.bits, ArrayGrid(grid, source.space)
    xp, pieces = space.xp, list(layout.pieces(_PIECE))
    # otherwise pieces end inside of bytes
    packed = layout.order is None and (bits >= 8 or all(layout.start(p) % CODES_PER_WORD == 0 for p in pieces))
    codes = space.empty((packed_size(layout.size, bits) if packed else layout.size,), "uint8" if packed else "int32")
    scale = space.empty((layout.units, layout.inner), rule.stored_dtype)
    zero_point = space.empty((layout.units, layout.inner), "uint8") if scheme.asymmetric else None
    fit = xp.ones((1,), dtype=xp.bool, device=space.device)
    for band, lo, hi in source.bands(not scheme.signed_range):
        found, units = rule(lo, hi), slice(band[0].first_unit, band[0].last_unit)
        scale[units, :] = found.stored
        if zero_point is not None:
            zero_point[units, :] = xp.astype(found.zero_point, xp.uint8)
        fit = fit & found.fits
        for piece in band:
            part = table.encode(source.values(piece), found.factor, found.zero_point)
            start, stop = layout.start(piece), layout.start(piece) + layout.count(piece)
            if packed:
                start, stop, part = start * bits // 8, packed_size(stop, bits), pack(part, bits)
            codes[start:stop] = part
    source.check()
    if not packed:
        codes = _packed(xp.reshape(_restored(codes, layout, xp), (-1,)), bits, space)
    return _Parts(codes, scale, zero_point, bool(fit[0]))


def _packed(codes: Array, bits: int, space: Space) -> Array:
    size = codes.shape[0]
    out = space.empty((packed_size(size, bits),), "uint8")
    for start in range(0, size, _PIECE):
        stop = min(start + _PIECE, size)
        out[start * bits // 8 : packed_size(stop, bits)] = pack(codes[start:stop], bits)
    return out


def _viewed(array: Array, layout: Layout, xp: Any) -> Array:
    if layout.order is not None:
        array = xp.permute_dims(array, layout.order)
    return xp.reshape(array, (layout.units, layout.length, layout.inner))


def _restored(view: Array, layout: Layout, xp: Any) -> Array:
    if layout.order is None:
        return xp.reshape(view, layout.shape)
    permuted = xp.reshape(view, tuple(layout.shape[axis] for axis in layout.order))
    back = tuple(layout.order.index(axis) for axis in range(len(layout.order)))
    return xp.reshape(xp.permute_dims(permuted, back), layout.shape)
