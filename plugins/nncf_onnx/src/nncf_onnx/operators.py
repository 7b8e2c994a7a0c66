"""Canonical kinds of ONNX operators, as data."""

from __future__ import annotations

from collections.abc import Mapping

from nncf_core.graph import OpKind

_KINDS: Mapping[OpKind, str] = {
    OpKind.CONV: "Conv",
    OpKind.CONV_TRANSPOSE: "ConvTranspose",
    OpKind.MATMUL: "MatMul Gemm com.microsoft::MatMulNBits",
    OpKind.EMBEDDING: "Gather com.microsoft::GatherBlockQuantized",
    OpKind.RECURRENT: "LSTM GRU RNN",
    OpKind.ADD: "Add Sum",
    OpKind.SUBTRACT: "Sub",
    OpKind.MULTIPLY: "Mul",
    OpKind.DIVIDE: "Div",
    OpKind.RELU: "Relu LeakyRelu PRelu",
    OpKind.ACTIVATION: (
        "Elu Selu Celu ThresholdedRelu Sigmoid HardSigmoid HardSwish Swish Tanh Gelu Mish "
        "Softplus Softsign Erf Clip Exp Log Sqrt Abs Neg Reciprocal Pow Shrink com.microsoft::Gelu "
        "com.microsoft::FastGelu com.microsoft::QuickGelu com.microsoft::BiasGelu"
    ),
    OpKind.PERIODIC: "Sin Cos",
    OpKind.ATTENTION: "Attention",
    OpKind.SOFTMAX: "Softmax LogSoftmax",
    OpKind.BATCH_NORM: "BatchNormalization",
    OpKind.LAYER_NORM: "LayerNormalization RMSNormalization SimplifiedLayerNormalization",
    OpKind.NORMALIZATION: (
        "InstanceNormalization GroupNormalization MeanVarianceNormalization LpNormalization LRN "
        "com.microsoft::SkipLayerNormalization com.microsoft::SkipSimplifiedLayerNormalization"
    ),
    OpKind.MAX_POOL: "MaxPool GlobalMaxPool",
    OpKind.AVERAGE_POOL: "AveragePool GlobalAveragePool",
    OpKind.REDUCE: "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare "
    "ReduceLogSum ReduceLogSumExp ArgMax ArgMin",
    OpKind.RESIZE: "Resize Upsample",
    OpKind.CONCAT: "Concat",
    OpKind.SPLIT: "Split",
    OpKind.SHAPE_ONLY: "Reshape Transpose Squeeze Unsqueeze Flatten Slice Expand Tile Identity DepthToSpace "
    "SpaceToDepth Dropout",
    OpKind.SHAPE_OF: "Shape Size",
    OpKind.CAST: "Cast CastLike",
    OpKind.QUANTIZE: "QuantizeLinear DynamicQuantizeLinear",
    OpKind.DEQUANTIZE: "DequantizeLinear",
    OpKind.CONTROL_FLOW: "If Loop Scan SequenceMap",
}

_BY_TYPE = {op_type: kind for kind, types in _KINDS.items() for op_type in types.split()}


def kind_of(op_type: str, domain: str) -> OpKind:
    """The canonical kind; ``OTHER`` for what is not in the table."""
    return _BY_TYPE.get(op_type if domain in ("", "ai.onnx") else f"{domain}::{op_type}", OpKind.OTHER)
