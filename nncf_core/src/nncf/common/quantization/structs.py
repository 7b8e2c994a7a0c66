"""Words of quantization."""

from nncf_core.parameters import (
    QuantizationPreset,
    QuantizationScheme,
    QuantizerGroup,
)

QuantizationMode = QuantizationScheme  # its name before it was renamed

__all__ = [
    "QuantizationMode",
    "QuantizationPreset",
    "QuantizationScheme",
    "QuantizerGroup",
]
