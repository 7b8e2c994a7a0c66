"""Post-training compression."""

from nncf_core.api import (
    compress_weights,
    quantize,
    quantize_with_accuracy_control,
)
from nncf_core.parameters import (
    QuantizationPreset,
)

__all__ = [
    "QuantizationPreset",
    "compress_weights",
    "quantize",
    "quantize_with_accuracy_control",
]
