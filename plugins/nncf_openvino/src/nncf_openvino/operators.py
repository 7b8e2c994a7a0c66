"""Canonical kinds of OpenVINO operators, as data."""

from __future__ import annotations

from collections.abc import Mapping

from nncf_core.graph import OpKind

_KINDS: Mapping[OpKind, str] = {
    OpKind.INPUT: "Parameter",
    OpKind.OUTPUT: "Result",
    OpKind.CONV: "Convolution GroupConvolution DeformableConvolution",
    OpKind.CONV_TRANSPOSE: "ConvolutionBackpropData GroupConvolutionBackpropData",
    OpKind.MATMUL: "MatMul GroupedMatMul",
    OpKind.EMBEDDING: "Gather",
    OpKind.RECURRENT: "LSTMSequence LSTMCell GRUSequence GRUCell RNNSequence RNNCell",
    OpKind.ADD: "Add",
    OpKind.SUBTRACT: "Subtract",
    OpKind.MULTIPLY: "Multiply",
    OpKind.DIVIDE: "Divide",
    OpKind.RELU: "Relu PRelu",
    OpKind.ACTIVATION: (
        "Elu Selu Sigmoid HSigmoid HardSigmoid Swish HSwish Tanh Gelu Mish SoftPlus SoftSign Erf Clamp Exp "
        "Log Sqrt Abs Negative Power"
    ),
    OpKind.PERIODIC: "Sin Cos",
    OpKind.ATTENTION: "ScaledDotProductAttention",
    OpKind.SOFTMAX: "Softmax SoftMax LogSoftmax",
    OpKind.NORMALIZATION: "BatchNormInference MVN GroupNormalization NormalizeL2 LRN RMSNorm",
    OpKind.MAX_POOL: "MaxPool AdaptiveMaxPool",
    OpKind.AVERAGE_POOL: "AvgPool AdaptiveAvgPool",
    OpKind.REDUCE: "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 TopK",
    OpKind.RESIZE: "Interpolate",
    OpKind.CONCAT: "Concat",
    OpKind.SPLIT: "Split VariadicSplit",
    OpKind.SHAPE_ONLY: (
        "Reshape Transpose Squeeze Unsqueeze Slice StridedSlice Broadcast Tile Identity DepthToSpace SpaceToDepth "
        "ShuffleChannels"
    ),
    OpKind.SHAPE_OF: "ShapeOf",
    OpKind.CAST: "Convert ConvertLike",
    OpKind.QUANTIZE: "FakeQuantize FakeConvert",
    OpKind.CONTROL_FLOW: "If Loop TensorIterator",
}

_BY_TYPE = {op_type: kind for kind, types in _KINDS.items() for op_type in types.split()}


def kind_of(op_type: str) -> OpKind:
    """The canonical kind; ``OTHER`` for what is not in the table."""
    return _BY_TYPE.get(op_type, OpKind.OTHER)
