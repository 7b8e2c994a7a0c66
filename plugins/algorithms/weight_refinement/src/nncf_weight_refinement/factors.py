"""A Gram matrix, put in order and factorized for rounding with feedback."""

from __future__ import annotations

import numpy as np
from attrs import field, frozen

_MOST_DAMPING = 1e3
_DAMPING_STEP = 10.0
_BLOCK = 256


@frozen(eq=False)
class Factor:
    """``P (H + λI) Pᵀ = U D Uᵀ`` with a unit upper triangular ``U``.

    :param order: the inputs in the order in which they are rounded, int64, [inputs].
    :param upper: ``U``, float32, [inputs, inputs].
    :param diagonal: that of ``D``, float64, [inputs].
    :param damping: the part of the mean of H's diagonal that λ became.
    """

    order: np.ndarray = field(repr=False)
    upper: np.ndarray = field(repr=False)
    diagonal: np.ndarray = field(repr=False)
    damping: float

    def losses(self, error: np.ndarray) -> np.ndarray:
        """``e (H + λI) eᵀ`` of errors in the factor's order, [inputs, outputs]: float32, [outputs].

        ``‖e U D^½‖²``: a triangle has half the products that H has.
        """
        total = np.zeros(error.shape[1], np.float32)
        for first in range(0, len(error), _BLOCK):
            last = min(first + _BLOCK, len(error))
            reached = self.upper[:last, first:last].T @ error[:last]
            total += np.einsum("k,kr,kr->r", self.diagonal[first:last].astype(np.float32), reached, reached)
        return total


def factorize(gram: np.ndarray, group_size: int, damping: float = 0.01) -> Factor:
    """Order the inputs by importance, groups as wholes, and factorize.

    No inverse is needed: a Cholesky factor of the matrix with both axes reversed, reversed again, is an upper one.
    Groups stay together so that their scales can be fixed before (group-aware reordering,
    GAR); the inputs of a group are in order, too.

    :param gram: ``XᵀX / n``, symmetric, [inputs, inputs].
    :param group_size: consecutive inputs that share a scale.
    :param damping: λ as a part of the mean of the diagonal; ten times as much is taken, again and again, while the
        matrix is not positive definite.
    """
    size = len(gram)
    diagonal = np.maximum(np.diagonal(gram).astype(np.float64), 0)
    order = importance_order(diagonal, group_size)
    mean = float(diagonal.mean()) or 1.0
    reversed_order = order[::-1]
    matrix = gram[np.ix_(reversed_order, reversed_order)].astype(np.float64)
    undamped = np.diagonal(matrix).copy()
    while True:
        np.fill_diagonal(matrix, undamped + damping * mean)
        try:
            lower = np.linalg.cholesky(matrix)
            break
        except np.linalg.LinAlgError:
            if damping > _MOST_DAMPING:  # not a Gram matrix, or not finite
                lower = np.eye(size)
                break
            damping = max(damping * _DAMPING_STEP, 1e-4)
    roots = np.diagonal(lower)
    upper = np.ascontiguousarray((lower / roots)[::-1, ::-1], np.float32)
    return Factor(order, upper, roots[::-1] ** 2, damping)


def importance_order(diagonal: np.ndarray, group_size: int) -> np.ndarray:
    """Groups by the sum of their diagonal, then inputs of a group by theirs, the largest first; int64, [inputs]."""
    by_group = diagonal.reshape(-1, group_size)
    groups = np.argsort(-by_group.sum(axis=1), kind="stable")
    within = np.argsort(-by_group, axis=1, kind="stable")
    order: np.ndarray = (groups[:, None] * group_size + within[groups]).reshape(-1)
    return order
