"""Histograms of all elements of a stream of tensors, and the range for 8-bit integers that loses least.

Intervals begin at multiples of a power of two. Where the elements need more intervals than there may be, two and two
become one, so that a count is always what it would be had the final intervals been known: merging is exact, whatever
the order. (The histograms that PyTorch's ``HistogramObserver`` merges spread counts over intervals anew each time.)
"""

from __future__ import annotations

from collections.abc import Mapping
from math import floor, frexp, ldexp
from typing import ClassVar

import numpy as np
from attrs import Factory, define, frozen

from nncf_core.errors import ValidationError
from nncf_core.reductions import columns

BINS = 4096
"""Intervals there may be between the smallest and the largest element, zero among them; more than half are in use."""

_TOP = 255
_LOWEST = -1000
_PIECE = 2**16
_RATIO, _STEPS, _FINE, _APART = 0.9, 64, 17, 8


@define(eq=False)
class Bins:
    """A histogram.

    :param exponent: intervals are ``2**exponent`` long; the one with index ``i`` begins at ``i * 2**exponent``.
    :param first: index of the first interval.
    :param counts: how many elements lie in each interval, int64.
    :param zeros: how many of them are zero.
    :param low: smallest element, or 0 if that is smaller; NaN when an element is not finite.
    :param high: largest element, or 0 if that is larger.
    """

    exponent: int = _LOWEST
    first: int = 0
    counts: np.ndarray = Factory(lambda: np.zeros(1, np.int64))
    zeros: int = 0
    low: float = 0.0
    high: float = 0.0

    def add(self, x: np.ndarray) -> None:
        """Count the elements of an array of one dimension."""
        low, high = min(float(x.min()), 0.0) + 0.0, max(float(x.max()), 0.0) + 0.0  # no -0.0
        if not np.isfinite(high - low) or np.isnan(self.low):
            self.low = self.high = float("nan")
            return
        self._widen(low, high, _LOWEST)
        width = ldexp(1.0, -self.exponent)
        for start in range(0, x.size, _PIECE):
            piece = x[start : start + _PIECE].astype(np.float64)
            places = np.floor(piece * width).astype(np.int64) - self.first
            self.counts += np.bincount(places, minlength=self.counts.size)
            self.zeros += piece.size - int(np.count_nonzero(piece))

    def merge(self, other: Bins) -> None:
        """Take over another's counts."""
        if np.isnan(other.low) or np.isnan(self.low):
            self.low = self.high = float("nan")
            return
        self._widen(other.low, other.high, other.exponent)
        places = (np.arange(other.counts.size) + other.first >> self.exponent - other.exponent) - self.first
        np.add.at(self.counts, places, other.counts)
        self.zeros += other.zeros

    def _widen(self, low: float, high: float, least: int) -> None:
        low, high = min(low, self.low), max(high, self.high)
        exponent = max(_exponent(low, high), least, self.exponent)
        first = floor(ldexp(low, -exponent))
        counts = np.zeros(floor(ldexp(high, -exponent)) - first + 1, np.int64)
        if self.counts.any():
            places = (np.arange(self.counts.size) + self.first >> exponent - self.exponent) - first
            np.add.at(counts, places, self.counts)
        self.exponent, self.first, self.counts, self.low, self.high = exponent, first, counts, low, high


def _exponent(low: float, high: float) -> int:
    """The least that leaves no more intervals than there may be between two numbers, zero between them."""
    if low == high:
        return _LOWEST
    exponent = max(frexp((high - low) / BINS)[1] - 2, _LOWEST)
    while floor(ldexp(high, -exponent)) - floor(ldexp(low, -exponent)) >= BINS:
        exponent += 1
    return exponent


def least_error(bins: Bins, symmetric: bool) -> tuple[float, float]:
    """The range with the least expected squared error of what 8-bit integers make of the elements.

    Elements are taken to be spread evenly over their interval, but for zeros, which are exact. Steps that are 11 %
    apart are compared with every eighth zero point, then those about the best with each. (TensorRT compares ranges by
    another measure, see Migacz 2017, "8-bit inference with TensorRT"; PyTorch's ``HistogramObserver`` by this one, on
    a path from one quantile to the next.)

    :param symmetric: whether integers have no zero point: then the range reaches as far below zero as above, or not at
        all where no element lies below.
    :return: lower and upper end, zero between them; NaN when an element was not finite.
    """
    if np.isnan(bins.low) or bins.low == bins.high:
        return bins.low, bins.high
    signed = symmetric and bins.low < 0
    points = np.array([128] if signed else [0] if bins.low == 0 else [_TOP] if bins.high == 0 else range(_TOP + 1))
    largest = max(-bins.low / 128, bins.high / (_TOP - 128)) if signed else (bins.high - bins.low) / _TOP
    errors = _Errors.of(bins)
    some = points[:: _APART if points.size > 1 else 1]
    step, point = errors.least(largest * _RATIO ** np.arange(_STEPS), some)
    near = points[abs(points - point) < _APART]
    step, point = errors.least(np.minimum(step * _RATIO ** np.linspace(-1, 1, _FINE), largest), near)
    high = (_TOP - point) * step
    return (-high if signed else -point * step), high


