"""Malformed models give one clear error, and nothing is written."""

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("nncf_onnx")

import onnx
import onnx_ir as ir
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import nncf
from nncf_core.errors import NNCFError
from tests.backends.onnx import models
from tests.backends.onnx.models import random
from tests.backends.onnx.reading.files import BUILDER, broken, graph_of


def test_a_truncated_file_at_any_length(tmp_path: Path) -> None:
    data = models.matmul(random(64, 32)).SerializeToString()
    path = tmp_path / "model.onnx"
    rng = np.random.default_rng(0)
    for length in [0, 1, 7, *rng.integers(8, len(data), 40)]:
        path.write_bytes(data[:length])
        with pytest.raises(NNCFError):
            nncf.compress_weights(path)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_file_is_a_model_or_a_clear_error(data: st.DataObject) -> None:
    original = bytearray(models.gemm(random(32, 64), bias=random(32)).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        original[data.draw(st.integers(0, 120) | st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    folder = Path(os.environ.get("PYTEST_TMP", "/tmp"))
    path = folder / f"nncf_damaged_{os.getpid()}.onnx"
    path.write_bytes(original)
    try:
        nncf.compress_weights(path)
    except NNCFError:
        pass
    finally:
        path.unlink()


def test_no_model_at_all(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("this is no model " * 100)
    for path, error, message in [
        (tmp_path / "none.onnx", nncf.InvalidPathError, "no model file"),
        (tmp_path, nncf.UnsupportedBackendError, "reads folders"),
        (tmp_path / "text.onnx", nncf.UnsupportedModelError, "text.onnx"),
    ]:
        with pytest.raises(error, match=message):
            nncf.compress_weights(path)


def test_missing_initializer(tmp_path: Path) -> None:
    proto = models.matmul(random(64, 32))
    del proto.graph.initializer[:]
    assert "nothing produces 'w'" in broken(proto, tmp_path)


def test_cyclic_graph(tmp_path: Path) -> None:
    proto = models.matmul(random(64, 32))
    proto.graph.node.add(op_type="Add", input=["y", "q"], output=["p"], name="one")
    proto.graph.node.add(op_type="Relu", input=["p"], output=["q"], name="two")
    assert "cycle" in broken(proto, tmp_path)


def test_nodes_out_of_order_are_sorted() -> None:
    proto = models.matmul(random(64, 32))
    proto.graph.node.insert(0, helper.make_node("Relu", ["y"], ["z"], name="late"))
    proto.graph.output[0].name = "z"
    assert [n.name for n in graph_of(proto)] == ["matmul", "late"]


def test_one_tensor_produced_twice(tmp_path: Path) -> None:
    proto = models.matmul(random(64, 32))
    proto.graph.node.add(op_type="Relu", input=["x"], output=["y"], name="again")
    assert "'y' is produced by" in broken(proto, tmp_path)


@pytest.mark.parametrize(("opset", "message"), [(0, "13"), (99, "99"), (None, "no opset")])
def test_unknown_opsets(opset: int | None, message: str, tmp_path: Path) -> None:
    proto = models.matmul(random(64, 32))
    del proto.opset_import[:]
    if opset is not None:
        proto.opset_import.add(domain="", version=opset)
    assert message in broken(proto, tmp_path)


def test_no_graph(tmp_path: Path) -> None:
    assert "no graph" in broken(onnx.ModelProto(ir_version=10), tmp_path)


def test_an_empty_graph(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    onnx.save(helper.make_model(helper.make_graph([], "g", [], [])), tmp_path / "model.onnx")
    with pytest.raises(nncf.UnsupportedModelError, match=r"model\.onnx: it has no operators and no weights"):
        nncf.compress_weights(tmp_path / "model.onnx")
    assert capfd.readouterr().err == ""


def test_data_of_the_wrong_length(tmp_path: Path) -> None:
    proto = models.matmul(random(64, 64))
    proto.graph.initializer[0].dims[0] = 65
    assert "'w'" in broken(proto, tmp_path)


def test_small_data_of_the_wrong_length(tmp_path: Path) -> None:
    proto = models.matmul(random(4, 4))
    proto.graph.initializer[0].dims[0] = 5
    assert "'w'" in broken(proto, tmp_path)


def test_weights_without_elements(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="matmul")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 0])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 4])],
        [numpy_helper.from_array(np.zeros((0, 4), np.float32), "w")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    message = broken(proto, tmp_path)
    assert "'w' of node 'matmul'" in message
    assert "ignored_scope" in message
    left = nncf.compress_weights(proto, ignored_scope=nncf.IgnoredScope(names=["matmul"]))
    assert left.graph.initializer[0].dims == [0, 4]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("mode", ["int8_asym", "int4_sym", "nf4"])
def test_weights_that_are_not_finite(value: float, mode: str, tmp_path: Path) -> None:
    w = random(128, 32)
    w[5, 7] = value
    more = {} if mode.startswith("int8") else {"all_layers": True}
    assert "'w'" in broken(models.matmul(w), tmp_path, mode=mode, **more)


def test_data_of_the_wrong_length_in_a_proto() -> None:
    for shape in ((64, 64), (4, 4)):
        proto = models.matmul(random(*shape))
        proto.graph.initializer[0].dims[0] += 1
        with pytest.raises(nncf.UnsupportedModelError, match="'w' has"):
            BUILDER.open(proto, {})
    numbers = models.matmul(random(4, 4))
    numbers.graph.initializer[0].CopyFrom(helper.make_tensor("w", TensorProto.FLOAT, [16], [0.0] * 16))
    numbers.graph.initializer[0].dims[0] = 17
    with pytest.raises(nncf.UnsupportedModelError, match="16 stored numbers"):
        BUILDER.open(numbers, {})


@pytest.mark.parametrize(
    ("data_type", "dims", "message"),
    [
        (0, [64, 64], "element type 0"),
        (99, [64, 64], "element type 99"),
        (TensorProto.STRING, [64, 64], "strings"),
        (TensorProto.FLOAT, [-64, -64], "shape"),
    ],
)
def test_tensors_that_are_none(data_type: int, dims: list[int], message: str, tmp_path: Path) -> None:
    proto = models.matmul(random(64, 64))
    tensor = proto.graph.initializer[0]
    tensor.data_type, tensor.dims[:] = data_type, dims
    text = broken(proto, tmp_path)
    assert message in text
    assert "'w'" in text


def test_sparse_weights(tmp_path: Path) -> None:
    values = numpy_helper.from_array(np.ones(3, np.float32), "w")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.arange(3)), [64, 32])
    proto = models.matmul(random(64, 32))
    del proto.graph.initializer[:]
    proto.graph.sparse_initializer.append(sparse)
    assert "'w' is sparse" in broken(proto, tmp_path)
    del proto.graph.sparse_initializer[:]
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["w"], sparse_value=sparse))
    assert "'w' is sparse" in broken(proto, tmp_path)


