"""Figures of quantizers."""

from nncf_core.training.quantization_statistics import (
    QuantizationStatistics,
    QuantizersCounter,
)

__all__ = [
    "QuantizationStatistics",
    "QuantizersCounter",
]
