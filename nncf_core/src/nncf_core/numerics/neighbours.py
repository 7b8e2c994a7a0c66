"""Sums of two neighbouring weights, which processors without dot products of 8 bits keep in 16 bits (VPMADDUBSW)."""

from __future__ import annotations

import numpy as np

LARGEST_SUM = 32767 // 255
"""The largest sum of two integers that fits into 16 bits when each is multiplied by up to 255."""


def neighbour_sums(weight: np.ndarray, axis: int) -> np.ndarray:
    """Magnitudes of the sums of each two neighbours along an axis; a last one without a neighbour stands alone."""
    sums: np.ndarray = np.add.reduceat(weight, np.arange(0, weight.shape[axis], 2), axis=axis)
    np.abs(sums, out=sums)
    return sums
