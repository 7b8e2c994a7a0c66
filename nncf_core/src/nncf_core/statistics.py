"""Statistics of activations: what is asked for, and what was collected.

Memory does not grow with the number of samples, unless the tensors themselves are asked for. Two halves of a dataset
that are collected apart and merged give the same result as the whole, up to float64 rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from attrs import define, field, frozen

from nncf_core.aggregators import AGGREGATORS, Aggregator, Tensors
from nncf_core.errors import StatisticsCacheError, ValidationError
from nncf_core.transformations import TargetPoint

__all__ = ["AGGREGATORS", "Aggregator", "Statistics", "StatisticsRequest"]


@frozen(cache_hash=True)
class StatisticsRequest:
    """One statistic of one tensor. Equal requests of several algorithms are collected once.

    :param target: the tensor.
    :param kind: name of the aggregator, a key of :data:`AGGREGATORS`.
    :param axis: axis that is kept; ``None`` reduces over all elements.
    """

    target: TargetPoint
    kind: str = field()
    axis: int | None = None

    @kind.validator
    def _known(self, _: object, value: str) -> None:
        if value not in AGGREGATORS:
            raise ValidationError(f"Unknown statistic {value!r}; known are {', '.join(sorted(AGGREGATORS))}.")

    @property
    def key(self) -> str:
        """A stable textual key, used in files."""
        return f"{self.target}:{self.kind}:{'' if self.axis is None else self.axis}"

    def aggregator(self) -> Aggregator:
        """A new, empty aggregator for this request."""
        return AGGREGATORS[self.kind](axis=self.axis)


@define
class Statistics:
    """Aggregators by request."""

    _aggregators: dict[StatisticsRequest, Aggregator] = field(factory=dict)

    def __getitem__(self, request: StatisticsRequest) -> np.ndarray:
        return self._aggregators[request].value

    def __contains__(self, request: object) -> bool:
        return request in self._aggregators

    def __iter__(self) -> Iterator[StatisticsRequest]:
        return iter(self._aggregators)

    def __len__(self) -> int:
        return len(self._aggregators)

    def aggregator(self, request: StatisticsRequest) -> Aggregator:
        """The aggregator of a request, made when it is asked for the first time."""
        if request not in self._aggregators:
            self._aggregators[request] = request.aggregator()
        return self._aggregators[request]

    def tensors(self, request: StatisticsRequest) -> tuple[np.ndarray, ...]:
        """What a request of the kind ``tensors`` kept: an array for each sample."""
        aggregator = self._aggregators[request]
        assert isinstance(aggregator, Tensors)
        return aggregator.tensors

    def renewed(self, later: Statistics) -> Statistics:
        """These and later ones; of requests in both, the later."""
        return type(self)({**self._aggregators, **later._aggregators})

    def merge(self, other: Statistics) -> None:
        """Take into account what was collected elsewhere."""
        for request, aggregator in other._aggregators.items():
            self.aggregator(request).merge(aggregator)

    def arrays(self) -> dict[str, np.ndarray]:
        """All states as one flat mapping, e.g. for ``numpy.savez``."""
        return {
            f"{request.key}|{part}": array
            for request, aggregator in self._aggregators.items()
            for part, array in aggregator.state.items()
        }

    def restore(self, requests: tuple[StatisticsRequest, ...], arrays: Mapping[str, np.ndarray]) -> None:
        """Take over stored states for the given requests.

        :raises StatisticsCacheError: when a request has no stored state.
        """
        for request in requests:
            prefix = f"{request.key}|"
            state = {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}
            if not state:
                raise StatisticsCacheError(f"The stored statistics hold nothing for {request.key}.")
            self.aggregator(request).restore(state)
