"""What runtimes of ONNX models compute in 8 bits, by device.

CPU: onnxruntime's own kernels, as found in the graphs that it makes when it optimises QDQ models. With its result
quantized a Conv or Gemm becomes QLinearConv or QGemm; without, it is computed in floating point from weights that are
dequantized each time, which is slower than the model was. A MatMul becomes MatMulIntegerToFloat and needs no quantized
result. ConvTranspose has no integer form. On processors with AMX the same kernels run. 8-bit floats are converted at
operands, and computed with in floating point. QLinearConv is a product of matrices, which pays only where many products
are summed for many outputs; Conv in floating point has kernels for all the rest, for depthwise convolutions above all.
From which sizes on integers are faster was measured, see docs/onnx.md.

GPU: TensorRT, with explicit quantization (https://docs.nvidia.com/deeplearning/tensorrt/, "Explicit Quantization"):
signed integers without zero points, at operands of layers; it moves quantizers over what only moves elements, and
takes the sum behind a convolution into it where the other operand is quantized already. Of 8-bit floats it knows E4M3.

NPU: the execution providers of QNN and Vitis AI (https://onnxruntime.ai/docs/execution-providers/): unsigned integers,
and what is not between quantizers runs on the CPU.
"""

from __future__ import annotations

from attrs import evolve

from nncf_core.errors import ParameterNotSupportedError
from nncf_core.hardware import KernelWidth, LeastSize, OperatorSetup, QuantizationSetup

_ANY = OperatorSetup()
_LAYER = OperatorSetup(needs_weight=True)
_BETWEEN = OperatorSetup(only_between=True)
_MOVES = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "MaxPool", "Split"})

_FLOAT8 = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm"), _LAYER),
    "MatMul": _ANY,
    "Attention": OperatorSetup(operands=(0, 1, 2)),
}

_CPU = QuantizationSetup(
    operators={
        "Conv": OperatorSetup(
            needs_weight=True,
            needs_result=True,
            least=LeastSize(
                channels=2,
                outputs=8,
                products_per_element=12,
                wide=(8, 16),
                narrow_products_per_element=110,
                beside_float=22,
                products=90_000,
            ),
        ),
        "Gemm": OperatorSetup(
            needs_weight=True,
            needs_result=True,
            least=LeastSize(products_per_element=15, products=225_000, positions=4),
        ),
        "MatMul": OperatorSetup(
            needs_weight=True, least=LeastSize(products_per_element=30, products=110_000, positions=4)
        ),
        **dict.fromkeys(
            ("Add", "Mul", "AveragePool", "GlobalAveragePool", "Concat", "LeakyRelu", "Sigmoid", "Resize"), _BETWEEN
        ),
    },
    transparent=_MOVES,
    fused=frozenset({"Relu", "Clip"}),
    stored=frozenset({"Gather", "LSTM", "GRU", "RNN"}),
    # as the kernels for x86 want them
    signed=False,
    integer_biases=True,
    float8={"f8e4m3": _FLOAT8, "f8e5m2": _FLOAT8},
    sums_of_16_bits=True,
    width=KernelWidth(lanes=16, moved=16, gain=1.5, saved=40),
)

_GPU = QuantizationSetup(
    operators={
        **dict.fromkeys(("Conv", "ConvTranspose", "Gemm"), _LAYER),
        "MatMul": _ANY,
        "Add": OperatorSetup(takes_quantized=True),
        "Concat": OperatorSetup(only_between=True, unified_operands=True),
        **dict.fromkeys(("AveragePool", "GlobalAveragePool", "Resize"), _BETWEEN),
    },
    transparent=_MOVES,
    moves_through=True,
    zero_points=False,
    signed=True,
    integer_biases=True,
    float8={"f8e4m3": _FLOAT8},
)

_NPU = QuantizationSetup(
    operators={
        **dict.fromkeys(("Conv", "ConvTranspose", "Gemm"), OperatorSetup(needs_weight=True, needs_result=True)),
        **dict.fromkeys(
            (
                "MatMul", "Add", "Sub", "Mul", "Div", "Max", "Min", "AveragePool", "GlobalAveragePool", "ReduceMean",
                "Concat", "Resize", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Sigmoid", "Softmax",
                "Tanh",
            ),
            OperatorSetup(needs_result=True),
        ),
    },
    transparent=_MOVES,
    fused=frozenset({"Relu", "Clip"}),
    signed=False,
    integer_biases=True,
    whole=True,
    attention_output=True,
)  # fmt: skip

_DEVICES = {"ANY": _CPU, "CPU": _CPU, "CPU_SPR": evolve(_CPU, sums_of_16_bits=False), "GPU": _GPU, "NPU": _NPU}


def setup_for(device: str) -> QuantizationSetup:
    """The setup of a device.

    :raises ParameterNotSupportedError: for devices that are not known.
    """
    if device not in _DEVICES:
        raise ParameterNotSupportedError(f"target_device is {device}; for ONNX models it can be {', '.join(_DEVICES)}.")
    return _DEVICES[device]
