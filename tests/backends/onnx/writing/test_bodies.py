"""Weights that If and Loop bodies use, and edits within bodies."""

import numpy as np
import onnx
import pytest

pytest.importorskip("nncf_onnx")

from onnx import TensorProto, helper, numpy_helper

from nncf_core.transformations import InsertMultiply, PointKind, ReplaceConstant, TargetPoint
from tests.backends.onnx.models import model, random, run
from tests.backends.onnx.writing.reference import compressed, edited, meaning, op_types, recognised, written

node, value = helper.make_node, helper.make_tensor_value_info
W, X = random(64, 64) / 8, random(3, 64, seed=1)


def loop(own: bool, opset: int = 17) -> onnx.ModelProto:
    """Three times ``h = h · w``; ``w`` belongs to the body, or to the main graph, where it is used first."""
    body = helper.make_graph(
        [
            node("MatMul", ["h", "w"], ["h_next"], name="inner"),
            node("Identity", ["go"], ["go_next"], name="again"),
        ],
        "body",
        [value("k", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("h", 1, [3, 64])],
        [value("go_next", TensorProto.BOOL, []), value("h_next", 1, [3, 64])],
        [numpy_helper.from_array(W, "w")] if own else [],
    )
    constants = {"trips": np.array(3), "yes": np.array(True)}
    start = [] if own else [node("MatMul", ["x", "w"], ["first"], name="outer")]
    nodes = [*start, node("Loop", ["trips", "yes", "x" if own else "first"], ["y"], name="loop", body=body)]
    return model(nodes, constants if own else {**constants, "w": W}, {"x": [3, 64]}, {"y": [3, 64]}, opset)


def power(x: np.ndarray, w: np.ndarray, times: int) -> np.ndarray:
    for _ in range(times):
        x = x @ w
    return x


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize(
    ("scheme", "opset", "weight_format"),
    [("int8_asym", 13, "auto"), ("int4_asym", 17, "auto"), ("int4_sym", 21, "auto"), ("nf4", 21, "auto"),
     ("int8_sym", 21, "matmul_nbits")],
)  # fmt: skip
def test_loops(own: bool, scheme: str, opset: int, weight_format: str) -> None:
    proto = loop(own, opset)
    tensor = compressed(W, scheme, 0, -1 if scheme.startswith("int8") else 16)
    result = written(proto, tensor, weight_format=weight_format)
    want = power(X, meaning(tensor), 3 if own else 4)
    np.testing.assert_allclose(run(result, x=X)[0], want, rtol=0, atol=1e-5 * np.abs(want).max())
    (known,) = recognised(result)
    codes = [t for graph in (result.graph, result.graph.node[-1].attribute[0].g) for t in graph.initializer]
    assert sum(t.name == "w_quantized" for t in codes) == 1
    assert not any(t.name == "w" for t in codes)
    restored = edited(result, ReplaceConstant(known.name, known.read()))
    np.testing.assert_allclose(run(restored, x=X)[0], want, rtol=0, atol=1e-5 * np.abs(want).max())
    assert not recognised(restored)


def test_a_weight_of_both_branches_is_decompressed_before_the_if() -> None:
    def branch(name: str) -> onnx.GraphProto:
        return helper.make_graph(
            [node("MatMul", ["x", "w"], [name], name=f"{name}_op")], name, [], [value(name, 1, [3, 64])]
        )

    nodes = [
        node("Relu", ["x"], ["unused"], name="before"),
        node("If", ["c"], ["z"], name="choose", then_branch=branch("t"), else_branch=branch("e")),
        node("Add", ["z", "unused"], ["y"], name="after"),
    ]
    types = {"c": TensorProto.BOOL}
    proto = model(nodes, {"w": W}, {"c": [], "x": [3, 64]}, {"y": [3, 64]}, types=types)
    tensor = compressed(W, "int4_asym", 0, 32)
    for weight_format in ("auto", "matmul_nbits"):
        result = written(proto, tensor, weight_format=weight_format)
        if weight_format == "auto":
            assert op_types(result) == ["Relu", "DequantizeLinear", "If", "Add"]
        for condition in (True, False):
            got = run(result, c=np.array(condition), x=X)[0]
            np.testing.assert_allclose(got, X @ meaning(tensor) + np.maximum(X, 0), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [PointKind.INPUT, PointKind.OUTPUT])
def test_a_factor_within_a_body(kind: PointKind) -> None:
    factor = np.linspace(0.5, 1.5, 64, dtype=np.float32)
    scaled = W * factor[:, None] if kind is PointKind.INPUT else W * factor
    result = edited(loop(own=True), InsertMultiply(TargetPoint("inner", kind, 0), factor, "scaled"))
    np.testing.assert_allclose(run(result, x=X)[0], power(X, scaled, 3), rtol=0, atol=1e-5)
