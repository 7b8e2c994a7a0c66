"""The neutral graph of ONNX models."""

import numpy as np
import pytest

pytest.importorskip("nncf_onnx")

import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases

import nncf
from nncf_core.graph import WeightLayout
from tests.backends.onnx import models
from tests.backends.onnx.models import random, run
from tests.backends.onnx.reading.files import BUILDER, graph_of


@pytest.mark.parametrize(
    ("node", "shape", "layout"),
    [
        (helper.make_node("MatMul", ["x", "w"], ["y"]), (8, 4), WeightLayout((0,), (1,))),
        (helper.make_node("MatMul", ["w", "x"], ["y"]), (8, 4), WeightLayout((1,), (0,))),
        (helper.make_node("MatMul", ["x", "w"], ["y"]), (2, 8, 4), WeightLayout((1,), (2,), (0,))),
        (helper.make_node("Gemm", ["x", "w"], ["y"]), (8, 4), WeightLayout((0,), (1,))),
        (helper.make_node("Gemm", ["x", "w"], ["y"], transB=1), (4, 8), WeightLayout((1,), (0,))),
        (helper.make_node("Gemm", ["w", "x"], ["y"]), (4, 8), WeightLayout((1,), (0,))),
        (helper.make_node("Gemm", ["w", "x"], ["y"], transA=1), (8, 4), WeightLayout((0,), (1,))),
        (helper.make_node("Conv", ["x", "w"], ["y"]), (4, 8, 3, 3), WeightLayout((1, 2, 3), (0,))),
        (helper.make_node("Conv", ["x", "w"], ["y"]), (4, 8, 3), WeightLayout((1, 2), (0,))),
        (helper.make_node("ConvTranspose", ["x", "w"], ["y"]), (8, 4, 3, 3), WeightLayout((0, 2, 3), (1,))),
        (helper.make_node("ConvTranspose", ["x", "w"], ["y"], group=2), (8, 4, 3, 3), WeightLayout((1, 2, 3), (0,))),
        (helper.make_node("Gather", ["w", "x"], ["y"]), (8, 4), WeightLayout((1,), (0,))),
        (helper.make_node("Gather", ["w", "x"], ["y"], axis=-2), (8, 4), WeightLayout((1,), (0,))),
        (helper.make_node("Gather", ["w", "x"], ["y"], axis=1), (8, 4), None),
        (helper.make_node("LSTM", ["x", "w", "w"], ["y"], hidden_size=1), (1, 4, 8), WeightLayout((2,), (1,), (0,))),
        (helper.make_node("Add", ["x", "w"], ["y"]), (8, 4), None),
    ],
)  # fmt: skip
def test_layouts(node: onnx.NodeProto, shape: tuple[int, ...], layout: WeightLayout | None) -> None:
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(random(*shape), "w")],
    )
    described = graph_of(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]))
    (found,) = described.nodes
    index = list(node.input).index("w")
    assert found.inputs[index].constant == "w"
    assert found.inputs[index].layout == layout


def test_weights_are_seen_through_transposes_casts_and_copies() -> None:
    w = random(4, 3, 8, dtype="float16")
    nodes = [
        helper.make_node("Cast", ["w"], ["a"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["a"], ["b"], name="one", perm=[2, 0, 1]),
        helper.make_node("Identity", ["b"], ["c"], name="copy"),
        helper.make_node("Transpose", ["c"], ["d"], name="two", perm=[2, 0, 1]),
        helper.make_node("MatMul", ["x", "d"], ["y"], name="matmul"),
    ]
    # [4, 3, 8] → [8, 4, 3] → [3, 8, 4]: experts, input channels, output channels
    proto = models.model(nodes, {"w": w}, {"x": [3, 5, 8]}, {"y": [3, 5, 4]})
    port = graph_of(proto).node("matmul").inputs[1]
    assert port.constant == "w"
    assert port.layout == WeightLayout((2,), (0,), (1,))
    x = random(3, 5, 8, seed=1)
    result = nncf.compress_weights(proto)
    assert "w_quantized" in {t.name for t in result.graph.initializer}
    np.testing.assert_allclose(run(result, x=x)[0], run(proto, x=x)[0], atol=0.1)


def test_names_are_unique_and_the_users_where_they_can_be() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"], name="same"),
        helper.make_node("Relu", ["b"], ["c"], name="same"),
        helper.make_node("Relu", ["c"], ["y"], name="Relu_0"),
    ]
    proto = models.model(nodes, {}, {"x": [2]}, {"y": [2]})
    assert [node.name for node in graph_of(proto)] == ["Relu_0_1", "same", "same_1", "Relu_0"]


