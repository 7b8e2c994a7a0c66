"""Figures of quantization in a training."""

from nncf_core.training.quantization_statistics import (
    QuantizationStatistics,
)

__all__ = [
    "QuantizationStatistics",
]
