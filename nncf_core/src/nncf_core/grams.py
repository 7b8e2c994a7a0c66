"""Gram matrices of activations: what a layer's error depends on besides its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from attrs import define

from nncf_core.errors import ValidationError
from nncf_core.reductions import columns


@define
class Gram:
    """Running mean of ``x·xᵀ`` over all vectors ``x`` along ``axis``; float32 ``[channels, channels]``, symmetric.

    The squared error of a layer's outputs is ``tr(E·G·Eᵀ)`` for an error ``E`` of its weights ``[outputs, channels]``
    and the Gram matrix ``G`` of its inputs, whatever their number.
    """

    axis: int | None = -1
    _sum: np.ndarray | None = None
    _count: int = 0

    def update(self, x: np.ndarray) -> None:
        """Take one item's tensor into account."""
        rows = _rows(x, self.axis)
        # one array with itself: BLAS computes half of the products (syrk)
        self._add(rows.T @ rows, len(rows))

    def merge(self, other: Gram) -> None:
        """Take into account what another has seen."""
        if other._sum is not None:
            self._add(other._sum, other._count)

    def _add(self, total: np.ndarray, count: int) -> None:
        if count == 0:
            return
        if self._sum is None:
            self._sum = total.copy()
        else:
            self._sum += total
        self._count += count

    @property
    def state(self) -> Mapping[str, np.ndarray]:
        """The sum and the number of vectors."""
        return {} if self._sum is None else {"sum": self._sum, "count": np.asarray(self._count, np.int64)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over a state."""
        self._sum = np.array(state["sum"]) if "sum" in state else None
        self._count = int(state["count"]) if "count" in state else 0

    @property
    def value(self) -> np.ndarray:
        """The mean."""
        if self._sum is None:
            raise ValidationError("A statistic was read before any sample was seen.")
        return np.asarray(self._sum / np.float32(self._count))


@define
class CrossGram(Gram):
    """Running mean of ``f·xᵀ`` for the vectors ``f`` of the float model and ``x`` behind compressed weights.

    Where there is only the float model it is its Gram matrix.
    """

    def update_pair(self, exact: np.ndarray, x: np.ndarray) -> None:
        """Take one item's tensors into account.

        :param exact: the float model's.
        :param x: the one behind compressed weights, of the same shape.
        """
        rows = _rows(x, self.axis)
        self._add(_rows(exact, self.axis).T @ rows, len(rows))


def _rows(x: np.ndarray, axis: int | None) -> np.ndarray:
    wide: Any = x if x.dtype == np.float32 else x.astype(np.float32)
    return np.ascontiguousarray(columns(wide, -1 if axis is None else axis))
