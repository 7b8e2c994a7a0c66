"""Compress tensors, decompress them, and measure what 8 bits lose.

Work goes over blocks that stay in cache, in pieces that an executor may spread over threads or processes.
Pieces depend on the shape alone, so results never depend on the executor.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import closing

import numpy as np
from attrs import evolve
from numpy.typing import DTypeLike

from nncf_core.numerics.arrays import Array, is_foreign
from nncf_core.numerics.blocks import BLOCK, SCRATCH, bad_element, check_dtype, largest_value
from nncf_core.numerics.formats import SCHEMES, Scheme
from nncf_core.numerics.grid import decode, grid_for
from nncf_core.numerics.layout import Layout, Piece, layout_of
from nncf_core.numerics.packing import CODES_PER_WORD, pack, packed_size, unpack
from nncf_core.numerics.pieces import (
    Job,
    encode_piece,
    encode_units,
    measure,
    squared_error,
    squared_error_of_units,
)
from nncf_core.numerics.scales import Scales
from nncf_core.numerics.tensor import CompressedTensor
from nncf_core.numerics.work import Target, spread

_PIECE = 1 << 19  # elements that a worker gets at a time
_LARGEST_UNIT = 1 << 21  # elements that are still kept in (the last level of) cache between two readings
_INLINE = 1 << 18  # smaller tensors are not worth a worker


def compress(
    weight: Array,
    scheme: Scheme,
    *,
    reduction_axes: Sequence[int] | int,
    group_axis: int | None = None,
    group_size: int = -1,
    codebook: np.ndarray | None = None,
    executor: Executor | None = None,
    name: str = "",
) -> CompressedTensor:
    """Compress a tensor to the codes that are nearest under a scheme, everything in float32.

    With ``b`` bits and half-to-even rounding, for each group ``g`` of elements that share a scale:

    - asymmetric integers: ``scale = (max(g, 0) - min(g, 0)) / (2^b - 1)``,
      ``zero_point = clip(round(-min(g, 0) / scale))``, ``code = clip(round(w / scale + zero_point))``;
    - symmetric integers: the scale has the sign that brings the larger of ``-min g`` and ``max g`` to
      ``-2^(b-1)``, ``code = clip(round(w / scale))``;
    - NF4 (https://arxiv.org/abs/2305.14314) and codebooks: a signed scale likewise, then the nearest entry,
      of two equally near ones the lower;
    - FP4, FP8: ``scale = max|g| / max_value``, then the nearest value, halves to the even mantissa;
    - MXFP4, MXFP8 (OCP Microscaling Formats v1.0): the scale is the next power of two above that;
    - NVFP4: FP4's scales in float8_e4m3fn, under one float32 factor for the tensor.

    Scales that are stored in float16 are rounded to it before zero points and codes are computed. When one of
    them lies outside [2^-16, 65504], all scales of the tensor stay float32. Scales below 2^-23 become 2^-23
    (not those of MX: a group of zeros has 2^-127).

    :param weight: floating-point array of one or more dimensions, of any layout in memory, also read-only or
        memory-mapped; it is not changed. float64 is first rounded to float32. An array of another library that
        follows the array API standard stays on its device, and the result, the same bits, lies beside it.
    :param scheme: see :mod:`nncf_core.numerics.formats`.
    :param reduction_axes: axes along which a scale is shared.
    :param group_axis: the axis that is divided into groups; by default the only reduction axis.
    :param group_size: elements along it that share a scale; ``-1``: it is not divided.
    :param codebook: table for the ``codebook`` scheme, one dimension, strictly increasing. Codes have 4 bits
        for up to 16 values, 8 for 256, 16 (little-endian) for 65536.
    :param executor: spreads large tensors; threads or processes. The calling thread works, too, so that a
        call may run on the executor it is given. The result does not depend on it. Arrays on devices leave it alone.
    :param name: what the tensor is called in errors.
    :raises ValidationError: when an element is not finite or larger than 2^126, when the tensor is empty or
        not of a floating-point type, and for wrong axes and codebooks.
    :raises InvalidGroupSizeError: when groups of this size do not fill the axis.
    """
    if is_foreign(weight):
        from nncf_core.numerics import array_kernels

        return array_kernels.compress(
            weight,
            scheme,
            reduction_axes=reduction_axes,
            group_axis=group_axis,
            group_size=group_size,
            codebook=codebook,
            name=name,
        )
    source = np.asarray(weight)
    check_dtype(source.dtype, name)
    layout = layout_of(source.shape, reduction_axes, group_axis, group_size, name)
    grid = grid_for(scheme, codebook, name)
    executor = executor if layout.size >= _INLINE else None
    twice_read = layout.unit_size > _LARGEST_UNIT or scheme.has_global_scale
    pieces = list(layout.pieces(_PIECE if twice_read else max(_PIECE, layout.unit_size)))
    job = Job(scheme, grid, packed=_pieces_end_with_bytes(layout, pieces))
    codes = _Codes(layout, job)
    read = _encode_twice_read if twice_read else _encode_once_read
    try:
        scales = read(layout.view(source), pieces, codes, job, executor)
    except FloatingPointError:
        raise bad_element(source, name) from None
    zero_point = None if scales.zero_point is None else scales.zero_point.astype(np.uint8)
    return CompressedTensor(
        format=grid.format,
        shape=layout.shape,
        codes=codes.array if job.packed else pack(layout.restore(codes.array), grid.format.bits),
        scale=scales.stored.reshape(layout.scale_shape),
        zero_point=None if zero_point is None else zero_point.reshape(layout.scale_shape),
        dtype=source.dtype.name,
        reduction_axes=layout.reduction_axes,
        group_axis=layout.group_axis,
        group_size=layout.group_size,
        global_scale=scales.global_scale,
        codebook=grid.table if grid.format.family == "codebook" else None,
    )


def decompress(tensor: CompressedTensor, dtype: DTypeLike | None = None) -> np.ndarray:
    """The tensor that codes stand for: ``(v - zero_point) · scale · global_scale``, in float32, then cast.

    :param tensor: a compressed tensor.
    :param dtype: element type of the result, by default that of the tensor before compression. What such a
        type cannot hold (rounding up may exceed float16) becomes its largest finite value.
    :return: array of ``tensor.shape``.
    :raises ValidationError: when ``dtype`` is not a floating-point type.
    """
    if is_foreign(tensor.codes):
        from nncf_core.numerics import array_kernels

        return array_kernels.decompress(tensor, dtype)
    target = np.dtype(tensor.dtype if dtype is None else dtype)
    check_dtype(target, "")
    layout = layout_of(tensor.shape, tensor.reduction_axes, tensor.group_axis, tensor.group_size)
    pieces = list(layout.pieces(BLOCK)) if layout.order is None else [Piece(0, layout.units, 0, layout.length)]
    scale = tensor.scale.astype(np.float32).reshape(layout.units, 1, layout.inner)
    zero_point = None if tensor.zero_point is None else tensor.zero_point.astype(np.float32).reshape(scale.shape)
    limit = np.float32(min(largest_value(target), largest_value(np.dtype(np.float32))))
    out = np.empty((layout.units, layout.length, layout.inner), target)
    for piece in pieces:
        start = layout.start(piece)
        block = out[piece.first_unit : piece.last_unit, piece.first_row : piece.last_row]
        codes = unpack(tensor.codes, tensor.format.bits, block.size, tensor.format.signed, start)
        if layout.order is not None:
            codes = np.ascontiguousarray(layout.view(codes.reshape(layout.shape)))
        values = block if target == np.float32 else SCRATCH.array("values", block.shape)
        decode(tensor.format, codes.reshape(block.shape), tensor.codebook, values)
        units = slice(piece.first_unit, piece.last_unit)
        if zero_point is not None:
            np.subtract(values, zero_point[units], out=values)
        np.multiply(values, scale[units], out=values)
        if tensor.global_scale is not None:
            np.multiply(values, np.float32(tensor.global_scale), out=values)
        if values is not block:
            np.clip(values, -limit, limit, out=values)
            np.copyto(block, values, casting="unsafe")
    return layout.restore(out)


def quantization_error(
    weight: Array, reduction_axes: Sequence[int] | int, executor: Executor | None = None, name: str = ""
) -> float:
    """How much ``int8_asym`` without groups loses: the largest, over channels, mean squared error.

    Scales stay in float32, as for sorting layers the storage of scales does not matter. Infinite when errors
    exceed about 1e19.

    :param weight: floating-point array, as for :func:`compress`.
    :param reduction_axes: axes over which a channel extends.
    :param executor: as for :func:`compress`; the result does not depend on it.
    :param name: what the tensor is called in errors.
    :raises ValidationError: as for :func:`compress`.
    """
    if is_foreign(weight):
        from nncf_core.numerics import array_kernels

        return array_kernels.quantization_error(weight, reduction_axes, name)
    total, length = _squared_errors(np.asarray(weight), reduction_axes, executor, name)
    return float(total.max() / length)


def quantization_noise(
    weight: Array, reduction_axes: Sequence[int] | int, executor: Executor | None = None, name: str = ""
) -> float:
    """The Frobenius norm of what ``int8_asym`` without groups loses; otherwise as :func:`quantization_error`."""
    if is_foreign(weight):
        from nncf_core.numerics import array_kernels

        return array_kernels.quantization_noise(weight, reduction_axes, name)
    total, _ = _squared_errors(np.asarray(weight), reduction_axes, executor, name)
    return float(np.sqrt(total.sum()))


def _squared_errors(
    source: np.ndarray, reduction_axes: Sequence[int] | int, executor: Executor | None, name: str
) -> tuple[np.ndarray, int]:
    """Sums of squared errors, ``(units, inner)`` in float64, and the elements of each."""
    check_dtype(source.dtype, name)
    layout = layout_of(source.shape, reduction_axes, name=name)
    executor = executor if layout.size >= _INLINE else None
    scheme = SCHEMES["int8_asym"]
    view, job = layout.view(source), Job(scheme, grid_for(scheme), wide=True)
    twice_read = layout.unit_size > _LARGEST_UNIT
    pieces = list(layout.pieces(_PIECE if twice_read else max(_PIECE, layout.unit_size)))
    total = np.zeros((layout.units, layout.inner), np.float64)
    try:
        if twice_read:
            scales = _scales_first(view, pieces, job, executor)
            calls = [(_cut(view, p), *_scales_of_piece(scales, p), job) for p in pieces]
            sums = dict(spread(executor, squared_error, calls))
        else:
            sums = dict(spread(executor, squared_error_of_units, [(_cut(view, p), job) for p in pieces]))
    except FloatingPointError:
        raise bad_element(source, name) from None
    for index, piece in enumerate(pieces):  # in order: sums of floats depend on it
        total[piece.first_unit : piece.last_unit] += sums[index]
    return total, layout.length


def _pieces_end_with_bytes(layout: Layout, pieces: list[Piece]) -> bool:
    """Whether codes of pieces can be packed on their own, and are in the tensor's own order."""
    return layout.order is None and all(layout.start(piece) % CODES_PER_WORD == 0 for piece in pieces)


def _cut(view: np.ndarray, piece: Piece) -> np.ndarray:
    return view[piece.first_unit : piece.last_unit, piece.first_row : piece.last_row]


def _encode_once_read(
    view: np.ndarray, pieces: list[Piece], codes: _Codes, job: Job, executor: Executor | None
) -> Scales:
    """Measure and encode piece by piece, while a piece is in cache."""
    done: dict[int, Scales] = {}
    calls = [(_cut(view, piece), job, codes.target(piece)) for piece in pieces]
    with closing(spread(executor, encode_units, calls)) as results:
        for index, (scales, part) in results:
            if not scales.fits:
                break
            codes.place(pieces[index], part)
            done[index] = scales
        else:
            return Scales.joined([done[index] for index in range(len(pieces))])
    # One scale that float16 does not hold is rare enough to begin again for.
    return _encode_once_read(view, pieces, codes, evolve(job, wide=True), executor)


def _encode_twice_read(
    view: np.ndarray, pieces: list[Piece], codes: _Codes, job: Job, executor: Executor | None
) -> Scales:
    """Measure everything, then encode: for groups larger than a piece, and factors of the whole tensor."""
    scales = _scales_first(view, pieces, job, executor)
    calls = [(_cut(view, p), *_scales_of_piece(scales, p), job, codes.target(p)) for p in pieces]
    for index, part in spread(executor, encode_piece, calls):
        codes.place(pieces[index], part)
    return scales


def _scales_first(view: np.ndarray, pieces: list[Piece], job: Job, executor: Executor | None) -> Scales:
    units, _, inner = view.shape
    lo, hi = np.full((units, inner), np.inf, np.float32), np.full((units, inner), -np.inf, np.float32)
    for index, (low, high) in spread(executor, measure, [(_cut(view, p), job) for p in pieces]):
        rows = slice(pieces[index].first_unit, pieces[index].last_unit)
        np.minimum(lo[rows], low, out=lo[rows])
        np.maximum(hi[rows], high, out=hi[rows])
    scales = job.scales(lo, hi)
    return scales if scales.fits else evolve(job, wide=True).scales(lo, hi)


def _scales_of_piece(scales: Scales, piece: Piece) -> tuple[np.ndarray, np.ndarray | None]:
    rows = slice(piece.first_unit, piece.last_unit)
    return scales.factor[rows], None if scales.zero_point is None else scales.zero_point[rows]


class _Codes:
    """The codes of a tensor, put together from those of pieces."""

    def __init__(self, layout: Layout, job: Job) -> None:
        self._layout, self._job = layout, job
        self._bytes = np.empty(packed_size(layout.size, job.bits), np.uint8)

    @property
    def array(self) -> np.ndarray:
        """All codes, one dimension: packed as bytes, or one by one."""
        return self._bytes if self._job.packed else self._bytes.view(self._job.grid.code_dtype)

    def target(self, piece: Piece) -> Target:
        """Where the codes of a piece belong."""
        start = self._layout.start(piece) * self._job.bits // 8
        return Target(self._bytes[start : start + packed_size(self._layout.count(piece), self._job.bits)])

    def place(self, piece: Piece, part: np.ndarray | None) -> None:
        """Put codes where they belong that a worker could not put there itself."""
        target = self.target(piece).array
        if part is not None and target is not None:
            target[:] = part
