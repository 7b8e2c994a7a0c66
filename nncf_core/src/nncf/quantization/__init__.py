"""Post-training compression."""

from typing import TYPE_CHECKING

from nncf_core.accuracy import quantize_with_accuracy_control
from nncf_core.api import (
    compress_weights,
    quantize,
)
from nncf_core.lazy import lazy_module
from nncf_core.parameters import (
    QuantizationPreset,
)

if TYPE_CHECKING:
    from nncf.quantization import advanced_parameters as advanced_parameters
    from nncf.quantization import quantize_model as quantize_model
    from nncf.quantization import range_estimator as range_estimator

__all__ = [
    "QuantizationPreset",
    "compress_weights",
    "quantize",
    "quantize_with_accuracy_control",
]

if not TYPE_CHECKING:
    # type checkers know the names above, and see slips
    __getattr__, __dir__ = lazy_module(
        __name__,
        submodules=(
            "advanced_parameters",
            "quantize_model",
            "range_estimator",
        ),
    )