@pytest.mark.parametrize("kind", ["input", "initializer"])
def test_two_of_one_name(kind: str, tmp_path: Path) -> None:
    proto = models.matmul(random(64, 32))
    getattr(proto.graph, kind).append(getattr(proto.graph, kind)[0])
    assert f"two {kind}s have the name" in broken(proto, tmp_path)


def test_a_newer_format(tmp_path: Path) -> None:
    proto = models.matmul(random(64, 32))
    proto.ir_version = onnx.IR_VERSION + 1
    assert f"IR version {onnx.IR_VERSION + 1}" in broken(proto, tmp_path)


@pytest.mark.parametrize(
    ("inner", "opset", "message"),
    [
        (helper.make_node("Add", ["a", "lost"], ["c"]), 21, "nothing produces 'lost'"),
        (helper.make_node("Linear", ["a"], ["c"], domain="own"), 21, "own:Linear"),
        (helper.make_node("Relu", ["a"], ["c"]), 17, "convert_version=True"),
    ],
)
def test_functions_that_cannot_be_inlined(inner: onnx.NodeProto, opset: int, message: str, tmp_path: Path) -> None:
    own = helper.make_opsetid("own", 1)
    function = helper.make_function("own", "Linear", ["a"], ["c"], [inner], [helper.make_opsetid("", opset), own])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Linear", ["x"], ["y"], domain="own")], "g", [x], [y])
    opsets = [helper.make_opsetid("", 21), own]
    assert message in broken(helper.make_model(graph, opset_imports=opsets, functions=[function]), tmp_path)


def test_a_body_where_none_belongs(tmp_path: Path) -> None:
    proto = models.matmul(random(64, 32))
    body = helper.make_graph([], "body", [], [], [numpy_helper.from_array(random(64, 32), "v")])
    proto.graph.node[0].attribute.append(helper.make_attribute("body", body))
    assert "has a body" in broken(proto, tmp_path)


def test_a_missing_tensor_in_a_body(tmp_path: Path) -> None:
    y = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])]
    branch = helper.make_graph([helper.make_node("Relu", ["lost"], ["y"], name="relu")], "branch", [], y)
    node = helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch)
    c, z = helper.make_tensor_value_info("c", TensorProto.BOOL, []), helper.make_tensor_value_info("z", 1, [3])
    proto = helper.make_model(helper.make_graph([node], "g", [c], [z]), opset_imports=[helper.make_opsetid("", 21)])
    assert "nothing produces 'lost', which Relu 'relu' takes" in broken(proto, tmp_path)


def test_a_transpose_that_is_none(tmp_path: Path) -> None:
    proto = models.tied(random(64, 32))
    proto.graph.node[1].attribute[0].ints[:] = [1, 5]
    assert "'transpose' has perm [1, 5]" in broken(proto, tmp_path)


def test_models_in_memory_that_are_malformed() -> None:
    def model() -> ir.Model:
        proto = models.matmul(random(64, 32))
        proto.graph.node.add(op_type="Relu", input=["y"], output=["z"], name="relu")
        return ir.from_proto(proto)

    cyclic, missing, old = model(), model(), model()
    cyclic.graph[0].replace_input_with(0, cyclic.graph[1].outputs[0])
    missing.graph[0].replace_input_with(0, ir.Value(name="lost"))
    old.graph.opset_imports[""] = 0
    for malformed, error, message in [
        (cyclic, nncf.UnsupportedModelError, "cycle"),
        (missing, nncf.UnsupportedModelError, "nothing produces 'lost'"),
        (old, nncf.UnsupportedVersionError, "13"),
    ]:
        with pytest.raises(error, match=message):
            BUILDER.open(malformed, {})


def test_types_that_tensors_do_not_have(tmp_path: Path) -> None:
    proto = models.matmul(random(64, 32))
    scores = proto.graph.output.add(name="y2")
    scores.type.sequence_type.elem_type.map_type.key_type = TensorProto.INT64
    proto.graph.node.add(op_type="Identity", input=["y"], output=["y2"])
    assert "'y2' is a map" in broken(proto, tmp_path)