@frozen(eq=False)
class _Errors:
    """What elements lose, by where the range ends.

    :param edges: where intervals begin and end.
    :param density: elements in each interval that are not zero.
    :param moments: number, sum and sum of squares of the elements below each edge.
    """

    edges: np.ndarray
    density: np.ndarray
    moments: np.ndarray

    @classmethod
    def of(cls, bins: Bins) -> _Errors:
        """Those of a histogram."""
        counts = bins.counts.astype(np.float64)
        counts[-bins.first] -= bins.zeros
        width = ldexp(1.0, bins.exponent)
        edges = (np.arange(counts.size + 1) + bins.first) * width
        middles = edges[:-1] + width / 2
        moments = np.stack([counts, counts * middles, counts * (middles**2 + width**2 / 12)])
        return cls(edges, counts, _summed(moments))

    def least(self, steps: np.ndarray, points: np.ndarray) -> tuple[float, int]:
        """The step and the zero point with which elements lose least."""
        best, step, point = np.inf, float(steps[0]), int(points[0])
        for tried in steps:
            errors = self._of_step(tried, -points * tried, (_TOP - points) * tried)
            index = int(np.argmin(errors))
            if errors[index] < best:
                best, step, point = errors[index], float(tried), int(points[index])
        return step, point

    def _of_step(self, step: float, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Squared error of ranges with integers ``step`` apart, summed over the elements."""
        # the integral of (t - round(t))², in steps
        at = self.edges / step
        nearest = np.rint(at)
        integral = nearest / 12 + (at - nearest) ** 3 / 3
        rounded = _summed(self.density * np.diff(integral) * step**3 / (self.edges[1] - self.edges[0]))
        sums = np.concatenate([rounded[None], self.moments])
        (inside_low, *low_sums), (inside_high, *high_sums) = (self._at(sums, end) for end in (low, high))
        count, total, square = low_sums
        below = square - 2 * low * total + low**2 * count
        rest = [moment[-1] - part for moment, part in zip(self.moments, high_sums, strict=True)]
        above = rest[2] - 2 * high * rest[1] + high**2 * rest[0]
        return np.asarray(inside_high - inside_low + np.maximum(below, 0) + np.maximum(above, 0))

    def _at(self, sums: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Sums up to places between edges, ``[sums, places]``."""
        last = self.edges.size - 1
        places = np.clip((ends - self.edges[0]) / (self.edges[1] - self.edges[0]), 0, last)
        before = np.minimum(places.astype(np.int64), last - 1)
        return np.asarray(sums[:, before] + (places - before) * (sums[:, before + 1] - sums[:, before]))


def _summed(values: np.ndarray) -> np.ndarray:
    """Sums of all values before each, along the last axis."""
    return np.concatenate([np.zeros((*values.shape[:-1], 1)), np.cumsum(values, axis=-1)], axis=-1)


@define(eq=False)
class LeastErrorRange:
    """The range of all elements, or of those of each index along ``axis``, that 8-bit integers lose least in.

    The value is ``[2]`` or ``[2, channels]``: lower and upper ends, see :func:`least_error`.
    """

    symmetric: ClassVar[bool] = False

    axis: int | None = None
    probability: float = 0.0
    batched: bool = False
    _bins: list[Bins] = Factory(list)

    def update(self, x: np.ndarray) -> None:
        """Count the elements of a tensor."""
        if x.size == 0:
            return
        rows = columns(x, self.axis)
        for bins, column in zip(self._of(rows.shape[1]), rows.T, strict=True):
            bins.add(column)

    def merge(self, other: LeastErrorRange) -> None:
        """Take over another's counts."""
        if other._bins:
            for mine, its in zip(self._of(len(other._bins)), other._bins, strict=True):
                mine.merge(its)

    def _of(self, count: int) -> list[Bins]:
        self._bins = self._bins or [Bins() for _ in range(count)]
        return self._bins

    @property
    def state(self) -> Mapping[str, np.ndarray]:
        """The histograms one after the other."""
        if not self._bins:
            return {}
        places = [[b.exponent, b.first, b.counts.size, b.zeros] for b in self._bins]
        return {
            "places": np.array(places, np.int64),
            "ends": np.array([[b.low, b.high] for b in self._bins]),
            "counts": np.concatenate([b.counts for b in self._bins]),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over a stored state."""
        self._bins = []
        if not state:
            return
        start = 0
        for (exponent, first, size, zeros), (low, high) in zip(
            state["places"].tolist(), state["ends"].tolist(), strict=True
        ):
            counts = state["counts"][start : start + size].copy()
            self._bins.append(Bins(exponent, first, counts, zeros, low, high))
            start += size

    @property
    def value(self) -> np.ndarray:
        """The range."""
        if not self._bins:
            raise ValidationError("A statistic was read before any sample was seen.")
        ends = np.array([least_error(bins, self.symmetric) for bins in self._bins]).T
        return np.asarray(ends[:, 0] if self.axis is None else ends)


class LeastErrorSymmetricRange(LeastErrorRange):
    """The same for integers without a zero point."""

    symmetric: ClassVar[bool] = True
