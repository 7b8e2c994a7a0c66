"""Scales and zero points that lose least on the inputs that a layer sees.

For each group the error ``(w - ŵ) H (w - ŵ)ᵀ`` is minimized over shrunken scales, where H is the group's part of the
Gram matrix of the inputs; or what it is where inputs vary independently, ``diag(Var[x]) + E[x] E[x]ᵀ``. For a given
scale zero points are looked for among those that clip at one end, at the other, or at both (NeUQI, Lin et al. 2025,
https://arxiv.org/abs/2505.17595). The best scale is then refined by least squares for its levels.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import closing

import numpy as np
from attrs import evolve, frozen

from nncf_core.numerics.blocks import SCRATCH, unbuffered
from nncf_core.numerics.work import spread
from nncf_weight_refinement.grouped import Grouped
from nncf_weight_refinement.lattice import Lattice, NearLevels

_BLOCK = 1 << 18
"""Elements that are worked on at a time: with fewer, threads wait for their turn to run Python for too long."""

_SPLITS = (0.0, 1.0, 0.5)
"""Which part of what does not fit into the range is clipped at the lower end."""

LITTLE = 0.0005
"""Where scales are all that is looked for: a quarter of the time or more is saved, and hardly any loss added.

What builds on them, as error propagation and GPTQ do in turn, is better off without: SmolLM2-135M has a perplexity of
13.705 with all three refining sections, and of 13.782 with this.
"""

_MANY = 256
"""Columns from which on a block's loss tells that; with fewer, all is tried."""


