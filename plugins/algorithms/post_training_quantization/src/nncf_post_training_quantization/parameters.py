"""Parameters of post-training quantization: what a config may say, and what it resolves to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from enum import Enum
from typing import Any

from attrs import Factory, evolve, field, frozen

from nncf_core.advanced import (
    AdvancedQuantizationParameters,
    FP8QuantizationParameters,
    QuantizationParameters,
    QuantizationScheme,
)
from nncf_core.errors import ParameterNotSupportedError
from nncf_core.parameters import ModelType, OverflowFix, QuantizationMode, QuantizationPreset, TargetDevice
from nncf_core.range_estimator import AggregatorType, RangeEstimatorParameters, RangeEstimatorParametersSet
from nncf_post_training_quantization.modes import float8_formats
from nncf_post_training_quantization.overrides import (
    MIXED_PRECISION,
    OVERRIDES,
    MixedPrecision,
    Override,
    overridden,
)
from nncf_post_training_quantization.ranges import RangeEstimator, estimator
from nncf_post_training_quantization.weights import WeightScheme


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
    quantize_inputs: bool = True
    overrides: list[Override] = Factory(list)
    mixed_precision: MixedPrecision | None = None
    batches_count: bool = False


SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "description": "Quantization of weights and activations with calibration data.",
    "properties": {
        "mode": {
            "description": "8-bit floats; without it, integers.",
            "enum": [str(mode) for mode in QuantizationMode],
        },
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
        "quantize_inputs": {
            "description": "Whether what enters the model is quantized.",
            "type": "boolean",
            "default": True,
        },
        "overrides": OVERRIDES,
        "mixed_precision": MIXED_PRECISION,
        "batches_count": {
            "description": "Whether an item of the dataset that is a batch counts as so many samples.",
            "type": "boolean",
            "default": False,
        },
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


_BITS = range(2, 9)


class Correction(Enum):
    """How biases are corrected."""

    NONE = "none"
    FAST = "fast"
    ACCURATE = "accurate"


@frozen
class Settings:
    """Parameters after defaults and checks.

    :param symmetric: whether activations have no zero point.
    :param signed: of activations without a zero point: whether their integers have a sign; ``None``: where numbers
        below zero were seen.
    :param estimator: of the ranges of activations.
    :param batched: whether an item of the dataset holds several samples; ``None``: as the dataset says.
    :param float8: number formats of activations and of weights; ``None`` for integers.
    :param transformer: whether the user says that the model is a transformer.
    :param zero_points: whether the user asks for zero points of activations.
    :param bits: of the integers of activations.
    :param quantize_inputs: whether what enters the model is quantized.
    :param given: the parameters.
    :param threshold: largest change of a bias, relative to it; ``None``: any.
    :param all_biases: whether layers without a bias get one.
    """

    symmetric: bool
    signed: bool | None
    device: str
    estimator: RangeEstimator
    batched: bool | None
    weights: WeightScheme
    quantize_outputs: bool
    correction: Correction
    threshold: float | None
    all_biases: bool
    half_range: OverflowFix | None
    float8: tuple[str, str] | None = None
    transformer: bool = False
    zero_points: bool = False
    bits: int = 8
    quantize_inputs: bool = True
    given: QuantizationSettings = field(factory=QuantizationSettings, repr=False)

    def with_overrides(self, first: Iterable[Override]) -> Settings:
        """The settings with overrides before those that are there."""
        return resolve(evolve(self.given, overrides=[*first, *self.given.overrides]))

    def of(self, group: str, names: Collection[str]) -> Settings | None:
        """The settings of one quantizer; ``None`` when it is left out.

        :param group: ``weights`` or ``activations``.
        :param names: the names that overrides may know it by.
        """
        matched = [override for override in self.given.overrides if override.covers(group, names)]
        if not matched:
            return self
        if next((o.quantize for o in reversed(matched) if o.quantize is not None), True) is False:
            return None
        return resolve(evolve(self.given, advanced_parameters=overridden(self.given.advanced_parameters, matched)))


def resolve(params: QuantizationSettings) -> Settings:
    """Fill in defaults and check the combination.

    :raises ParameterNotSupportedError: for what is not supported.
    """
    advanced = params.advanced_parameters
    float8 = float8_formats(params.mode, params.preset, advanced)
    activations = _integers("activations_quantization_params", advanced.activations_quantization_params)
    for name in ("per_channel", "narrow_range"):
        if getattr(activations, name):
            remedy = "the runtimes' operators take activations of one scale and 256 integers"
            raise _unsupported(f"activations_quantization_params.{name}", True, remedy)
    symmetric = params.preset == QuantizationPreset.PERFORMANCE
    if activations.mode is not None:
        symmetric = activations.mode == QuantizationScheme.SYMMETRIC
    mean, extremes = (AggregatorType.MEAN,) * 2, (AggregatorType.MIN, AggregatorType.MAX)
    weights = advanced.weights_quantization_params
    ranges = {
        name: estimator(name, given, default, without)
        for name, given, default, without in (
            ("activations_range_estimator_params", advanced.activations_range_estimator_params, mean, symmetric),
            ("weights_range_estimator_params", _ranges_of_weights(advanced), extremes, _is_symmetric(weights)),
        )
    }
    bits = activations.num_bits or 8
    if bits < 8 and ranges["activations_range_estimator_params"].by_error:
        remedy = "the range of least error is one of 8 bits; give another"
        raise _unsupported("activations_range_estimator_params", "HISTOGRAM", remedy)
    return Settings(
        symmetric,
        activations.signedness_to_force,
        str(params.target_device),
        ranges["activations_range_estimator_params"],
        advanced.batchwise_statistics,
        _weights(weights, ranges["weights_range_estimator_params"]),
        advanced.quantize_outputs,
        correction_of(params),
        advanced.bias_correction_params.threshold,
        advanced.bias_correction_params.apply_for_all_nodes,
        advanced.overflow_fix,
        float8,
        params.model_type is ModelType.TRANSFORMER,
        not symmetric and (params.preset or getattr(activations, "mode", None)) is not None,
        bits,
        params.quantize_inputs,
        params,
    )


def correction_of(params: QuantizationSettings) -> Correction:
    """How biases are corrected."""
    if params.advanced_parameters.disable_bias_correction:
        return Correction.NONE
    return Correction.FAST if params.fast_bias_correction else Correction.ACCURATE


def _is_symmetric(given: QuantizationParameters | FP8QuantizationParameters | None) -> bool:
    return not isinstance(given, QuantizationParameters) or given.mode != QuantizationScheme.ASYMMETRIC


def _ranges_of_weights(advanced: AdvancedQuantizationParameters) -> RangeEstimatorParameters:
    """Of few integers the whole range wastes many: where nothing is said, they have the range that loses least."""
    given, params = advanced.weights_range_estimator_params, advanced.weights_quantization_params
    few = isinstance(params, QuantizationParameters) and (params.num_bits or 8) < 8
    return RangeEstimatorParametersSet.HISTOGRAM if few and given == RangeEstimatorParameters() else given


def _weights(given: QuantizationParameters | FP8QuantizationParameters | None, ranges: RangeEstimator) -> WeightScheme:
    name = "weights_quantization_params"
    integers = _integers(name, given)
    if integers.signedness_to_force is False and ranges.symmetric:
        raise _unsupported(f"{name}.signedness_to_force", False, "weights lie on both sides of zero; leave it out")
    if integers.narrow_range and not ranges.symmetric:
        raise _unsupported(f"{name}.narrow_range", True, "integers with zero points are 256; leave it out")
    bits = integers.num_bits or 8
    narrow = bits == 8 if integers.narrow_range is None else integers.narrow_range
    return WeightScheme(ranges, integers.per_channel is not False, narrow, bits)


def _integers(name: str, given: QuantizationParameters | FP8QuantizationParameters | None) -> QuantizationParameters:
    if isinstance(given, FP8QuantizationParameters):
        return QuantizationParameters()  # of 8-bit floats, see modes
    if given is not None and given.num_bits not in (None, *_BITS):
        raise _unsupported(f"{name}.num_bits", given.num_bits, f"{_BITS[0]} to {_BITS[-1]} bits are")
    return given or QuantizationParameters()


def _unsupported(name: str, value: object, remedy: str) -> ParameterNotSupportedError:
    return ParameterNotSupportedError(
        f"{name} {value} is not supported by the algorithm post_training_quantization; {remedy}."
    )
