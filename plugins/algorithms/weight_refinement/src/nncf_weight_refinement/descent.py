"""Anytime refinement: levels, scales and zero points in turn, each step exact, the loss never rising.

Coordinate descent over the levels of a column at a time (QuantEase, Behdin et al. 2023,
https://arxiv.org/abs/2309.01885; CDQuant, Nair and Suggala 2024, https://arxiv.org/abs/2406.17542): with
``g = (W - Ŵ) H`` the best value of input k, all others fixed, is ``ŵ_k + g_k / H_kk``, rounded. After the levels of a
few groups their scales and zero points, one group after the other, by least squares.
"""

from __future__ import annotations

import time
from concurrent.futures import Executor

import numpy as np
from attrs import evolve

from nncf_weight_refinement.grouped import Grouped, by_outputs

_BLOCK = 128
"""Inputs, of whole groups, between two products with the whole matrix."""

_LEAF = 16
"""Inputs that move one after the other between two products of smaller matrices."""

_WORTH = np.float32(0.999)
"""A level moves when that leaves less than so many times its distance to the best value: more than rounding errors."""

_GAIN = np.float32(1.001)
"""How many times its cost a step of a scale must gain, for the same reason."""


def descend(
    target: np.ndarray,
    start: Grouped,
    gram: np.ndarray,
    sweeps: int = 2,
    seconds: float | None = None,
    scales: bool = True,
    executor: Executor | None = None,
) -> Grouped:
    """A weight with a smaller loss ``tr((Ŵ - W) H (Ŵ - W)ᵀ)``; no output loses more than before.

    :param target: float32, [batch, outputs, inputs].
    :param start: where to begin.
    :param gram: H, float32, [inputs, inputs].
    :param sweeps: how many times all levels and scales are gone through at most; it ends early when none moves.
    :param seconds: no sweep begins later than so many seconds after the start. The result depends on the machine then.
    :param scales: whether scales and zero points move, too.
    :param executor: what outputs are spread over.
    """
    until = None if seconds is None else time.monotonic() + seconds
    return by_outputs(executor, _descended, target, start, gram, sweeps, until, scales)


def _descended(
    target: np.ndarray, start: Grouped, gram: np.ndarray, sweeps: int, until: float | None, scales: bool
) -> Grouped:
    state = _State(target.reshape(-1, target.shape[2]), start, gram)
    for _ in range(sweeps):
        if until is not None and time.monotonic() >= until:
            break
        if not state.sweep(scales):
            break
    return state.result(start)


