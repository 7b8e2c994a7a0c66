"""Fitting a codebook to weights: optimal one-dimensional quantizers.

A weight ``w`` of a group whose extreme, the element of the largest magnitude, is ``m`` becomes ``u = -w / m`` in
[-1, 1]; a table of values ``c`` from -1 upwards stands for ``-m·c``. The squared error of a layer's output is, when its
input channels are not correlated, the sum over all weights of ``E[x²] · m² · (u - c(u))²``, where ``x`` is the input
channel; without data ``E[x²]`` is 1. That is a weighted k-means in one dimension, which dynamic programming solves
exactly (Bruce 1965; Wang and Song 2011, https://doi.org/10.32614/RJ-2011-015), here among the values that the table's
own number format can hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from functools import lru_cache
from typing import Any

import ml_dtypes
import numpy as np
from attrs import frozen

from nncf_core.errors import ValidationError
from nncf_core.numerics.arrays import Array, to_host
from nncf_core.numerics.blocks import LARGEST, blocks_of
from nncf_core.numerics.formats import SCHEMES
from nncf_core.numerics.kernels import compress, decompress
from nncf_core.numerics.layout import layout_of

_POINTS = np.linspace(-1, 1, 4097)
"""Where weights are counted: at the nearest of these, 2^-12 away at most."""

_DOUBT = 3 * 2.0**-11
"""By how much root mean square errors of two tables may be wrong, together: ``u`` is off by half the distance of two
points, and by the rounding of scales to float16, and the distance to the nearest value changes no faster than ``u``."""

_FINE = 513
"""Values between -1 and 1 to choose from where the number format has more."""

_TYPES: Mapping[str, Any] = {
    "f8e4m3": ml_dtypes.float8_e4m3fn,
    "f8e5m2": ml_dtypes.float8_e5m2,
    "int8": np.int8,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float32": np.float32,
}

VALUE_TYPES = tuple(_TYPES)
"""Number formats of a table's values."""

MOST_ELEMENTS = 256


@frozen
class Adaptive:
    """How tables are fitted.

    :param value_type: one of :data:`VALUE_TYPES`.
    :param count: number of a table's values, 2 to 256.
    :param across_blocks: whether weights at the same place of repeated blocks share a table.
    :param start: tables of the value type that a fitted one must be better than.
    """

    value_type: str
    count: int
    across_blocks: bool
    start: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, value_type: str, count: int, across_blocks: bool, codebook: np.ndarray | None) -> Adaptive:
        """Checked parameters.

        :param codebook: the user's own table, of as many values.
        :raises ValidationError: for an unknown type, too few or too many values, or a table of another size.
        """
        where = "advanced_parameters.adaptive_codebook_params"
        if value_type not in _TYPES:
            raise ValidationError(f"{where}.value_type is {value_type!r}; known are {', '.join(_TYPES)}.")
        if not 2 <= count <= MOST_ELEMENTS:
            raise ValidationError(f"{where}.num_elements is {count}; it must lie between 2 and {MOST_ELEMENTS}.")
        if codebook is not None and codebook.shape != (count,):
            raise ValidationError(
                f"advanced_parameters.codebook has shape {list(codebook.shape)}, but {where}.num_elements is {count}: "
                "leave the codebook out, or give as many values in a row."
            )
        known = [np.array(SCHEMES["cb4"].codebook, np.float32), *([] if codebook is None else [codebook])]
        start = [table for table in known if table.size <= count and _holds(value_type, table)]
        return cls(value_type, count, across_blocks, tuple(start))


def _holds(value_type: str, table: np.ndarray) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):  # then it does not
        return np.array_equal(table.astype(_TYPES[value_type]).astype(np.float32), table)


@frozen
class Histogram:
    """How much the error at each of :data:`_POINTS` counts.

    :param mass: float64.
    :param highest: the largest ``u``.
    """

    mass: np.ndarray
    highest: float

    def __add__(self, other: Histogram) -> Histogram:
        return Histogram(self.mass + other.mass, max(self.highest, other.highest))


