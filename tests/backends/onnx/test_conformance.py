"""The ONNX backend does all that the kit expects of a backend."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir
import onnxruntime
from attrs import evolve
from onnx import TensorProto, helper, numpy_helper

from nncf_core.testing import BackendConformance, ModelCase

TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}


def model_of(nodes, inputs, outputs, constants, opset=21):
    graph = helper.make_graph(
        nodes, "main", inputs, outputs, [numpy_helper.from_array(a, name) for name, a in constants.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def typed(case):
    """The same models, with the types of all tensors."""
    return evolve(
        case, name=f"{case.name}_typed", make=lambda weights: onnx.shape_inference.infer_shapes(case.make(weights))
    )


def language_model(dtype, opset):
    """Embedding and head share a weight; MatMul, and Gemm with its weight transposed and a bias."""
    random = np.random.default_rng(1)
    shapes = {"embedding": (96, 64), "up": (64, 128), "down": (64, 128)}
    weights = {name: random.normal(0, 0.2, shape).astype(dtype) for name, shape in shapes.items()}
    bias = random.normal(0, 0.1, 64).astype(dtype)

    def make(weights):
        nodes = [
            helper.make_node("Gather", ["embedding", "tokens"], ["x0"], "embed"),
            helper.make_node("MatMul", ["x0", "up"], ["x1"], "up/matmul"),
            helper.make_node("Relu", ["x1"], ["x2"], "relu"),
            helper.make_node("Gemm", ["x2", "down", "bias"], ["x3"], "down/gemm", transB=1),
            helper.make_node("Transpose", ["embedding"], ["head_weight"], "head/transpose", perm=[1, 0]),
            helper.make_node("MatMul", ["x3", "head_weight"], ["logits"], "head"),
        ]
        inputs = [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["n"])]
        outputs = [helper.make_tensor_value_info("logits", TYPES[dtype], ["n", 96])]
        return model_of(nodes, inputs, outputs, {**weights, "bias": bias}, opset)

    feeds = [{"tokens": random.integers(0, 96, length)} for length in (5, 7, 3, 6)]
    return ModelCase(f"language_model_{dtype}_opset{opset}", make, weights, feeds)


def convolution():
    """A convolution, and a matrix multiplication in three dimensions."""
    random = np.random.default_rng(2)
    weights = {
        "kernel": random.normal(0, 0.2, (32, 3, 3, 3)).astype(np.float32),
        "last": random.normal(0, 0.2, (32, 8)).astype(np.float32),
    }

    def make(weights):
        nodes = [
            helper.make_node("Conv", ["x", "kernel"], ["a"], "conv", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["a"], ["b"], "relu"),
            helper.make_node("Transpose", ["b"], ["c"], "channels_last", perm=[0, 2, 3, 1]),
            helper.make_node("MatMul", ["c", "last"], ["y"], "last/matmul"),
        ]
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 6, 6])]
        outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 6, 6, 8])]
        return model_of(nodes, inputs, outputs, weights)

    feeds = [{"x": random.normal(0, 1, (2, 3, 6, 6)).astype(np.float32)} for _ in range(4)]
    return ModelCase("convolution", make, weights, feeds)


class OnnxConformance(BackendConformance):
    """Outputs are those of the model as it is written: onnxruntime's optimiser fuses low-bit products into kernels
    that round the activations, too."""

    framework = "onnx"
    framework_modules = ("onnx", "onnx_ir", "onnxruntime")

    def outputs(self, model, case):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        serialized = onnx_ir.to_proto(model).SerializeToString()
        session = onnxruntime.InferenceSession(serialized, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return [dict(zip(names, session.run(names, dict(feed)), strict=True)) for feed in case.feeds]


class TestOnnx(OnnxConformance):
    options = {"accuracy_level": 0}  # noqa: RUF012

    def cases(self):
        return [
            typed(language_model("float32", 21)),
            typed(language_model("float16", 21)),
            typed(language_model("float32", 13)),
            typed(convolution()),
        ]


class TestOnnxNBits(TestOnnx):
    options = {"weight_format": "matmul_nbits", "accuracy_level": 0}  # noqa: RUF012


class TestOnnxWithoutTypes(OnnxConformance):
    """Most models are written without the types of the tensors in between."""

    options = {"accuracy_level": 0}  # noqa: RUF012

    def cases(self):
        return [language_model("float16", 21), convolution()]
