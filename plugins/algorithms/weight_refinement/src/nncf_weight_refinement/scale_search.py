"""Scales and zero points that lose least on the inputs that a layer sees.

For each group the error ``(w - ŵ) H (w - ŵ)ᵀ`` is minimized over shrunken scales, where H is the group's part of the
Gram matrix of the inputs; or what it is where inputs vary independently, ``diag(Var[x]) + E[x] E[x]ᵀ``. For a given
scale zero points are looked for among those that clip at one end, at the other, or at both (NeUQI, Lin et al. 2025,
https://arxiv.org/abs/2505.17595). The best scale is then refined by least squares for its levels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from attrs import evolve, frozen

from nncf_core.numerics.blocks import SCRATCH
from nncf_weight_refinement.grouped import Grouped
from nncf_weight_refinement.lattice import Lattice, NearLevels

_BLOCK = 1 << 16
"""Elements that are worked on at a time: the few arrays of them stay in the second level of cache."""

_SPLITS = (0.0, 1.0, 0.5)
"""Which part of what does not fit into the range is clipped at the lower end."""


@frozen
class Sweep:
    """Which scales are tried.

    :param steps: number of factors for the scale to begin with; without zero points, which are tried with each factor,
        twice as many, of both signs where that makes a difference.
    :param finer: factors between the best one and its neighbours that are tried after it.
    :param polish: rounds of least squares.
    :param lowest: smallest factor; ``None``: as suits the number of levels.
    :param highest: largest factor; ``None``: a bit more than brings the largest weight to the largest level but one.
    """

    steps: int = 8
    finer: int = 4
    polish: int = 2
    lowest: float | None = None
    highest: float | None = None

    def factors(self, lattice: Lattice) -> np.ndarray:
        """The factors, float32."""
        if lattice.scale_dtype == "float8_e8m0fnu":
            return np.array([0.25, 0.5, 2], np.float32)
        if lattice.asymmetric:
            return self._positive(lattice, self.steps)
        factors = self._positive(lattice, 2 * self.steps)
        return np.concatenate([factors, -factors]) if lattice.lopsided else factors

    def between(self, lattice: Lattice) -> np.ndarray:
        """Steps from the best factor towards its neighbours, float32."""
        if lattice.scale_dtype == "float8_e8m0fnu":
            return np.empty(0, np.float32)
        first, second = self._positive(lattice, self.steps if lattice.asymmetric else 2 * self.steps)[:2]
        steps = np.linspace(first - second, second - first, self.finer + 3, dtype=np.float32)[1:-1]
        between: np.ndarray = steps[steps != 0]
        return between

    def _positive(self, lattice: Lattice, steps: int) -> np.ndarray:
        most, next_most = lattice.two_largest
        lowest = (0.35 if lattice.grid.format.bits < 4 else 0.55) if self.lowest is None else self.lowest
        highest = 1.05 * min(most / next_most, 1.9) if self.highest is None else self.highest
        return np.linspace(lowest, highest, max(steps, 2), dtype=np.float32)


FINE = Sweep(5, 2, 2, 0.85, 1.15)
"""A sweep around scales that were searched before."""


def search_scales(
    target: np.ndarray,
    start: Grouped,
    gram: np.ndarray | None = None,
    sweep: Sweep | None = None,
    mean: np.ndarray | None = None,
) -> Grouped:
    """The scales and zero points with the smallest error, and the nearest levels under them.

    No group has a larger error than ``start`` with nearest levels has.

    :param target: what to come near to, float32, [batch, outputs, inputs].
    :param start: a weight of the same shape, compressed by its extremes; its levels do not matter.
    :param gram: Gram matrix of the inputs, [inputs, inputs], of which the blocks of groups count; or its diagonal,
        [inputs]; ``None``: the identity.
    :param sweep: which scales are tried.
    :param mean: of the inputs, [inputs]: beside a diagonal, what products of different inputs are on average.
    """
    sweep = sweep or Sweep()
    batch, outputs, inputs = target.shape
    size, groups = start.group_size, start.scale.shape[2]
    metrics = _metrics(gram, mean, inputs, groups)
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
            metrics[g],
            start.lattice,
            sweep,
        )
        for b, r, g in places
    ]
    scale = np.empty_like(start.scale)
    zero_point = None if start.zero_point is None else np.empty_like(start.zero_point)
    # one after the other: two threads wait more for their turn to run Python than they gain
    for place, call in zip(places, calls, strict=True):
        best_scale, best_zero = search_block(*call)
        scale[place] = best_scale
        if zero_point is not None:
            zero_point[place] = best_zero
    return evolve(start, scale=scale, zero_point=zero_point).rounded(target)


@frozen
class _Metric:
    """``H`` of a group.

    :param matrix: H, [group size, group size]; or a diagonal, [group size].
    :param mean: beside a diagonal, m of the ``m mᵀ`` that is added to it, [group size].
    """

    matrix: np.ndarray
    mean: np.ndarray | None = None

    def norms(self, columns: np.ndarray) -> np.ndarray:
        """``e H eᵀ`` of each column, [group size, groups]; the columns are lost."""
        norms: np.ndarray
        if self.matrix.ndim == 2:
            norms = np.einsum("kg,kg->g", columns, self.times(columns))
            return norms
        along = None if self.mean is None else self.mean @ columns
        np.multiply(columns, columns, out=columns)
        norms = self.matrix @ columns
        return norms if along is None else norms + along * along

    def times(self, columns: np.ndarray) -> np.ndarray:
        """``H e`` of each column, in memory that is used again."""
        out = SCRATCH.array("weighted", columns.shape)
        if self.matrix.ndim == 2:
            return np.matmul(self.matrix, columns, out=out)
        np.multiply(columns, self.matrix[:, None], out=out)
        if self.mean is not None:
            out += self.mean[:, None] * (self.mean @ columns)
        return out


def _metrics(gram: np.ndarray | None, mean: np.ndarray | None, inputs: int, groups: int) -> list[_Metric]:
    """The metric of each group; brought near to one, float32."""
    diagonal = np.ones(inputs) if gram is None else np.asarray(gram if gram.ndim == 1 else np.diagonal(gram))
    usual = float(diagonal.mean(dtype=np.float64))  # products of small numbers must not vanish
    if gram is None or usual <= 0:
        return [_Metric(np.ones(inputs // groups, np.float32))] * groups
    size = inputs // groups
    slices = [slice(g * size, (g + 1) * size) for g in range(groups)]
    if gram.ndim == 2:
        return [_Metric(np.ascontiguousarray(gram[s, s] / usual, np.float32)) for s in slices]
    if mean is None:
        return [_Metric((gram[s] / usual).astype(np.float32)) for s in slices]
    variance = np.maximum(gram - np.square(mean, dtype=np.float64), 0)
    return [
        _Metric((variance[s] / usual).astype(np.float32), (mean[s] / usual**0.5).astype(np.float32)) for s in slices
    ]


def search_block(
    rows: np.ndarray,
    scale: np.ndarray,
    zero_point: np.ndarray | None,
    metric: _Metric,
    lattice: Lattice,
    sweep: Sweep,
) -> tuple[np.ndarray, np.ndarray | None]:
    """The best scale and zero point of each of several groups.

    :param rows: the groups, [groups, group size], float32.
    :param scale: scales to begin with, [groups].
    :param zero_point: zero points to begin with, [groups]; ``None`` where there are none.
    :param metric: what errors are measured with.
    """
    search = _Search(rows, scale, zero_point, metric, lattice)
    for factor in sweep.factors(lattice):
        search.consider(scale * factor)
    best = search.scale.copy()
    for step in sweep.between(lattice):
        search.consider(best + scale * step)
    for _ in range(sweep.polish):
        search.polish()
    return search.scale, search.zero_point


class _Search:
    """The best that was found so far for each group of a block, whose elements go down: [group size, groups]."""

    def __init__(
        self,
        rows: np.ndarray,
        scale: np.ndarray,
        zero_point: np.ndarray | None,
        metric: _Metric,
        lattice: Lattice,
    ) -> None:
        self.lattice, self._metric = lattice, metric
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
            # numpy takes five times as long to clip between arrays in one go
            np.maximum(self._levels, lo - zero_point, out=self._error)
            np.minimum(self._error, hi - zero_point, out=self._error)
            self._keep(scale, zero_point, self._squares(scale))

    def polish(self) -> None:
        """Take over the scale that fits the levels best, by least squares, where it loses less."""
        offsets = self._exact_offsets(self.scale, self.zero_point)
        weighted = self._metric.times(offsets)
        slope = np.add.reduce(np.multiply(weighted, self.columns, out=self._error), axis=0)
        curvature = np.add.reduce(np.multiply(weighted, offsets, out=self._error), axis=0)
        fitted = np.divide(slope, curvature, out=self.scale.copy(), where=curvature > 0)
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
        losses: np.ndarray = self._metric.norms(self._error) * (scale * scale)
        return losses

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
        return self._metric.norms(self._error)

    def _keep(self, scale: np.ndarray, zero_point: np.ndarray | None, loss: np.ndarray) -> None:
        better = (loss < self.loss) & self._moving
        np.copyto(self.loss, loss, where=better)
        np.copyto(self.scale, scale, where=better)
        if self.zero_point is not None and zero_point is not None:
            np.copyto(self.zero_point, zero_point, where=better)
