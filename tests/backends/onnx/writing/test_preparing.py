"""What is done to ONNX models before quantizers are inserted: the same results from fewer operators."""

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

import nncf
from nncf_onnx.builder import OnnxGraphBuilder
from nncf_onnx.inserter import OnnxTargetPointInserter
from tests.backends.onnx.models import model, random, run

ALL = ("fold_constants", "fold_batch_norm", "fold_scales", "fuse_hard_swish")


def prepared(proto: onnx.ModelProto, **options: bool) -> onnx.ModelProto:
    """The prepared model, which computes the same; the given one is not changed."""
    before = proto.SerializeToString()
    working = OnnxTargetPointInserter().prepare(OnnxGraphBuilder().open(proto, {}), options)
    result = ir.to_proto(working)
    onnx.checker.check_model(result)
    assert proto.SerializeToString() == before
    assert [value.name for value in result.graph.output] == [value.name for value in proto.graph.output]
    given = [value for value in proto.graph.input if value.name.startswith("x")]
    feed = {
        value.name: random(*(dim.dim_value for dim in value.type.tensor_type.shape.dim), seed=index)
        for index, value in enumerate(given)
    }
    for wanted, found in zip(run(proto, **feed), run(result, **feed), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    return result


def operators(proto: onnx.ModelProto) -> dict[str, int]:
    return dict(Counter(node.op_type for node in proto.graph.node))


def norm(source: str, output: str, channels: int, constants: dict[str, np.ndarray]) -> onnx.NodeProto:
    names = [f"{output}_{part}" for part in ("scale", "shift", "mean", "variance")]
    for seed, name in enumerate(names):
        constants[name] = random(channels, seed=seed)
    constants[names[3]] = np.abs(constants[names[3]]) + np.float32(0.1)
    return helper.make_node("BatchNormalization", [source, *names], [output], epsilon=1e-3)


def node(op_type: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs.split(), [output], name=output, **attributes)


def test_all_that_follows_and_precedes_layers() -> None:
    constants = {
        "w1": random(8, 3, 3, 3), "m": np.float32(1.7), "a": random(8, 1, 1), "d": random(1, 8, 1, 1) + np.float32(3),
        "w2": random(6, 4, 1, 1), "b2": random(6), "w3": random(6, 5, 2, 2), "s": random(5, 1, 1),
    }  # fmt: skip
    nodes = [
        node("Conv", "x w1", "c1", pads=[1, 1, 1, 1]), node("Mul", "m c1", "m1"), node("Add", "m1 a", "a1"),
        node("Div", "a1 d", "d1"), norm("d1", "n1", 8, constants), node("Relu", "n1", "r1"),
        norm("r1", "n2", 8, constants), node("Conv", "n2 w2 b2", "c2", group=2), node("Sub", "a2 c2", "s2"),
        node("Sigmoid", "s2", "g2"), norm("g2", "n3", 6, constants), node("ConvTranspose", "n3 w3", "c3"),
        node("Sub", "c3 s", "y"),
    ]  # fmt: skip
    constants["a2"] = random(6, 1, 1)
    proto = model(nodes, constants, {"x": (1, 3, 6, 6)}, {"y": (1, 5, 7, 7)})
    folded = operators(prepared(proto))
    # a transposed convolution takes nothing before it
    assert folded == {"Conv": 2, "Relu": 1, "Sigmoid": 1, "BatchNormalization": 1, "ConvTranspose": 1}
    assert operators(prepared(proto, **dict.fromkeys(ALL, False))) == operators(proto)
    assert operators(prepared(proto, fold_batch_norm=False)) == {**folded, "BatchNormalization": 3}
    assert operators(prepared(proto, fold_scales=False)) == {**operators(proto), "BatchNormalization": 2, "Mul": 2}


def test_normalization_behind_an_activation_that_takes_no_factor() -> None:
    constants = {"w1": random(4, 3, 1, 1), "w2": random(6, 4, 1, 1)}
    nodes = [
        node("Conv", "x w1", "c1"), node("Sigmoid", "c1", "s1"), norm("s1", "n1", 4, constants),
        node("Conv", "n1 w2", "y"),
    ]  # fmt: skip
    proto = model(nodes, constants, {"x": (1, 3, 6, 6)}, {"y": (1, 6, 6, 6)})
    # the shift goes into the convolution, the factor stays where ranges of channels can be evened out
    assert operators(prepared(proto)) == {"Conv": 2, "Sigmoid": 1, "Mul": 1}
    padded = model(
        [*nodes[:3], node("Conv", "n1 w2", "y", pads=[1, 1, 1, 1])], constants, {"x": (1, 3, 6, 6)}, {"y": (1, 6, 8, 8)}
    )
    assert operators(prepared(padded)) == operators(padded)


def test_scale_and_shift_before_a_padded_depthwise_convolution() -> None:
    constants = {"w": random(8, 1, 3, 3), "m": np.full(1, 1.7, np.float32), "a": np.full(1, 0.3, np.float32)}
    nodes = [
        node("Tanh", "x", "t"), node("Mul", "m t", "m1"), node("Add", "m1 a", "a1"),
        node("Conv", "a1 w", "y", pads=[1, 1, 1, 1], group=8),
    ]  # fmt: skip
    proto = model(nodes, constants, {"x": (1, 8, 6, 6)}, {"y": (1, 8, 6, 6)})
    assert operators(prepared(proto)) == {"Tanh": 1, "Add": 1, "Conv": 1}
    # a factor of next to nothing is not divided by
    constants["m"] = np.array([1] * 7 + [1e-9], np.float32).reshape(8, 1, 1)
    small = model(nodes, constants, {"x": (1, 8, 6, 6)}, {"y": (1, 8, 6, 6)})
    assert operators(prepared(small)) == operators(small)


@pytest.mark.parametrize("transposed", [0, 1])
def test_products_of_matrices(transposed: int) -> None:
    constants = {
        "w1": random(16, 8), "b1": random(8), "m": random(8), "w2": random(8, 4)[:, ::-1].copy(), "s": random(8),
    }  # fmt: skip
    if transposed:
        constants["w2"] = constants["w2"].T.copy()
    nodes = [
        node("MatMul", "x w1", "p1"), node("Add", "b1 p1", "a1"), node("Mul", "a1 m", "m1"),
        node("Tanh", "m1", "t"), node("Add", "t s", "a2"), node("Gemm", "a2 w2", "g", transB=transposed),
        norm("g", "y", 4, constants),
    ]  # fmt: skip
    proto = model(nodes, constants, {"x": (5, 16)}, {"y": (5, 4)})
    assert operators(prepared(proto)) == {"MatMul": 1, "Add": 1, "Tanh": 1, "Gemm": 1}


def test_what_others_see_stays() -> None:
    constants = {"w": random(8, 3, 1, 1), "m": random(8, 1, 1)}
    conv, scale = node("Conv", "x w", "c"), node("Mul", "c m", "y")
    shapes = {"x": (1, 3, 6, 6)}
    shared = model([conv, scale, node("Conv", "x w", "y2")], constants, shapes, {"y": (1, 8, 6, 6), "y2": (1, 8, 6, 6)})
    seen = model([conv, scale], constants, shapes, {"y": (1, 8, 6, 6), "c": (1, 8, 6, 6)})
    twice = model([conv, scale, node("Add", "y c", "y3")], constants, shapes, {"y3": (1, 8, 6, 6)})
    wider = model(
        [conv, node("Mul", "c m5", "y")], {**constants, "m5": random(2, 1, 8, 1, 1)}, shapes, {"y": (2, 1, 8, 6, 6)}
    )
    across = model([conv, node("Mul", "c m1", "y")], {**constants, "m1": random(1, 6)}, shapes, {"y": (1, 8, 6, 6)})
    for proto in (shared, seen, twice, wider, across):
        assert operators(prepared(proto)) == operators(proto)
    replaced = model([conv, scale], constants, shapes, {"y": (1, 8, 6, 6)})
    replaced.graph.input.append(helper.make_tensor_value_info("m", 1, [8, 1, 1]))
    assert operators(prepared(replaced)) == operators(replaced)


def test_operands_that_make_a_tensor_larger_stay() -> None:
    constants = {"w": random(6, 8, 1, 1), "m": random(8, 1, 1)}
    nodes = [node("Tanh", "x", "t"), node("Add", "t m", "a"), node("Conv", "a w", "y")]
    proto = model(nodes, constants, {"x": (1, 1, 6, 6)}, {"y": (1, 6, 6, 6)})
    assert operators(prepared(proto)) == operators(proto)
    proto = model(nodes, constants, {"x": (1, 8, 6, 6)}, {"y": (1, 6, 6, 6)})
    assert operators(prepared(proto)) == {"Tanh": 1, "Conv": 1}


def test_hard_swish_in_all_its_forms() -> None:
    constants = {
        "three": np.float32(3), "zero": np.float32(0), "six": np.array(6, np.float32), "sixth": np.float32(1 / 6),
    }  # fmt: skip
    clip = [node("Add", "three x", "a"), node("Clip", "a zero six", "c")]
    forms = [
        [node("Mul", "x c", "p"), node("Div", "p six", "y")],
        [node("Mul", "c x", "p"), node("Mul", "sixth p", "y")],
        [node("Div", "c six", "p"), node("Mul", "x p", "y")],
    ]
    for form in forms:
        proto = model([*clip, *form], constants, {"x": (2, 7)}, {"y": (2, 7)})
        assert operators(prepared(proto)) == {"HardSigmoid": 1, "Mul": 1}
        assert operators(prepared(proto, fuse_hard_swish=False)) == operators(proto)
    other = model(
        [*clip, node("Mul", "x c", "p"), node("Div", "p three", "y")], constants, {"x": (2, 7)}, {"y": (2, 7)}
    )
    assert operators(prepared(other)) == operators(other)


def test_constants_that_are_computed() -> None:
    constants = {"w": random(8, 3, 1, 1), "b": random(8), "axes": np.array([1, 2]), "two": np.float32(2)}
    nodes = [
        node("Mul", "b two", "b2"), node("Unsqueeze", "b2 axes", "b3"), node("Conv", "x w", "c"),
        node("Add", "c b3", "y"),
    ]  # fmt: skip
    proto = model(nodes, constants, {"x": (1, 3, 6, 6)}, {"y": (1, 8, 6, 6)})
    assert operators(prepared(proto)) == {"Conv": 1}
    assert operators(prepared(proto, fold_constants=False)) == operators(proto)


def test_options_are_checked() -> None:
    proto = model([node("Conv", "x w", "y")], {"w": random(8, 3, 1, 1)}, {"x": (1, 3, 6, 6)}, {"y": (1, 8, 6, 6)})
    with pytest.raises(nncf.ValidationError, match="fold_scales is 'no'; it must be True or False"):
        OnnxTargetPointInserter().prepare(OnnxGraphBuilder().open(proto, {}), {"fold_scales": "no"})


def test_nodes_that_are_folded_may_be_ignored() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Mul", ["c", "m"], ["d"]),
        helper.make_node("Relu", ["d"], ["r"]), helper.make_node("Conv", ["r", "v"], ["e"]),
        helper.make_node("Relu", ["e"], ["y"]),
    ]  # fmt: skip
    constants = {"w": random(32, 16, 3, 3), "m": random(32, 1, 1), "v": random(32, 32, 1, 1, seed=1)}
    proto = model(nodes, constants, {"x": (1, 16, 6, 6)}, {"y": (1, 32, 4, 4)})
    advanced = nncf.AdvancedQuantizationParameters(quantize_outputs=True)
    items = nncf.Dataset([random(1, 16, 6, 6)])
    for names, kept in ((["Mul_1"], set()), (["Conv_3"], {"v"})):
        scope = nncf.IgnoredScope(names=names)
        result = nncf.quantize(proto, items, ignored_scope=scope, advanced_parameters=advanced)
        assert {tensor.name for tensor in result.graph.initializer} & {"w", "v"} == kept
    with pytest.raises(nncf.ValidationError, match="Mul_2"):
        nncf.quantize(proto, items, ignored_scope=nncf.IgnoredScope(names=["Mul_2"]))
