"""What the kernels do, one number at a time, with nothing clever. Imports no kernel.

A lattice is given as its sorted ``levels`` and a function that rounds scales; ties between levels may go either way.
"""

from __future__ import annotations

import numpy as np


def nearest(levels, x):
    """The level nearest to a number."""
    return min(levels, key=lambda level: abs(level - x))


def value(level, scale, zero_point):
    return (level - zero_point) * scale


def loss(error, gram):
    """``e H eᵀ``."""
    return sum(error[i] * gram[i][j] * error[j] for i in range(len(error)) for j in range(len(error)))


def best_scale(group, weights, levels, zero_points, scales):
    """The smallest weighted error over all given scales and zero points, as (loss, scale, zero point)."""
    found = []
    for scale in scales:
        for zero_point in zero_points:
            near = [value(nearest(levels, w / scale + zero_point), scale, zero_point) for w in group]
            found.append(
                (sum(d * (w - v) ** 2 for d, w, v in zip(weights, group, near, strict=True)), scale, zero_point)
            )
    return min(found)


def factorized(gram):
    """``U`` and ``D`` of ``H = U D Uᵀ``, U unit upper triangular, column by column from the last."""
    rest = np.array(gram, np.float64)
    size = len(rest)
    upper, diagonal = np.eye(size), np.zeros(size)
    for k in reversed(range(size)):
        diagonal[k] = rest[k, k]
        upper[:k, k] = rest[:k, k] / diagonal[k]
        rest = rest - diagonal[k] * np.outer(upper[:, k], upper[:, k])
    return upper, diagonal


def with_feedback(row, levels, scales, zero_points, gram, order):
    """Levels of one output: the inputs in order, each after the errors of those before were made up for.

    By definition, without a factor: input k aims at the value that is best when the ones before it are fixed and those
    behind it may take any value.
    """
    size = len(row)
    error = np.zeros(size)
    found = np.zeros(size)
    for step, k in enumerate(order):
        done, left = list(order[:step]), list(order[step:])
        # min over e_left of e H eᵀ: e_left = -H_left,left⁻¹ H_left,done e_done
        free = -np.linalg.solve(gram[np.ix_(left, left)], gram[np.ix_(left, done)] @ error[done])
        wanted = row[k] + free[0]
        found[k] = nearest(levels, wanted / scales[k] + zero_points[k])
        error[k] = value(found[k], scales[k], zero_points[k]) - row[k]
    return found


def gptq(row, levels, scales, zero_points, gram, order):
    """The same as Frantar et al. write it: with the Cholesky factor of the inverse."""
    order = list(order)
    inverse = np.linalg.inv(gram[np.ix_(order, order)])
    upper = np.linalg.cholesky(inverse).T
    w = np.array(row, np.float64)[order]
    found = np.zeros(len(row))
    for i, k in enumerate(order):
        level = nearest(levels, w[i] / scales[k] + zero_points[k])
        found[k] = level
        error = (w[i] - value(level, scales[k], zero_points[k])) / upper[i, i]
        w[i:] -= error * upper[i, i:]
    return found
