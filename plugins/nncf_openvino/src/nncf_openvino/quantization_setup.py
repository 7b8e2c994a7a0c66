"""What OpenVINO's low-precision transformations turn into integer operators.

They need FakeQuantize at the operands only; where the result goes to another integer operator they move the scales
through what lies between.
"""

from __future__ import annotations

from nncf_core.errors import ParameterNotSupportedError
from nncf_core.hardware import OperatorSetup, QuantizationSetup

_LAYER = OperatorSetup(needs_weight=True)
_BETWEEN = OperatorSetup(only_between=True)

_SETUP = QuantizationSetup(
    operators={
        **dict.fromkeys(("Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul"), _LAYER),
        **dict.fromkeys(("Add", "AvgPool", "Concat", "Interpolate"), _BETWEEN),
    },
    transparent=frozenset(
        {
            "Reshape", "Transpose", "Squeeze", "Unsqueeze", "StridedSlice", "Slice", "MaxPool", "Split",
            "VariadicSplit", "DepthToSpace", "ShuffleChannels",
        }
    ),
    moves_through=True,
)  # fmt: skip

_DEVICES = ("ANY", "CPU", "CPU_SPR", "GPU", "NPU")


def setup_for(device: str) -> QuantizationSetup:
    """The setup of a device; with 8 bits all of them follow the same rules.

    :raises ParameterNotSupportedError: for devices that are not known.
    """
    if device not in _DEVICES:
        raise ParameterNotSupportedError(f"target_device is {device}; OpenVINO runs on {', '.join(_DEVICES)}.")
    return _SETUP
