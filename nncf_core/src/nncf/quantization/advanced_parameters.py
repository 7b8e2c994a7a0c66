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
]
