"""Aggregators: online, mergeable reductions of a stream of tensors to a state of bounded size.

A kind's name says what is done: ``mean_max`` is the mean, over samples, of each sample's largest element. A name
without a second part speaks of all elements of all samples: ``max``, ``median``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Protocol

import numpy as np
from attrs import Factory, define

from nncf_core.distributions import Distribution, Ordered
from nncf_core.errors import ValidationError
from nncf_core.grams import CrossGram, Gram
from nncf_core.histograms import LeastErrorRange, LeastErrorSymmetricRange
from nncf_core.reductions import MATRIX_REDUCTIONS, REDUCTIONS, Reduction, columns, reduced, samples


class Aggregator(Protocol):
    """Reduces a stream of arrays to a state of bounded size."""

    def update(self, x: np.ndarray) -> None:
        """Take one item's tensor into account."""

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


def _unseen() -> ValidationError:
    return ValidationError("A statistic was read before any sample was seen.")


@define
class _PerSample:
    """What is looked at in each sample.

    :param reduction: what each sample is reduced by.
    :param axis: axis that is kept; ``None``: none is.
    :param probability: of quantiles; and as many samples are outliers, on either side.
    :param batched: whether an item's tensor holds samples along its first axis, rather than being one.
    """

    reduction: Reduction
    axis: int | None = None
    probability: float = 1e-4
    batched: bool = False

    def update(self, x: np.ndarray) -> None:
        for sample, axis in samples(x, self.axis, self.batched):
            self._take(self.reduction(sample, axis, self.probability))

    def _take(self, value: np.ndarray) -> None:
        raise NotImplementedError


@define
class _Extremum(_PerSample):
    """Running extremum; the state is the extremum itself."""

    combine: Callable[..., np.ndarray] = np.maximum
    _value: np.ndarray | None = None

    def merge(self, other: _Extremum) -> None:
        if other._value is not None:
            self._take(other._value)

    def _take(self, value: np.ndarray) -> None:
        self._value = value if self._value is None else np.asarray(self.combine(self._value, value))

    @property
    def state(self) -> Mapping[str, np.ndarray]:
        return {} if self._value is None else {"value": self._value}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._value = state.get("value")

    @property
    def value(self) -> np.ndarray:
        if self._value is None:
            raise _unseen()
        return self._value


@define
class _Mean(_PerSample):
    """Running mean in float64; the state is the sum and the count."""

    _sum: np.ndarray | None = None
    _count: int = 0

    def merge(self, other: _Mean) -> None:
        if other._sum is not None:
            self._add(other._sum, other._count)

    def _take(self, value: np.ndarray) -> None:
        self._add(value.astype(np.float64), 1)

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
            raise _unseen()
        return np.asarray(self._sum / self._count)


@define
class _Each(_PerSample):
    """What is looked at in each sample, sample by sample: ``[samples, ...]``; the state grows with the samples."""

    _values: list[np.ndarray] = Factory(list)

    def merge(self, other: _Each) -> None:
        self._values += other._values

    def _take(self, value: np.ndarray) -> None:
        self._values.append(np.array(value))

    @property
    def state(self) -> Mapping[str, np.ndarray]:
        return {"values": np.stack(self._values)} if self._values else {}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._values = list(state["values"]) if state else []

    @property
    def value(self) -> np.ndarray:
        if not self._values:
            raise _unseen()
        return np.stack(self._values)


