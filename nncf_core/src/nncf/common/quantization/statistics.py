"""Figures of quantization in a training."""

from nncf_core.training.quantization_statistics import (
    QuantizationStatistics,
    QuantizersCounter,
)

__all__ = [
    "QuantizationStatistics",
    "QuantizersCounter",
]
