"""What onnxruntime computes with integers, as found in the graphs that it makes when it optimises QDQ models.

With its result quantized a Conv or Gemm becomes QLinearConv or QGemm; without, it is computed in floating point from
weights that are dequantized each time, which is slower than the model was. A MatMul becomes MatMulIntegerToFloat and
needs no quantized result. ConvTranspose has no integer form.

QLinearConv is a product of matrices, which pays only where many products are summed for many outputs; Conv in floating
point has kernels for all the rest, for depthwise convolutions above all (measured with AVX-512 VNNI, onnxruntime 1.32).
"""

from __future__ import annotations

from nncf_core.errors import ParameterNotSupportedError
from nncf_core.hardware import LeastSize, OperatorSetup, QuantizationSetup

_BETWEEN = OperatorSetup(only_between=True)

_CPU = QuantizationSetup(
    operators={
        "Conv": OperatorSetup(
            needs_weight=True,
            needs_result=True,
            least=LeastSize(channels=8, outputs=16, products_per_element=12),
        ),
        "Gemm": OperatorSetup(needs_weight=True, needs_result=True),
        "MatMul": OperatorSetup(needs_weight=True),
        **dict.fromkeys(
            ("Add", "Mul", "AveragePool", "GlobalAveragePool", "Concat", "LeakyRelu", "Sigmoid", "Resize"), _BETWEEN
        ),
    },
    transparent=frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "MaxPool", "Split"}),
    fused=frozenset({"Relu", "Clip"}),
)

_DEVICES = {"ANY": _CPU, "CPU": _CPU, "CPU_SPR": _CPU}


def setup_for(device: str) -> QuantizationSetup:
    """The setup of a device.

    :raises ParameterNotSupportedError: when it is none that onnxruntime's own kernels run on.
    """
    if device not in _DEVICES:
        raise ParameterNotSupportedError(
            f"target_device is {device}; for ONNX models it can be {', '.join(_DEVICES)}: onnxruntime's CPU kernels."
        )
    return _DEVICES[device]
