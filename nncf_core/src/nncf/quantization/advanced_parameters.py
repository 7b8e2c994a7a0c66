"""Advanced parameters of the public functions."""

from nncf_core.advanced import (
    AdvancedAccuracyRestorerParameters,
    AdvancedAdaptiveCodebookParameters,
    AdvancedAWQParameters,
    AdvancedBiasCorrectionParameters,
    AdvancedCompressionParameters,
    AdvancedGPTQParameters,
    AdvancedLoraCorrectionParameters,
    AdvancedQuantizationParameters,
    AdvancedScaleEstimationParameters,
    AdvancedSmoothQuantParameters,
    FP8QuantizationParameters,
    FP8Type,
    QuantizationParameters,
    QuantizationScheme,
    QuantizerPropagationRule,
    RestoreMode,
)
from nncf_core.parameters import (
    GroupSizeFallbackMode,
    OverflowFix,
)
from nncf_core.training.quantization_section import (
    apply_advanced_parameters_to_config,
    convert_quantization_parameters_to_dict,
    convert_range_estimator_parameters_to_dict,
)

__all__ = [
    "AdvancedAWQParameters",
    "AdvancedAccuracyRestorerParameters",
    "AdvancedAdaptiveCodebookParameters",
    "AdvancedBiasCorrectionParameters",
    "AdvancedCompressionParameters",
    "AdvancedGPTQParameters",
    "AdvancedLoraCorrectionParameters",
    "AdvancedQuantizationParameters",
    "AdvancedScaleEstimationParameters",
    "AdvancedSmoothQuantParameters",
    "FP8QuantizationParameters",
    "FP8Type",
    "GroupSizeFallbackMode",
    "OverflowFix",
    "QuantizationParameters",
    "QuantizationScheme",
    "QuantizerPropagationRule",
    "RestoreMode",
    "apply_advanced_parameters_to_config",
    "convert_quantization_parameters_to_dict",
    "convert_range_estimator_parameters_to_dict",
]
