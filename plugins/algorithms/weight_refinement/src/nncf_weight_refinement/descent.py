"""Anytime refinement: levels, scales and zero points in turn, each step exact, the loss never rising.

Coordinate descent over the levels of a column at a time (QuantEase, Behdin et al. 2023,
https://arxiv.org/abs/2309.01885; CDQuant, Nair and Suggala 2024, https://arxiv.org/abs/2406.17542): with
``g = (W - Ŵ) H`` the best value of input k, all others fixed, is ``ŵ_k + g_k / H_kk``, rounded. Then the scale and the
zero point of a group, one group after the other, by least squares.
"""

from __future__ import annotations

import time

import numpy as np
from attrs import evolve

from nncf_weight_refinement.grouped import Grouped
from nncf_weight_refinement.objective import losses

_BLOCK = 128  # inputs between two products with the whole matrix
_LEAF = 16
_WORTH = np.float32(0.999)
"""A level moves when that leaves less than so many times its distance to the best value: more than rounding errors."""


def descend(
    target: np.ndarray,
    start: Grouped,
    gram: np.ndarray,
    sweeps: int = 2,
    seconds: float | None = None,
    scales: bool = True,
) -> Grouped:
    """A weight with a smaller loss ``tr((Ŵ - W) H (Ŵ - W)ᵀ)``; no output loses more than before.

    :param target: float32, [batch, outputs, inputs].
    :param start: where to begin.
    :param gram: H, float32, [inputs, inputs].
    :param sweeps: how many times all levels and scales are gone through at most; it ends early when none moves.
    :param seconds: no sweep begins later than so many seconds after the start. The result depends on the machine then.
    :param scales: whether scales and zero points move, too.
    """
    began = time.monotonic()
    inputs = target.shape[2]
    state = _State(target.reshape(-1, inputs), start, gram)
    for _ in range(sweeps):
        if seconds is not None and time.monotonic() - began >= seconds:
            break
        moved = state.sweep_levels()
        if scales:
            moved += state.sweep_groups()
        if not moved:
            break
    result = state.result(start)
    better = losses(target, result.values(), gram) < losses(target, start.values(), gram)
    zero_point = start.zero_point
    if zero_point is not None and result.zero_point is not None:
        zero_point = np.where(better[..., None], result.zero_point, zero_point)
    return evolve(
        start,
        levels=np.where(better[..., None], result.levels, start.levels),
        scale=np.where(better[..., None], result.scale, start.scale),
        zero_point=zero_point,
    )


class _State:
    """Everything turned, so that an input's column lies in a row: [inputs, rows], [groups, rows]."""

    def __init__(self, target: np.ndarray, start: Grouped, gram: np.ndarray) -> None:
        inputs = target.shape[1]
        self.gram = gram
        self.diagonal = np.diagonal(gram).astype(np.float32)
        self.size, self.lattice = start.group_size, start.lattice
        self.target = np.ascontiguousarray(target.T)
        self.levels = np.ascontiguousarray(start.levels.reshape(-1, inputs).T)
        groups = start.scale.shape[2]
        self.scale = np.ascontiguousarray(start.scale.reshape(-1, groups).T)
        zero_point = start.zero_point
        self.zero_point = None if zero_point is None else np.ascontiguousarray(zero_point.reshape(-1, groups).T)
        self.error = np.empty_like(self.target)
        for k in range(inputs):
            self.error[k] = self.target[k] - self._offset(self.levels[k], k) * self.scale[k // self.size]

    def sweep_levels(self) -> int:
        """Go through all inputs once; returns how many levels moved."""
        moved = 0
        for first in range(0, len(self.target), _BLOCK):
            last = min(first + _BLOCK, len(self.target))
            gradient = self.gram[first:last] @ self.error
            moved += self._block(first, last, gradient)
        return moved

    def sweep_groups(self) -> int:
        """Fit the scale and the zero point of one group after the other; returns how many moved."""
        moved = 0
        for group in range(len(self.scale)):
            inputs = slice(group * self.size, (group + 1) * self.size)
            inner = self.gram[inputs, inputs]
            gradient = self.gram[inputs] @ self.error
            moved += self._fit_scale(group, inputs, inner, gradient)
            if self.zero_point is not None:
                moved += self._fit_zero_point(group, inputs, inner, gradient)
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

    def _offset(self, level: np.ndarray, k: int) -> np.ndarray:
        return level if self.zero_point is None else level - self.zero_point[k // self.size]

    def _block(self, begin: int, end: int, gradient: np.ndarray) -> int:
        """Levels of some inputs, whose gradients are given and kept up to date."""
        gram, change = self.gram, np.zeros_like(gradient)
        moved = 0

        def run(first: int, last: int) -> None:
            nonlocal moved
            if last - first > _LEAF:
                middle = (first + last) // 2
                run(first, middle)
                gradient[middle - begin : last - begin] += (
                    gram[middle:last, first:middle] @ change[first - begin : middle - begin]
                )
                run(middle, last)
                return
            for k in range(first, last):
                if self.diagonal[k] <= 0:
                    continue
                row = gradient[k - begin]
                if k > first:
                    row += gram[k, first:k] @ change[first - begin : k - begin]
                moved += self._move(k, row / self.diagonal[k], change[k - begin])

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

    def _fit_scale(self, group: int, inputs: slice, inner: np.ndarray, gradient: np.ndarray) -> int:
        offset = self.levels[inputs] if self.zero_point is None else self.levels[inputs] - self.zero_point[group]
        slope = np.einsum("kr,kr->r", offset, gradient)
        curvature = np.einsum("kr,kr->r", offset, inner @ offset)
        old = self.scale[group]
        wanted = old + np.divide(slope, curvature, out=np.zeros_like(slope), where=curvature > 0)
        new = self.lattice.storable(np.where(wanted * old > 0, wanted, old))
        step = new - old
        step *= 2 * slope * step > curvature * step * step * (1 + np.float32(1e-3))
        self.scale[group] = np.where(step != 0, new, old)
        self._moved_by(inputs, inner, gradient, offset * step)
        return int(np.count_nonzero(step))

    def _fit_zero_point(self, group: int, inputs: slice, inner: np.ndarray, gradient: np.ndarray) -> int:
        assert self.zero_point is not None
        scale, old = self.scale[group], self.zero_point[group]
        slope = -gradient.sum(axis=0) * scale
        curvature = np.float32(inner.sum(dtype=np.float64)) * scale * scale
        wanted = old + np.divide(slope, curvature, out=np.zeros_like(slope), where=curvature > 0)
        new = np.clip(np.rint(wanted), self.lattice.lo, self.lattice.hi)
        step = new - old
        step *= 2 * slope * step > curvature * step * step * (1 + np.float32(1e-3))
        self.zero_point[group] = old + step
        self._moved_by(inputs, inner, gradient, np.broadcast_to(-scale * step, gradient.shape))
        return int(np.count_nonzero(step))

    def _moved_by(self, inputs: slice, inner: np.ndarray, gradient: np.ndarray, step: np.ndarray) -> None:
        """Values of a group have moved."""
        self.error[inputs] -= step
        gradient -= inner @ step
