"""Gram matrices of activations: what a layer's error depends on besides its weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from attrs import Factory, define

from nncf_core.errors import ValidationError
from nncf_core.reductions import columns

MATRICES = ("gram", "cross_gram")
"""Kinds whose state grows with the square of the number of channels."""

_ENOUGH = 2048
"""Vectors that are multiplied at a time: adding a matrix of products takes as long as 1500 products."""


@define
class Gram:
    """Running mean of ``x·xᵀ`` over all vectors ``x`` along ``axis``; float32 ``[channels, channels]``, symmetric.

    The squared error of a layer's outputs is ``tr(E·G·Eᵀ)`` for an error ``E`` of its weights ``[outputs, channels]``
    and the Gram matrix ``G`` of its inputs, whatever their number.
    """

    axis: int | None = -1
    _sum: np.ndarray | None = None
    _count: int = 0
    _waiting: list[np.ndarray] = Factory(list)

    def update(self, x: np.ndarray) -> None:
        """Take one item's tensor into account."""
        self._waiting.append(_rows(x, self.axis))
        if sum(map(len, self._waiting)) >= _ENOUGH:
            self._multiply()

    def merge(self, other: Gram) -> None:
        """Take into account what another has seen."""
        self._multiply()
        other._multiply()
        if other._sum is not None:
            self._add(other._sum, other._count)

    def _multiply(self) -> None:
        if self._waiting:
            rows = self._waiting[0] if len(self._waiting) == 1 else np.concatenate(self._waiting)
            self._waiting.clear()
            with np.errstate(over="ignore", invalid="ignore"):  # who reads it says what is wrong
                # one array with itself: BLAS computes half of the products (syrk)
                self._add(rows.T @ rows, len(rows))

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
        self._multiply()
        return {} if self._sum is None else {"sum": self._sum, "count": np.asarray(self._count, np.int64)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over a state."""
        self._waiting.clear()
        self._sum = np.array(state["sum"]) if "sum" in state else None
        self._count = int(state["count"]) if "count" in state else 0

    @property
    def value(self) -> np.ndarray:
        """The mean."""
        self._multiply()
        if self._sum is None:
            raise ValidationError("A statistic was read before any sample was seen.")
        return np.asarray(self._sum / np.float32(self._count))


@define
class CrossGram(Gram):
    """Running mean of ``f·xᵀ`` for the vectors ``f`` of the float model and ``x`` behind compressed weights.

    Where there is only the float model it is its Gram matrix.
    """

    _exact: list[np.ndarray] = Factory(list)

    def update(self, x: np.ndarray) -> None:
        """Take one item's tensor into account, which is the same in both models."""
        self.update_pair(x, x)

    def update_pair(self, exact: np.ndarray, x: np.ndarray) -> None:
        """Take one item's tensors into account.

        :param exact: the float model's.
        :param x: the one behind compressed weights, of the same shape.
        """
        rows = _rows(x, self.axis)
        self._exact.append(rows if exact is x else _rows(exact, self.axis))
        self._waiting.append(rows)
        if sum(map(len, self._waiting)) >= _ENOUGH:
            self._multiply()

    def _multiply(self) -> None:
        if all(exact is rows for exact, rows in zip(self._exact, self._waiting, strict=True)):
            super()._multiply()
        else:
            exact, rows = np.concatenate(self._exact), np.concatenate(self._waiting)
            self._waiting.clear()
            with np.errstate(over="ignore", invalid="ignore"):
                self._add(exact.T @ rows, len(rows))
        self._exact.clear()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over a state."""
        self._exact.clear()
        super().restore(state)


def _rows(x: np.ndarray, axis: int | None) -> np.ndarray:
    rows: np.ndarray = np.array(
        columns(x, -1 if axis is None else axis), np.float32, order="C"
    )  # a copy: it has to wait
    return rows
