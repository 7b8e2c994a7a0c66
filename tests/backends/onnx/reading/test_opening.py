"""Opening of models: weights stay where they are, and the user's model as it is."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("nncf_onnx")

import ml_dtypes
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

import nncf
from nncf_core.graph import OpKind, WeightLayout
from nncf_onnx.mapped import MappedTensor
from nncf_onnx.slots import slots
from nncf_onnx.wire import skeleton
from tests.backends.onnx import models
from tests.backends.onnx.models import random, run
from tests.backends.onnx.reading.files import BUILDER, graph_of, saved


def _model(nodes: list[onnx.NodeProto], *weights: onnx.TensorProto) -> onnx.ModelProto:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy")
    c = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    return helper.make_model(helper.make_graph(nodes, "g", [x, c], [y], weights), opset_imports=opsets, ir_version=10)


def _if(w: np.ndarray) -> onnx.ModelProto:
    """One branch has its weight as an initializer, the other as a Constant node."""
    y = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    product, tensor = helper.make_node("MatMul", ["x", "w"], ["y"]), numpy_helper.from_array(w, "w")
    branches = {
        "then_branch": helper.make_graph([product], "then", [], y, [tensor]),
        "else_branch": helper.make_graph([helper.make_node("Constant", [], ["w"], value=tensor), product], "e", [], y),
    }
    return _model([helper.make_node("If", ["c"], ["y"], **branches)])


PLACES = {
    "initializer": lambda w: models.matmul(w),
    "floats": lambda w: _model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], helper.make_tensor("w", 1, w.shape, w.ravel())
    ),
    "constant": lambda w: _model(
        [
            helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(w, "k")),
            helper.make_node("MatMul", ["x", "w"], ["y"]),
        ]
    ),
    "body": _if,
    "attribute": lambda w: _model(
        [helper.make_node("Own", ["x"], ["y"], domain="own", all=[numpy_helper.from_array(w, n) for n in "ab"])]
    ),
}


def test_weights_of_a_file_stay_in_the_file(tmp_path: Path) -> None:
    w = random(64, 64)
    path = saved(models.matmul(w), tmp_path)
    model = BUILDER.open(path, {})
    tensor = model.graph.initializers["w"].const_value
    assert isinstance(tensor, MappedTensor)
    np.testing.assert_array_equal(tensor.numpy(), w)
    assert not tensor.numpy().flags.writeable
    assert len(skeleton(memoryview(path.read_bytes()))) < 1000


def test_memory_stays_small(tmp_path: Path) -> None:
    """Opening, reading every weight once, and saving take a fraction of a file of 256 MB."""
    names = [f"w{index}" for index in range(16)]
    chain = ["x", *(f"h{index}" for index in range(15)), "y"]
    nodes = [helper.make_node("MatMul", [a, w], [b]) for a, w, b in zip(chain, names, chain[1:], strict=False)]
    proto = models.model(
        nodes, {name: np.ones((2048, 2048), np.float32) for name in names}, {"x": [2048]}, {"y": [2048]}
    )
    path = saved(proto, tmp_path)
    assert path.stat().st_size > 256e6
    script = (
        "import resource, sys; from pathlib import Path; import numpy, onnx, onnx_ir, onnxruntime\n"
        "from nncf_core import pipeline; from nncf_onnx.builder import OnnxGraphBuilder\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "b = OnnxGraphBuilder(); before = peak(); m = b.open(Path(sys.argv[1]), {}); g = b.build(m); opened = peak()\n"
        "for c in g.constants.values(): assert c.read().sum() == 2048 * 2048; c.release()\n"
        "read = peak(); b.save(m, Path(sys.argv[2])); print(opened - before, read - before, peak() - before)"
    )
    command = [sys.executable, "-c", script, path, tmp_path / "copy.onnx"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    opened, read, written = map(float, done.stdout.split())
    assert opened < 30
    assert read < 60
    assert written < 60
    assert (tmp_path / "copy.onnx").stat().st_size == pytest.approx(path.stat().st_size, abs=2000)


def test_what_the_result_will_not_have(caplog: pytest.LogCaptureFixture) -> None:
    proto = models.matmul(random(8, 8))
    BUILDER.open(proto, {})
    assert not caplog.messages
    proto.training_info.add().algorithm.name = "sgd"
    BUILDER.open(proto, {})
    assert caplog.messages == ["The result will not have the training_info of the model."]


def test_an_ir_model_gives_an_ir_model_and_stays_as_it_is() -> None:
    proto = models.matmul(random(64, 32))
    model = ir.from_proto(proto)
    result = nncf.compress_weights(model)
    assert isinstance(result, ir.Model)
    assert [n.op_type for n in result.graph] == ["DequantizeLinear", "MatMul"]
    assert ir.to_proto(model).SerializeToString() == ir.to_proto(ir.from_proto(proto)).SerializeToString()


def test_a_path_gives_a_proto(tmp_path: Path) -> None:
    path = saved(models.matmul(random(64, 32)), tmp_path)
    for source in (path, str(path)):
        assert isinstance(nncf.compress_weights(source), onnx.ModelProto)


def test_functions_are_inlined(tmp_path: Path) -> None:
    w = random(64, 32)
    body = [helper.make_node("MatMul", ["a", "b"], ["c"])]
    function = helper.make_function("own", "Linear", ["a", "b"], ["c"], body, [helper.make_opsetid("", 21)])
    graph = helper.make_graph(
        [helper.make_node("Linear", ["x", "w"], ["y"], name="linear", domain="own")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 32])],
        [numpy_helper.from_array(w, "w")],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=10)
    result = nncf.compress_weights(saved(proto, tmp_path))
    assert [n.op_type for n in result.graph.node] == ["DequantizeLinear", "MatMul"]
    x = random(3, 64, seed=1)
    np.testing.assert_allclose(run(result, x=x)[0], run(proto, x=x)[0], atol=0.2)


def test_custom_operators_are_left_alone() -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Strange", ["x", "v"], ["h"], name="strange", domain="own"),
            helper.make_node("MatMul", ["h", "w"], ["y"], name="matmul"),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 32])],
        [numpy_helper.from_array(random(64, 32), n) for n in ("v", "w")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("own", 1)])
    assert graph_of(proto).node("strange").kind is OpKind.OTHER
    result = nncf.compress_weights(proto)
    assert {t.name for t in result.graph.initializer} == {"v", "w_quantized", "w_scale", "w_zero_point"}


@pytest.mark.parametrize("place", ["initializer", "floats", "constant", "body", "attribute"])
def test_weights_stay_in_the_file_wherever_they_are(place: str, tmp_path: Path) -> None:
    w = random(64, 64)
    path = saved(PLACES[place](w), tmp_path)
    model = BUILDER.open(path, {})
    tensors = [slot.tensor for slot in slots(model) if slot.tensor.nbytes == w.nbytes]
    assert tensors
    for tensor in tensors:
        assert isinstance(tensor, MappedTensor)
        np.testing.assert_array_equal(tensor.numpy(), w)
    BUILDER.save(model, tmp_path / "copy.onnx")
    copy = BUILDER.open(tmp_path / "copy.onnx", {})
    assert [slot.tensor.tobytes() for slot in slots(copy)] == [slot.tensor.tobytes() for slot in slots(model)]
    onnx.load(tmp_path / "copy.onnx")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn", "int4", "int64", "bool"])
def test_types_of_constants(dtype: str, tmp_path: Path) -> None:
    values = np.arange(33 * 99).reshape(33, 99) % 7
    expected = values.astype(ml_dtypes.int4 if dtype == "int4" else np.dtype(dtype))
    tensor = ir.serde.serialize_tensor(ir.Tensor(expected, name="w"))
    nodes = [helper.make_node("Identity", ["w"], ["y"])]
    outputs = [helper.make_tensor_value_info("y", tensor.data_type, [33, 99])]
    proto = helper.make_model(
        helper.make_graph(nodes, "g", [], outputs, [tensor]), opset_imports=[helper.make_opsetid("", 21)]
    )
    constant = graph_of(saved(proto, tmp_path)).constants["w"]
    assert (constant.dtype, constant.shape) == (dtype, (33, 99))
    assert constant.stored_bytes == len(tensor.raw_data)
    np.testing.assert_array_equal(constant.read().astype(np.float32), expected.astype(np.float32))
    constant.release()
    np.testing.assert_array_equal(constant.read().astype(np.float32), expected.astype(np.float32))


def test_tensors_keep_their_notes(tmp_path: Path) -> None:
    proto = models.matmul(random(64, 64))
    proto.graph.initializer[0].doc_string = "trained in March"
    proto.graph.initializer[0].metadata_props.add(key="step", value="1000")
    BUILDER.save(BUILDER.open(saved(proto, tmp_path), {}), tmp_path / "copy.onnx")
    (tensor,) = onnx.load(tmp_path / "copy.onnx").graph.initializer
    assert (tensor.doc_string, [(p.key, p.value) for p in tensor.metadata_props]) == (
        "trained in March",
        [("step", "1000")],
    )


def test_a_proto_is_never_changed() -> None:
    body = [
        helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(random(64, 64), "inner")),
        helper.make_node("MatMul", ["a", "k"], ["c"], name="product"),
    ]
    function = helper.make_function("own", "Linear", ["a"], ["c"], body, [helper.make_opsetid("", 21)])
    nodes = [helper.make_node("Linear", [a], [b], domain="own") for a, b in (("x", "h"), ("h", "y"))]
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [3, 64]) for name in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y])
    proto = helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=10)
    before = proto.SerializeToString()
    result = nncf.compress_weights(proto)
    assert proto.SerializeToString() == before
    assert [node.op_type for node in result.graph.node].count("DequantizeLinear") == 2
    feed = random(3, 64, seed=1)
    want = run(proto, x=feed)[0]
    np.testing.assert_allclose(run(result, x=feed)[0], want, atol=0.05 * np.abs(want).max())


def test_an_initializer_may_be_an_input_too() -> None:
    proto = models.matmul(random(64, 32))
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [64, 32]))
    port = graph_of(proto).node("matmul").inputs[1]
    assert (port.constant, port.layout) == ("w", WeightLayout((0,), (1,)))
    result = nncf.compress_weights(proto)
    assert [value.name for value in result.graph.input] == ["x"]
    x = random(3, 64, seed=1)
    np.testing.assert_allclose(run(result, x=x)[0], run(proto, x=x)[0], atol=0.2)


def test_the_default_domain_has_two_names() -> None:
    proto = models.matmul(random(64, 32))
    proto.opset_import[0].domain = proto.graph.node[0].domain = "ai.onnx"
    graph = graph_of(proto)
    assert graph.properties["opset"] == 21
    assert graph.node("matmul").kind is OpKind.MATMUL
    assert [node.op_type for node in nncf.compress_weights(proto).graph.node] == ["DequantizeLinear", "MatMul"]


def test_external_data_of_an_ir_model_is_mapped(tmp_path: Path) -> None:
    w = random(64, 64)
    model = ir.load(saved(models.matmul(w), tmp_path, external=True))
    opened = BUILDER.open(model, {})
    tensor = opened.graph.initializers["w"].const_value
    assert isinstance(tensor, MappedTensor)
    np.testing.assert_array_equal(tensor.numpy(), w)
    assert isinstance(model.graph.initializers["w"].const_value, ir.ExternalTensor)


def test_models_are_recognised_without_any_framework() -> None:
    script = (
        "import sys; from nncf_onnx import plugin\n"
        "(builder,), _, _ = plugin.nncf_graph_builders(), plugin.nncf_target_point_inserters(), "
        "plugin.nncf_statistics_aggregators()\n"
        "assert not builder.accepts(object())\n"
        "print([name for name in ('onnx', 'onnx_ir', 'onnxruntime') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    proto = models.matmul(random(8, 8))
    assert BUILDER.accepts(proto)
    assert BUILDER.accepts(ir.from_proto(proto))
