"""Where quantizers are of use in PyTorch models: where OpenVINO computes the converted model with integers.

PyTorch itself runs quantizers in floating point; models are quantized to be trained on, and to be converted. The rules
are those of OpenVINO's devices (``nncf_openvino.quantization_setup``), by the functions that become its operators.
"""

from __future__ import annotations

from attrs import evolve

from nncf_core.errors import ParameterNotSupportedError
from nncf_core.graph import OpKind
from nncf_core.hardware import OperatorSetup, QuantizationSetup
from nncf_torch.aten import names_of

_ANY = OperatorSetup()
_LAYER = OperatorSetup(needs_weight=True)
_BETWEEN = OperatorSetup(only_between=True)

_PRODUCT_NAMES = ("linear", "matmul", "mm", "bmm", "addmm")
_ATTENTION = "scaled_dot_product_attention"
_PRODUCTS = {**dict.fromkeys(_PRODUCT_NAMES, _ANY), _ATTENTION: OperatorSetup(operands=(0, 1))}
_FLOAT8 = {
    **dict.fromkeys((*names_of(OpKind.CONV), *names_of(OpKind.CONV_TRANSPOSE)), _LAYER),
    **dict.fromkeys(_PRODUCT_NAMES, _ANY),
    _ATTENTION: OperatorSetup(operands=(0, 1, 2)),
}

_CPU = QuantizationSetup(
    operators={
        **dict.fromkeys((*_PRODUCT_NAMES, *names_of(OpKind.CONV), *names_of(OpKind.CONV_TRANSPOSE)), _LAYER),
        **dict.fromkeys((*names_of(OpKind.ADD), *names_of(OpKind.CONCAT), *names_of(OpKind.RESIZE)), _BETWEEN),
        **dict.fromkeys(("avg_pool1d", "avg_pool2d", "avg_pool3d"), _BETWEEN),
    },
    transparent=frozenset(
        {
            "reshape", "reshape_as", "view", "view_as", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze",
            "transpose", "permute", "movedim", "swapaxes", "t", "mT", "slice", "narrow", "pixel_shuffle",
            "channel_shuffle", "max_pool1d", "max_pool2d", "max_pool3d",
            # nothing is left of these when the model is converted
            "alias", "clone", "contiguous", "detach", "dropout", "feature_dropout", "alpha_dropout", "identity",
            *names_of(OpKind.SPLIT),
        }
    ),
    moves_through=True,
    stored=frozenset(names_of(OpKind.EMBEDDING)),
    weight_zero_points=False,
    float8={"f8e4m3": _FLOAT8, "f8e5m2": _FLOAT8},
    sums_of_16_bits=True,
)  # fmt: skip

_OTHERS = evolve(_CPU, operators={**_CPU.operators, **_PRODUCTS}, sums_of_16_bits=False)

_CPU_SPR = evolve(_OTHERS, attention_output=True)

_GPU = evolve(_OTHERS, float8={})

_NPU = evolve(
    _GPU,
    operators={
        **_GPU.operators,
        **dict.fromkeys(
            (*names_of(OpKind.ADD), *names_of(OpKind.SUBTRACT), "maximum", "minimum"),
            OperatorSetup(unified_operands=True),
        ),
        **dict.fromkeys(names_of(OpKind.MULTIPLY), _BETWEEN),
        **dict.fromkeys(names_of(OpKind.CONCAT), OperatorSetup(only_between=True, unified_operands=True)),
    },
)

_DEVICES = {"ANY": _CPU, "CPU": _CPU, "CPU_SPR": _CPU_SPR, "GPU": _GPU, "NPU": _NPU}


def setup_for(device: str) -> QuantizationSetup:
    """The setup of a device.

    :raises ParameterNotSupportedError: for devices that are not known.
    """
    if device not in _DEVICES:
        raise ParameterNotSupportedError(f"target_device is {device}; it can be {', '.join(_DEVICES)}.")
    return _DEVICES[device]
