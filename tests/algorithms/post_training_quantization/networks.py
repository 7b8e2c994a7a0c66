"""Networks whose quantization is looked at, as ONNX models, and data for them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper


def model(
    nodes: list[onnx.NodeProto],
    constants: Mapping[str, np.ndarray],
    shape: list[int | str],
    dtype: str = "float32",
    output: str = "y",
) -> onnx.ModelProto:
    """A model from ``x`` to one output, opset 21."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(output, kind, None)],
        [numpy_helper.from_array(a.astype(dtype) if a.dtype.kind == "f" else a, n) for n, a in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return onnx.shape_inference.infer_shapes(made, strict_mode=True)


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    """Normal numbers, scaled as trained weights are."""
    fan = int(np.prod(shape[1:])) if len(shape) > 1 else 1
    return np.random.default_rng(seed).normal(0, scale / np.sqrt(fan), shape).astype(np.float32)


def residual(channels: int = 16) -> onnx.ModelProto:
    """Images to scores: a residual block between convolutions, pooling, and a Gemm."""
    conv = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], "stem", **conv),
        helper.make_node("Relu", ["c0"], ["r0"], "stem_relu"),
        helper.make_node("MaxPool", ["r0"], ["p0"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p0", "w1", "b1"], ["c1"], "first", **conv),
        helper.make_node("Relu", ["c1"], ["r1"], "first_relu"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "second", group=channels, **conv),
        helper.make_node("Add", ["c2", "p0"], ["s"], "skip"),
        helper.make_node("Relu", ["s"], ["r2"], "skip_relu"),
        helper.make_node("Conv", ["r2", "w3", "b3"], ["c3"], "third", **conv),
        helper.make_node("HardSwish", ["c3"], ["h3"], "third_act"),
        helper.make_node("GlobalAveragePool", ["h3"], ["g"], "average"),
        helper.make_node("Flatten", ["g"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w4", "b4"], ["y"], "head", transB=1),
    ]
    n = channels
    constants = {
        "w0": random(n, 8, 3, 3, seed=1), "b0": random(n, seed=2, scale=0.1),
        "w1": random(n, n, 3, 3, seed=3), "b1": random(n, seed=4, scale=0.1),
        "w2": random(n, 1, 3, 3, seed=5), "b2": random(n, seed=6, scale=0.1),
        "w3": random(n, n, 3, 3, seed=7), "b3": random(n, seed=8, scale=0.1),
        "w4": random(10, n, seed=9), "b4": random(10, seed=10, scale=0.1),
    }  # fmt: skip
    return model(nodes, constants, ["n", 8, 16, 16])


def block(width: int = 64, dtype: str = "float32") -> onnx.ModelProto:
    """A feed-forward block of a transformer, and attention scores: a product of two activations."""
    nodes = [
        helper.make_node("MatMul", ["x", "up"], ["u0"], "up"),
        helper.make_node("Add", ["u0", "up_bias"], ["u1"], "up_add"),
        helper.make_node("Gelu", ["u1"], ["u2"], "gelu"),
        helper.make_node("MatMul", ["u2", "down"], ["d0"], "down"),
        helper.make_node("Add", ["d0", "down_bias"], ["d1"], "down_add"),
        helper.make_node("Add", ["d1", "x"], ["s"], "residual"),
        helper.make_node("Transpose", ["s"], ["t"], "transpose", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["s", "t"], ["scores"], "scores"),
        helper.make_node("Softmax", ["scores"], ["p"], "softmax", axis=-1),
        helper.make_node("MatMul", ["p", "s"], ["y"], "mix"),
    ]
    constants = {
        "up": random(width, 4 * width, seed=1), "up_bias": random(4 * width, seed=2, scale=0.1),
        "down": random(4 * width, width, seed=3, scale=0.5), "down_bias": random(width, seed=4, scale=0.1),
    }  # fmt: skip
    return model(nodes, constants, ["n", "length", width], dtype)


def images(count: int, seed: int = 0) -> list[np.ndarray]:
    """Samples of :func:`residual`."""
    r = np.random.default_rng(seed)
    return [r.normal(0.2, 1, (1, 8, 16, 16)).astype(np.float32) for _ in range(count)]


def sentences(count: int, width: int = 64, seed: int = 0, dtype: str = "float32") -> list[np.ndarray]:
    """Samples of :func:`block`."""
    r = np.random.default_rng(seed)
    return [r.normal(0, 1, (1, 12, width)).astype(dtype) for _ in range(count)]


def perceptron(rows: int, width: int, *, ends: str = "Sqrt") -> onnx.ModelProto:
    """Two products of matrices with biases, one of which is computed, and what leaves the model behind them."""
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["m0"], "up"),
        helper.make_node("Add", ["m0", "b0"], ["a0"], "up_add"),
        helper.make_node("Relu", ["a0"], ["r0"], "up_relu"),
        helper.make_node("MatMul", ["r0", "w1"], ["m1"], "down"),
        helper.make_node("Add", ["m1", "x"], ["a1"], "down_add"),
        helper.make_node(ends, ["a1"], ["y"], "end"),
    ]
    constants = {
        "w0": random(width, width, seed=1), "b0": random(width, seed=2, scale=0.1), "w1": random(width, width, seed=3),
    }  # fmt: skip
    return model(nodes, constants, [rows, width])


def inverted(channels: int, inside: int) -> onnx.ModelProto:
    """A block of MobileNet: convolutions of one position on both sides of a depthwise one."""
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], "expand"),
        helper.make_node("Relu", ["c0"], ["r0"], "expand_relu"),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], "depthwise", group=inside, pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "depthwise_relu"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "project"),
        helper.make_node("Add", ["c2", "x"], ["s"], "skip"),
        helper.make_node("Relu", ["s"], ["y"], "skip_relu"),
    ]
    constants = {
        "w0": random(inside, channels, 1, 1, seed=1), "b0": random(inside, seed=2, scale=0.1),
        "w1": random(inside, 1, 3, 3, seed=3), "b1": random(inside, seed=4, scale=0.1),
        "w2": random(channels, inside, 1, 1, seed=5), "b2": random(channels, seed=6, scale=0.1),
    }  # fmt: skip
    return model(nodes, constants, [1, channels, 16, 16])
