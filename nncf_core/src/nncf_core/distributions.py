"""The distribution of a stream of numbers in memory of bounded size.

Few numbers are kept as they are. Of many, those are counted that lie in each of many short intervals: the float32
numbers that agree in sign, exponent and the first :data:`_BITS` bits of the mantissa. An interval's middle is off by at
most 2⁻¹⁰ of any number in it. That is DDSketch (Masson et al. 2019, https://arxiv.org/abs/1908.10693, section 2) with
intervals that are equally long within an octave; which interval a number lies in is exact. What comes out depends on
the numbers and not on their order, or on what was merged with what.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np
from attrs import define, frozen

_BITS = 9
_SHIFT = 23 - _BITS
_HALF = 1 << (31 - _SHIFT)
_INFINITY = 0xFF << _BITS

_MOST_ROWS = 2**11
_MOST_VALUES = 2**18


@frozen(eq=False)
class Ordered:
    """Numbers in ascending order, NaN last, float64, and how often each occurs."""

    values: np.ndarray
    counts: np.ndarray

    def quantile(self, probability: float) -> float:
        """Linear between neighbours, as numpy's; NaN when there is one among the numbers."""
        if np.isnan(self.values[-1]):
            return float("nan")
        ends = np.cumsum(self.counts)
        position = probability * (ends[-1] - 1)
        below = int(position)
        above = min(below + 1, int(ends[-1]) - 1)
        low, high = (float(self.values[np.searchsorted(ends, rank, "right")]) for rank in (below, above))
        return low if low == high else low + (position - below) * (high - low)

    def within(self, share: float) -> Ordered:
        """Those that are neither below the quantile ``share`` nor above the quantile ``1 - share``, both included.

        The median where that leaves none, which happens with two numbers.
        """
        low, high = self.quantile(share), self.quantile(1 - share)
        kept = (self.values >= low) & (self.values <= high)
        if not kept.any():
            return Ordered(np.array([self.quantile(0.5)]), np.ones(1, np.int64))
        return Ordered(self.values[kept], self.counts[kept])

    def mean(self) -> float:
        """The mean."""
        return float(self.values @ self.counts / self.counts.sum())


@define(eq=False)
class Distribution:
    """The numbers of each of several columns.

    :param rows: all of them ``[count, columns]``, float64, while they are few; ``None`` otherwise.
    :param keys: of many: column and interval, int64, ascending.
    :param counts: how many numbers lie in each interval.
    :param width: number of columns; 0 before the first row.
    """

    rows: np.ndarray | None = None
    keys: np.ndarray | None = None
    counts: np.ndarray | None = None
    width: int = 0

    def add(self, rows: np.ndarray) -> None:
        """Take rows ``[count, columns]`` into account."""
        self.width = rows.shape[1]
        most = min(_MOST_ROWS, max(_MOST_VALUES // self.width, 1))
        if self.keys is None:
            have = 0 if self.rows is None else len(self.rows)
            if have + len(rows) <= most:
                new = rows.astype(np.float64)
                self.rows = new if self.rows is None else np.concatenate([self.rows, new])
                return
            if self.rows is not None:
                self._count(*_counted(self.rows))
                self.rows = None
        self._count(*_counted(rows))

    def merge(self, other: Distribution) -> None:
        """Take into account everything that another has seen."""
        if other.rows is not None:
            self.add(other.rows)
        elif other.keys is not None and other.counts is not None:
            self.width = other.width
            if self.rows is not None:
                self._count(*_counted(self.rows))
                self.rows = None
            self._count(other.keys, other.counts)

    def _count(self, keys: np.ndarray, counts: np.ndarray) -> None:
        if self.keys is None or self.counts is None:
            self.keys, self.counts = keys, counts
            return
        merged, places = np.unique(np.concatenate([self.keys, keys]), return_inverse=True)
        total = np.zeros(merged.size, np.int64)
        np.add.at(total, places, np.concatenate([self.counts, counts]))
        self.keys, self.counts = merged, total

    @property
    def state(self) -> Mapping[str, np.ndarray]:
        """Arrays from which :meth:`restore` makes an equal distribution."""
        if self.rows is not None:
            return {"rows": self.rows}
        if self.keys is None or self.counts is None:
            return {}
        return {"keys": self.keys, "counts": self.counts, "width": np.asarray(self.width, np.int64)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over a stored state."""
        self.rows, self.keys, self.counts = (state.get(part) for part in ("rows", "keys", "counts"))
        self.width = self.rows.shape[1] if self.rows is not None else int(state["width"]) if "width" in state else 0

    def ordered(self) -> Iterator[Ordered]:
        """The numbers of each column."""
        if self.rows is not None:
            ones = np.ones(len(self.rows), np.int64)
            for column in np.sort(self.rows, axis=0).T:
                yield Ordered(column, ones)
        elif self.keys is not None and self.counts is not None:
            ends = np.searchsorted(self.keys, np.arange(self.width + 1, dtype=np.int64) * 2 * _HALF)
            for start, end in pairwise(ends):
                yield Ordered(_middles(self.keys[start:end] % (2 * _HALF) - _HALF), self.counts[start:end])


def _counted(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keys of the intervals that the numbers of rows ``[count, columns]`` lie in, and how many do."""
    keys, counts = [], []
    for index, column in enumerate(np.ascontiguousarray(rows.T)):
        with np.errstate(over="ignore"):
            bits = column.astype(np.float32).view(np.int32)
        magnitude = (bits & 0x7FFFFFFF) >> _SHIFT
        # NaN is last whatever its sign
        places = np.where((bits < 0) & (magnitude <= _INFINITY), -magnitude, magnitude)
        low = int(places.min(initial=_HALF))
        found = np.bincount(places - low)
        used = np.flatnonzero(found)
        keys.append(used + (low + _HALF + index * 2 * _HALF))
        counts.append(found[used])
    return np.concatenate(keys).astype(np.int64), np.concatenate(counts).astype(np.int64)


def _middles(places: np.ndarray) -> np.ndarray:
    magnitude = np.abs(places)
    middle = (magnitude << _SHIFT) + (1 << (_SHIFT - 1))
    values = np.where(magnitude < _INFINITY, middle, magnitude << _SHIFT).astype(np.int32).view(np.float32)
    # what is that near zero is zero
    values = np.where(magnitude == 0, np.float32(0), values)
    return np.asarray(np.sign(places) * np.where(magnitude > _INFINITY, np.nan, values.astype(np.float64)))
