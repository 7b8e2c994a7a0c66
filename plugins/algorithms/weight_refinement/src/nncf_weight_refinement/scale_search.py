"""Scales and zero points that lose least on the inputs that a layer sees.

For each group the weighted error ``Σ_k E[x_k²] (w_k - ŵ_k)²`` is minimized over shrunken scales; for a given scale
zero points are looked for among those that clip at one end, at the other, or at both (NeUQI, Lin et al. 2025,
https://arxiv.org/abs/2505.17595). The best scale is then refined by least squares for its levels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor

import numpy as np
from attrs import evolve, frozen

from nncf_core.numerics.blocks import SCRATCH
from nncf_core.numerics.work import spread
from nncf_weight_refinement.grouped import Grouped
from nncf_weight_refinement.lattice import Lattice, NearLevels

_BLOCK = 1 << 15
"""Elements that are worked on at a time: the few arrays of them stay in the second level of cache."""

_SPLITS: tuple[float, ...] = (0.0, 1.0, 0.5)


@frozen
class Sweep:
    """Which scales are tried.

    :param lowest: smallest factor for the scale that brings the extremes of a group to the ends of the range.
    :param highest: the largest factor.
    :param steps: number of factors.
    :param finer: factors between the neighbours of the best one that are tried after it.
    :param polish: rounds of least squares.
    """

    lowest: float = 0.4
    highest: float = 1.05
    steps: int = 12
    finer: int = 4
    polish: int = 2

    @property
    def factors(self) -> np.ndarray:
        """The factors, float32."""
        return np.linspace(self.lowest, self.highest, self.steps, dtype=np.float32)


def search_scales(
    target: np.ndarray,
    start: Grouped,
    importance: np.ndarray | None = None,
    sweep: Sweep | None = None,
    executor: Executor | None = None,
) -> Grouped:
    """The scales and zero points with the smallest weighted error, and the nearest levels under them.

    No group has a larger weighted error than ``start`` with nearest levels has.

    :param target: what to come near to, float32, [batch, outputs, inputs].
    :param start: a weight of the same shape, compressed by its extremes; its levels do not matter.
    :param importance: weight of each input, float32, [inputs], not negative; ``None``: all are equal.
    :param sweep: which scales are tried.
    :param executor: blocks are spread over it; the result does not depend on it.
    """
    sweep = sweep or Sweep()
    batch, outputs, inputs = target.shape
    size, groups = start.group_size, start.scale.shape[2]
    weights = np.ones(inputs, np.float32) if importance is None else np.asarray(importance, np.float32)
    if not weights.any():
        weights = np.ones(inputs, np.float32)
    weights = weights / weights.mean()  # products of small numbers must not vanish
    rows = max(_BLOCK // size, 16)
    places = [
        (b, slice(r, min(r + rows, outputs)), g)
        for b in range(batch)
        for g in range(groups)
        for r in range(0, outputs, rows)
    ]
    calls = [
        (
            target[b, r, g * size : (g + 1) * size],
            start.scale[b, r, g],
            None if start.zero_point is None else start.zero_point[b, r, g],
            weights[g * size : (g + 1) * size],
            start.lattice,
            sweep,
        )
        for b, r, g in places
    ]
    scale = np.empty_like(start.scale)
    zero_point = None if start.zero_point is None else np.empty_like(start.zero_point)
    for index, (best_scale, best_zero) in spread(executor, search_block, calls):
        scale[places[index]] = best_scale
        if zero_point is not None:
            zero_point[places[index]] = best_zero
    return evolve(start, scale=scale, zero_point=zero_point).rounded(target)


def search_block(
    rows: np.ndarray,
    scale: np.ndarray,
    zero_point: np.ndarray | None,
    weights: np.ndarray,
    lattice: Lattice,
    sweep: Sweep,
) -> tuple[np.ndarray, np.ndarray | None]:
    """The best scale and zero point of each of several groups.

    :param rows: the groups, [groups, group size], float32.
    :param scale: scales to begin with, [groups].
    :param zero_point: zero points to begin with, [groups]; ``None`` where there are none.
    :param weights: of the elements of each group, [group size].
    """
    search = _Search(rows, scale, zero_point, weights, lattice)
    for factor in _factors(sweep, lattice):
        search.consider(scale * factor)
    if lattice.scale_dtype != "float8_e8m0fnu":
        step = (sweep.highest - sweep.lowest) / max(sweep.steps - 1, 1)
        middle = search.scale.copy()
        for part in range(1, sweep.finer // 2 + 1):
            near = np.abs(scale) * np.float32(step * part / (sweep.finer // 2 + 1))
            for sign in (-1, 1):
                search.consider(middle + np.copysign(near, middle) * np.float32(sign))
        for _ in range(sweep.polish):
            search.polish()
    return search.scale, search.zero_point


def _factors(sweep: Sweep, lattice: Lattice) -> Sequence[np.float32] | np.ndarray:
    if lattice.scale_dtype == "float8_e8m0fnu":
        return [np.float32(2.0**e) for e in (-2, -1, 1)]
    return sweep.factors


class _Search:
    """The best that was found so far for each group of a block, whose elements go down: [group size, groups]."""

    def __init__(
        self,
        rows: np.ndarray,
        scale: np.ndarray,
        zero_point: np.ndarray | None,
        weights: np.ndarray,
        lattice: Lattice,
    ) -> None:
        self.lattice, self.weights = lattice, weights
        self.columns = SCRATCH.array("columns", rows.shape[::-1])
        np.copyto(self.columns, rows.T)
        self._smallest, self._largest = self.columns.min(axis=0), self.columns.max(axis=0)
        self._near = None if lattice.integer or lattice.grid.format.bits > 4 else NearLevels.of(lattice.grid)
        self._scaled, self._levels = (SCRATCH.array(use, self.columns.shape) for use in ("scaled", "levels"))
        self._error = SCRATCH.array("error", self.columns.shape)
        self.scale = scale.astype(np.float32)
        self.zero_point = None if zero_point is None else zero_point.astype(np.float32)
        self._moving = (self._largest != 0) | (self._smallest != 0)  # groups of zeros stay as they are
        self.loss = self._exact_loss(self.scale, self.zero_point)

    def consider(self, scale: np.ndarray) -> None:
        """Take over these scales, as they are stored, where they lose less with the best zero point."""
        scale = self.lattice.storable(scale)
        np.multiply(self.columns, 1 / scale, out=self._scaled)
        if not self.lattice.integer:
            self._round_to_table()
            self._keep(scale, None, self._loss_of_levels(scale))
            return
        np.rint(self._scaled, out=self._levels)
        lo, hi = self.lattice.lo, self.lattice.hi
        if not self.lattice.asymmetric:
            np.clip(self._levels, lo, hi, out=self._levels)
            self._keep(scale, None, self._loss_of_levels(scale))
            return
        for zero_point in self._zero_points(scale):
            np.clip(self._levels, lo - zero_point, hi - zero_point, out=self._error)
            self._keep(scale, zero_point, self._squares(scale))

    def polish(self) -> None:
        """Take over the scale that fits the levels best, by least squares, where it loses less."""
        offsets = self._exact_offsets(self.scale, self.zero_point)
        above = self._weighted(np.multiply(offsets, self.columns, out=self._error))
        below = self._weighted(np.multiply(offsets, offsets, out=self._error))
        fitted = np.divide(above, below, out=self.scale.copy(), where=below > 0)
        fitted = self.lattice.storable(np.where(fitted * self.scale > 0, fitted, self.scale))
        self._keep(fitted, self.zero_point, self._exact_loss(fitted, self.zero_point))

    def _zero_points(self, scale: np.ndarray) -> Iterator[np.ndarray]:
        """Zero points that clip only at the upper end, only at the lower, or about equally at both."""
        lo, hi = self.lattice.lo, self.lattice.hi
        whole_below = lo - np.rint(self._smallest / scale)
        whole_above = hi - np.rint(self._largest / scale)
        for split in _SPLITS:
            between = np.rint(whole_below + (whole_above - whole_below) * np.float32(split))
            yield np.clip(between, lo, hi)

    def _round_to_table(self) -> None:
        if self._near is None:
            self.lattice.nearest(self._scaled, out=self._levels)
            return
        near = self._near
        np.subtract(self._scaled, near.lo, out=self._error)
        np.multiply(self._error, near.steps, out=self._error)
        np.rint(self._error, out=self._error)
        index = SCRATCH.array("index", self._error.shape, np.int32)
        np.clip(self._error, np.float32(0), np.float32(near.levels.size - 1), out=self._error)
        np.copyto(index, self._error, casting="unsafe")
        np.take(near.levels, index, out=self._levels, mode="clip")

    def _loss_of_levels(self, scale: np.ndarray) -> np.ndarray:
        np.copyto(self._error, self._levels)
        return self._squares(scale)

    def _squares(self, scale: np.ndarray) -> np.ndarray:
        """Losses, from the levels less zero points that ``_error`` holds."""
        np.subtract(self._error, self._scaled, out=self._error)
        np.multiply(self._error, self._error, out=self._error)
        return self._weighted(self._error) * (scale * scale)

    def _weighted(self, columns: np.ndarray) -> np.ndarray:
        total: np.ndarray = self.weights @ columns
        return total

    def _exact_offsets(self, scale: np.ndarray, zero_point: np.ndarray | None) -> np.ndarray:
        np.divide(self.columns, scale, out=self._scaled)
        if zero_point is not None:
            np.add(self._scaled, zero_point, out=self._scaled)
        self.lattice.nearest(self._scaled, out=self._levels)
        if zero_point is not None:
            np.subtract(self._levels, zero_point, out=self._levels)
        return self._levels

    def _exact_loss(self, scale: np.ndarray, zero_point: np.ndarray | None) -> np.ndarray:
        offsets = self._exact_offsets(scale, zero_point)
        np.multiply(offsets, scale, out=self._error)
        np.subtract(self._error, self.columns, out=self._error)
        np.multiply(self._error, self._error, out=self._error)
        return self._weighted(self._error)

    def _keep(self, scale: np.ndarray, zero_point: np.ndarray | None, loss: np.ndarray) -> None:
        better = (loss < self.loss) & self._moving
        np.copyto(self.loss, loss, where=better)
        np.copyto(self.scale, scale, where=better)
        if self.zero_point is not None and zero_point is not None:
            np.copyto(self.zero_point, zero_point, where=better)
