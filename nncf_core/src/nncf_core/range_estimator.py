"""How the range of a quantizer is estimated from statistics."""

from __future__ import annotations

from attrs import define, field

from nncf_core.dataclass_like import dataclass_like
from nncf_core.parameters import StrEnum
from nncf_core.validators import instance_of, member_of


class StatisticsType(StrEnum):
    """What is collected of each sample."""

    MAX = "max"
    MIN = "min"
    ABS_MAX = "abs_max"
    QUANTILE = "quantile"
    ABS_QUANTILE = "abs_quantile"
    MEAN = "mean"
    RAW = "raw"


class AggregatorType(StrEnum):
    """How the samples' values are put together."""

    MEAN = "mean"
    MAX = "max"
    MIN = "min"
    MEDIAN = "median"
    MEAN_NO_OUTLIERS = "mean_no_outliers"
    MEDIAN_NO_OUTLIERS = "median_no_outliers"
    HISTOGRAM = "histogram"
    QUANTILE = "quantile"


@dataclass_like
@define
class StatisticsCollectorParameters:
    """One side of a range.

    :param statistics_type: what is collected of each sample.
    :param aggregator_type: how samples are put together.
    :param clipping_value: limit of the result.
    :param quantile_outlier_prob: share of values outside of the quantile; of all elements of all samples with the
        type ``RAW`` and the aggregator ``QUANTILE``, which the reference lacks.
    """

    statistics_type: StatisticsType | None = field(default=None, validator=member_of(StatisticsType))
    aggregator_type: AggregatorType | None = field(default=None, validator=member_of(AggregatorType))
    clipping_value: float | None = None
    quantile_outlier_prob: float = 1e-4


@dataclass_like
@define
class RangeEstimatorParameters:
    """Both sides of a range."""

    min: StatisticsCollectorParameters = field(
        factory=StatisticsCollectorParameters, validator=instance_of(StatisticsCollectorParameters)
    )
    max: StatisticsCollectorParameters = field(
        factory=StatisticsCollectorParameters, validator=instance_of(StatisticsCollectorParameters)
    )


def _both(low: StatisticsType, high: StatisticsType, aggregator: AggregatorType) -> RangeEstimatorParameters:
    return RangeEstimatorParameters(
        StatisticsCollectorParameters(low, aggregator), StatisticsCollectorParameters(high, aggregator)
    )


class RangeEstimatorParametersSet:
    """Estimators that are often used."""

    MINMAX = RangeEstimatorParameters(
        StatisticsCollectorParameters(StatisticsType.MIN, AggregatorType.MIN),
        StatisticsCollectorParameters(StatisticsType.MAX, AggregatorType.MAX),
    )
    MEAN_MINMAX = _both(StatisticsType.MIN, StatisticsType.MAX, AggregatorType.MEAN)
    MEDIAN_MINMAX = _both(StatisticsType.MIN, StatisticsType.MAX, AggregatorType.MEDIAN)
    MEAN_NO_OUTLIERS_MINMAX = _both(StatisticsType.MIN, StatisticsType.MAX, AggregatorType.MEAN_NO_OUTLIERS)
    MEAN_QUANTILE = _both(StatisticsType.QUANTILE, StatisticsType.QUANTILE, AggregatorType.MEAN)
    HISTOGRAM = _both(StatisticsType.RAW, StatisticsType.RAW, AggregatorType.HISTOGRAM)
