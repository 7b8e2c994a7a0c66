"""The functions that compress a model after training."""

from nncf_core.accuracy import quantize_with_accuracy_control
from nncf_core.api import (
    compress_weights,
    quantize,
)

__all__ = [
    "compress_weights",
    "quantize",
    "quantize_with_accuracy_control",
]
