"""What exporters leave in ONNX graphs: reshaped biases, sizes of -1, weights behind a Transpose, shared constants."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from nncf_core.pipeline import run
from nncf_core.registry import registry
from nncf_filter_pruning.coupling import Coupling, couple
from nncf_filter_pruning.effects import masking, shrinking
from nncf_filter_pruning.ranking import Ranking

node = helper.make_node


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.3, shape).astype(np.float32)


def model(nodes: list[onnx.NodeProto], constants: Mapping[str, np.ndarray], shape: list[int | str]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def coupled(made: onnx.ModelProto) -> Coupling:
    """The channels; a masked and a shrunk copy give the same."""
    backend = registry().backends["onnx"]
    working = backend.builder.open(made, {})
    graph = backend.inserter.shaped(working, backend.builder.build(working))
    coupling = couple(graph)
    removal = Ranking(coupling).by_cluster(np.random.default_rng(0).random(coupling.size), 0.5)
    masked, shrunk = (backend.inserter.trial(working, graph, edit(removal)) for edit in (masking, shrinking))
    for one, other in zip(masked, shrunk, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5)
    return coupling


SAME = {"pads": [1, 1, 1, 1]}


def biased(taken_elsewhere: bool) -> onnx.ModelProto:
    nodes = [
        node("Conv", ["x", "w0"], ["c0"], "first", **SAME),
        node("Reshape", ["b0", "four"], ["b0_reshaped"], "view"),
        node("Add", ["c0", "b0_reshaped"], ["a0"], "add"),
        node("Conv", ["a0", "w1"], ["c1"], "second", **SAME),
    ]
    if taken_elsewhere:
        nodes += [node("ReduceSum", ["b0_reshaped"], ["s"], "sum", keepdims=0), node("Add", ["c1", "s"], ["y"], "last")]
    else:
        nodes += [node("Relu", ["c1"], ["y"], "last")]
    constants = {"w0": random(8, 3, 3, 3), "b0": random(8), "four": np.array([1, -1, 1, 1]), "w1": random(4, 8, 3, 3)}
    return model(nodes, constants, ["n", 3, 6, 6])


def test_a_reshaped_bias_shrinks() -> None:
    made = biased(taken_elsewhere=False)
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    assert [len(cluster.channels) for cluster in coupled(made).clusters] == [8]
    made = biased(taken_elsewhere=False)
    four = next(tensor for tensor in made.graph.initializer if tensor.name == "four")
    four.CopyFrom(numpy_helper.from_array(np.array([1, 8, 1, 1]), "four"))
    assert [len(cluster.channels) for cluster in coupled(made).clusters] == [8]


def test_a_reshaped_bias_that_somebody_else_takes_stays() -> None:
    coupling = coupled(biased(taken_elsewhere=True))
    assert coupling.clusters == ()
    assert "'sum' (ReduceSum)" in coupling.kept["first"]


def test_weights_behind_a_transpose_shrink() -> None:
    nodes = [
        node("Transpose", ["w0"], ["w0_t"], "turn", perm=[1, 0]),
        node("MatMul", ["x", "w0_t"], ["m0"], "first"),
        node("Relu", ["m0"], ["r0"], "relu"),
        node("MatMul", ["r0", "w1"], ["y"], "second"),
    ]
    coupling = coupled(model(nodes, {"w0": random(12, 5), "w1": random(12, 3)}, ["n", 7, 5]))
    assert [len(cluster.channels) for cluster in coupling.clusters] == [12]
    assert set(coupling.claims) == {("w0", 0), ("w0", 1), ("w1", 0), ("w1", 1)}


def test_a_constant_of_several_layers_joins_them() -> None:
    nodes = [
        node("Conv", ["x", "w0", "b"], ["c0"], "first", **SAME),
        node("Conv", ["c0", "w1", "b"], ["c1"], "second", **SAME),
        node("Conv", ["c1", "w2"], ["y"], "third"),
    ]
    constants = {"w0": random(8, 3, 3, 3), "w1": random(8, 8, 3, 3), "b": random(8), "w2": random(2, 8, 1, 1)}
    (cluster,) = coupled(model(nodes, constants, ["n", 3, 6, 6])).clusters
    assert cluster.layers == ("first", "second")


def test_a_table_that_is_a_weight_too_stays() -> None:
    nodes = [
        node("Gather", ["w", "indices"], ["rows"], "table"),
        node("MatMul", ["x", "w"], ["m"], "first"),
        node("Add", ["m", "rows"], ["s"], "add"),
        node("MatMul", ["s", "v"], ["y"], "second"),
    ]
    constants = {"w": random(6, 6), "indices": np.array([0, 2, 1]), "v": random(6, 2)}
    coupling = coupled(model(nodes, constants, ["n", 3, 6]))
    assert coupling.clusters == ()
    assert "first" in coupling.kept


def test_split_sizes_and_slices_follow() -> None:
    nodes = [
        node("Conv", ["x", "w0"], ["c0"], "first", **SAME),
        node("Split", ["c0", "sizes"], ["s0", "s1"], "split", axis=1),
        node("Sigmoid", ["s0"], ["a0"], "act"),
        node("Slice", ["c0", "starts", "ends", "axes"], ["part"], "slice"),
        node("Concat", ["a0", "s1", "part"], ["all"], "concat", axis=1),
        node("Conv", ["all", "w1"], ["y"], "second"),
    ]
    constants = {
        "w0": random(8, 3, 3, 3),
        "sizes": np.array([3, 5]),
        "starts": np.array([2]),
        "ends": np.array([-1]),
        "axes": np.array([1]),
        "w1": random(2, 13, 1, 1),
    }
    made = model(nodes, constants, ["n", 3, 6, 6])
    assert [len(cluster.channels) for cluster in coupled(made).clusters] == [8]
    section = {"algorithm": "filter_pruning", "params": {"prune_first_conv": True, "pruning_target": 0.5}}
    result = run({"compression": section}, made).model
    (output,) = onnxruntime.InferenceSession(result.SerializeToString()).run(None, {"x": random(2, 3, 6, 6)})
    assert output.shape == (2, 2, 6, 6)


def test_lengths_that_the_model_states_of_other_inputs_are_not_written() -> None:
    nodes = [
        node("Conv", ["x", "w0"], ["c0"], "first", **SAME),
        node("Slice", ["c0", "starts", "ends", "axes"], ["part"], "slice"),
        node("Conv", ["part", "w1"], ["y"], "second"),
    ]
    constants = {
        "w0": random(8, 3, 3, 3),
        "starts": np.array([2, 0]),
        "ends": np.array([8, -1]),
        "axes": np.array([1, 3]),
        "w1": random(2, 6, 1, 1),
    }
    made = onnx.shape_inference.infer_shapes(model(nodes, constants, [1, 3, 2, 2]))  # the lengths that are tried, too
    dynamic = model(nodes, constants, ["n", 3, "h", "w"])
    made.graph.input[0].CopyFrom(dynamic.graph.input[0])
    made.graph.output[0].CopyFrom(dynamic.graph.output[0])
    section = {"algorithm": "filter_pruning", "params": {"prune_first_conv": True, "pruning_target": 0.5}}
    result = run({"compression": section}, made).model
    (output,) = onnxruntime.InferenceSession(result.SerializeToString()).run(None, {"x": random(2, 3, 9, 12)})
    assert output.shape == (2, 2, 9, 11)


@pytest.mark.parametrize("kind", ["Softmax", "LpNormalization", "Shape"])
def test_what_looks_across_channels_keeps_them(kind: str) -> None:
    nodes = [
        node("Conv", ["x", "w0"], ["c0"], "first", **SAME),
        node("Conv", ["c0", "w1"], ["c1"], "second"),
    ]
    if kind == "Shape":  # of which nothing but the number of channels is used
        nodes += [node("Shape", ["c0"], ["s"], "shape", start=1, end=2), node("Cast", ["s"], ["f"], "cast", to=1)]
        nodes += [node("Add", ["c1", "f"], ["y"], "last")]
    else:
        nodes.insert(1, node(kind, ["c0"], ["n0"], "across", axis=1))
        nodes[2].input[0] = "n0"
        nodes += [node("Relu", ["c1"], ["y"], "last")]
    made = model(nodes, {"w0": random(8, 3, 3, 3), "w1": random(2, 8, 1, 1)}, ["n", 3, 6, 6])
    section = {"algorithm": "filter_pruning", "params": {"prune_first_conv": True}}
    result = run({"compression": section}, made)
    weight = next(tensor for tensor in result.model.graph.initializer if tensor.name == "w0")
    assert tuple(weight.dims) == (8, 3, 3, 3)
    assert any(note.startswith("first keeps its filters") for note in result.report.notes)