class _State:
    """Everything turned, so that an input's column lies in a row: [inputs, rows], [groups, rows]."""

    def __init__(self, target: np.ndarray, start: Grouped, gram: np.ndarray) -> None:
        inputs, groups = target.shape[1], start.scale.shape[2]
        self.gram, self.diagonal = gram, np.diagonal(gram)
        self.size, self.lattice = start.group_size, start.lattice
        # copies in any case: of a single row the transpose is contiguous as it is
        self.levels = start.levels.reshape(-1, inputs).T.copy(order="C")
        self.scale = start.scale.reshape(-1, groups).T.copy(order="C")
        zero_point = start.zero_point
        self.zero_point = None if zero_point is None else zero_point.reshape(-1, groups).T.copy(order="C")
        self.error = target.T.copy(order="C")  # of the target's values over the weight's
        for group in range(groups):
            own = self._inputs(group)
            self.error[own] -= self._offsets(group) * self.scale[group]

    def sweep(self, scales: bool) -> int:
        """Go through all inputs and groups once; returns how many levels, scales and zero points moved."""
        moved, groups = 0, len(self.scale)
        step = max(_BLOCK // self.size, 1)
        for group in range(0, groups, step):
            block = range(group, min(group + step, groups))
            first, last = block[0] * self.size, (block[-1] + 1) * self.size
            gradient = self.gram[first:last] @ self.error
            moved += self._move_levels(first, last, gradient)
            for each in block if scales else ():
                moved += self._fit_scale(each, first, gradient)
                if self.zero_point is not None:
                    moved += self._fit_zero_point(each, first, gradient)
        return moved

    def result(self, start: Grouped) -> Grouped:
        """The weight as matrices again."""
        zero_point = self.zero_point
        return evolve(
            start,
            levels=np.ascontiguousarray(self.levels.T).reshape(start.levels.shape),
            scale=np.ascontiguousarray(self.scale.T).reshape(start.scale.shape),
            zero_point=None if zero_point is None else np.ascontiguousarray(zero_point.T).reshape(start.scale.shape),
        )

    def _inputs(self, group: int) -> slice:
        return slice(group * self.size, (group + 1) * self.size)

    def _offsets(self, group: int) -> np.ndarray:
        levels = self.levels[self._inputs(group)]
        return levels if self.zero_point is None else levels - self.zero_point[group]

    def _move_levels(self, begin: int, end: int, gradient: np.ndarray) -> int:
        """Levels of some inputs, whose gradients are given and kept up to date."""
        gram, change, moved = self.gram, np.zeros_like(gradient), 0

        def run(first: int, last: int) -> None:
            """Afterwards gradients of these inputs know of all changes of the inputs before ``last``."""
            nonlocal moved
            own = slice(first - begin, last - begin)
            if last - first > _LEAF:
                middle = (first + last) // 2
                before, behind = slice(first - begin, middle - begin), slice(middle - begin, last - begin)
                run(first, middle)
                gradient[behind] += gram[middle:last, first:middle] @ change[before]
                run(middle, last)
                gradient[before] += gram[first:middle, middle:last] @ change[behind]
                return
            inner = gram[first:last, first:last]
            for k in range(first, last):
                at, done = k - begin, slice(first - begin, k - begin)
                way = gradient[at] + inner[k - first, : k - first] @ change[done]
                if self.diagonal[k] > 0:
                    moved += self._move(k, way / self.diagonal[k], change[at])
            gradient[own] += inner @ change[own]

        run(begin, end)
        return moved

    def _move(self, k: int, way: np.ndarray, change: np.ndarray) -> int:
        """Bring the levels of an input as near as they can come to where the loss is smallest.

        :param way: from the values to there, [rows].
        :param change: where to put how the errors change.
        """
        scale = self.scale[k // self.size]
        level = self.lattice.nearest(self.levels[k] + way / scale)
        step = (level - self.levels[k]) * scale
        worth = np.abs(way - step) < _WORTH * np.abs(way)
        step *= worth
        np.copyto(self.levels[k], level, where=worth)
        np.negative(step, out=change)
        self.error[k] -= step
        return int(np.count_nonzero(step))

    def _fit_scale(self, group: int, first: int, gradient: np.ndarray) -> int:
        own, offsets, old = self._inputs(group), self._offsets(group), self.scale[group]
        slope = np.einsum("kr,kr->r", offsets, gradient[own.start - first : own.stop - first])
        curvature = np.einsum("kr,kr->r", offsets, self.gram[own, own] @ offsets)
        wanted = old + np.divide(slope, curvature, out=np.zeros_like(slope), where=curvature > 0)
        new = self.lattice.storable(np.where(wanted * old > 0, wanted, old))
        step = new - old
        step *= 2 * slope * step > _GAIN * curvature * step * step
        self.scale[group] = np.where(step != 0, new, old)
        self._moved_by(own, first, gradient, offsets * step)
        return int(np.count_nonzero(step))

    def _fit_zero_point(self, group: int, first: int, gradient: np.ndarray) -> int:
        assert self.zero_point is not None
        own, scale, old = self._inputs(group), self.scale[group], self.zero_point[group]
        slope = -gradient[own.start - first : own.stop - first].sum(axis=0) * scale
        curvature = np.float32(self.gram[own, own].sum(dtype=np.float64)) * scale * scale
        wanted = old + np.divide(slope, curvature, out=np.zeros_like(slope), where=curvature > 0)
        step = np.clip(np.rint(wanted), self.lattice.lo, self.lattice.hi) - old
        step *= 2 * slope * step > _GAIN * curvature * step * step
        self.zero_point[group] = old + step
        if step.any():
            self._moved_by(own, first, gradient, np.broadcast_to(-scale * step, (self.size, step.size)))
        return int(np.count_nonzero(step))

    def _moved_by(self, own: slice, first: int, gradient: np.ndarray, step: np.ndarray) -> None:
        """Values of a group have moved; the gradients of its block, which begins with input ``first``, follow."""
        self.error[own] -= step
        gradient -= self.gram[first : first + len(gradient), own] @ step
