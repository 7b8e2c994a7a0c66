"""Parameters that are worth a try where default ones lose too much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from attrs import evolve

from nncf_core.parameters import QuantizationPreset
from nncf_core.range_estimator import (
    AggregatorType,
    RangeEstimatorParameters,
    StatisticsCollectorParameters,
    StatisticsType,
)
from nncf_post_training_quantization.parameters import QuantizationSettings

_QUANTILES = (1e-3, 1e-4)
"""Shares of values outside of a range, on average."""


def alternatives(params: QuantizationSettings) -> Mapping[str, Sequence[QuantizationSettings]]:
    """Other parameters by what differs from the given ones."""
    advanced = params.advanced_parameters
    return {
        "preset": [evolve(params, preset=preset) for preset in QuantizationPreset],
        "activations_range_estimator_params": [
            evolve(params, advanced_parameters=evolve(advanced, activations_range_estimator_params=estimator))
            for estimator in _estimators()
        ],
        "fast_bias_correction": [evolve(params, fast_bias_correction=fast) for fast in (True, False)],
    }


def _estimators() -> list[RangeEstimatorParameters]:
    """Extremes or quantiles for either end."""
    ends = [
        [
            StatisticsCollectorParameters(extreme, aggregator),
            *(
                StatisticsCollectorParameters(StatisticsType.QUANTILE, AggregatorType.MEAN, quantile_outlier_prob=share)
                for share in _QUANTILES
            ),
        ]
        for extreme, aggregator in (
            (StatisticsType.MIN, AggregatorType.MIN),
            (StatisticsType.MAX, AggregatorType.MAX),
        )
    ]
    return [RangeEstimatorParameters(low, high) for low, high in product(*ends)]
