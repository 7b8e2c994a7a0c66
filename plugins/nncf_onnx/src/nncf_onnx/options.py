"""The backend's own options (``backend_params``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from nncf_core.errors import ValidationError

_FORMATS = ("auto", "dequantize_linear", "matmul_nbits")
_STEPS = ("fold_constants", "fold_batch_norm", "fold_scales", "fuse_hard_swish", "widen_convolutions")
_KNOWN = ("weight_format", "accuracy_level", "external_data_dir", "compress_weights", *_STEPS)


@frozen
class WriteOptions:
    """How compressed weights are written.

    :param weight_format: ``dequantize_linear``: DequantizeLinear before the operator. ``matmul_nbits``:
        onnxruntime's own MatMulNBits and GatherBlockQuantized where they can be, which run faster there.
        ``auto``: the former, and the latter for formats that the model's opset does not know.
    :param accuracy_level: the attribute of MatMulNBits. 4: activations are rounded to 8 bits, in groups; this is
        what onnxruntime does by default, too, when it fuses 4-bit DequantizeLinear, and many times faster than 0:
        as exact as the activations.
    """

    weight_format: str = "auto"
    accuracy_level: int = 4


@frozen
class PrepareOptions:
    """What is done to a model before it is quantized, and afterwards; each step can be switched off.

    :param fold_constants: compute what depends on constants alone.
    :param fold_batch_norm: make normalization part of the layers beside it.
    :param fold_scales: the same for products, sums, differences and quotients with constants.
    :param fuse_hard_swish: write hard swish with two operators.
    :param widen_convolutions: once it is quantized, let convolutions of few channels compute several positions at once.
    """

    fold_constants: bool = True
    fold_batch_norm: bool = True
    fold_scales: bool = True
    fuse_hard_swish: bool = True
    widen_convolutions: bool = True


def prepare_options(options: Mapping[str, Any]) -> PrepareOptions:
    """Options of the preparation from ``backend_params``.

    :raises ValidationError: for an unknown key, or a value that is not ``True`` or ``False``.
    """
    write_options(options)
    found = {name: options[name] for name in _STEPS if name in options}
    for name, value in found.items():
        if not isinstance(value, bool):
            raise ValidationError(f"backend_params: {name} is {value!r}; it must be True or False.")
    return PrepareOptions(**found)


def write_options(options: Mapping[str, Any]) -> WriteOptions:
    """Options from ``backend_params``.

    :raises ValidationError: for an unknown key or value.
    """
    unknown = [key for key in options if key not in _KNOWN]
    if unknown:
        raise ValidationError(
            f"backend_params: the ONNX backend does not know {', '.join(map(repr, unknown))}; "
            f"it knows {', '.join(_KNOWN)}."
        )
    found = WriteOptions(options.get("weight_format", "auto"), options.get("accuracy_level", 4))
    if found.weight_format not in _FORMATS:
        raise ValidationError(
            f"backend_params: weight_format is {found.weight_format!r}; it must be one of {', '.join(_FORMATS)}."
        )
    if found.accuracy_level not in (0, 1, 2, 3, 4):
        raise ValidationError(f"backend_params: accuracy_level is {found.accuracy_level!r}; it must be 0 to 4.")
    return found
