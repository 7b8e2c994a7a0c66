"""ATen operators: their kinds, and which of their operands are weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nncf_core.graph import OpKind, WeightLayout
from nncf_torch.layouts import (
    conv_layout,
    conv_transpose_layout,
    einsum_layout,
    embedding_layout,
    linear_layout,
    matmul_layout,
)

_KINDS: Mapping[OpKind, str] = {
    OpKind.CONV: "conv1d conv2d conv3d convolution conv_depthwise2d",
    OpKind.CONV_TRANSPOSE: "conv_transpose1d conv_transpose2d conv_transpose3d",
    OpKind.MATMUL: "linear matmul mm bmm _grouped_mm grouped_mm addmm baddbmm einsum mv addmv bilinear",
    OpKind.EMBEDDING: "embedding embedding_bag _embedding_bag _embedding_bag_forward_only",
    OpKind.RECURRENT: "lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell",
    OpKind.ADD: "add add_ __add__ __radd__ __iadd__",
    OpKind.SUBTRACT: "sub sub_ rsub subtract __sub__ __rsub__ __isub__",
    OpKind.MULTIPLY: "mul mul_ multiply __mul__ __rmul__ __imul__",
    OpKind.DIVIDE: "div div_ divide true_divide __truediv__ __rtruediv__",
    OpKind.RELU: "relu relu_ leaky_relu leaky_relu_ prelu",
    OpKind.ACTIVATION: (
        "relu6 elu selu celu threshold sigmoid sigmoid_ hardsigmoid hardswish "
        "hardswish_ silu silu_ tanh tanh_ hardtanh hardtanh_ gelu mish softplus softsign erf clamp clip exp log sqrt "
        "rsqrt abs neg reciprocal pow square glu logsigmoid"
    ),
    OpKind.PERIODIC: "sin cos",
    OpKind.ATTENTION: "scaled_dot_product_attention",
    OpKind.SOFTMAX: "softmax log_softmax _softmax _log_softmax _safe_softmax",
    OpKind.BATCH_NORM: "batch_norm _native_batch_norm_legit_no_training",
    OpKind.LAYER_NORM: "layer_norm rms_norm native_layer_norm",
    OpKind.NORMALIZATION: (
        "instance_norm group_norm native_group_norm _native_batch_norm_legit _native_batch_norm_legit_functional "
        "native_batch_norm normalize local_response_norm"
    ),
    OpKind.MAX_POOL: (
        "max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d "
        "max_pool2d_with_indices"
    ),
    OpKind.AVERAGE_POOL: (
        "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d "
        "_adaptive_avg_pool2d"
    ),
    OpKind.REDUCE: "mean sum amax amin max min prod argmax argmin norm linalg_vector_norm var std logsumexp",
    OpKind.RESIZE: "interpolate upsample_nearest1d upsample_nearest2d upsample_bilinear2d upsample_bicubic2d",
    OpKind.CONCAT: "cat concat stack",
    OpKind.SPLIT: "split split_with_sizes chunk unbind tensor_split",
    OpKind.SHAPE_ONLY: (
        "reshape view _unsafe_view transpose permute t squeeze unsqueeze flatten unflatten slice select expand "
        "expand_as repeat tile contiguous clone dropout alias detach narrow movedim swapaxes pixel_shuffle "
        "pixel_unshuffle __getitem__ view_as reshape_as identity T mT lift_fresh_copy feature_dropout alpha_dropout"
    ),
    OpKind.CAST: "to _to_copy type float half bfloat16 double type_as",
    OpKind.QUANTIZE: "fake_quantize quantize_per_tensor quantize_per_channel fake_quantize_per_tensor_affine "
    "fake_quantize_per_channel_affine",
    OpKind.DEQUANTIZE: "dequantize dequantize_per_tensor dequantize_per_channel dequantize_affine",
    OpKind.CONTROL_FLOW: "cond while_loop scan map_impl",
}

_BY_NAME = {name: kind for kind, names in _KINDS.items() for name in names.split()}

_FIRST_OPERANDS = {
    "_grouped_mm": 0,
    "grouped_mm": 0,
    "matmul": 0,
    "mm": 0,
    "bmm": 0,
    "mv": 0,
    "addmm": 1,
    "baddbmm": 1,
    "addmv": 1,
}


def names_of(kind: OpKind) -> tuple[str, ...]:
    """Names of the operators of a kind."""
    return tuple(_KINDS[kind].split())


def kind_of(op_type: str) -> OpKind:
    """The canonical kind of an operator by its name without overload; ``OTHER`` for what is not in the table."""
    return _BY_NAME.get(op_type, OpKind.OTHER)


def kind_with(op_type: str, operands: int) -> OpKind:
    """The canonical kind of an operator that has so many tensors as operands."""
    kind = kind_of(op_type)
    # without scale and shift the statistics would be taken for them
    return OpKind.NORMALIZATION if kind is OpKind.BATCH_NORM and operands < 5 else kind


def is_padded(padding: object) -> bool:
    """Whether a convolution with this argument puts zeros around its input."""
    if isinstance(padding, str):
        return padding != "valid"
    return any(padding) if isinstance(padding, (list, tuple)) else bool(padding)


def layout_of(op_type: str, position: int, rank: int, arguments: Sequence[Any]) -> WeightLayout | None:
    """The layout of an operand; ``None`` where that operand is no weight.

    :param op_type: name without overload.
    :param position: index of the argument; of a list that it stands in, but for recurrent operators, the index in that.
    :param rank: number of dimensions of the operand.
    :param arguments: all arguments in the order of the operator's schema.
    """
    if rank == 0:
        return None
    if op_type == "linear":
        return linear_layout(rank) if position == 1 and rank >= 2 else None
    if op_type in _FIRST_OPERANDS:
        port = position - _FIRST_OPERANDS[op_type]
        return matmul_layout(port, rank) if port in (0, 1) else None
    if op_type == "einsum":
        return einsum_layout(str(arguments[0]), position)
    kind = kind_of(op_type)
    if kind is OpKind.EMBEDDING:
        return embedding_layout(rank) if position == 0 and rank >= 2 else None
    if kind in (OpKind.CONV, OpKind.CONV_TRANSPOSE) and position == 1 and rank >= 3:
        transposed = kind is OpKind.CONV_TRANSPOSE or (op_type == "convolution" and bool(arguments[6]))
        if not transposed:
            return conv_layout(rank)
        groups = arguments[8] if op_type == "convolution" else arguments[6] if len(arguments) > 6 else 1
        return conv_transpose_layout(int(groups), rank)
    if kind is OpKind.RECURRENT and rank == 2 and position >= 2:
        # before them stand the input and the states
        return linear_layout(rank)
    return None
