"""From advanced parameters of post-training quantization to the config section ``quantization`` of a training.

Names are those of NNCF 2's ``nncf.quantization.advanced_parameters``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nncf_core.advanced import (
    AdvancedQuantizationParameters,
    FP8QuantizationParameters,
    QuantizationParameters,
)
from nncf_core.errors import ParameterNotSupportedError
from nncf_core.range_estimator import AggregatorType, RangeEstimatorParameters, StatisticsType

_KEYS = {"num_bits": "bits", "mode": "mode", "signedness_to_force": "signed", "per_channel": "per_channel"}


def convert_quantization_parameters_to_dict(
    params: QuantizationParameters | FP8QuantizationParameters | None,
) -> dict[str, Any]:
    """What ``weights`` or ``activations`` of the section says; only what is not left to the algorithm.

    :raises ParameterNotSupportedError: for 8-bit floats and ``narrow_range``, which the section cannot say.
    """
    if params is None:
        return {}
    if isinstance(params, FP8QuantizationParameters):
        raise ParameterNotSupportedError("The section 'quantization' has integers only; leave out FP8 parameters.")
    if params.narrow_range is not None:
        raise ParameterNotSupportedError("The section 'quantization' has no narrow_range; leave it out.")
    given = {key: getattr(params, name) for name, key in _KEYS.items()}
    return {key: str(value) if key == "mode" else value for key, value in given.items() if value is not None}


def convert_range_estimator_parameters_to_dict(params: RangeEstimatorParameters) -> dict[str, Any]:
    """What ``initializer.range`` of the section says of a range; ``{}`` when all is left to the algorithm.

    :raises ParameterNotSupportedError: for estimators that the section has no name for.
    """
    ends = (params.min, params.max)
    if all(end.statistics_type is None and end.aggregator_type is None for end in ends):
        return {}
    kinds = tuple((end.statistics_type, end.aggregator_type) for end in ends)
    extremes = (StatisticsType.MIN, StatisticsType.MAX)
    for name, aggregators in (
        ("min_max", (AggregatorType.MIN, AggregatorType.MAX)),
        ("mean_min_max", (AggregatorType.MEAN, AggregatorType.MEAN)),
    ):
        if kinds == tuple(zip(extremes, aggregators, strict=True)):
            return {"type": name}
    quantiles = (StatisticsType.QUANTILE, AggregatorType.MEAN)
    if kinds == (quantiles, quantiles):
        low, high = (end.quantile_outlier_prob * 100 for end in ends)
        return {"type": "mean_percentile", "params": {"min_percentile": low, "max_percentile": 100 - high}}
    raise ParameterNotSupportedError(
        f"The section 'quantization' has no range estimator of {kinds[0]} and {kinds[1]}; it has MINMAX, MEAN_MINMAX "
        "and MEAN_QUANTILE of nncf.quantization.range_estimator.RangeEstimatorParametersSet."
    )


def apply_advanced_parameters_to_config(
    config: Mapping[str, Any], params: AdvancedQuantizationParameters
) -> dict[str, Any]:
    """A config section ``quantization`` with what advanced parameters say added to it; a new one.

    :param config: the section; ``num_init_samples`` of its ``initializer.range`` is kept.
    :raises ParameterNotSupportedError: for parameters that the section cannot say.
    """
    for name in ("disable_bias_correction", "bias_correction_params", "smooth_quant_alpha"):
        if getattr(params, name) != getattr(AdvancedQuantizationParameters(), name):
            raise ParameterNotSupportedError(
                f"The section 'quantization' has no {name}; leave it at its default, or call nncf.quantize."
            )
    section = dict(config)
    if params.overflow_fix is not None:
        section["overflow_fix"] = str(params.overflow_fix)
    section["quantize_outputs"] = params.quantize_outputs
    ranges = []
    before = dict(section.get("initializer", {}))
    samples = {key: value for key, value in dict(before.get("range", {})).items() if key == "num_init_samples"}
    for group in ("weights", "activations"):
        section[group] = {
            **section.get(group, {}),
            **convert_quantization_parameters_to_dict(getattr(params, f"{group}_quantization_params")),
        }
        found = convert_range_estimator_parameters_to_dict(getattr(params, f"{group}_range_estimator_params"))
        if found:
            ranges.append({**samples, **found, "target_quantizer_group": group})
    if ranges:
        section["initializer"] = {**before, "range": ranges}
    return section