@define
class Moment(_Mean):
    """Running mean of ``x**power`` over all elements."""

    power: int = 1

    def update(self, x: np.ndarray) -> None:
        """Take one item's tensor into account."""
        if x.size == 0:
            return
        values = np.square(x, dtype=np.float64) if self.power == 2 else x
        total = reduced(np.add.reduce, values, self.axis, dtype=np.float64)
        self._add(total, x.size // max(total.size, 1))

    def update_means(self, means: np.ndarray, count: int) -> None:
        """Take means of ``x**power`` into account, each that of ``count`` elements."""
        total = reduced(np.add.reduce, means, self.axis, dtype=np.float64)
        self._add(total * count, count * (means.size // max(total.size, 1)))


@define
class _Spread(_PerSample):
    """A property of the distribution of the samples' values."""

    measure: Callable[[Ordered, float], float] = lambda ordered, _probability: ordered.quantile(0.5)
    _distribution: Distribution = Factory(Distribution)

    def merge(self, other: _Spread) -> None:
        self._distribution.merge(other._distribution)

    def _take(self, value: np.ndarray) -> None:
        self._distribution.add(value.reshape(1, -1))

    @property
    def state(self) -> Mapping[str, np.ndarray]:
        return self._distribution.state

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._distribution = Distribution()
        self._distribution.restore(state)

    @property
    def value(self) -> np.ndarray:
        found = [self.measure(ordered, self.probability) for ordered in self._distribution.ordered()]
        if not found:
            raise _unseen()
        return np.asarray(found[0] if self.axis is None else found, np.float64)


@define
class _SpreadOfElements(_Spread):
    """The same of all elements."""

    def update(self, x: np.ndarray) -> None:
        if x.size:
            self._distribution.add(columns(x, self.axis))


def _quantile(ordered: Ordered, probability: float) -> float:
    return ordered.quantile(probability)


def _median(ordered: Ordered, probability: float) -> float:
    return ordered.quantile(0.5)


def _mean_no_outliers(ordered: Ordered, probability: float) -> float:
    return ordered.within(min(probability, 1 - probability)).mean()


@define
class Tensors:
    """The tensors themselves, one for each sample, whatever ``axis`` is; the only state that grows with the samples."""

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


def _median_no_outliers(ordered: Ordered, probability: float) -> float:
    return ordered.within(min(probability, 1 - probability)).quantile(0.5)


_MEASURES: Mapping[str, Callable[[Ordered, float], float]] = {
    "quantile": _quantile,
    "median": _median,
    "mean_no_outliers": _mean_no_outliers,
    "median_no_outliers": _median_no_outliers,
}

_AGGREGATIONS: Mapping[str, Callable[..., Aggregator]] = {
    "mean": _Mean,
    "max": partial(_Extremum, combine=np.maximum),
    "min": partial(_Extremum, combine=np.minimum),
    **{name: partial(_Spread, measure=measure) for name, measure in _MEASURES.items()},
}


def kind_of(aggregation: str, reduction: str) -> str:
    """The kind that puts samples' reductions together by an aggregation.

    :param reduction: a key of :data:`~nncf_core.reductions.REDUCTIONS`; ``raw`` for all elements.
    """
    if reduction == "raw" or (aggregation, reduction) in (("min", "min"), ("max", "max")):
        return aggregation
    return "abs_max" if (aggregation, reduction) == ("max", "abs_max") else f"{aggregation}_{reduction}"


def _mean_square(x: np.ndarray, axis: int | None, probability: float) -> np.ndarray:
    return reduced(np.mean, np.square(x, dtype=np.float64), axis)


def _kinds() -> Iterator[tuple[str, Callable[..., Aggregator]]]:
    unused = REDUCTIONS["mean"]  # these look at the elements themselves
    yield "mean", partial(Moment, unused)
    yield "mean_square", partial(Moment, unused, power=2)
    for name, measure in _MEASURES.items():
        yield name, partial(_SpreadOfElements, unused, measure=measure)
    for aggregation, made in _AGGREGATIONS.items():
        for reduction, function in REDUCTIONS.items():
            yield kind_of(aggregation, reduction), partial(made, function)
    for reduction, function in MATRIX_REDUCTIONS.items():
        yield f"mean_{reduction}", partial(_Mean, function)
    yield "mean_mean_square", partial(_Mean, _mean_square)
    for reduction in ("min", "max"):
        yield f"each_{reduction}", partial(_Each, REDUCTIONS[reduction])
    yield "gram", Gram
    yield "cross_gram", CrossGram
    yield "tensors", Tensors
    yield "least_error_range", LeastErrorRange
    yield "least_error_symmetric_range", LeastErrorSymmetricRange


AGGREGATORS: Mapping[str, Callable[..., Aggregator]] = dict(_kinds())
"""Aggregators by the name of what they give."""


def has_probability(kind: str) -> bool:
    """Whether a kind depends on a probability."""
    return "quantile" in kind or "no_outliers" in kind


_PER_SAMPLE = {kind_of(aggregation, reduction) for aggregation in _AGGREGATIONS for reduction in REDUCTIONS}
_PER_SAMPLE -= {"min", "max", "abs_max"}
_PER_SAMPLE |= {"mean_mean_square", "each_min", "each_max", *(f"mean_{reduction}" for reduction in MATRIX_REDUCTIONS)}


def is_per_sample(kind: str) -> bool:
    """Whether a kind depends on what is a sample and what a batch of them."""
    return kind in _PER_SAMPLE
