"""What the graph says of OpenVINO models."""

from __future__ import annotations

import gc

import numpy as np
import pytest

pytest.importorskip("nncf_openvino")

import openvino as ov
from openvino import opset13 as ops
from openvino import opset17
from openvino.op import Constant

import nncf
from nncf_core.graph import OpKind, WeightLayout
from nncf_core.numerics.formats import SCHEMES
from nncf_core.numerics.kernels import compress
from nncf_core.report import weight_constants
from nncf_core.transformations import CompressConstant
from tests.backends.openvino import models
from tests.backends.openvino.models import constant, graph_of, model_of, named, parameter, random


def layouts(model):
    return {(node.name, index): port.layout for node in graph_of(model) for index, port in node.weights}


@pytest.mark.parametrize("on_the_left", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_matmul(on_the_left: bool, transposed: bool, rank: int) -> None:
    weight = random(*(4, 5, 6)[:rank]) if rank < 3 else random(4, 5, 5)
    model = models.matmul(
        weight,
        transpose_a=transposed and on_the_left,
        transpose_b=transposed and not on_the_left,
        on_the_left=on_the_left,
        rank=max(rank, 2),
    )
    (found,) = layouts(model).values()
    if rank == 1:
        assert found == WeightLayout((0,), ())
        return
    last = rank - 1
    reduced = last if on_the_left != transposed else last - 1
    assert found == WeightLayout((reduced,), (2 * last - 1 - reduced,), tuple(range(rank - 2)))


def test_convolutions() -> None:
    same = {"strides": [1, 1], "pads_begin": [1, 1], "pads_end": [1, 1]}
    x = parameter([1, 8, 6, 6], "x")
    y = named(ops.convolution(x, constant(random(8, 8, 3, 3), "a"), dilations=[1, 1], **same), "conv")
    y = named(ops.group_convolution(y, constant(random(2, 4, 4, 3, 3), "b"), dilations=[1, 1], **same), "group")
    y = named(ops.convolution_backprop_data(y, constant(random(8, 4, 3, 3), "c"), **same), "back")
    y = named(ops.group_convolution_backprop_data(y, constant(random(2, 2, 3, 3, 3), "d"), **same), "group_back")
    found = layouts(model_of([y], [x]))
    assert found == {
        ("conv", 1): WeightLayout((1, 2, 3), (0,)),
        ("group", 1): WeightLayout((2, 3, 4), (1,), (0,)),
        ("back", 1): WeightLayout((0, 2, 3), (1,)),
        ("group_back", 1): WeightLayout((1, 3, 4), (2,), (0,)),
    }


@pytest.mark.parametrize(("kind", "ports"), [("LSTM", (4, 5)), ("GRU", (3, 4))])
def test_recurrent(kind: str, ports: tuple[int, int]) -> None:
    model = models.recurrent(kind)
    layout = WeightLayout((2,), (1,), (0,))
    assert layouts(model) == {(kind.lower(), port): layout for port in ports}
    assert graph_of(model).node(kind.lower()).kind is OpKind.RECURRENT


def test_experts_of_a_grouped_product() -> None:
    x = parameter([4, 3, 8], "x")
    model = model_of([named(opset17.grouped_matmul(x, constant(random(4, 6, 8), "w")), "experts")], [x])
    assert layouts(model) == {("experts", 1): WeightLayout((2,), (1,), (0,))}


def test_embeddings_are_gathers_along_the_first_axis() -> None:
    assert layouts(models.tied(random(8, 4))) == {
        ("embed", 0): WeightLayout((1,), (0,)),
        ("head", 1): WeightLayout((1,), (0,)),
    }
    ids = parameter([-1], "ids", np.int64)
    columns = named(ops.gather(constant(random(8, 4), "w"), ids, constant(np.array(1), "axis")), "columns")
    assert layouts(model_of([columns], [ids])) == {}


def test_transposes_and_conversions_are_seen_through() -> None:
    x = parameter([-1, 8], "x")
    w = named(ops.convert(constant(random(6, 8, dtype="float16"), "w"), "f32"), "converted")
    turned = named(ops.transpose(w, constant(np.array([1, 0]), "order")), "turned")
    model = model_of([named(ops.matmul(x, turned, False, False), "matmul")], [x])
    assert layouts(model) == {("matmul", 1): WeightLayout((1,), (0,))}
    (weight,) = weight_constants(graph_of(model))
    assert (weight.name, weight.dtype, weight.shape) == ("w", "float16", (6, 8))


def test_integers_that_are_converted_are_no_weights() -> None:
    x = parameter([-1, 8], "x")
    w = named(ops.convert(constant(np.ones((6, 8), np.int32), "w"), "f32"), "converted")
    assert layouts(model_of([named(ops.matmul(x, w, False, True), "matmul")], [x])) == {}


def test_bodies_come_before_what_runs_them_and_are_in_its_scope() -> None:
    graph = graph_of(models.branches(random(8, 8), random(8, 8, seed=1)))
    names = [node.name for node in graph]
    assert graph.node("then/matmul").scope == ("if",)
    assert names.index("then/matmul") < names.index("if")
    assert graph.node("if").kind is OpKind.CONTROL_FLOW


def test_a_weight_from_outside_a_body_is_the_weight_of_what_uses_it_inside() -> None:
    graph = graph_of(models.branches(random(8, 8), random(8, 8, seed=1)))
    assert {node.name for node, index in graph.users("w") if node.inputs[index].layout} == {
        "main/matmul",
        "then/matmul",
    }
    assert [node.name for node, _ in graph.users("own")] == ["else/matmul"]


def test_what_changes_between_iterations_is_no_constant() -> None:
    graph = graph_of(models.loop(random(8, 8)))
    assert [port.constant for port in graph.node("body/matmul").inputs] == [None, "w"]


def test_names_are_the_users_own_and_unique() -> None:
    x = parameter([-1, 8], "x")
    y = named(ops.matmul(x, constant(random(8, 8), "w"), False, False), "same")
    y = named(ops.matmul(y, constant(random(8, 8, seed=1), "w"), False, False), "same")
    graph = graph_of(model_of([y], [x]))
    assert [node.name for node in graph.of_kind([OpKind.MATMUL])] == ["same", "same#1"]
    assert [constant.name for constant in weight_constants(graph)] == ["w", "w#1"]
    assert not np.array_equal(graph.constants["w"].read(), graph.constants["w#1"].read())


def test_constants_of_all_types_can_be_read() -> None:
    arrays = [np.arange(6).reshape(2, 3).astype(dtype) for dtype in ("int64", "int8", "uint8", "float64", "bool")]
    x = parameter([1], "x")
    outputs = [named(ops.convert_like(x, constant(a, a.dtype.name)), f"{a.dtype.name}/like") for a in arrays]
    graph = graph_of(model_of(outputs, [x]))
    for array in arrays:
        found = graph.constants[array.dtype.name].read()
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


def test_strings_are_constants_too() -> None:
    x = parameter([1], "x")
    words = ov.Tensor(np.array(["one", "two"]))  # kept here: a constant does not keep it
    text = named(Constant(words, shared_memory=True), "text")
    model = model_of([named(ops.relu(x), "relu"), text], [x])
    found = graph_of(model).constants["text"]
    found.release()
    assert found.read().tolist() == ["one", "two"]
    nncf.compress_weights(model)


def test_a_graph_outlives_its_model(tmp_path) -> None:
    ov.serialize(models.mlp(random(256, 256)), tmp_path / "model.xml")
    working = models.BUILDER.open(tmp_path / "model.xml", {})
    tensor = compress(random(256, 256), SCHEMES["int8_sym"], reduction_axes=1)
    models.INSERTER.apply(working, models.BUILDER.build(working), [CompressConstant("w0", tensor)], {})
    graph, codes = models.BUILDER.build(working), tensor.codes.copy()
    models.BUILDER.export(working, tmp_path / "model.xml")
    del working, tensor
    gc.collect()
    np.random.default_rng(0).random(1 << 20)  # takes memory that may have become free
    np.testing.assert_array_equal(graph.constants["w0"].compressed().codes, codes)


def test_dynamic_shapes() -> None:
    x = named(ops.parameter(ov.PartialShape([-1, ov.Dimension(2, 8), 8]), np.float32), "x")
    graph = graph_of(model_of([named(ops.matmul(x, constant(random(8, 8), "w"), False, False), "matmul")], [x]))
    assert graph.node("matmul").inputs[0].shape == (None, None, 8)
    assert graph.node("matmul").inputs[0].dtype == "float32"
    unknown = named(ops.parameter(ov.PartialShape.dynamic(), np.float32), "x")
    assert graph_of(model_of([named(ops.relu(unknown), "relu")], [unknown])).node("relu").inputs[0].shape is None


def test_weights_without_elements_are_refused_unless_they_are_ignored() -> None:
    model = models.matmul(np.zeros((0, 8), np.float32), transpose_b=True)
    with pytest.raises(nncf.ValidationError, match=r"no elements.*ignored_scope"):
        nncf.compress_weights(model)
    nncf.compress_weights(model, ignored_scope=nncf.IgnoredScope(types=["MatMul"]))
