"""Aggregators: online, mergeable reductions of a stream of tensors to a state of bounded size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any, ClassVar, Protocol

import numpy as np
from attrs import Factory, define

from nncf_core.errors import ValidationError


class Aggregator(Protocol):
    """Reduces a stream of arrays to a state of bounded size."""

    kind: ClassVar[str]

    def update(self, x: np.ndarray) -> None:
        """Take one sample's tensor into account."""

    def merge(self, other: Any) -> None:
        """Take into account everything that another aggregator of the same kind has seen."""

    @property
    def state(self) -> Mapping[str, np.ndarray]:
        """Arrays from which :meth:`restore` makes an equal aggregator."""

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over a stored state."""

    @property
    def value(self) -> np.ndarray:
        """The statistic."""


def _reduced(reduce: Callable[..., np.ndarray], x: np.ndarray, axis: int | None, **more: Any) -> np.ndarray:
    """Reduce a tensor to a number, or to one for each index along ``axis``.

    A reduction over the axes of a matrix is several times faster than the same over those of four dimensions.
    """
    if axis is None:
        return np.asarray(reduce(x, axis=None, **more))
    if not -x.ndim <= axis < x.ndim:
        raise ValidationError(f"Statistics along axis {axis} were asked for a tensor of shape {x.shape}.")
    kept = axis % x.ndim
    size = x.shape[kept]
    if kept == x.ndim - 1:
        return np.asarray(reduce(x.reshape(-1, size), axis=0, **more))
    if x.size == prod(x.shape[kept:]):
        return np.asarray(reduce(x.reshape(size, -1), axis=1, **more))
    return np.asarray(reduce(x, axis=tuple(i for i in range(x.ndim) if i != kept), **more))


@define
class _Extremum:
    """Running extremum; the state is the extremum itself."""

    axis: int | None = None
    _value: np.ndarray | None = None

    _reduce: ClassVar[Callable[..., np.ndarray]]
    _combine: ClassVar[Callable[..., np.ndarray]]

    def update(self, x: np.ndarray) -> None:
        self._take(_reduced(type(self)._reduce, x, self.axis))

    def merge(self, other: _Extremum) -> None:
        if other._value is not None:
            self._take(other._value)

    def _take(self, value: np.ndarray) -> None:
        self._value = value if self._value is None else np.asarray(type(self)._combine(self._value, value))

    @property
    def state(self) -> Mapping[str, np.ndarray]:
        return {} if self._value is None else {"value": self._value}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._value = state.get("value")

    @property
    def value(self) -> np.ndarray:
        if self._value is None:
            raise ValidationError("A statistic was read before any sample was seen.")
        return self._value


class Min(_Extremum):
    """Smallest element, over everything or for each index along ``axis``."""

    kind: ClassVar[str] = "min"
    _reduce = staticmethod(np.min)
    _combine = staticmethod(np.minimum)


class Max(_Extremum):
    """Largest element, over everything or for each index along ``axis``."""

    kind: ClassVar[str] = "max"
    _reduce = staticmethod(np.max)
    _combine = staticmethod(np.maximum)


def _abs_max(x: np.ndarray, axis: tuple[int, ...] | None = None) -> np.ndarray:
    return np.asarray(np.max(np.abs(x), axis=axis))


class AbsMax(_Extremum):
    """Largest magnitude, over everything or for each index along ``axis``."""

    kind: ClassVar[str] = "abs_max"
    _reduce = staticmethod(_abs_max)
    _combine = staticmethod(np.maximum)


@define
class _RunningMean:
    """Running mean in float64; the state is the sum and the count."""

    axis: int | None = None
    _sum: np.ndarray | None = None
    _count: int = 0

    def merge(self, other: _RunningMean) -> None:
        if other._sum is not None:
            self._add(other._sum, other._count)

    def _add(self, total: np.ndarray, count: int) -> None:
        self._sum = total if self._sum is None else self._sum + total
        self._count += count

    @property
    def state(self) -> Mapping[str, np.ndarray]:
        return {} if self._sum is None else {"sum": self._sum, "count": np.asarray(self._count, np.int64)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._sum = state.get("sum")
        self._count = int(state["count"]) if "count" in state else 0

    @property
    def value(self) -> np.ndarray:
        if self._sum is None:
            raise ValidationError("A statistic was read before any sample was seen.")
        return np.asarray(self._sum / self._count)


class _Moment(_RunningMean):
    """Running mean of ``x**power``."""

    power: ClassVar[int]

    def update(self, x: np.ndarray) -> None:
        values = np.square(x, dtype=np.float64) if self.power == 2 else x
        total = _reduced(np.sum, values, self.axis, dtype=np.float64)
        self._add(total, x.size // max(total.size, 1))


class Mean(_Moment):
    """Mean, over everything or for each index along ``axis``."""

    kind: ClassVar[str] = "mean"
    power = 1


class MeanSquare(_Moment):
    """Mean of squares E[x²], over everything or for each index along ``axis``."""

    kind: ClassVar[str] = "mean_square"
    power = 2


class _MeanExtremum(_RunningMean):
    """Running mean, over samples, of an extremum of each."""

    _reduce: ClassVar[Callable[..., np.ndarray]]

    def update(self, x: np.ndarray) -> None:
        self._add(_reduced(type(self)._reduce, x, self.axis).astype(np.float64), 1)


class MeanMin(_MeanExtremum):
    """Mean over samples of the smallest element, over everything or for each index along ``axis``."""

    kind: ClassVar[str] = "mean_min"
    _reduce = staticmethod(np.min)


class MeanMax(_MeanExtremum):
    """Mean over samples of the largest element, over everything or for each index along ``axis``."""

    kind: ClassVar[str] = "mean_max"
    _reduce = staticmethod(np.max)


@define
class Tensors:
    """The tensors themselves, one for each sample, whatever ``axis`` is; the only state that grows with the samples."""

    kind: ClassVar[str] = "tensors"
    axis: int | None = None
    _tensors: list[np.ndarray] = Factory(list)

    def update(self, x: np.ndarray) -> None:
        """Keep a tensor."""
        # a copy: a backend may write the next sample's tensor over this one
        self._tensors.append(np.array(x))

    def merge(self, other: Tensors) -> None:
        """Keep what another has, behind the own ones."""
        self._tensors += other._tensors

    @property
    def tensors(self) -> tuple[np.ndarray, ...]:
        """In the order of the samples; their shapes may differ."""
        return tuple(self._tensors)

    @property
    def state(self) -> Mapping[str, np.ndarray]:
        """The tensors by their numbers."""
        return {str(index): tensor for index, tensor in enumerate(self._tensors)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over the tensors of a state."""
        self._tensors = [state[str(index)] for index in range(len(state))]

    @property
    def value(self) -> np.ndarray:
        """All elements in one row."""
        if not self._tensors:
            raise ValidationError("A statistic was read before any sample was seen.")
        return np.concatenate([tensor.reshape(-1) for tensor in self._tensors])


AGGREGATORS: Mapping[str, Callable[..., Aggregator]] = {
    cls.kind: cls for cls in (Min, Max, AbsMax, Mean, MeanSquare, MeanMin, MeanMax, Tensors)
}
"""Aggregators by the name of what they give."""