def histogram_of(
    weight: Array,
    *,
    reduction_axes: Sequence[int],
    group_axis: int | None = None,
    group_size: int = -1,
    importance: np.ndarray | None = None,
    executor: Executor | None = None,
    name: str = "",
) -> Histogram:
    """The histogram of a weight.

    :param importance: of each index along the only reduction axis; ``None``: all count alike.
    :raises ValidationError: when an element is not finite or too large.
    """
    layout = layout_of(tuple(weight.shape), reduction_axes, group_axis, group_size, name)
    view = layout.view(to_host(weight))
    groups = 1 if importance is None else importance.size // layout.length
    by_group = None if importance is None else importance.reshape(groups, layout.length, 1)
    mass, highest = np.zeros(_POINTS.size), -1.0
    for units, _, columns in blocks_of((layout.units, layout.length, layout.inner)):
        block = view[units, :, columns].astype(np.float32)
        lo, hi = block.min(axis=1, keepdims=True), block.max(axis=1, keepdims=True)
        if not (np.all(lo >= -LARGEST) and np.all(hi <= LARGEST)):
            raise ValidationError(
                f"The weight {name!r} holds an element that is not finite or larger than 2^126; exclude it with "
                "ignored_scope."
            )
        extreme = np.where(-lo >= hi, lo, hi)
        counts = np.square(extreme, dtype=np.float64)
        if by_group is not None:
            counts = counts * by_group[np.arange(units.start, units.start + len(block)) % groups]
        np.divide(block, np.where(extreme == 0, np.float32(1), -extreme), out=block)
        highest = max(highest, float(block.max()))
        index = np.rint((block + np.float32(1)) * np.float32((_POINTS.size - 1) / 2)).astype(np.intp)
        mass += np.bincount(index.reshape(-1), np.broadcast_to(counts, block.shape).reshape(-1), _POINTS.size)
    return Histogram(mass, highest)


def tables_for(histogram: Histogram, adaptive: Adaptive) -> tuple[np.ndarray, ...]:
    """The best table that there is for a histogram; or two, when it cannot tell which is better.

    Of a fitted one -1, the largest ``u`` and, of three values or more, 0 are values, rounded.
    """
    total = histogram.mass.sum()
    if total == 0 or not np.isfinite(total):  # zeros alone: any table will do
        histogram, total = Histogram(np.full(_POINTS.size, 1.0), 1.0), float(_POINTS.size)
    mass = histogram.mass / total
    fits = [
        _fit(mass, histogram.highest, levels, peak, adaptive.count) for peak, levels in _levels(adaptive.value_type)
    ]
    error, fitted = min(fits, key=lambda fit: fit[0])
    start = [(error_of(_relative(table), mass), table) for table in adaptive.start]
    if not start:
        return (fitted,)
    least, known = min(start, key=lambda fit: fit[0])
    ahead = np.sqrt(least) - np.sqrt(error)
    return (known, fitted) if abs(ahead) <= _DOUBT else (fitted if ahead > 0 else known,)


def losses_of(
    weight: Array,
    *,
    tables: Sequence[np.ndarray],
    reduction_axes: Sequence[int],
    group_axis: int | None = None,
    group_size: int = -1,
    importance: np.ndarray | None = None,
    executor: Executor | None = None,
    name: str = "",
) -> np.ndarray:
    """What each table really loses, with the scales and codes that the weight will have; arguments as above."""
    values, losses = to_host(weight), []
    for table in tables:
        tensor = compress(
            values,
            SCHEMES["codebook"],
            reduction_axes=reduction_axes,
            group_axis=group_axis,
            group_size=group_size,
            codebook=table,
            executor=executor,
            name=name,
        )
        error = decompress(tensor, np.float32)
        np.subtract(error, values, out=error, casting="unsafe")
        np.square(error, out=error)
        others = tuple(axis for axis in range(error.ndim) if axis != reduction_axes[0])
        sums = error.sum(axis=others, dtype=np.float64)
        losses.append(float(sums.sum() if importance is None else sums @ importance))
    return np.array(losses)


