"""What OpenVINO's plugins compute in 8 bits, by device.

On CPUs and GPUs low-precision transformations
(https://docs.openvino.ai/2024/documentation/openvino-extensibility/openvino-plugin-library/advanced-guides/\
low-precision-transformations.html) turn operators into ones of integers. They need FakeQuantize at the operands only;
where the result goes to another integer operator they move the scales through what lies between.

CPU: products of two activations gain nothing. On processors with AMX (CPU_SPR), and on GPUs, they do; there attention
takes queries and keys without zero points (with them it stays in floating point).

NPU: its compiler takes FakeQuantize as it finds it. The sum of integers is that of the numbers only where both have one
scale.

8-bit floats: the CPU plugin clips and converts where FakeConvert stands, and computes in floating point.
"""

from __future__ import annotations

from attrs import evolve

from nncf_core.errors import ParameterNotSupportedError
from nncf_core.hardware import OperatorSetup, QuantizationSetup

_ANY = OperatorSetup()
_LAYER = OperatorSetup(needs_weight=True)
_BETWEEN = OperatorSetup(only_between=True)
_PRODUCTS = {"MatMul": _ANY, "ScaledDotProductAttention": OperatorSetup(operands=(0, 1))}

_FLOAT8 = {
    **dict.fromkeys(
        ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData"), _LAYER
    ),
    "MatMul": _ANY,
    "ScaledDotProductAttention": OperatorSetup(operands=(0, 1, 2)),
}

_CPU = QuantizationSetup(
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
    # sequences want constants, and these are not folded beside FakeQuantize
    stored=frozenset({"Gather"}),
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
        **dict.fromkeys(("Add", "Subtract", "Maximum", "Minimum"), OperatorSetup(unified_operands=True)),
        "Multiply": _BETWEEN,
        "Concat": OperatorSetup(only_between=True, unified_operands=True),
    },
)

_DEVICES = {"ANY": _CPU, "CPU": _CPU, "CPU_SPR": _CPU_SPR, "GPU": _GPU, "NPU": _NPU}


def setup_for(device: str) -> QuantizationSetup:
    """The setup of a device.

    :raises ParameterNotSupportedError: for devices that are not known.
    """
    if device not in _DEVICES:
        raise ParameterNotSupportedError(f"target_device is {device}; OpenVINO runs on {', '.join(_DEVICES)}.")
    return _DEVICES[device]
