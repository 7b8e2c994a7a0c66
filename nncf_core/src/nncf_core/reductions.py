"""What is looked at in one sample's tensor: a number, or one for each index along an axis that is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import ceil, prod, sqrt
from typing import Any, Protocol

import numpy as np

from nncf_core.errors import ValidationError

_SMALL = 2**16
"""Elements up to which a tensor is partitioned as a whole."""

_LEAF = 64
"""Rows whose squares are added in single precision; the sums of these are added in double precision."""

_STRIDE = 61
"""One element of so many is looked at first in larger ones; a prime, so that the part meets every channel."""


class Reduction(Protocol):
    """Reduces a tensor to a number, or to one for each index along ``axis``."""

    def __call__(self, x: np.ndarray, axis: int | None, probability: float) -> np.ndarray:
        """The reduced tensor; ``probability`` matters to quantiles."""


def samples(x: np.ndarray, axis: int | None, batched: bool) -> Iterator[tuple[np.ndarray, int | None]]:
    """The tensors of the samples that a tensor holds, with the axis that is kept in them; none of one without elements.

    :param batched: whether samples lie along the first axis; a tensor whose first axis is kept is one sample all the
        same, and so is a number.
    """
    if x.size == 0:
        return
    if not batched or x.ndim == 0 or (axis is not None and axis % x.ndim == 0):
        yield x, axis
        return
    inner = None if axis is None else axis % x.ndim - 1
    for sample in x:
        yield sample, inner


def reduced(reduce: Callable[..., np.ndarray], x: np.ndarray, axis: int | None, **more: Any) -> np.ndarray:
    """What a function of numpy makes of all elements, or of those of each index along ``axis``.

    A reduction over the axes of a matrix is several times faster than the same over those of four dimensions.

    :raises ValidationError: when the tensor has no such axis.
    """
    if axis is None:
        return np.asarray(reduce(x, axis=None, **more))
    kept = _checked(x, axis)
    size = x.shape[kept]
    if kept == x.ndim - 1:
        return np.asarray(reduce(x.reshape(-1, size), axis=0, **more))
    if x.size == prod(x.shape[kept:]):
        return np.asarray(reduce(x.reshape(size, -1), axis=1, **more))
    return np.asarray(reduce(x, axis=tuple(i for i in range(x.ndim) if i != kept), **more))


def columns(x: np.ndarray, axis: int | None) -> np.ndarray:
    """All elements ``[elements, columns]``: one column, or one for each index along ``axis``.

    :raises ValidationError: when the tensor has no such axis.
    """
    if axis is None:
        return x.reshape(-1, 1)
    kept = _checked(x, axis)
    return np.moveaxis(x, kept, -1).reshape(-1, x.shape[kept])


def _checked(x: np.ndarray, axis: int) -> int:
    if not -x.ndim <= axis < x.ndim:
        raise ValidationError(f"Statistics along axis {axis} were asked for a tensor of shape {x.shape}.")
    return axis % x.ndim


def _min(x: np.ndarray, axis: int | None, probability: float) -> np.ndarray:
    return reduced(np.minimum.reduce, x, axis)


def _max(x: np.ndarray, axis: int | None, probability: float) -> np.ndarray:
    return reduced(np.maximum.reduce, x, axis)


def _abs_max(x: np.ndarray, axis: int | None, probability: float) -> np.ndarray:
    # no array of all magnitudes
    return np.asarray(
        np.maximum(np.abs(reduced(np.minimum.reduce, x, axis)), np.abs(reduced(np.maximum.reduce, x, axis)))
    )


def _mean(x: np.ndarray, axis: int | None, probability: float) -> np.ndarray:
    return reduced(np.mean, x, axis, dtype=np.float64)


def _quantile(x: np.ndarray, axis: int | None, probability: float) -> np.ndarray:
    return quantile(x, axis, probability)


def _abs_quantile(x: np.ndarray, axis: int | None, probability: float) -> np.ndarray:
    return quantile(np.abs(x), axis, probability)


def quantile(x: np.ndarray, axis: int | None, probability: float) -> np.ndarray:
    """The quantile of all elements, or of those of each index along ``axis``; float64, NaN where there is one.

    It is exact, and linear between neighbours as numpy's (Hyndman and Fan 1996, definition 7).
    """
    wide = x if x.dtype in (np.float32, np.float64) else x.astype(np.float32)
    rows = wide.reshape(1, -1) if axis is None else np.ascontiguousarray(columns(wide, axis).T)
    count = rows.shape[1]
    position = probability * (count - 1)
    below = min(int(position), max(count - 2, 0))
    pair = _pair_of_many(rows[0], below) if len(rows) == 1 and count > _SMALL else _pair(rows, below)
    low, high = pair.astype(np.float64)
    share = position - below
    with np.errstate(invalid="ignore"):  # of two infinities
        found = np.where(low == high, low, low + share * (high - low))
    # sorting puts NaN last, where it would go unseen
    found = np.where(np.isnan(reduced(np.minimum.reduce, rows, 0)), np.nan, found)
    return np.asarray(found[0] if axis is None else found)


def _pair(rows: np.ndarray, below: int) -> np.ndarray:
    """The elements at the places ``below`` and ``below + 1`` of each sorted row, ``[2, rows]``."""
    above = min(below + 1, rows.shape[1] - 1)
    parted = np.partition(rows, (below, above), axis=1)
    return np.stack([parted[:, below], parted[:, above]])


def _pair_of_many(values: np.ndarray, below: int) -> np.ndarray:
    """The same of one long row; near its ends only the elements beyond a bound are looked at.

    The bound is an order statistic of a part of the elements, with a margin that makes it safe nearly always (Floyd and
    Rivest 1975, https://doi.org/10.1145/360680.360691); where it was not, everything is looked at.
    """
    count = values.size
    upper = below > count // 2
    wanted = count - below if upper else below + 2
    part = values[::_STRIDE]
    expected = wanted / _STRIDE
    rank = ceil(expected + 4 * sqrt(expected) + 4)
    if rank < part.size // 4:
        place = part.size - 1 - rank if upper else rank
        bound = np.partition(part, place)[place]
        if bound == (values.max() if upper else values.min()) and np.count_nonzero(values == bound) >= wanted:
            return np.array([[bound], [bound]])  # as behind a ReLU
        beyond = values[values >= bound] if upper else values[values <= bound]
        if beyond.size >= wanted:
            return _pair(beyond.reshape(1, -1), beyond.size - wanted if upper else below)
    return _pair(values.reshape(1, -1), below)


REDUCTIONS: Mapping[str, Reduction] = {
    "min": _min,
    "max": _max,
    "abs_max": _abs_max,
    "mean": _mean,
    "quantile": _quantile,
    "abs_quantile": _abs_quantile,
}
"""Reductions of a sample by name."""


def _rows_apart(x: np.ndarray, axis: int | None) -> tuple[np.ndarray, int]:
    """A tensor in a float type that numpy computes with, and the axis of its last two that is not the channels'.

    :raises ValidationError: when it has fewer than two axes, or the channels are not one of the last two.
    """
    if x.ndim < 2:
        raise ValidationError(
            f"Statistics of rows and channels were asked for a tensor of shape {x.shape}; it needs two axes or more."
        )
    channels = x.ndim - 1 if axis is None else _checked(x, axis)
    if channels < x.ndim - 2:
        raise ValidationError(
            f"Statistics of rows and channels along axis {axis} were asked for a tensor of shape {x.shape}; channels "
            "must be one of its last two axes."
        )
    wide = x if x.dtype in (np.float32, np.float64) else x.astype(np.float32)
    return wide, 2 * x.ndim - 3 - channels


def _variances(x: np.ndarray, axis: int | None) -> np.ndarray:
    """Variance over the rows, of each channel of each matrix."""
    wide, axis_of_rows = _rows_apart(x, axis)
    mean = wide.mean(axis=axis_of_rows, keepdims=True, dtype=np.float64).astype(wide.dtype)
    apart = np.subtract(wide, mean)
    squares = np.moveaxis(np.square(apart, out=apart), axis_of_rows, -2)
    # numpy's sums in double precision take several times as long, as they make all elements float64
    whole = squares.shape[-2] // _LEAF * _LEAF
    leaves = squares[..., :whole, :].reshape(*squares.shape[:-2], -1, _LEAF, squares.shape[-1])
    rest = squares[..., whole:, :].sum(axis=-2, dtype=np.float64)
    return np.asarray((leaves.sum(axis=-2).sum(axis=-2, dtype=np.float64) + rest) / squares.shape[-2])


def _mean_variance(x: np.ndarray, axis: int | None, probability: float) -> np.ndarray:
    return np.asarray(_variances(x, axis).mean())


def _max_variance(x: np.ndarray, axis: int | None, probability: float) -> np.ndarray:
    return np.asarray(_variances(x, axis).max())


def _channel_abs_max(x: np.ndarray, axis: int | None, probability: float) -> np.ndarray:
    wide, rows = _rows_apart(x, axis)
    largest = np.maximum(np.abs(wide.min(axis=rows)), np.abs(wide.max(axis=rows)))
    return np.asarray(largest.mean(dtype=np.float64))


MATRIX_REDUCTIONS: Mapping[str, Reduction] = {
    "mean_variance": _mean_variance,
    "max_variance": _max_variance,
    "channel_abs_max": _channel_abs_max,
}
"""Reductions of a sample to one number, by what is looked at along the rows of its matrices.

The last two axes are rows and channels; ``axis`` is that of the channels, by default the last. ``mean_variance`` and
``max_variance`` are the mean and the largest of the channels' variances, ``channel_abs_max`` is the mean of their
largest magnitudes.
"""
