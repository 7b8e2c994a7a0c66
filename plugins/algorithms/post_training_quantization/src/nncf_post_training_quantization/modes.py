"""Modes: whether numbers become integers or 8-bit floats, and which parameters go together."""

from __future__ import annotations

from nncf_core.advanced import AdvancedQuantizationParameters, FP8QuantizationParameters
from nncf_core.errors import ParameterNotSupportedError
from nncf_core.parameters import OverflowFix, QuantizationMode, QuantizationPreset

_FORMATS = {QuantizationMode.FP8_E4M3: "f8e4m3", QuantizationMode.FP8_E5M2: "f8e5m2"}


def float8_formats(
    mode: QuantizationMode | None, preset: QuantizationPreset | None, advanced: AdvancedQuantizationParameters
) -> tuple[str, str] | None:
    """Number formats of activations and of weights; ``None`` for integers.

    :raises ParameterNotSupportedError: for parameters that mean integers, in a mode that means floats, or the reverse.
    """
    names = ("activations_quantization_params", "weights_quantization_params")
    given = {name: getattr(advanced, name) for name in names}
    if mode is None:
        for name, value in given.items():
            if isinstance(value, FP8QuantizationParameters):
                raise ParameterNotSupportedError(
                    f"{name} asks for 8-bit floats; give the mode, too: nncf.QuantizationMode.FP8_E4M3 or FP8_E5M2."
                )
        return None
    refused = {
        "preset": preset is QuantizationPreset.MIXED and preset,
        "overflow_fix": advanced.overflow_fix not in (None, OverflowFix.DISABLE) and advanced.overflow_fix,
        "quantize_outputs": advanced.quantize_outputs,
        **{name: not isinstance(value, FP8QuantizationParameters) and value for name, value in given.items()},
    }
    for name, value in refused.items():
        if value:
            raise ParameterNotSupportedError(
                f"{name} {value} is about integers, the mode is {mode}; leave one of them out."
            )
    kinds = (
        value.destination_type if isinstance(value, FP8QuantizationParameters) else None for value in given.values()
    )
    activations, weights = (_FORMATS[mode] if kind is None else str(kind) for kind in kinds)
    return activations, weights
