"""The ends of a range: what is collected of each sample, how samples are put together, and what that says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from attrs import evolve, frozen

from nncf_core.aggregators import AGGREGATORS, has_probability, is_per_sample, kind_of
from nncf_core.errors import ParameterNotSupportedError, ValidationError
from nncf_core.range_estimator import (
    AggregatorType,
    RangeEstimatorParameters,
    StatisticsCollectorParameters,
    StatisticsType,
)
from nncf_core.statistics import Statistics, StatisticsRequest
from nncf_core.transformations import TargetPoint

_MAGNITUDES = (StatisticsType.ABS_MAX, StatisticsType.ABS_QUANTILE)

_SHARES = np.linspace(1, 0.2, 81)
"""Parts of a weight's whole range that are compared, where least error is asked for."""


@frozen
class RangeEstimator:
    """Both ends of a range.

    :param low: the lower end, with every field given. Magnitudes count there as negative. ``clipping_value`` is the
        smallest that it may be.
    :param high: the upper end. ``clipping_value`` is the largest that it may be, and without zero points the largest
        magnitude.
    :param symmetric: whether the range is for integers without a zero point. Then the upper end is that of magnitudes
        where the largest element is asked for.
    """

    low: StatisticsCollectorParameters
    high: StatisticsCollectorParameters
    symmetric: bool

    def requests(self, point: TargetPoint, batched: bool = False) -> Sequence[StatisticsRequest]:
        """The statistics that say what the ends are.

        :param batched: whether an item holds samples along the first axis of its tensors, rather than being one.
        """
        if self.by_error:
            kind = "least_error_symmetric_range" if self.symmetric else "least_error_range"
            return (StatisticsRequest(point, kind),)
        return tuple(
            StatisticsRequest(point, kind, None, probability, batched and is_per_sample(kind))
            for kind, probability in map(self._kind, (True, False))
        )

    def ends(self, statistics: Statistics, point: TargetPoint, batched: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """The ends that statistics of a tensor say, scalars."""
        values = [statistics[request] for request in self.requests(point, batched)]
        low, high = values[0] if self.by_error else values
        return self._limited(low, high)

    def ends_of(self, weight: np.ndarray, reduced: tuple[int, ...], bits: int = 8) -> tuple[np.ndarray, np.ndarray]:
        """The ends for a weight, which is one sample.

        :param weight: float32.
        :param reduced: axes along which there is one range; they have length 1 in the result.
        :param bits: of the integers, by which the range of least error is found.
        """
        if self.by_error:
            return self._limited(*_least_error(weight, reduced, self.symmetric, bits))
        return self._limited(self._end_of(weight, reduced, True), self._end_of(weight, reduced, False))

    @property
    def by_error(self) -> bool:
        """Whether the range is the one that loses least."""
        return self.low.aggregator_type is AggregatorType.HISTOGRAM

    def _kind(self, lower: bool) -> tuple[str, float | None]:
        """Kind of the statistic of an end, and its probability."""
        end = self.low if lower else self.high
        assert end.statistics_type is not None
        assert end.aggregator_type is not None
        reduction = end.statistics_type
        if self.symmetric and not lower and reduction is StatisticsType.MAX:
            reduction = StatisticsType.ABS_MAX
        kind = kind_of(str(end.aggregator_type), str(reduction))
        is_above = reduction is StatisticsType.ABS_QUANTILE or (
            not lower and (reduction is StatisticsType.QUANTILE or end.aggregator_type is AggregatorType.QUANTILE)
        )
        outside = end.quantile_outlier_prob
        return kind, (1 - outside if is_above else outside) if has_probability(kind) else None

    def _end_of(self, weight: np.ndarray, reduced: tuple[int, ...], lower: bool) -> np.ndarray:
        kind, probability = self._kind(lower)
        reduction = (self.low if lower else self.high).statistics_type
        if reduction in (StatisticsType.MIN, StatisticsType.MAX, StatisticsType.ABS_MAX):
            # whatever the aggregator, of one sample it gives what it gets
            ends = [
                np.asarray(extremum(weight, axis=reduced, keepdims=True))
                for extremum, unwanted in ((np.min, StatisticsType.MAX), (np.max, StatisticsType.MIN))
                if reduction is not unwanted or kind.endswith("abs_max")
            ]
            return ends[0] if len(ends) == 1 else np.asarray(np.maximum(np.abs(ends[0]), np.abs(ends[1])))
        kept = [axis for axis in range(weight.ndim) if axis not in reduced]
        shape = [weight.shape[axis] if axis in kept else 1 for axis in range(weight.ndim)]
        rows = weight.transpose(*kept, *reduced).reshape(int(np.prod([weight.shape[axis] for axis in kept])), -1)
        more = {} if probability is None else {"probability": probability}
        aggregator = AGGREGATORS[kind](axis=0, **more)
        aggregator.update(rows)
        return aggregator.value.astype(np.float32).reshape(shape)

    def _limited(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.low.statistics_type in _MAGNITUDES:
            low = -low
        if self.low.clipping_value is not None:
            low = np.maximum(low, self.low.clipping_value)
        if self.high.clipping_value is not None:
            high = np.minimum(high, self.high.clipping_value)
            low = np.maximum(low, -self.high.clipping_value) if self.symmetric else low
        return np.asarray(low), np.asarray(high)


def estimator(
    name: str, given: RangeEstimatorParameters, aggregator: tuple[AggregatorType, AggregatorType], symmetric: bool
) -> RangeEstimator:
    """The estimator that the user's parameters stand for: what is not given, is the smallest and the largest element.

    :param name: of the parameters, for messages.
    :param aggregator: of both ends, where none is given.
    :raises ParameterNotSupportedError: for histograms of anything but all elements, and at one end only.
    :raises ValidationError: when the share of outliers is not between 0 and 1/2, or zero would be clipped.
    """
    ends = []
    for side, end, kind, how in zip(
        ("min", "max"),
        (given.min, given.max),
        (StatisticsType.MIN, StatisticsType.MAX),
        aggregator,
        strict=True,
    ):
        full = evolve(
            end,
            statistics_type=StatisticsType(end.statistics_type or kind),
            aggregator_type=AggregatorType(end.aggregator_type or how),
        )
        if not 0 <= full.quantile_outlier_prob < 0.5:
            raise ValidationError(
                f"{name}.{side}.quantile_outlier_prob is {full.quantile_outlier_prob}; it must be at least 0 and "
                "below 0.5."
            )
        ends.append(full)
    low, high = (end.clipping_value for end in ends)
    if (low is not None and low > 0) or (high is not None and high < 0):
        raise ValidationError(
            f"{name}: clipping_value is {low} for min and {high} for max; zero must stay in the range, so that "
            "min takes a value of at most, and max one of at least, zero."
        )
    by_error = [end.aggregator_type is AggregatorType.HISTOGRAM for end in ends]
    if any(by_error) and not (all(by_error) and all(end.statistics_type is StatisticsType.RAW for end in ends)):
        raise ParameterNotSupportedError(
            f"{name}: a histogram is one of all elements and gives both ends; give "
            "RangeEstimatorParametersSet.HISTOGRAM."
        )
    return RangeEstimator(ends[0], ends[1], symmetric)


def _least_error(
    weight: np.ndarray, reduced: tuple[int, ...], symmetric: bool, bits: int
) -> tuple[np.ndarray, np.ndarray]:
    """The parts of the ranges of a weight in which integers of so many bits lose least, by trying.

    Both ends come in by the same share, as in the search for clipping of weights by Choukroun et al. 2019
    (https://arxiv.org/abs/1902.06822, section 3.1).
    """
    low = np.minimum(weight.min(axis=reduced, keepdims=True), 0)
    high = np.maximum(weight.max(axis=reduced, keepdims=True), 0)
    if symmetric:
        high = np.maximum(high, -low)
        low = -high
    steps = np.float32(2**bits - (2 if symmetric else 1))
    least = np.full(low.shape, np.inf, np.float32)
    chosen = np.ones(low.shape, np.float32)
    for share in _SHARES.astype(np.float32):
        step = np.maximum(share * (high - low) / steps, np.float32(2.0**-126))
        below, above = np.rint(share * low / step), np.rint(share * high / step)
        lost = np.clip(np.rint(weight / step), below, above) * step - weight
        error = np.square(lost, out=lost).sum(axis=reduced, keepdims=True)
        better = error < least
        least, chosen = np.where(better, error, least), np.where(better, share, chosen)
    return low * chosen, high * chosen
