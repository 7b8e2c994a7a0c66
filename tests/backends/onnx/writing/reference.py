"""What codes stand for, bit by bit, and models that are compressed and looked at."""

import ml_dtypes
import numpy as np
import onnx
from onnx import numpy_helper

from nncf_core.contracts import CompressionRequest
from nncf_core.graph import Constant
from nncf_core.numerics.formats import SCHEMES
from nncf_core.numerics.kernels import compress
from nncf_core.numerics.tensor import CompressedTensor
from nncf_core.transformations import CompressConstant, Transformation
from nncf_onnx.builder import OnnxGraphBuilder
from nncf_onnx.inserter import OnnxTargetPointInserter
from tests.core.numerics.slow_twin import E2M1, NF4

BUILDER, INSERTER = OnnxGraphBuilder(), OnnxTargetPointInserter()
TABLES = {"nf4": NF4, "f4e2m1": [*E2M1, *(-v for v in E2M1)]}
EXACT = {"accuracy_level": 0}
SIX = np.array([-1, -0.5, 0, 0.25, 0.5, 1], np.float32)


def meaning(tensor: CompressedTensor) -> np.ndarray:
    """The float32 values of a compressed tensor, from its definition."""
    bits = tensor.format.bits
    count = int(np.prod(tensor.shape))
    digits = np.unpackbits(tensor.codes, bitorder="little")[: count * bits].reshape(count, bits)
    codes = digits.astype(np.int64) @ (1 << np.arange(bits))
    if tensor.format.name == "f8e4m3":
        values = codes.astype(np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    elif tensor.codebook is not None:
        values = tensor.codebook[codes]
    elif tensor.format.name in TABLES:
        values = np.array(TABLES[tensor.format.name], np.float32)[codes]
    else:
        if tensor.format.name.startswith("int"):
            codes = np.where(codes >= 1 << (bits - 1), codes - (1 << bits), codes)
        values = codes.astype(np.float32)
    scale, zero_point = tensor.scale.astype(np.float32), tensor.zero_point
    if tensor.group_size != -1:
        scale = scale.repeat(tensor.group_size, axis=tensor.group_axis)
        zero_point = None if zero_point is None else zero_point.repeat(tensor.group_size, axis=tensor.group_axis)
    values = values.reshape(tensor.shape)
    if zero_point is not None:
        values = values - zero_point.astype(np.float32)
    values = values * scale
    return values if tensor.global_scale is None else values * np.float32(tensor.global_scale)


def compressed(w: np.ndarray, scheme: str, axes: int | tuple[int, ...], group_size: int = -1) -> CompressedTensor:
    axes = (axes,) if isinstance(axes, int) else axes
    axis = None if group_size == -1 else axes[0]
    table = SIX if scheme == "codebook" else None
    return compress(w, SCHEMES[scheme], reduction_axes=axes, group_axis=axis, group_size=group_size, codebook=table)


def refusal(proto: onnx.ModelProto, tensor: CompressedTensor, constant: str = "w", **options: object) -> str | None:
    graph = BUILDER.build(BUILDER.open(proto, {}))
    request = CompressionRequest("", tensor.format.name, tensor.group_axis, tensor.group_size)
    return INSERTER.refusal(graph, graph.constants[constant], request, {**EXACT, **options})


def edited(proto: onnx.ModelProto, *commands: Transformation, **options: object) -> onnx.ModelProto:
    """The model after some transformations; checks that it is valid and that the given one is unchanged."""
    before = proto.SerializeToString()
    working = BUILDER.open(proto, {})
    result = BUILDER.export(INSERTER.apply(working, BUILDER.build(working), commands, {**EXACT, **options}), proto)
    onnx.checker.check_model(result, full_check=True)
    assert proto.SerializeToString() == before
    return result


def written(proto: onnx.ModelProto, tensor: CompressedTensor, **options: object) -> onnx.ModelProto:
    return edited(proto, CompressConstant("w", tensor), **options)


def with_constant(proto: onnx.ModelProto, value: np.ndarray, name: str = "w") -> onnx.ModelProto:
    """The same float model with another initializer."""
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    for initializer in result.graph.initializer:
        if initializer.name == name:
            dtype = numpy_helper.to_array(initializer).dtype
            initializer.CopyFrom(numpy_helper.from_array(value.astype(dtype), name))
    return result


def recognised(proto: onnx.ModelProto) -> list[Constant]:
    """The compressed constants of a model."""
    graph = BUILDER.build(BUILDER.open(proto, {}))
    return [constant for constant in graph.constants.values() if constant.compressed is not None]


def op_types(proto: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]
