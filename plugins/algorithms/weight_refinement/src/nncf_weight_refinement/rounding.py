"""GPTQ in the form of LDLQ: each input is rounded after the errors of those before it were made up for.

GPTQ (Frantar et al. 2022, https://arxiv.org/abs/2210.17323) equals LDLQ (Chee et al. 2023,
https://arxiv.org/abs/2307.13304, theorem 6): with ``H = U D Uᵀ``,

    ŵ_k = Q(w_k + Σ_{j<k} (w_j - ŵ_j) U_jk),

which minimizes ``tr((Ŵ - W) H (Ŵ - W)ᵀ)`` among all ways of linear feedback.
"""

from __future__ import annotations

from concurrent.futures import Executor

import numpy as np
from attrs import evolve

from nncf_weight_refinement.factors import Factor
from nncf_weight_refinement.grouped import Grouped, by_outputs

_LEAF = 16  # inputs that are rounded one after the other between two products of matrices


def round_with_feedback(
    target: np.ndarray, start: Grouped, factor: Factor, executor: Executor | None = None
) -> Grouped:
    """Levels that lose less, taken together, than the nearest ones do, under the scales of ``start``.

    An output whose loss ``(ŵ - w) (H + λI) (ŵ - w)ᵀ`` would be larger than that of the levels of ``start`` keeps these.

    :param target: float32, [batch, outputs, inputs].
    :param start: a weight of the same shape, of scales that fit the target.
    :param factor: of the Gram matrix of the inputs, with the same group size.
    :param executor: what outputs are spread over.
    """
    return by_outputs(executor, _rounded, target, start, factor)


def _rounded(target: np.ndarray, start: Grouped, factor: Factor) -> Grouped:
    inputs = target.shape[2]
    columns = np.ascontiguousarray(target.reshape(-1, inputs)[:, factor.order].T)
    error = columns - start.values().reshape(-1, inputs)[:, factor.order].T
    worst = factor.losses(error)
    levels, loss = _feedback(columns, error, start, factor)
    found = np.empty((columns.shape[1], inputs), np.float32)
    found[:, factor.order] = levels.T
    better = (loss < worst).reshape(*target.shape[:2], 1)
    return evolve(start, levels=np.where(better, found.reshape(target.shape), start.levels))


def _feedback(columns: np.ndarray, error: np.ndarray, start: Grouped, factor: Factor) -> tuple[np.ndarray, np.ndarray]:
    """Levels of all outputs, [inputs, outputs], in the order of the factor; and the loss of each output.

    :param columns: the target in that order, float32, [inputs, outputs].
    :param error: memory for as many numbers.
    """
    groups = factor.order // start.group_size
    scale = _by_group(start.scale)
    zero_point = None if start.zero_point is None else _by_group(start.zero_point)
    wanted, levels, loss = columns.copy(), np.empty_like(columns), np.zeros(columns.shape[1], np.float32)
    upper, lattice, diagonal = factor.upper, start.lattice, factor.diagonal.astype(np.float32)

    def run(first: int, last: int) -> None:
        if last - first > _LEAF:
            middle = first + (last - first) // (2 * _LEAF) * _LEAF
            middle = middle if middle > first else (first + last) // 2
            run(first, middle)
            wanted[middle:last] += upper[first:middle, middle:last].T @ error[first:middle]
            run(middle, last)
            return
        for k in range(first, last):
            if k > first:
                wanted[k] += upper[first:k, k] @ error[first:k]
            level = np.divide(wanted[k], scale[groups[k]], out=levels[k])
            if zero_point is not None:
                level += zero_point[groups[k]]
            lattice.nearest(level, out=level)
            offset = level if zero_point is None else level - zero_point[groups[k]]
            value = offset * scale[groups[k]]
            np.subtract(columns[k], value, out=error[k])
            # (w - ŵ) U of this input: squares of these, weighted with D, add up to the loss
            np.subtract(wanted[k], value, out=value)
            np.multiply(value, value, out=value)
            np.multiply(value, diagonal[k], out=value)
            np.add(loss, value, out=loss)

    run(0, len(columns))
    return levels, loss


def _by_group(of_groups: np.ndarray) -> np.ndarray:
    """[batch, outputs, groups] as [groups, batch · outputs]."""
    return np.ascontiguousarray(of_groups.reshape(-1, of_groups.shape[2]).T)