@frozen
class Sweep:
    """Which scales are tried.

    :param steps: number of factors for the scale to begin with, at most, from the largest on; without zero points,
        which are tried with each factor, twice as many, of both signs where that makes a difference.
    :param finer: factors between the best one and its neighbours that are tried after it.
    :param polish: rounds of least squares, at most.
    :param little: part of a block's loss: what brings less ends a search, since scales that are smaller still, and more
        least squares, bring even less; with 0 all is tried.
    :param lowest: smallest factor; ``None``: as suits the number of levels.
    :param highest: largest factor; ``None``: a bit more than brings the largest weight to the largest level but one.
    """

    steps: int = 8
    finer: int = 4
    polish: int = 2
    lowest: float | None = None
    highest: float | None = None
    little: float = 0.0

    def factors(self, lattice: Lattice) -> tuple[np.ndarray, ...]:
        """The factors, float32, of each sign; the largest first."""
        if lattice.scale_dtype == "float8_e8m0fnu":
            return (np.array([2, 0.5, 0.25], np.float32),)
        if lattice.asymmetric:
            return (self._positive(lattice, self.steps)[::-1],)
        factors = self._positive(lattice, 2 * self.steps)[::-1]
        return (factors, -factors) if lattice.lopsided else (factors,)

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
    executor: Executor | None = None,
) -> Grouped:
    """The scales and zero points with the smallest error, and the nearest levels under them.

    No group has a larger error than ``start`` with nearest levels has.

    :param target: what to come near to, float32, [batch, outputs, inputs].
    :param start: a weight of the same shape, compressed by its extremes; its levels do not matter.
    :param gram: Gram matrix of the inputs, [inputs, inputs], of which the blocks of groups count; or its diagonal,
        [inputs]; ``None``: the identity.
    :param sweep: which scales are tried.
    :param mean: of the inputs, [inputs]: beside a diagonal, what products of different inputs are on average.
    :param executor: what blocks are spread over, see :func:`~nncf_core.numerics.work.spread`.
    """
    sweep = sweep or Sweep()
    batch, outputs, inputs = target.shape
    size, groups = start.group_size, start.scale.shape[2]
    metric = _metric(gram, mean, inputs, groups)
    rows = min(max(_BLOCK // size, 16), outputs)
    together = max(_BLOCK // (size * rows), 1)
    rows, together = _even(outputs, rows), _even(groups, together)
    places = [
        (b, slice(r, r + rows), slice(g, g + together))
        for b in range(batch)
        for g in range(0, groups, together)
        for r in range(0, outputs, rows)
    ]
    scale = np.empty_like(start.scale)
    zero_point = None if start.zero_point is None else np.empty_like(start.zero_point)
    apart = target.reshape(batch, outputs, groups, size)
    calls = [
        (
            apart[place].transpose(1, 2, 0),
            start.scale[place].T,
            None if start.zero_point is None else start.zero_point[place].T,
            metric.of(place[2]),
            start.lattice,
            sweep,
        )
        for place in places
    ]
    with closing(spread(executor, search_block, calls)) as results:
        for index, (best_scale, best_zero) in results:
            scale[places[index]] = best_scale.T
            if zero_point is not None and best_zero is not None:
                zero_point[places[index]] = best_zero.T
    return evolve(start, scale=scale, zero_point=zero_point).rounded(target)


def _even(count: int, most: int) -> int:
    """The size of as many pieces as there are of the largest allowed size, all of about one size."""
    return -(-count // -(-count // most))


@frozen
class _Metric:
    """``H`` of each of several groups.

    :param matrix: H, [groups, group size, group size]; or diagonals, [groups, group size].
    :param mean: beside diagonals, m of the ``m mᵀ`` that is added to each, [groups, group size].
    """

    matrix: np.ndarray
    mean: np.ndarray | None = None

    def of(self, groups: slice) -> _Metric:
        """That of some of the groups."""
        return _Metric(self.matrix[groups], None if self.mean is None else self.mean[groups])

    def norms(self, columns: np.ndarray) -> np.ndarray:
        """``e H eᵀ`` of each column, [groups, columns]; the columns, [groups, group size, columns], are lost."""
        norms: np.ndarray
        if self.matrix.ndim == 3:
            norms = np.einsum("gkc,gkc->gc", columns, self.times(columns))
            return norms
        along = None if self.mean is None else _products(self.mean, columns)
        np.multiply(columns, columns, out=columns)
        norms = _products(self.matrix, columns)
        return norms if along is None else norms + along * along

    def times(self, columns: np.ndarray) -> np.ndarray:
        """``H e`` of each column, in memory that is used again."""
        out = SCRATCH.array("weighted", columns.shape)
        if self.matrix.ndim == 3:
            return np.matmul(self.matrix, columns, out=out)
        np.multiply(columns, self.matrix[:, :, None], out=out)
        if self.mean is not None:
            out += self.mean[:, :, None] * _products(self.mean, columns)[:, None]
        return out


def _products(vectors: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Of the vector of each group, [groups, group size], and its columns: [groups, columns]."""
    products: np.ndarray = np.matmul(vectors[:, None], columns)[:, 0]
    return products


def _metric(gram: np.ndarray | None, mean: np.ndarray | None, inputs: int, groups: int) -> _Metric:
    """The metric of all groups; brought near to one, float32."""
    apart = groups, inputs // groups
    diagonal = np.ones(inputs) if gram is None else np.asarray(gram if gram.ndim == 1 else np.diagonal(gram))
    usual = float(diagonal.mean(dtype=np.float64))  # products of small numbers must not vanish
    if gram is None or usual <= 0:
        return _Metric(np.ones(apart, np.float32))
    if gram.ndim == 2:
        blocks = [gram[first : first + apart[1], first : first + apart[1]] for first in range(0, inputs, apart[1])]
        return _Metric(np.stack([block / usual for block in blocks]).astype(np.float32))
    if mean is None:
        return _Metric((gram / usual).astype(np.float32).reshape(apart))
    variance = np.maximum(gram - np.square(mean, dtype=np.float64), 0)
    return _Metric(
        (variance / usual).astype(np.float32).reshape(apart), (mean / usual**0.5).astype(np.float32).reshape(apart)
    )


def search_block(
    columns: np.ndarray,
    scale: np.ndarray,
    zero_point: np.ndarray | None,
    metric: _Metric,
    lattice: Lattice,
    sweep: Sweep,
) -> tuple[np.ndarray, np.ndarray | None]:
    """The best scale and zero point of each of several columns.

    :param columns: what each column comes near to, [groups, group size, columns], float32.
    :param scale: scales to begin with, [groups, columns].
    :param zero_point: zero points to begin with, [groups, columns]; ``None`` where there are none.
    :param metric: what errors of each group are measured with.
    """
    with unbuffered():
        search = _Search(columns, scale, zero_point, metric, lattice)
        for factors in sweep.factors(lattice):
            last = search.consider(scale * factors[0])
            for factor in factors[1:]:
                loss = search.consider(scale * factor)
                if abs(factor) < 1 and search.ends(last, loss, sweep.little):
                    break
                last = loss
        best = search.scale.copy()
        for step in sweep.between(lattice):
            search.consider(best + scale * step)
        for _ in range(sweep.polish):
            before = search.loss.copy()
            search.polish()
            if search.ends(before, search.loss, sweep.little):
                break
    return search.scale, search.zero_point


class _Search:
    """The best that was found so far for each column of a block, [groups, group size, columns]."""

    def __init__(
        self,
        columns: np.ndarray,
        scale: np.ndarray,
        zero_point: np.ndarray | None,
        metric: _Metric,
        lattice: Lattice,
    ) -> None:
        self.lattice, self._metric = lattice, metric
        self.columns = SCRATCH.array("columns", columns.shape)
        np.copyto(self.columns, columns)
        self._smallest, self._largest = self.columns.min(axis=1), self.columns.max(axis=1)
        self._near = None if lattice.integer or lattice.grid.format.bits > 4 else NearLevels.of(lattice.grid)
        self._scaled, self._levels = (SCRATCH.array(use, self.columns.shape) for use in ("scaled", "levels"))
        self._error = SCRATCH.array("error", self.columns.shape)
        self.scale = scale.astype(np.float32)
        self.zero_point = None if zero_point is None else zero_point.astype(np.float32)
        self._moving = (self._largest != 0) | (self._smallest != 0)  # groups of zeros stay as they are
        self.loss = self._exact_loss(self.scale, self.zero_point)

    def ends(self, before: np.ndarray, after: np.ndarray, little: float) -> bool:
        """Whether losses fall by less than a part of them, where they fall, and there are enough to tell."""
        if not little or self.loss.size < _MANY or self.lattice.scale_dtype.startswith("float8"):
            return False  # of such scales several in turn are the same
        gain = np.maximum(before - after, 0).sum(dtype=np.float64)
        return bool(gain < little * np.minimum(before, after).sum(dtype=np.float64))

    def consider(self, scale: np.ndarray) -> np.ndarray:
        """Take over these scales, as they are stored, where they lose less with the best zero point; gives losses."""
        scale = self.lattice.storable(scale)
        np.multiply(self.columns, (1 / scale)[:, None], out=self._scaled)
        if not self.lattice.integer:
            self._round_to_table()
            return self._kept(scale, None, self._loss_of_levels(scale))
        np.rint(self._scaled, out=self._levels)
        lo, hi = self.lattice.lo, self.lattice.hi
        if not self.lattice.asymmetric:
            np.clip(self._levels, lo, hi, out=self._levels)
            return self._kept(scale, None, self._loss_of_levels(scale))
        found = []
        for zero_point in self._zero_points(scale):
            # numpy takes five times as long to clip between arrays in one go
            np.maximum(self._levels, (lo - zero_point)[:, None], out=self._error)
            np.minimum(self._error, (hi - zero_point)[:, None], out=self._error)
            found.append(self._kept(scale, zero_point, self._squares(scale)))
        losses: np.ndarray = np.minimum.reduce(found)
        return losses

    def polish(self) -> None:
        """Take over the scale that fits the levels best, by least squares, where it loses less."""
        offsets = self._exact_offsets(self.scale, self.zero_point)
        weighted = self._metric.times(offsets)
        slope = np.add.reduce(np.multiply(weighted, self.columns, out=self._error), axis=1)
        curvature = np.add.reduce(np.multiply(weighted, offsets, out=self._error), axis=1)
        fitted = np.divide(slope, curvature, out=self.scale.copy(), where=curvature > 0)
        fitted = self.lattice.storable(np.where(fitted * self.scale > 0, fitted, self.scale))
        self._kept(fitted, self.zero_point, self._exact_loss(fitted, self.zero_point))

    def _zero_points(self, scale: np.ndarray) -> Iterator[np.ndarray]:
        """Zero points that clip only at the upper end, only at the lower, or about equally at both."""
        lo, hi = self.lattice.lo, self.lattice.hi
        whole_below = lo - np.rint(self._smallest / scale)
        whole_above = hi - np.rint(self._largest / scale)
        # between ends that are neighbours, or the same, there is no other
        apart = np.abs(whole_above - whole_below).max()
        for split in _SPLITS if apart > 1 else _SPLITS[:2]:
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
        np.divide(self.columns, scale[:, None], out=self._scaled)
        if zero_point is not None:
            np.add(self._scaled, zero_point[:, None], out=self._scaled)
        self.lattice.nearest(self._scaled, out=self._levels)
        if zero_point is not None:
            np.subtract(self._levels, zero_point[:, None], out=self._levels)
        return self._levels

    def _exact_loss(self, scale: np.ndarray, zero_point: np.ndarray | None) -> np.ndarray:
        offsets = self._exact_offsets(scale, zero_point)
        np.multiply(offsets, scale[:, None], out=self._error)
        np.subtract(self._error, self.columns, out=self._error)
        return self._metric.norms(self._error)

    def _kept(self, scale: np.ndarray, zero_point: np.ndarray | None, loss: np.ndarray) -> np.ndarray:
        """The losses, after what loses less than what was best was taken over."""
        better = (loss < self.loss) & self._moving
        np.copyto(self.loss, loss, where=better)
        np.copyto(self.scale, scale, where=better)
        if self.zero_point is not None and zero_point is not None:
            np.copyto(self.zero_point, zero_point, where=better)
        return loss
