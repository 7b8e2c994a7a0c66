"""Figures of quantization in a training."""

from nncf_core.training.statistics import (
    QuantizationStatistics,
)

__all__ = [
    "QuantizationStatistics",
]
