"""Parameters of post-training quantization: what a config may say, and what it resolves to."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from attrs import Factory, frozen

from nncf_core.advanced import (
    AdvancedQuantizationParameters,
    FP8QuantizationParameters,
    QuantizationParameters,
    QuantizationScheme,
)
from nncf_core.errors import ParameterNotSupportedError
from nncf_core.parameters import ModelType, OverflowFix, QuantizationMode, QuantizationPreset, TargetDevice
from nncf_core.range_estimator import AggregatorType, StatisticsCollectorParameters, StatisticsType


@frozen
class QuantizationSettings:
    """The config section, see :func:`nncf.quantize` for the meaning of the fields."""

    mode: QuantizationMode | None = None
    preset: QuantizationPreset | None = None
    target_device: TargetDevice = TargetDevice.ANY
    subset_size: int = 300
    fast_bias_correction: bool = True
    model_type: ModelType | None = None
    advanced_parameters: AdvancedQuantizationParameters = Factory(AdvancedQuantizationParameters)


SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "description": "Quantization of weights and activations with calibration data.",
    "properties": {
        "mode": {"enum": [str(mode) for mode in QuantizationMode]},
        "preset": {
            "description": "performance: activations without zero point; mixed: with one.",
            "enum": [str(preset) for preset in QuantizationPreset],
            "default": "mixed",
        },
        "target_device": {"enum": [str(device) for device in TargetDevice], "default": "ANY"},
        "subset_size": {
            "description": "Number of samples of the dataset that ranges are found on.",
            "type": "integer",
            "minimum": 1,
            "default": 300,
        },
        "fast_bias_correction": {
            "description": "true: correct biases by what weights lose on average; false: layer by layer, by what "
            "outputs lose in a model that is quantized so far.",
            "type": "boolean",
            "default": True,
        },
        "model_type": {"enum": [str(kind) for kind in ModelType]},
        "advanced_parameters": {"description": "See nncf.AdvancedQuantizationParameters.", "type": "object"},
    },
}


@frozen
class AlignmentSettings:
    """The config section of channel alignment.

    :param subset_size: number of samples of the dataset that ranges are found on.
    """

    subset_size: int = 32


ALIGNMENT_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "description": "Channels of tensors between layers are shifted to one centre before they are quantized.",
    "properties": {
        "subset_size": {
            "description": "Number of samples of the dataset that ranges are found on.",
            "type": "integer",
            "minimum": 1,
            "default": 32,
        },
    },
}

_RANGES: Mapping[tuple[StatisticsType, AggregatorType], str] = {
    (StatisticsType.MIN, AggregatorType.MIN): "min",
    (StatisticsType.MIN, AggregatorType.MEAN): "mean_min",
    (StatisticsType.MAX, AggregatorType.MAX): "max",
    (StatisticsType.MAX, AggregatorType.MEAN): "mean_max",
}


class Correction(Enum):
    """How biases are corrected."""

    NONE = "none"
    FAST = "fast"
    ACCURATE = "accurate"


@frozen
class Settings:
    """Parameters after defaults and checks.

    :param symmetric: whether activations have no zero point.
    :param low: the statistic that is the lower end of a range.
    :param high: the statistic that is the upper end.
    :param threshold: largest change of a bias, relative to it; ``None``: any.
    :param all_biases: whether layers without a bias get one.
    """

    symmetric: bool
    device: str
    low: str
    high: str
    quantize_outputs: bool
    correction: Correction
    threshold: float | None
    all_biases: bool
    half_range: OverflowFix


def resolve(params: QuantizationSettings) -> Settings:
    """Fill in defaults and check the combination.

    :raises ParameterNotSupportedError: for what is not supported.
    """
    advanced = params.advanced_parameters
    if params.mode is not None:
        raise _unsupported("mode", params.mode, "leave it out for integers of 8 bits")
    for name in ("activations_quantization_params", "weights_quantization_params"):
        _check_quantizer(name, getattr(advanced, name))
    estimator = advanced.activations_range_estimator_params
    activations = advanced.activations_quantization_params
    symmetric = params.preset == QuantizationPreset.PERFORMANCE
    if isinstance(activations, QuantizationParameters) and activations.mode is not None:
        symmetric = activations.mode == QuantizationScheme.SYMMETRIC
    return Settings(
        symmetric,
        str(params.target_device),
        _statistic("min", estimator.min, StatisticsType.MIN),
        _statistic("max", estimator.max, StatisticsType.MAX),
        advanced.quantize_outputs,
        correction_of(params),
        advanced.bias_correction_params.threshold,
        advanced.bias_correction_params.apply_for_all_nodes,
        advanced.overflow_fix or OverflowFix.DISABLE,
    )


def correction_of(params: QuantizationSettings) -> Correction:
    """How biases are corrected."""
    if params.advanced_parameters.disable_bias_correction:
        return Correction.NONE
    return Correction.FAST if params.fast_bias_correction else Correction.ACCURATE


def _statistic(side: str, given: StatisticsCollectorParameters, default: StatisticsType) -> str:
    kind = given.statistics_type or default
    aggregator = given.aggregator_type or AggregatorType.MEAN
    if (kind, aggregator) not in _RANGES or kind != default:
        remedy = f"{default} of samples can be put together by mean or {default}"
        raise _unsupported(f"activations_range_estimator_params.{side}", f"{aggregator} of {kind}", remedy)
    return _RANGES[kind, aggregator]


def _check_quantizer(name: str, given: QuantizationParameters | FP8QuantizationParameters | None) -> None:
    if isinstance(given, FP8QuantizationParameters):
        raise _unsupported(name, "FP8", "leave it out for integers of 8 bits")
    if given is not None and given.num_bits not in (None, 8):
        raise _unsupported(f"{name}.num_bits", given.num_bits, "8 bits are")


def _unsupported(name: str, value: object, remedy: str) -> ParameterNotSupportedError:
    return ParameterNotSupportedError(
        f"{name} {value} is not supported by the algorithm post_training_quantization; {remedy}."
    )
