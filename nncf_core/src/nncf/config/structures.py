"""Structures that are attached to a config."""

from nncf_core.config.structures import (
    BNAdaptationInitArgs,
    ModelEvaluationArgs,
    QuantizationRangeInitArgs,
)

__all__ = [
    "BNAdaptationInitArgs",
    "ModelEvaluationArgs",
    "QuantizationRangeInitArgs",
]