def test_bodies_are_described_with_their_scope() -> None:
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state", "w"], ["next"], name="step"),
            helper.make_node("Identity", ["go"], ["go_on"], name="again"),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [3, 8]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [3, 8]),
        ],
        [numpy_helper.from_array(random(8, 8), "w")],
    )
    nodes = [helper.make_node("Loop", ["n", "", "x"], ["y"], name="loop", body=body)]
    proto = models.model(nodes, {}, {"n": [], "x": [3, 8]}, {"y": [3, 8]}, types={"n": TensorProto.INT64})
    graph = graph_of(proto)
    assert [(n.name, n.scope) for n in graph] == [("step", ("loop",)), ("again", ("loop",)), ("loop", ())]
    result = nncf.compress_weights(proto)
    onnx.checker.check_model(result)
    feed = {"n": np.array(3), "x": random(3, 8, seed=1)}
    assert "DequantizeLinear" in {n.op_type for n in result.graph.node[0].attribute[0].g.node}
    want = run(proto, **feed)[0]
    np.testing.assert_allclose(run(result, **feed)[0], want, atol=0.05 * np.abs(want).max())
    ignored = nncf.compress_weights(proto, ignored_scope=nncf.IgnoredScope(names=["loop"]))
    assert ignored.SerializeToString() == ir.to_proto(BUILDER.open(proto, {})).SerializeToString()


def test_weights_that_other_tools_compressed_are_recognised() -> None:
    """DequantizeLinear of constants, without any shape of what lies between."""
    codes, scale = np.arange(64, dtype=np.int8).reshape(16, 4), np.linspace(0.5, 1, 4, dtype=np.float32)
    points = np.array([1, -2, 3, 0], np.int8)
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], name="dq", axis=1),
        helper.make_node("MatMul", ["x", "w"], ["y"], name="matmul"),
    ]
    proto = models.model(nodes, {"q": codes, "s": scale, "z": points}, {"x": [3, 16]}, {"y": [3, 4]})
    graph = graph_of(proto)
    port = graph.node("matmul").inputs[1]
    constant = graph.constants[port.constant]
    assert (constant.compressed_format, constant.granularity, constant.shape) == ("int8", "per channel", (16, 4))
    assert port.layout == WeightLayout((0,), (1,))
    np.testing.assert_array_equal(constant.read(), (codes.astype(np.float32) - points) * scale)
    assert nncf.compress_weights(proto).SerializeToString() == ir.to_proto(BUILDER.open(proto, {})).SerializeToString()


def test_branches_may_use_the_same_names() -> None:
    def branch(seed: int) -> onnx.GraphProto:
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["h"], name="product"),
            helper.make_node("Relu", ["h"], ["y"], name="relu"),
        ]
        outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 32])]
        return helper.make_graph(
            nodes, "branch", [], outputs, [numpy_helper.from_array(random(64, 32, seed=seed), "w")]
        )

    nodes = [helper.make_node("If", ["c"], ["z"], name="if", then_branch=branch(0), else_branch=branch(1))]
    proto = models.model(nodes, {}, {"x": [3, 64], "c": []}, {"z": [3, 32]}, types={"c": TensorProto.BOOL})
    graph = graph_of(proto)
    for product, relu, weight in (("product", "relu", 1), ("product_1", "relu_1", 0)):
        assert [node.name for node in graph.successors(graph.node(product))] == [relu]
        assert [node.name for node in graph.predecessors(graph.node(relu))] == [product]
        constant = graph.constants[graph.node(product).inputs[1].constant]
        np.testing.assert_array_equal(constant.read(), random(64, 32, seed=weight))
    assert nncf.compress_weights(proto).SerializeToString() != proto.SerializeToString()


