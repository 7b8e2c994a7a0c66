"""Where quantizers are of use in PyTorch models: where OpenVINO computes the converted model with integers.

PyTorch itself runs quantizers in floating point; models are quantized to be trained on, and to be converted. The rules
are those of OpenVINO's low-precision transformations, by the functions that become its operators.
"""

from __future__ import annotations

from nncf_core.errors import ParameterNotSupportedError
from nncf_core.graph import OpKind
from nncf_core.hardware import OperatorSetup, QuantizationSetup
from nncf_torch.aten import names_of

_LAYER = OperatorSetup(needs_weight=True)
_BETWEEN = OperatorSetup(only_between=True)

_SETUP = QuantizationSetup(
    operators={
        **dict.fromkeys(("linear", "matmul", "mm", "bmm", "addmm", *names_of(OpKind.CONV)), _LAYER),
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
)  # fmt: skip

_DEVICES = ("ANY", "CPU", "CPU_SPR", "GPU", "NPU")


def setup_for(device: str) -> QuantizationSetup:
    """The setup of a device; with 8 bits all of them follow the same rules.

    :raises ParameterNotSupportedError: for devices that are not known.
    """
    if device not in _DEVICES:
        raise ParameterNotSupportedError(f"target_device is {device}; it can be {', '.join(_DEVICES)}.")
    return _SETUP
