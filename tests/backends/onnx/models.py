"""Small ONNX models, made by hand."""

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

FLOAT = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "float64": TensorProto.DOUBLE}


def random(*shape: int, seed: int = 0, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def model(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    inputs: dict[str, Sequence[int | str]],
    outputs: dict[str, Sequence[int | str]],
    opset: int = 21,
    dtype: str = "float32",
    types: dict[str, int] | None = None,
) -> onnx.ModelProto:
    types = types or {}
    kind = FLOAT[dtype]
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info(n, types.get(n, kind), list(s)) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, types.get(n, kind), list(s)) for n, s in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    ir_version = 8 if opset < 19 else 10 if opset < 25 else 13
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    onnx.checker.check_model(made)
    return made


def run(proto: onnx.ModelProto, **feed: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # the model as it is written: the optimiser fuses low-bit products into kernels that round the activations, too
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feed)


def matmul(w: np.ndarray, opset: int = 21) -> onnx.ModelProto:
    """``y = x · w``; x is [3, K]."""
    return model(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="matmul")],
        {"w": w}, {"x": [3, w.shape[-2]]}, {"y": [*w.shape[:-2], 3, w.shape[-1]]}, opset, w.dtype.name,
    )  # fmt: skip


def gemm(w: np.ndarray, opset: int = 21, transposed: bool = True, bias: np.ndarray | None = None) -> onnx.ModelProto:
    """``y = x · wᵀ (+ b)``."""
    constants = {"w": w} if bias is None else {"w": w, "b": bias}
    node = helper.make_node("Gemm", ["x", *constants], ["y"], name="gemm", transB=int(transposed))
    k, n = w.shape[::-1] if transposed else w.shape
    return model([node], constants, {"x": [3, k]}, {"y": [3, n]}, opset, w.dtype.name)


def conv(w: np.ndarray, opset: int = 21) -> onnx.ModelProto:
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="conv", pads=[1, 1, 1, 1])
    return model([node], {"w": w}, {"x": [1, w.shape[1], 6, 6]}, {"y": [1, w.shape[0], 6, 6]}, opset, w.dtype.name)


def gather(w: np.ndarray, opset: int = 21) -> onnx.ModelProto:
    node = helper.make_node("Gather", ["w", "i"], ["y"], name="gather")
    types = {"i": TensorProto.INT64}
    return model([node], {"w": w}, {"i": [2, 3]}, {"y": [2, 3, w.shape[1]]}, opset, w.dtype.name, types)


def tied(w: np.ndarray, opset: int = 21) -> onnx.ModelProto:
    """An embedding whose table, transposed, is the head."""
    nodes = [
        helper.make_node("Gather", ["w", "i"], ["e"], name="embed"),
        helper.make_node("Transpose", ["w"], ["wt"], name="transpose", perm=[1, 0]),
        helper.make_node("MatMul", ["e", "wt"], ["y"], name="head"),
    ]
    types = {"i": TensorProto.INT64}
    return model(nodes, {"w": w}, {"i": [4]}, {"y": [4, w.shape[0]]}, opset, w.dtype.name, types)