def test_outputs_without_a_name_are_nobodys_inputs() -> None:
    nodes = [
        helper.make_node("LSTM", ["x", "w", "r"], ["", "h"], name="lstm", hidden_size=4),
        helper.make_node("Relu", ["x"], ["other"], name="relu"),
        helper.make_node("Clip", ["other", "", "high"], ["y"], name="clip"),
    ]
    constants = {"w": random(1, 16, 8), "r": random(1, 16, 4), "high": np.float32(3)}
    graph = graph_of(models.model(nodes, constants, {"x": [5, 1, 8]}, {"h": [1, 1, 4], "y": [5, 1, 8]}))
    assert [node.name for node in graph.predecessors(graph.node("clip"))] == ["relu"]
    assert graph.successors(graph.node("lstm")) == ()


def test_numbers_of_constant_nodes_are_constants() -> None:
    nodes = [
        helper.make_node("Constant", [], ["a"], value_floats=[1.0, 2.0]),
        helper.make_node("Constant", [], ["b"], value_int=3),
        helper.make_node("Constant", [], ["c"], value_strings=["d", "e"]),
        helper.make_node("Identity", ["a"], ["y"], name="copy"),
    ]
    constants = graph_of(models.model(nodes, {}, {}, {"y": [2]})).constants
    assert {name: (c.dtype, c.shape) for name, c in constants.items()} == {
        "a": ("float32", (2,)),
        "b": ("int64", ()),
        "c": ("object", (2,)),
    }
    np.testing.assert_array_equal(constants["a"].read(), [1, 2])


@pytest.mark.parametrize("perm", [{"perm": [1, 0]}, {}])
def test_transposes_behind_copies_need_no_shapes(perm: dict[str, list[int]]) -> None:
    nodes = [
        helper.make_node("Identity", ["w"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], **perm),
        helper.make_node("MatMul", ["x", "b"], ["y"], name="matmul"),
    ]
    port = graph_of(models.model(nodes, {"w": random(32, 64)}, {"x": [3, 64]}, {"y": [3, 32]})).node("matmul").inputs[1]
    assert (port.constant, port.layout) == ("w", WeightLayout((1,), (0,)))


def test_a_vector_has_no_channels() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="matmul")]
    proto = models.model(nodes, {"w": random(64)}, {"x": [3, 64]}, {"y": [3]})
    assert graph_of(proto).node("matmul").inputs[1].layout == WeightLayout((0,), ())


def test_one_constant_with_several_users_is_one_constant() -> None:
    graph = graph_of(models.tied(random(64, 32)))
    assert list(graph.constants) == ["w"]
    layouts = {node.name: node.inputs[index].layout for node, index in graph.users("w")}
    assert layouts == {"embed": WeightLayout((1,), (0,)), "transpose": None, "head": WeightLayout((1,), (0,))}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_operator_of_the_standard_can_be_described() -> None:
    """The models of the standard's own tests: none is refused but for its version, and all are written as they are."""
    described = 0
    for case in collect_testcases(None):
        proto = case.model
        if {opset.domain: opset.version for opset in proto.opset_import}.get("", 0) < 13:
            continue
        before = proto.SerializeToString()
        model = BUILDER.open(proto, {})
        assert len(BUILDER.build(model)) >= len(proto.graph.node)
        onnx.checker.check_model(BUILDER.export(model, proto))
        assert proto.SerializeToString() == before
        described += 1
    assert described > 500
