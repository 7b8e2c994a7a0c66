"""One network has the same integers, scales and zero points on every backend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("nncf_onnx")
pytest.importorskip("nncf_openvino")

import onnx
import openvino as ov
from onnx import TensorProto, helper, numpy_helper

import nncf
from nncf_core.api import build_graph
from nncf_core.graph import WeightLayout
from nncf_core.numerics.packing import unpack
from nncf_core.numerics.tensor import CompressedTensor

MODE = nncf.CompressWeightsMode
CODEBOOK = [-1.0, -0.5, -0.2, 0.0, 0.1, 0.3, 0.7, 1.0]


def network() -> onnx.ModelProto:
    """Embedding, convolutions with and without groups, products by weights in both orders, and a product by experts."""
    random = np.random.default_rng(0)
    shapes = {
        "embedding": (96, 64),
        "up": (64, 128),
        "down": (64, 128),
        "kernel": (32, 1, 3, 3),
        "grouped": (32, 8, 3, 3),
        "experts": (4, 64, 32),
    }
    weights = {name: random.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}
    weights["up"][:, 7] = 0.0
    weights["down"][3] = 1e-6
    weights["axes"] = np.array([0, 1], np.int64)
    nodes = [
        helper.make_node("Gather", ["embedding", "tokens"], ["x0"], "embed"),
        helper.make_node("MatMul", ["x0", "up"], ["x1"], "up_matmul"),
        helper.make_node("Gemm", ["x1", "down"], ["x2"], "down_gemm", transB=1),
        helper.make_node("Unsqueeze", ["x2", "axes"], ["x3"], "image"),
        helper.make_node("Conv", ["x3", "kernel"], ["x4"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["x4", "grouped"], ["x5"], "group_conv", pads=[1, 1, 1, 1], group=4),
        helper.make_node("ReduceMean", ["x5"], ["x6"], "mean", keepdims=0),
        helper.make_node("Mul", ["x2", "x6"], ["x7"], "scaled"),
        helper.make_node("MatMul", ["x7", "experts"], ["y"], "experts_matmul"),
    ]
    graph = helper.make_graph(
        nodes,
        "main",
        [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, "n", 32])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)], ir_version=13)
    onnx.checker.check_model(model)
    return model


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    path: Path = tmp_path_factory.mktemp("parity") / "model.onnx"
    onnx.save(network(), path)
    return {"onnx": network(), "openvino": ov.convert_model(path)}


def settings(mode: str) -> dict[str, object]:
    given: dict[str, object] = {"mode": MODE(mode)}
    if mode in ("fp4", "mxfp4"):
        given["backup_mode"] = nncf.BackupMode.INT8_ASYM  # ONNX has no groups of float8
    if not mode.startswith("int8"):
        given["all_layers"] = True
    if mode in ("int4_sym", "int4_asym", "int2_sym", "nf4", "fp4"):
        given["group_size"] = 32
    if mode == "fp8_e4m3":
        given["group_size"] = -1
    if mode == "codebook":
        given["advanced_parameters"] = nncf.AdvancedCompressionParameters(codebook=CODEBOOK)
    return given


MODES = [
    "int8_sym",
    "int8_asym",
    "int4_sym",
    "int4_asym",
    "int2_sym",
    "nf4",
    "fp8_e4m3",
    "cb4",
    "codebook",
    "fp4",
    "mxfp4",
    "nvfp4",
]


WEIGHTS = ["embedding", "up", "down", "kernel", "grouped", "experts"]


def compressed_weights(model: object) -> list[tuple[CompressedTensor, WeightLayout] | None]:
    """The weights in the order of the graph, which all backends share; OpenVINO renames what it folds."""
    graph = build_graph(model)
    found = {}
    for node in graph:
        for _, port in node.weights:
            constant = graph.constants[port.constant]
            found.setdefault(constant.name, None if constant.is_float else (constant.compressed(), port.layout))
    return list(found.values())


def canonical(array: np.ndarray, layout: WeightLayout) -> np.ndarray:
    """Rows of what shares a channel: a frontend may transpose a weight, or give groups an axis of their own."""
    kept = [axis for axis in range(array.ndim) if axis not in layout.reduction_axes]
    rows = int(np.prod([array.shape[axis] for axis in kept]))
    return array.transpose([*kept, *layout.reduction_axes]).reshape(rows, -1)


def codes_of(tensor: CompressedTensor) -> np.ndarray:
    count = int(np.prod(tensor.shape))
    return unpack(tensor.codes, tensor.format.bits, count, tensor.format.signed).reshape(tensor.shape)


@pytest.mark.parametrize("mode", MODES)
def test_codes_are_the_same(models: dict[str, object], mode: str) -> None:
    found = {
        framework: compressed_weights(nncf.compress_weights(model, **settings(mode)))
        for framework, model in models.items()
    }
    for name, ours, theirs in zip(WEIGHTS, found["onnx"], found["openvino"], strict=True):
        assert (ours is None) == (theirs is None), name
        if ours is None or theirs is None:
            continue  # no form of the mode fits the shape
        (one, its), (other, others) = ours, theirs
        assert one.format == other.format, name
        for part in (codes_of, lambda tensor: tensor.scale.astype(np.float32), lambda tensor: tensor.zero_point):
            left, right = part(one), part(other)
            assert (left is None) == (right is None), name
            if left is not None:
                np.testing.assert_array_equal(canonical(left, its), canonical(right, others), name)
        if one.codebook is not None:
            np.testing.assert_array_equal(one.codebook, other.codebook)