def error_of(levels: np.ndarray, mass: np.ndarray) -> float:
    """Mean squared distance of ``u`` to the nearest level."""
    nearest = levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, _POINTS)]
    return float(mass @ np.square(_POINTS - nearest))


def _relative(table: np.ndarray) -> np.ndarray:
    """The values of a table when that of the largest magnitude is -1."""
    values = table.astype(np.float64)
    relative: np.ndarray = values / -values[0] if values[-1] <= -values[0] else (values / -values[-1])[::-1]
    return relative


@lru_cache
def _levels(value_type: str) -> tuple[tuple[float, np.ndarray], ...]:
    """What a table's values may be when the first is ``-peak``: values that the type holds, divided by the peak.

    The scale takes in any factor, so that all first digits of a peak can be tried; powers of two change nothing.
    """
    dtype = np.dtype(_TYPES[value_type])
    if dtype == np.int8:
        return ((128.0, np.arange(-128, 128) / 128),)
    if dtype.itemsize > 1:
        return ((1.0, np.unique(np.linspace(-1, 1, _FINE).astype(dtype).astype(np.float64))),)
    codes = np.arange(256, dtype=np.uint8).view(dtype).astype(np.float64)
    values = np.unique(codes[np.isfinite(codes)] + 0.0)  # -0 is 0
    peaks = values[(values >= 2) & (values < 4)]
    return tuple((float(peak), values[np.abs(values) <= peak] / peak) for peak in peaks)


def _fit(mass: np.ndarray, highest: float, levels: np.ndarray, peak: float, count: int) -> tuple[float, np.ndarray]:
    """The error of the best table among levels, and the table."""
    zero = int(np.searchsorted(levels, 0.0))
    last = zero + int(np.abs(levels[zero:] - max(highest, 0.0)).argmin())
    levels = levels[: last + 1]
    chosen = levels[choose(_costs(levels, mass), zero, count)]
    return error_of(chosen, mass), (chosen * peak).astype(np.float32)


def _costs(levels: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """Squared error ``[i, j]`` of what lies between two levels when each goes to the nearer one and none is between."""
    moments = [np.concatenate([[0.0], np.cumsum(mass * _POINTS**power)]) for power in range(3)]

    def up_to(position: np.ndarray) -> list[np.ndarray]:
        index = np.searchsorted(_POINTS, position, side="right")
        return [moment[index] for moment in moments]

    at, middle = up_to(levels), up_to((levels[:, None] + levels[None, :]) / 2)

    def error(low: list[np.ndarray], high: list[np.ndarray], level: np.ndarray) -> np.ndarray:
        zeroth, first, second = (h - m for h, m in zip(high, low, strict=True))
        result: np.ndarray = second - 2 * level * first + level**2 * zeroth
        return result

    lower = error([moment[:, None] for moment in at], middle, levels[:, None])
    upper = error(middle, [moment[None, :] for moment in at], levels[None, :])
    return np.where(np.tri(levels.size, dtype=bool), np.inf, lower + upper)


def choose(costs: np.ndarray, needed: int, count: int) -> np.ndarray:
    """Indices of the ``count`` levels with the least cost, the first, the last and ``needed`` among them.

    :param costs: of having no level between two.
    """
    size = len(costs)
    if size <= count:
        return np.arange(size)
    if count > 2:  # two are the ends
        costs = costs.copy()
        costs[:needed, needed + 1 :] = np.inf
    best = np.full(size, np.inf)
    best[0] = 0.0
    before = []
    for _ in range(count - 1):
        through = best[:, None] + costs
        before.append(through.argmin(axis=0))
        best = through.min(axis=0)
    chosen = [size - 1]
    for steps in reversed(before):
        chosen.append(int(steps[chosen[-1]]))
    return np.array(chosen[::-1])
